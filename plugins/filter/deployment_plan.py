# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: a plan with a group as it was deployed before."""

from __future__ import annotations

from ansible.errors import AnsibleFilterError

from ansible_collections.ascend.vllm.plugins.plugin_utils import deployments
from ansible_collections.ascend.vllm.plugins.plugin_utils.messages import plain


def deployment_plan(plan, history, number=None):
    """Return the plan; C(history): {group: [deployment]}.

    Without a number it is the newest but one of each group, with C(newest) the newest; a group that has none is left out then.
    """
    found = plain(plan)
    try:
        for name, kept in plain(history).items():
            if number == "newest" and not kept:
                found = deployments.without(found, name)
                continue
            chosen = kept[-1] if number == "newest" else deployments.choose(name, kept, number)
            found = deployments.put_back(found, chosen["record"])
    except deployments.DeploymentError as error:
        raise AnsibleFilterError(str(error)) from error
    return found


class FilterModule:
    """The filters of this file."""

    def filters(self):
        """Map each filter's name to its function."""
        return {"deployment_plan": deployment_plan}
