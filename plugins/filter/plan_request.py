# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter that takes an inventory's public variables, converted and checked."""

from __future__ import annotations

from ansible.errors import AnsibleFilterError

from ansible_collections.ascend.vllm.plugins.plugin_utils.messages import failed, is_mapping
from ansible_collections.ascend.vllm.plugins.plugin_utils.plan import compute
from ansible_collections.ascend.vllm.plugins.plugin_utils.request import build


def plan_request(groups, hostvars):
    """Return the request; where no node has to be asked its checks hold everything that planning will find."""
    for name, value in (("groups", groups), ("hostvars", hostvars)):
        if not is_mapping(value):
            raise AnsibleFilterError(f"plan_request needs {name}, a mapping, got {type(value).__name__}")
    request = build(groups, hostvars)
    if failed(request["checks"]) and not request["discover"]:
        # A wrong type must not hide the other problems: with everything stated they are known now.
        request["checks"] = compute(request)["checks"]
    return request


class FilterModule:
    """The filters of this file."""

    def filters(self):
        """Map each filter's name to its function."""
        return {"plan_request": plan_request}
