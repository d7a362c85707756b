# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters of the history of deployments."""

from __future__ import annotations

from ansible_collections.ascend.vllm.plugins.plugin_utils import deployments
from ansible_collections.ascend.vllm.plugins.plugin_utils.messages import plain


def deployment_record(plan, group):
    """Return what is kept of a group of a plan."""
    return deployments.record(plain(plan), group)


class FilterModule:
    """The filters of this file."""

    def filters(self):
        """Map each filter's name to its function."""
        return {"deployment_record": deployment_record}
