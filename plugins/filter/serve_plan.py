# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter that computes the plan from a request."""

from __future__ import annotations

from ansible.errors import AnsibleFilterError

from ansible_collections.ascend.vllm.plugins.plugin_utils.messages import is_mapping, plain
from ansible_collections.ascend.vllm.plugins.plugin_utils.plan import compute


def serve_plan(request, discovered=None):
    """Return C({plan, checks, notices}); C(plan) is null if a check failed."""
    if not is_mapping(request) or "inputs" not in request:
        raise AnsibleFilterError(f"serve_plan needs the result of plan_request, got {type(request).__name__}")
    if discovered is not None and not is_mapping(discovered):
        raise AnsibleFilterError(f"serve_plan needs the nodes' answers as a mapping, got {type(discovered).__name__}")
    return compute(plain(request), plain(discovered or {}))


class FilterModule:
    """The filters of this file."""

    def filters(self):
        """Map each filter's name to its function."""
        return {"serve_plan": serve_plan}
