# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: why evaluate or benchmark fails."""

from __future__ import annotations

from ansible_collections.ascend.vllm.plugins.plugin_utils import records
from ansible_collections.ascend.vllm.plugins.plugin_utils.messages import plain


def evaluate_failed(made, gate=False):
    """Return the reasons, none if the verb does not fail. C(gate): whether a result that nothing judges fails, too."""
    return records.failed(plain(made), bool(gate))


class FilterModule:
    """The filters of this file."""

    def filters(self):
        """Map each filter's name to its function."""
        return {"evaluate_failed": evaluate_failed}
