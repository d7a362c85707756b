# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: say which connections the nodes try to their peers."""

from __future__ import annotations

from ansible_collections.ascend.vllm.plugins.plugin_utils.questions import reach_questions


class FilterModule:
    """The filters of this file."""

    def filters(self):
        """Map each filter's name to its function."""
        return {"reach_questions": reach_questions}
