# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Verify a directory of weights, showing progress; see the module of the same name for its documentation."""

from __future__ import annotations

import time

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.ascend.vllm.plugins.plugin_utils import progress

display = Display()


class ActionModule(ActionBase):
    """Run weights_dir in slices until nothing is left to hash."""

    TRANSFERS_FILES = False
    _supports_check_mode = True

    def run(self, tmp=None, task_vars=None):
        """Verify; fails for files that are not as wanted, unless they were set aside to be fetched again."""
        super().run(tmp, task_vars)
        dummy, args = self.validate_argument_spec(
            argument_spec={
                "weights": {"type": "dict", "required": True},
                "full": {"type": "bool", "default": False},
                "discard": {"type": "bool", "default": False},
                "expected_file": {"type": "path"},
                "token_file": {"type": "path", "no_log": False},
                "proxies": {"type": "dict", "default": {}},
                "slice_s": {"type": "float", "default": 5.0},
            }
        )
        options = {key: value for key, value in args.items() if key != "slice_s" and value is not None}
        options.update(state="verified", budget_s=args["slice_s"])
        start, hashed, changed = time.monotonic(), 0, False
        while True:
            answer = self._execute_module(module_name="ascend.vllm.weights_dir", module_args=options, task_vars=task_vars)
            if answer.get("failed") or "done" not in answer:
                return dict(answer, failed=True)
            hashed, changed = hashed + answer["hashed_bytes"], changed or answer["changed"]
            if answer["done"]:
                break
            # A verification that is begun anew by every slice would never end.
            options["full"] = args["full"]
            elapsed, total = time.monotonic() - start, hashed + answer["left_bytes"]
            display.display(f"  {progress.line(task_vars['inventory_hostname'], 'verified', elapsed, hashed, total)}")
        result = dict(answer, changed=changed, hashed_bytes=hashed, seconds=round(time.monotonic() - start, 1))
        if answer["differences"] and not answer["discarded"]:
            result.update(failed=True, msg=message(args["weights"], answer["differences"]))
        return result


def message(weights: dict, differences: list) -> str:
    """Return what is wrong with a directory and what to do."""
    remedy = (
        "run site.yml again, which fetches only what is missing"
        if weights["kind"] in ("modelscope", "huggingface")
        else "put right files there; if a file was replaced on purpose, remove the files .ascend-vllm-weights*.json beside it"
    )
    more = f"; and {len(differences) - 20} more" if len(differences) > 20 else ""
    return f"{weights['dir']} is not whole and was not marked complete: {'; '.join(differences[:20])}{more}. Remedy: {remedy}."
