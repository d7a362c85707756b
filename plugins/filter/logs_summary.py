# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: say in a few lines a node what a bundle of logs tells."""

from __future__ import annotations

from ansible_collections.ascend.vllm.plugins.plugin_utils.logs_summary import lines


class FilterModule:
    """The filters of this file."""

    def filters(self):
        """Map each filter's name to its function."""
        return {"logs_summary": lines}
