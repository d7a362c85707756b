# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter only_groups: a plan with some of its groups."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.ascend.vllm.plugins.filter import only_groups
from ansible_collections.ascend.vllm.tests.unit.plugins.as_ansible import Lazy, filter_of

PLAN = {
    "groups": {"east": {"head": "n0"}, "west": {"head": "n1"}},
    "hosts": {"n0": {"local_ip": "a", "units": [{"name": "east-rank0", "group": "east"}]}, "n1": {"local_ip": "b", "units": [{"name": "w", "group": "west"}]}},
    "proxies": {"proxy": {"name": "vllm-proxy"}},
}


@pytest.mark.parametrize("nothing", ["", [], " , "])
def test_nothing_means_every_group(nothing):
    assert filter_of(only_groups)(PLAN, nothing) == PLAN


@pytest.mark.parametrize("only", ["west", ["west"], " west, "])
def test_one_group_has_its_units_and_every_host_stays(only):
    found = filter_of(only_groups)(Lazy(PLAN), only)
    assert list(found["groups"]) == ["west"] and found["proxies"] == PLAN["proxies"]
    assert {host: [unit["name"] for unit in entry["units"]] for host, entry in found["hosts"].items()} == {"n0": [], "n1": ["w"]}
    assert [unit["name"] for unit in PLAN["hosts"]["n0"]["units"]] == ["east-rank0"]


def test_a_name_that_no_group_has_is_refused():
    with pytest.raises(AnsibleFilterError, match="only_groups: found vest, wanted groups of the plan: one of east, west. Remedy: did you mean 'west'"):
        filter_of(only_groups)(PLAN, "vest")
