# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: what a result says of the deployment that it is of."""

from __future__ import annotations

from ansible_collections.ascend.vllm.plugins.plugin_utils import clients, deployments
from ansible_collections.ascend.vllm.plugins.plugin_utils.messages import plain


def deployment_facts(plan, group, history, image_id=None):
    """Return what a record says of a deployment; C(history): the deployments that are kept of the group, oldest first."""
    found, kept, name = plain(plan), plain(history), str(group)
    newest, entry = kept[-1] if kept else None, found["groups"][name]
    # A request goes through prefill and decode: what is measured is of all of these groups.
    halves = [other for other, part in found["groups"].items() if part["role"] != "serve" and other != name] if entry["role"] != "serve" else []
    others = [deployments.record(found, other) for other in halves]
    return clients.deployment(deployments.record(found, name), newest, entry, image_id and str(image_id), others)


class FilterModule:
    """The filters of this file."""

    def filters(self):
        """Map each filter's name to its function."""
        return {"deployment_facts": deployment_facts}
