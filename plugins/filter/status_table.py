# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: show a report of status as tables."""

from __future__ import annotations

from ansible_collections.ascend.vllm.plugins.plugin_utils.status_page import status_table


class FilterModule:
    """The filters of this file."""

    def filters(self):
        """Map each filter's name to its function."""
        return {"status_table": status_table}
