# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fetch verified weights from other nodes, showing progress; see the module of the same name for its documentation."""

from __future__ import annotations

import time

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.ascend.vllm.plugins.module_utils import relay
from ansible_collections.ascend.vllm.plugins.plugin_utils import progress

display = Display()


class ActionModule(ActionBase):
    """Begin weights_pull and watch it in slices until every file is here and proved."""

    TRANSFERS_FILES = False
    _supports_check_mode = True

    def run(self, tmp=None, task_vars=None):
        """Fetch; fails for files that nobody gives and for files that are not as wanted."""
        super().run(tmp, task_vars)
        dummy, args = self.validate_argument_spec(
            argument_spec=dict(relay.SPEC, slice_s={"type": "float", "default": 30.0}),
        )
        options = dict(args)
        start, told, at_start, answer = time.monotonic(), set(), None, {}
        host = task_vars["inventory_hostname"]
        while True:
            answer = self._execute_module(module_name="ascend.vllm.weights_pull", module_args=dict(options, begin=not answer), task_vars=task_vars)
            for name, reason in (answer.get("gave_up") or {}).items():
                if name not in told:
                    told.add(name)
                    display.warning(f"{host}: {name} is not asked for files any more: {reason}")
            if answer.get("failed") or "done" not in answer:
                return dict(answer, failed=True, msg=f"{host}: {answer.get('msg', 'the module ended without a result')}")
            if not answer["running"]:
                break
            elapsed, total = time.monotonic() - start, answer["total_bytes"]
            here = total - answer["left_bytes"]
            # For the rate: what was here before.
            at_start = here - answer["fetched_bytes"] if at_start is None else at_start
            display.display(f"  {progress.line(host, answer['phase'], elapsed, here, total, at_start)}")
        result = dict(answer, seconds=round(time.monotonic() - start, 1))
        if answer["differences"]:
            lines = "; ".join(answer["differences"][:20])
            result.update(failed=True, msg=f"{host}: {args['weights']['dir']} is not whole and was not marked complete: {lines}. Remedy: run site.yml again.")
        return result
