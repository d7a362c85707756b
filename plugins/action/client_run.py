# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a client and wait for it, showing progress; see the module of the same name for its documentation."""

from __future__ import annotations

import re
import time

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.ascend.vllm.plugins.module_utils import client_runs
from ansible_collections.ascend.vllm.plugins.plugin_utils import client_lines
from ansible_collections.ascend.vllm.plugins.plugin_utils.waiting import LOST_AFTER, LOST_S

display = Display()

#: Seconds after which a node is asked again that could not be reached: it is lost when and as a node is whose start is watched.
AGAIN_S = LOST_S / (LOST_AFTER - 1)


class ActionModule(ActionBase):
    """Begin the client or join it, and look at it in slices until it has ended."""

    TRANSFERS_FILES = False
    _supports_check_mode = True

    def run(self, tmp=None, task_vars=None):
        """Run; fails when the client cannot be run, whatever its exit status is when it can."""
        super().run(tmp, task_vars)
        dummy, args = self.validate_argument_spec(argument_spec=dict(client_runs.SPEC, progress={"type": "str", "default": ""}))
        host, options = task_vars["inventory_hostname"], dict(args)
        options["slice_s"] = min(args["slice_s"], 5.0)
        try:
            pattern = re.compile(options.pop("progress"))
        except re.error as error:
            return {"failed": True, "msg": f"progress: found {args['progress']!r}, wanted a regular expression: {error}. Remedy: correct it."}
        nothing = {"rc": None, "timed_out": False, "error": None, "started": None, "seconds": 0.0, "files": {}, "left_out": [], "log": "", "joined": False}
        if self._task.check_mode:
            return dict(nothing, changed=True)
        start, joined, answer, first = time.monotonic(), False, {}, None
        while True:
            step = "watch" if answer else "begin"
            # A node that is not reached to begin with is said at once.
            answer = self._look(dict(options, step=step), LOST_AFTER if answer else 1, task_vars)
            if answer.get("failed") or "running" not in answer:
                return dict(answer, failed=True, msg=f"{host}: {answer.get('msg', 'the module ended without a result')}")
            joined = joined or answer["joined"]
            if not answer["running"]:
                break
            done = client_lines.count(answer["log"], pattern)
            # For the rate: what had been done when somebody began to watch.
            first = (time.monotonic(), done[0]) if done and first is None else first
            display.display("  " + client_lines.line(host, args["name"], answer["seconds"], done, answer["log"], first, time.monotonic()))
        # The results are here: what they were read from is not needed any more.
        try:
            last = self._look(dict(options, step="done"), LOST_AFTER, task_vars)
        except AnsibleConnectionFailure as error:
            last = {"unreachable": True, "msg": str(error)}
        if last.get("failed") or last.get("unreachable"):
            display.warning(f"{host}: what was left of the client was not removed: {last.get('msg', '')}")
        result = {key: answer[key] for key in ("rc", "timed_out", "error", "started", "files", "left_out")}
        result.update(changed=True, joined=joined, log="\n".join(answer["log"]), seconds=answer["seconds"] or round(time.monotonic() - start, 1))
        return result

    def _look(self, options, lost_after, task_vars):
        """Return what client_progress says; a node that is not reached is asked again until that has happened so many times in a row.

        The client goes on meanwhile. Raises C(AnsibleConnectionFailure) of the last time, which Ansible takes for an unreachable host.
        """
        misses = 0
        while True:
            try:
                answer, problem = self._execute_module(module_name="ascend.vllm.client_progress", module_args=options, task_vars=task_vars), None
            except AnsibleConnectionFailure as error:
                answer, problem = {"unreachable": True, "msg": str(error)}, error
            if not answer.get("unreachable"):
                return answer
            misses += 1
            if misses >= lost_after:
                if problem is not None:
                    raise problem
                return answer
            display.display(f"  {task_vars['inventory_hostname']}: {options['name']}: not reached, asked again in {AGAIN_S:g} s: {answer.get('msg', '')}")
            time.sleep(AGAIN_S)
