# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: what would keep a gate from giving a verdict, as far as the plan says it."""

from __future__ import annotations

from ansible_collections.ascend.vllm.plugins.plugin_utils import clients
from ansible_collections.ascend.vllm.plugins.plugin_utils.messages import plain


def client_gate_checks(settings, plan, data_dirs=()):
    """Return a failed check for each group and run that no gate is for, and for each context that is too short."""
    return clients.gate_checks(plain(settings), plain(plan), clients.load([str(folder) for folder in data_dirs])[0])


class FilterModule:
    """The filters of this file."""

    def filters(self):
        """Map each filter's name to its function."""
        return {"client_gate_checks": client_gate_checks}
