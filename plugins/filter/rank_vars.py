# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter that gives every host of a data-parallel group its rank, addresses and sizes."""

from __future__ import annotations

from ansible.errors import AnsibleFilterError

from ansible_collections.ascend.vllm.plugins.plugin_utils.lines import check_line
from ansible_collections.ascend.vllm.plugins.plugin_utils.messages import is_list, is_mapping, plain
from ansible_collections.ascend.vllm.plugins.plugin_utils.rank_variables import compute


def rank_vars(hosts, hostvars, recipe=None, discovered=None):
    """Return C({host: variables}); raise AnsibleFilterError with every problem of every host."""
    if not is_list(hosts) or not all(isinstance(host, str) for host in hosts):
        raise AnsibleFilterError(f"rank_vars needs a list of host names, got {type(hosts).__name__}")
    if not is_mapping(hostvars):
        raise AnsibleFilterError(f"rank_vars needs hostvars, a mapping, got {type(hostvars).__name__}")
    if recipe is not None and not isinstance(recipe, str) and not is_mapping(recipe):
        raise AnsibleFilterError(f"rank_vars needs the name of a recipe or a mapping, got {type(recipe).__name__}")
    missing = [host for host in hosts if host not in hostvars]
    if missing:
        raise AnsibleFilterError(f"rank_vars knows no variables of {', '.join(missing)}")
    result, checks = compute([str(host) for host in hosts], hostvars, plain(recipe), plain(discovered or {}))
    problems = [check_line(check) for check in checks if check["status"] in ("fail", "unknown")]
    if problems:
        raise AnsibleFilterError("rank_vars: " + " | ".join(problems))
    return result


class FilterModule:
    """The filters of this file."""

    def filters(self):
        """Map each filter's name to its function."""
        return {"rank_vars": rank_vars}
