# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: take some groups of a plan alone."""

from __future__ import annotations

from ansible.errors import AnsibleFilterError
from ansible_collections.ascend.vllm.plugins.plugin_utils.messages import did_you_mean, known_names


def only_groups(plan, only):
    """Return the plan with these groups and their units alone; hosts and proxies stay. ``only``: names, as a list or with commas between them.

    Nothing at all means every group. Raises for a name that no group has.
    """
    names = [name.strip() for name in (only.split(",") if isinstance(only, str) else only) if name.strip()]
    unknown = [name for name in names if name not in plan["groups"]]
    if unknown:
        raise AnsibleFilterError(
            f"only_groups: found {', '.join(unknown)}, wanted groups of the plan: {known_names(list(plan['groups']))}. "
            f"Remedy: {did_you_mean(unknown[0], list(plan['groups']))}correct the name, or leave only_groups out for all of them.")
    if not names:
        return plan
    hosts = {host: {**entry, "units": [unit for unit in entry["units"] if unit["group"] in names]} for host, entry in plan["hosts"].items()}
    return {**plan, "groups": {name: group for name, group in plan["groups"].items() if name in names}, "hosts": hosts}


class FilterModule:
    """The filters of this file."""

    def filters(self):
        """Map each filter's name to its function."""
        return {"only_groups": only_groups}
