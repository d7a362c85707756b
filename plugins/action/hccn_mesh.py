# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Send a node's pings, showing progress; see the module of the same name for its documentation."""

from __future__ import annotations

import time

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.ascend.vllm.plugins.plugin_utils.mesh import duration

display = Display()


class ActionModule(ActionBase):
    """Run hccn_ping in slices until every ping was sent or the tool gives no answers any more."""

    TRANSFERS_FILES = False

    def run(self, tmp=None, task_vars=None):
        """Send the pings; a ping that fails is a result, and only a module that cannot run fails."""
        super().run(tmp, task_vars)
        dummy, args = self.validate_argument_spec(
            argument_spec={
                "pings": {"type": "list", "elements": "dict", "required": True},
                "slice_s": {"type": "float", "default": 5.0},
                "hccn_tool_path": {"type": "path"},
            }
        )
        pings, results, start = args["pings"], [], time.monotonic()
        host = task_vars["inventory_hostname"]
        answer: dict = {}
        while len(results) < len(pings):
            options = {"pings": pings[len(results):], "budget_s": args["slice_s"]}
            if args["hccn_tool_path"]:
                options["hccn_tool_path"] = args["hccn_tool_path"]
            answer = self._execute_module(module_name="ascend.vllm.hccn_ping", module_args=options, task_vars=task_vars)
            if not answer.get("results"):
                break
            results += answer["results"]
            elapsed = time.monotonic() - start
            if len(results) < len(pings):
                display.display(f"  {progress(host, results, len(pings), elapsed)}")
            # A tool that is busy for ever, or hangs, would cost its patience in every slice.
            if all(entry["status"] == "unknown" for entry in answer["results"]):
                break
        seconds = round(time.monotonic() - start, 2)
        if pings and not results and "results" not in answer:
            return dict(answer, failed=True, seconds=seconds)
        return {"changed": False, "results": results, "left": len(pings) - len(results), "seconds": seconds}


def progress(host: str, results: list, total: int, elapsed: float) -> str:
    """Return how far a node's pings are: how many were sent, how many failed, and about how long the rest takes."""
    failed = len([entry for entry in results if entry["status"] != "pass"])
    left = elapsed / len(results) * (total - len(results))
    return f"[{elapsed:5.0f} s] {host}: {len(results)} of {total} pings, {failed} failed, about {duration(left)} left"
