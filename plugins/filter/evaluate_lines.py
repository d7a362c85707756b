# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: records as lines for the terminal."""

from __future__ import annotations

from ansible_collections.ascend.vllm.plugins.plugin_utils import records
from ansible_collections.ascend.vllm.plugins.plugin_utils.messages import plain


def evaluate_lines(made):
    """Return a line a record, those first that need the reader."""
    return records.lines(plain(made))


class FilterModule:
    """The filters of this file."""

    def filters(self):
        """Map each filter's name to its function."""
        return {"evaluate_lines": evaluate_lines}
