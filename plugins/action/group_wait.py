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
from ansible_collections.ascend.vllm.plugins.plugin_utils.waiting import Board, Watch, decide, limits_problem, places, summary

display = Display()

#: Seconds after which the progress line is shown again although nothing in it has changed.
REPEAT_S = 30.0
#: Seconds that a slice takes at most: an exit ends the wait within ten, of which two slices may be a part.
SLICE_S = 5.0
#: Seconds of a slice once a container has exited and the other nodes' logs are heard for the reason.
SHORT_S = 1.0


class ActionModule(ActionBase):
    """Watch this host's units in slices until one decision for the whole group stands."""

    TRANSFERS_FILES = False

    def run(self, tmp=None, task_vars=None):
        """Run the wait; fails on every host of the group with the same message."""
        super().run(tmp, task_vars)
        dummy, args = self.validate_argument_spec(
            argument_spec={
                "board": {"type": "path", "required": True},
                "units": {"type": "list", "elements": "dict", "required": True, "options": {
                    "name": {"type": "str", "required": True}, "host": {"type": "str", "required": True},
                    "rank": {"type": "int"}, "url": {"type": "str"}}},
                "model": {"type": "str", "required": True},
                "completion": {"type": "bool", "default": True},
                "api_key": {"type": "str", "no_log": True},
                "ca_file": {"type": "path"},
                "limit_s": {"type": "int", "required": True},
                "phase_limits": {"type": "dict", "default": {}},
                "slice_s": {"type": "float", "default": 5.0},
                "language": {"type": "str", "default": "en", "choices": ["en", "zh"]},
                "data_dirs": {"type": "list", "elements": "path", "default": []},
            }
        )
        host, hosts = task_vars["inventory_hostname"], list(dict.fromkeys(unit["host"] for unit in args["units"]))
        workers = int((context.CLIARGS or {}).get("forks") or len(hosts))
        if workers < len(hosts):
            wanted = len(hosts)
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
            "decided_at": decision["at"],
        }

    def _wait(self, host, args, board, task_vars):
        """Return (decision, elapsed seconds)."""
        start, known = time.monotonic(), causes.load(args["data_dirs"])
        place = places(args["units"])
        mine = [unit for unit in args["units"] if unit["host"] == host]
        watches = {unit["name"]: Watch() for unit in mine}
        every, asked = list(place.values()), [place[unit["name"]] for unit in args["units"] if unit["url"]]
        shown, shown_at = None, start
        slice_s = min(args["slice_s"], SLICE_S)
        while True:
            found = self._slice(mine, args, slice_s, task_vars)
            own = {place[name]: watches[name].state(found[name], time.monotonic()) for name in watches}
            for name, state in own.items():
                board.post(name, state)
            elapsed = time.monotonic() - start
            # In this order: the states shown last are at least as new as those that the decision was made on.
            decision = board.decision()
            states = board.states(every)
            decision = decision or decide(states, every, asked, elapsed, args["limit_s"], known, args["language"], args["phase_limits"])
            if host == args["units"][0]["host"]:
                line = " | ".join(f"{name}: {summary(states.get(name), args['language'])}" for name in every)
                if line != shown or time.monotonic() - shown_at > REPEAT_S:
                    display.display(f"  [{elapsed:5.0f} s of at most {args['limit_s']} s] {line}")
                    shown, shown_at = line, time.monotonic()
            if decision:
                return board.settle({"at": time.time(), **decision}), elapsed
            if any(other["phase"] == "exited" for other in states.values()):
                slice_s = min(slice_s, SHORT_S)
            if any(state["phase"] == "exited" for state in own.values()):
                # A slice of an exited container is over at once.
                time.sleep(SHORT_S)

    def _slice(self, mine, args, slice_s, task_vars):
        """Watch this host's units for one slice, return name -> state; a connection or a become that fails is a state too."""
        probe = {"units": {unit["name"]: unit["url"] for unit in mine}, "slice_s": slice_s, "ca_file": args["ca_file"]}
        if any(unit["url"] for unit in mine):
            probe.update(model=args["model"], completion=args["completion"], api_key=args["api_key"])
        else:
            # The task ends when its last slice does, and this node sees by itself when the head is up.
            probe["until"] = next(unit["url"] for unit in args["units"] if unit["url"])
        try:
            found = self._execute_module(module_name="ascend.vllm.serve_probe", module_args=probe, task_vars=task_vars)
        except AnsibleError as error:
            # Left to itself it would end this watcher alone, and the others would wait for a node that nobody watches.
            time.sleep(1.0)
            return {unit["name"]: {"phase": "unreachable", "error": str(error)} for unit in mine}
        if found.get("failed"):
            time.sleep(1.0)
            return {unit["name"]: {"phase": "unreachable", "error": str(found.get("msg"))} for unit in mine}
        keys = ("phase", "exit_code", "health", "error", "last_line", "startup", "telling", "log")
        return {name: {key: state.get(key) for key in keys} for name, state in found["units"].items()}
