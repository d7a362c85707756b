# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: the ports on which units listen."""

from __future__ import annotations

from ansible_collections.ascend.vllm.plugins.plugin_utils.questions import unit_ports


class FilterModule:
    """The filters of this file."""

    def filters(self):
        """Map each filter's name to its function."""
        return {"unit_ports": unit_ports}
