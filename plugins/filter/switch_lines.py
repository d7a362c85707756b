# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: what became of a switch from one deployment to another."""

from __future__ import annotations

from ansible_collections.ascend.vllm.plugins.plugin_utils.deployments import switch_lines


class FilterModule:
    """The filters of this file."""

    def filters(self):
        """Map each filter's name to its function."""
        return {"switch_lines": switch_lines}
