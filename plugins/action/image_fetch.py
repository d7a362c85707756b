# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pull an image, showing progress; see the module of the same name for its documentation."""

from __future__ import annotations

import time

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.ascend.vllm.plugins.plugin_utils import downloads, progress

display = Display()


class ActionModule(ActionBase):
    """Watch the pull in slices until it has ended, or until the engine has said nothing for too long."""

    TRANSFERS_FILES = False
    _supports_check_mode = True

    def run(self, tmp=None, task_vars=None):
        """Pull; fails with the cause when the engine cannot, and when the pull stalls."""
        super().run(tmp, task_vars)
        dummy, args = self.validate_argument_spec(
            argument_spec={
                "name": {"type": "str", "required": True},
                "registry_logins": {"type": "dict", "default": {}, "no_log": True},
                "total_bytes": {"type": "int", "default": 0},
                "stall_s": {"type": "int", "default": 600},
                "slice_s": {"type": "float", "default": 5.0},
            }
        )
        if self._task.check_mode:
            return {"changed": True, "bytes": 0, "layers": 0, "seconds": 0.0}
        host, name = task_vars["inventory_hostname"], args["name"]
        options = {key: args[key] for key in ("name", "registry_logins", "slice_s")}
        start = moved_at = time.monotonic()
        answer, events = {}, -1
        while True:
            answer = self._execute_module(module_name="ascend.vllm.image_progress", module_args=dict(options, begin=not answer), task_vars=task_vars)
            if answer.get("failed") or "running" not in answer:
                return dict(answer, failed=True)
            now = time.monotonic()
            if answer["events"] > events:
                events, moved_at = answer["events"], now
            if not answer["running"]:
                break
            layers = f", {answer['layers_done']} of {answer['layers']} layers" if answer["layers"] else ""
            display.display(f"  {progress.line(host, 'pulled', now - start, answer['bytes'], args['total_bytes'])}{layers}")
            if now - moved_at > args["stall_s"]:
                self._execute_module(module_name="ascend.vllm.image_progress", module_args=dict(options, stop=True), task_vars=task_vars)
                return {"failed": True, "stalled": True, "bytes": answer["bytes"], "layers": answer["layers"], "seconds": round(now - start, 1),
                        "msg": f"{host}: {name}: nothing has come for {args['stall_s']} s, after {progress.size(answer['bytes'])}. "
                               "Remedy: check the registry and the way to it, then run again; layers that are whole are kept."}
        result = {"failed": not answer["done"], "changed": True, "bytes": answer["bytes"], "layers": answer["layers"],
                  "seconds": round(time.monotonic() - start, 1)}
        if result["failed"]:
            result["msg"] = f"{host}: {name} was not pulled: {downloads.explain([answer['error']], None, downloads.OF_AN_ENGINE)}"
        return result
