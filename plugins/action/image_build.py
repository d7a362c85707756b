# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build an image, showing progress; see the module of the same name for its documentation."""

from __future__ import annotations

import time

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.ascend.vllm.plugins.module_utils import image_builds
from ansible_collections.ascend.vllm.plugins.plugin_utils import client_lines

display = Display()


class ActionModule(ActionBase):
    """Watch the build in slices until it has ended, or until the engine has said nothing for too long."""

    TRANSFERS_FILES = False
    _supports_check_mode = True

    def run(self, tmp=None, task_vars=None):
        """Build; fails with the cause when the engine cannot, and when the build stalls."""
        super().run(tmp, task_vars)
        dummy, args = self.validate_argument_spec(
            argument_spec=dict(image_builds.SPEC, stall_s={"type": "int", "default": 1800}, slice_s={"type": "float", "default": 5.0}),
        )
        if self._task.check_mode:
            return {"changed": True, "seconds": 0.0, "said": []}
        host, options = task_vars["inventory_hostname"], {key: value for key, value in args.items() if key != "stall_s"}
        start = moved_at = time.monotonic()
        answer, events = {}, -1
        while True:
            answer = self._execute_module(module_name="ascend.vllm.image_build_progress", module_args=dict(options, begin=not answer), task_vars=task_vars)
            if answer.get("failed") or "running" not in answer:
                return dict(answer, failed=True, msg=f"{host}: {answer.get('msg', 'the module ended without a result')}")
            now = time.monotonic()
            if answer["events"] > events:
                events, moved_at = answer["events"], now
            if not answer["running"]:
                break
            said = [answer["step"], *answer["said"]]
            display.display("  " + client_lines.line(host, args["name"], now - start, None, said, None, now))
            if now - moved_at > args["stall_s"]:
                self._execute_module(module_name="ascend.vllm.image_build_progress", module_args=dict(options, stop=True), task_vars=task_vars)
                return {"failed": True, "stalled": True, "seconds": round(now - start, 1), "said": answer["said"],
                        "msg": f"{host}: the build of {args['name']} was ended: the engine has said nothing for {args['stall_s']} s, at {answer['step']}. "
                               "Remedy: check that this node reaches the package index, then run again."}
        result = {"changed": True, "seconds": round(time.monotonic() - start, 1), "said": answer["said"]}
        if not answer["done"]:
            result.update(failed=True, msg=f"{host}: {args['name']} was not built, at {answer['step']}: "
                                           f"{client_lines.explain_build(answer['said'], answer['error'])}")
        return result
