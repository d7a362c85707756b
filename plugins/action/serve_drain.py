# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Wait until accepted requests have ended; see the module of the same name for its documentation."""

from __future__ import annotations

import time

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

display = Display()

#: Seconds that new connections stay away after the limit: for the stop that follows.
AFTER_S = 600


class ActionModule(ActionBase):
    """Look in slices until no request is left or it is of no use to wait longer."""

    TRANSFERS_FILES = False
    _supports_check_mode = True

    def run(self, tmp=None, task_vars=None):
        """Drain; requests that are left are counted and no failure."""
        super().run(tmp, task_vars)
        dummy, args = self.validate_argument_spec(
            argument_spec={
                "ports": {"type": "list", "elements": "int", "required": True},
                "urls": {"type": "list", "elements": "str", "required": True},
                "api_key": {"type": "str", "no_log": True},
                "ca_file": {"type": "path"},
                "limit_s": {"type": "int", "required": True},
                "stall_s": {"type": "int", "default": 60},
                "alone": {"type": "bool", "default": False},
                "slice_s": {"type": "float", "default": 5.0},
            }
        )
        if self._task.check_mode or args["limit_s"] <= 0:
            return {"changed": False, "outcome": "off", "left": None, "kept_away": False, "since": None, "seconds": 0.0}
        host, start, since = task_vars["inventory_hostname"], time.monotonic(), time.time()
        options = {key: args[key] for key in ("ports", "urls", "api_key", "ca_file", "alone")}
        moved_at, seen, told = start, None, False
        while True:
            left_s = args["limit_s"] - (time.monotonic() - start)
            options.update(slice_s=min(args["slice_s"], max(left_s, 0.0)), expire_s=int(max(left_s, 0.0)) + AFTER_S)
            answer = self._execute_module(module_name="ascend.vllm.drain_progress", module_args=dict(options), task_vars=task_vars)
            if answer.get("failed") or "kept_away" not in answer:
                return dict(answer, failed=True, msg=f"{host}: {answer.get('msg', 'the module ended without a result')}")
            if answer["why_not"] and not told:
                ports = ", ".join(map(str, args["ports"]))
                display.warning(f"{host}: new requests are not kept away from port {ports}: {answer['why_not']}. Remedy: install nftables there.")
                told = True
            now = time.monotonic()
            if answer["requests"] and (answer["tokens"], answer["requests"]) != seen:
                seen, moved_at = (answer["tokens"], answer["requests"]), now
            outcome = self._outcome(answer, now - start, now - moved_at, args)
            if outcome:
                return {"changed": False, "outcome": outcome, "left": answer["requests"] or None, "kept_away": answer["kept_away"], "since": since,
                        "seconds": round(now - start, 1)}
            found = "{running} requests running, {waiting} waiting".format(**answer["requests"]) if answer["requests"] else "no answer yet"
            display.display(f"  [{now - start:5.0f} s of at most {args['limit_s']} s] {host}: {found}")

    @staticmethod
    def _outcome(answer, elapsed_s, still_s, args):
        """Return how the wait ended, or None to go on."""
        if answer["drained"]:
            return "drained"
        if not answer["requests"]:
            # One that listens may be too busy to answer: nothing is cut off for that until it would be for any other reason.
            return "silent" if answer["requests"] is None or elapsed_s >= args["limit_s"] or still_s > args["stall_s"] else None
        if elapsed_s >= args["limit_s"]:
            return "limit"
        # Without a count of tokens nobody knows whether something is computed.
        return "stalled" if answer["tokens"] is not None and still_s > args["stall_s"] else None
