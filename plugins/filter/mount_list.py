# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter that picks a unit's mounts from the files that a host has."""

from __future__ import annotations

from ansible.errors import AnsibleFilterError

from ansible_collections.ascend.vllm.plugins.plugin_utils.messages import is_mapping, plain
from ansible_collections.ascend.vllm.plugins.plugin_utils.mounts import choose


def mount_list(unit, paths, host=""):
    """Return C({mounts, checks}) of one unit on one host."""
    if not is_mapping(unit) or "mount_candidates" not in unit:
        raise AnsibleFilterError(f"mount_list needs a unit of the plan, got {type(unit).__name__}")
    if not is_mapping(paths):
        raise AnsibleFilterError(
            f"mount_list needs the paths that node_info returned, a mapping, got {type(paths).__name__}"
        )
    return choose(plain(unit), plain(paths), str(host))


class FilterModule:
    """The filters of this file."""

    def filters(self):
        """Map each filter's name to its function."""
        return {"mount_list": mount_list}
