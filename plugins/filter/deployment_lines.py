# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: a history of deployments as lines."""

from __future__ import annotations

from ansible_collections.ascend.vllm.plugins.plugin_utils import deployments
from ansible_collections.ascend.vllm.plugins.plugin_utils.messages import plain


def deployment_lines(history):
    """Return one line a deployment."""
    return deployments.lines(plain(history))


class FilterModule:
    """The filters of this file."""

    def filters(self):
        """Map each filter's name to its function."""
        return {"deployment_lines": deployment_lines}
