# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Wait until a proxy counts every backend; see the module of the same name for its documentation."""

from __future__ import annotations

import time

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.ascend.vllm.plugins.plugin_utils import causes, proxy_waiting

display = Display()

#: Seconds after which the progress line is shown again although nothing in it has changed.
REPEAT_S = 30.0
#: Seconds that a slice takes at most.
SLICE_S = 5.0


class ActionModule(ActionBase):
    """Look in slices until the proxy is ready, has ended, or the time is over."""

    TRANSFERS_FILES = False

    def run(self, tmp=None, task_vars=None):
        """Wait; fails with what the proxy's log or list says."""
        super().run(tmp, task_vars)
        dummy, args = self.validate_argument_spec(
            argument_spec={
                "container": {"type": "str", "required": True},
                "url": {"type": "str", "required": True},
                "kind": {"type": "str", "default": "vllm-router", "choices": ["vllm-router", "vllm-ascend"]},
                "backends": {"type": "list", "elements": "str", "required": True},
                "also": {"type": "list", "elements": "str", "default": []},
                "api_key": {"type": "str", "no_log": True},
                "fresh": {"type": "bool", "default": False},
                "limit_s": {"type": "int", "default": 120},
                "slice_s": {"type": "float", "default": SLICE_S},
                "language": {"type": "str", "default": "en", "choices": ["en", "zh"]},
                "data_dirs": {"type": "list", "elements": "path", "default": []},
            }
        )
        host, start = task_vars["inventory_hostname"], time.monotonic()
        options = {key: args[key] for key in ("container", "url", "kind", "backends", "also", "api_key")}
        restarts, shown, shown_at = 0 if args["fresh"] else None, None, start
        while True:
            left_s = max(args["limit_s"] - (time.monotonic() - start), 0.0)
            options.update(slice_s=min(args["slice_s"], SLICE_S, left_s), restarts=restarts)
            found = self._execute_module(module_name="ascend.vllm.proxy_probe", module_args=dict(options), task_vars=task_vars)
            if found.get("failed") or "phase" not in found:
                return dict(found, failed=True, msg=f"{host}: {found.get('msg', 'the module ended without a result')}")
            elapsed = time.monotonic() - start
            outcome = proxy_waiting.outcome(found, elapsed, args["limit_s"])
            if outcome:
                known = causes.load(args["data_dirs"]) if outcome == "exited" else {}
                message = proxy_waiting.message(outcome, host, args, found, known)
                return {"changed": False, "failed": outcome != "ready", "msg": message, "outcome": outcome, "router": found["router"],
                        "elapsed_s": round(elapsed, 1)}
            # From the first look on, every further start is one that the engine made because the proxy had ended.
            restarts = found["restarts"] if restarts is None else restarts
            line = proxy_waiting.progress(found["router"], len(args["backends"]))
            if line != shown or time.monotonic() - shown_at > REPEAT_S:
                display.display(f"  [{elapsed:5.0f} s of at most {args['limit_s']} s] {host}: {line}")
                shown, shown_at = line, time.monotonic()
