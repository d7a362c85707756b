# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Wait until a group of nodes serves, showing progress; see the module of the same name for its documentation."""

from __future__ import annotations

import time

from ansible import context
from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.ascend.vllm.plugins.plugin_utils import causes
from ansible_collections.ascend.vllm.plugins.plugin_utils.waiting import Board, Watch, decide, limits_problem, summary

display = Display()

#: Seconds after which the progress line is shown again although nothing in it has changed.
REPEAT_S = 30.0
#: Seconds that a slice takes at most: an exit ends the wait within ten, of which two slices may be a part.
SLICE_S = 5.0
#: Seconds of a slice once a container has exited and the other nodes' logs are heard for the reason.
SHORT_S = 1.0


class ActionModule(ActionBase):
    """Watch this host's unit in slices until one decision for the whole group stands."""

    TRANSFERS_FILES = False

    def run(self, tmp=None, task_vars=None):
        """Run the wait; fails on every host of the group with the same message."""
        super().run(tmp, task_vars)
        dummy, args = self.validate_argument_spec(
            argument_spec={
                "board": {"type": "path", "required": True},
                "hosts": {"type": "list", "elements": "str", "required": True},
                "head": {"type": "str", "required": True},
                "container": {"type": "str", "required": True},
                "url": {"type": "str", "required": True},
                "model": {"type": "str", "required": True},
                "api_key": {"type": "str", "no_log": True},
                "ca_file": {"type": "path"},
                "limit_s": {"type": "int", "required": True},
                "phase_limits": {"type": "dict", "default": {}},
                "slice_s": {"type": "float", "default": 5.0},
                "language": {"type": "str", "default": "en", "choices": ["en", "zh"]},
                "data_dirs": {"type": "list", "elements": "path", "default": []},
            }
        )
        host = task_vars["inventory_hostname"]
        workers = int((context.CLIARGS or {}).get("forks") or len(args["hosts"]))
        if workers < len(args["hosts"]):
            wanted = len(args["hosts"])
            return {"failed": True, "msg": f"forks is {workers}, but {wanted} nodes have to be watched at once. Remedy: --forks {wanted}"}
        problem = limits_problem(args["phase_limits"])
        if problem:
            return {"failed": True, "msg": problem}
        decision, elapsed = self._wait(host, args, Board(args["board"]), task_vars)
        return {
            "changed": False,
            "failed": decision["outcome"] != "ready",
            "msg": decision["message"],
            "outcome": decision["outcome"],
            "host": decision["host"],
            "elapsed_s": round(elapsed, 1),
        }

    def _wait(self, host, args, board, task_vars):
        """Return (decision, elapsed seconds)."""
        start, watch, known = time.monotonic(), Watch(), causes.load(args["data_dirs"])
        shown, shown_at = None, start
        slice_s = min(args["slice_s"], SLICE_S)
        while True:
            found = self._slice(host, args, slice_s, task_vars)
            state = watch.state(found, time.monotonic())
            board.post(host, state)
            elapsed = time.monotonic() - start
            # In this order: the states shown last are at least as new as those that the decision was made on.
            decision = board.decision()
            states = board.states(args["hosts"])
            decision = decision or decide(
                states, args["hosts"], args["head"], elapsed, args["limit_s"], known, args["language"], args["phase_limits"])
            if host == args["head"]:
                line = " | ".join(f"{name}: {summary(states.get(name), args['language'])}" for name in args["hosts"])
                if line != shown or time.monotonic() - shown_at > REPEAT_S:
                    display.display(f"  [{elapsed:5.0f} s of at most {args['limit_s']} s] {line}")
                    shown, shown_at = line, time.monotonic()
            if decision:
                return board.settle(decision), elapsed
            if any(other["phase"] == "exited" for other in states.values()):
                slice_s = min(slice_s, SHORT_S)
            if state["phase"] == "exited":
                # A slice of an exited container is over at once.
                time.sleep(SHORT_S)

    def _slice(self, host, args, slice_s, task_vars):
        """Watch this host's unit for one slice; a connection or a become that fails is a state too."""
        head = host == args["head"]
        probe = {"container": args["container"], "slice_s": slice_s}
        if head:
            probe.update(url=args["url"], model=args["model"], api_key=args["api_key"], ca_file=args["ca_file"])
        try:
            found = self._execute_module(module_name="ascend.vllm.serve_probe", module_args=probe, task_vars=task_vars)
        except AnsibleError as error:
            # Left to itself it would end this watcher alone, and the others would wait for a node that nobody watches.
            time.sleep(1.0)
            return {"phase": "unreachable", "error": str(error)}
        if found.get("failed"):
            time.sleep(1.0)
            return {"phase": "unreachable", "error": str(found.get("msg"))}
        return {key: found.get(key) for key in ("phase", "exit_code", "health", "error", "last_line", "startup", "telling", "log")}
