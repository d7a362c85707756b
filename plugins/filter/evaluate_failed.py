# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: why evaluate or benchmark fails."""

from __future__ import annotations

from ansible_collections.ascend.vllm.plugins.plugin_utils import records
from ansible_collections.ascend.vllm.plugins.plugin_utils.messages import plain


def evaluate_failed(made):
    """Return the reasons, none if the verb does not fail."""
    return records.failed(plain(made))


class FilterModule:
    """The filters of this file."""

    def filters(self):
        """Map each filter's name to its function."""
        return {"evaluate_failed": evaluate_failed}
