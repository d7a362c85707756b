# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: say what Prometheus has to scrape."""

from __future__ import annotations

from ansible.errors import AnsibleFilterError

from ansible_collections.ascend.vllm.plugins.plugin_utils import monitoring
from ansible_collections.ascend.vllm.plugins.plugin_utils.messages import is_mapping, plain


def scrape_configs(plan, job="ascend_vllm", urls=None):
    """Return the list C(scrape_configs) of a Prometheus configuration."""
    if not is_mapping(plan) or "groups" not in plan:
        raise AnsibleFilterError(f"scrape_configs needs the plan, a mapping with groups, got {type(plan).__name__}")
    if urls is not None and not is_mapping(urls):
        raise AnsibleFilterError(f"scrape_configs needs the URLs as a mapping by group, got {type(urls).__name__}")
    try:
        return monitoring.scrape_configs(plain(plan), str(job), plain(urls or {}))
    except ValueError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """The filters of this file."""

    def filters(self):
        """Map each filter's name to its function."""
        return {"scrape_configs": scrape_configs}
