# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: what a client measures."""

from __future__ import annotations

from ansible.errors import AnsibleFilterError

from ansible_collections.ascend.vllm.plugins.plugin_utils import proxies
from ansible_collections.ascend.vllm.plugins.plugin_utils.messages import plain


def measured_groups(plan):
    """Return name -> entry of the groups that a client measures; raise where prefill and decode groups have no proxy."""
    try:
        return proxies.measured(plain(plan))
    except ValueError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """The filters of this file."""

    def filters(self):
        """Map each filter's name to its function."""
        return {"measured_groups": measured_groups}
