# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Let one run at a time act on a group; see the module of the same name for its documentation."""

from __future__ import annotations

import getpass
import os
import time

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.ascend.vllm.plugins.plugin_utils import holding

display = Display()


def _user():
    """Return who runs this; a container may run as a number that has no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"user {os.getuid()}"


class ActionModule(ActionBase):
    """Ask the head for the lock; whoever has it and is gone is replaced."""

    TRANSFERS_FILES = False
    _supports_check_mode = True

    def run(self, tmp=None, task_vars=None):
        """Take or give back the lock; fails, naming the holder, when another run has it."""
        super().run(tmp, task_vars)
        dummy, args = self.validate_argument_spec(
            argument_spec={
                "group": {"type": "str", "required": True},
                "verb": {"type": "str", "required": True},
                "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
                "lease_s": {"type": "int", "default": 14400},
                "force": {"type": "bool", "default": False},
                "folder": {"type": "path", "default": "/run/ascend-vllm"},
            }
        )
        # A task runs in a worker; the run is the process that made it.
        holder = holding.describe(os.getppid(), args["verb"], _user(), time.time(), args["lease_s"])
        options = {key: args[key] for key in ("group", "verb", "state", "folder")}
        answer = self._execute_module(module_name="ascend.vllm.group_lock", module_args=dict(options, holder=holder), task_vars=task_vars)
        if answer.get("failed") or "held" not in answer or args["state"] == "absent" or answer["held"] or self._task.check_mode:
            return answer
        other = answer["holder"] or {"id": ""}
        why = "it was asked for by force" if args["force"] else holding.gone(other, holder, time.time())
        if why:
            display.warning(f"{task_vars['inventory_hostname']}: the lock of group {args['group']} is taken over from {holding.words(other)}: {why}")
            answer = self._execute_module(
                module_name="ascend.vllm.group_lock", module_args=dict(options, holder=holder, replace=other["id"]), task_vars=task_vars)
            if answer.get("failed") or "held" not in answer or answer["held"]:
                return answer
            other = answer["holder"] or {"id": ""}
        return dict(answer, failed=True, msg=(
            f"{task_vars['inventory_hostname']}: {holding.words(other)} acts on group {args['group']}, wanted: nobody else. Nothing was changed. "
            "Remedy: wait until it has ended and run again; if it is known to be gone: -e group_lock_force=true."))
