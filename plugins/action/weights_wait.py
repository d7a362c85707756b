# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Wait until a download has ended, showing progress; see the module of the same name for its documentation."""

from __future__ import annotations

import time

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.ascend.vllm.plugins.plugin_utils import downloads, progress

display = Display()


class ActionModule(ActionBase):
    """Watch the client in slices until it has ended, or until no byte has come for too long."""

    TRANSFERS_FILES = False
    _supports_check_mode = True

    def run(self, tmp=None, task_vars=None):
        """Wait; fails with the cause when the client failed or stalls."""
        super().run(tmp, task_vars)
        dummy, args = self.validate_argument_spec(
            argument_spec={
                "container": {"type": "str", "required": True},
                "dir": {"type": "path", "required": True},
                "total_bytes": {"type": "int", "default": 0},
                "stall_s": {"type": "int", "default": 600},
                "slice_s": {"type": "float", "default": 5.0},
            }
        )
        options = {key: args[key] for key in ("container", "dir", "slice_s")}
        start, first, last, moved_at = time.monotonic(), None, None, time.monotonic()
        while True:
            answer = self._execute_module(module_name="ascend.vllm.weights_progress", module_args=options, task_vars=task_vars)
            if answer.get("failed") or "running" not in answer:
                return dict(answer, failed=True)
            now = time.monotonic()
            first = answer["bytes"] if first is None else first
            if answer["bytes"] != last:
                # Fewer, too: a client that begins a large file anew has work.
                last, moved_at = answer["bytes"], now
            if not answer["running"]:
                break
            display.display("  " + progress.line(task_vars["inventory_hostname"], "downloaded", now - start, answer["bytes"], args["total_bytes"], first))
            if now - moved_at > args["stall_s"]:
                return {"failed": True, "stalled": True, "bytes": answer["bytes"], "seconds": round(now - start, 1),
                        "msg": f"{args['dir']}: no byte has come for {args['stall_s']} s, after {progress.size(answer['bytes'])}. "
                               "Remedy: check the hub and the way to it, then run again; what is whole is kept."}
        result = {"failed": answer["exit_code"] not in (0, None), "changed": True, "bytes": answer["bytes"], "exit_code": answer["exit_code"],
                  "seconds": round(time.monotonic() - start, 1), "log": answer["log"]}
        if result["failed"]:
            result["msg"] = f"{args['dir']} was not downloaded: {downloads.explain(answer['log'], answer['exit_code'])}"
        return result
