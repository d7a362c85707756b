# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filters plan_request, serve_plan and mount_list: their input, their errors, and that one run shows all problems."""

from __future__ import annotations

import json

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.ascend.vllm.plugins.filter import mount_list, plan_request, serve_plan
from ansible_collections.ascend.vllm.plugins.plugin_utils import addresses
from ansible_collections.ascend.vllm.tests.unit.plugins.as_ansible import Lazy


def pair(**variables):
    """Return hostvars of two hosts that state everything."""
    own = {"vllm_hardware": "a2", "vllm_npus": "8", "vllm_nic_name": "eth0", "vllm_extra_env": {"X": 1}}
    return {f"n{index}": {**own, "vllm_local_ip": f"198.51.100.{index + 1}", **variables} for index in range(2)}


def asked(**variables):
    """Return the request of a pair, through the filter and through lazy mappings."""
    return plan_request.plan_request(Lazy({"vllm": ["n0", "n1"], "all": ["n0", "n1"]}), Lazy(pair(**variables)))


@pytest.mark.parametrize("module", [mount_list, plan_request, serve_plan])
def test_registered_under_their_own_names(module):
    name = module.__name__.rpartition(".")[2]
    assert module.FilterModule().filters() == {name: getattr(module, name)}


def test_request_and_plan_are_plain_data_from_lazy_input():
    request = asked()
    assert request["checks"] == [] and request["discover"] == []
    assert request["inputs"]["n0"]["vllm_npus"] == 8 and request["inputs"]["n0"]["vllm_extra_env"] == {"X": "1"}
    result = serve_plan.serve_plan(request)
    assert json.loads(json.dumps(result)) == result and result["plan"]["hosts"]["n1"]["units"][0]["rank"] == 2
    assert serve_plan.serve_plan(json.loads(json.dumps(request)), {}) == result


def test_a_wrong_type_does_not_hide_what_planning_would_find():
    checks = asked(vllm_port="high", vllm_data_parallel_size=3)["checks"]
    assert {check["device"] for check in checks} == {"vllm_port", "vllm_data_parallel_size"}


def test_the_plan_repeats_the_request_s_checks_once():
    request = asked(vllm_prot=1)
    result = serve_plan.serve_plan(request)
    assert [check["device"] for check in result["checks"]] == ["vllm_prot", "vllm_prot"]
    assert result["plan"] is not None


@pytest.mark.parametrize(
    ("function", "arguments", "words"),
    [
        (plan_request.plan_request, ([], {}), "needs groups, a mapping, got list"),
        (plan_request.plan_request, ({}, "x"), "needs hostvars, a mapping, got str"),
        (serve_plan.serve_plan, (None,), "needs the result of plan_request, got NoneType"),
        (serve_plan.serve_plan, ({"a": 1},), "needs the result of plan_request, got dict"),
        (serve_plan.serve_plan, ({"inputs": {}}, ["n0"]), "needs the nodes' answers as a mapping, got list"),
        (mount_list.mount_list, ("unit", {}), "needs a unit of the plan, got str"),
        (
            mount_list.mount_list,
            ({"mount_candidates": {}, "mounts": []}, ["x"]),
            "needs the paths that node_info returned, a mapping, got list",
        ),
    ],
)
def test_bad_input(function, arguments, words):
    with pytest.raises(AnsibleFilterError) as caught:
        function(*arguments)
    assert words in str(caught.value)


def test_mounts_of_a_unit():
    unit = serve_plan.serve_plan(asked())["plan"]["hosts"]["n0"]["units"][0]
    result = mount_list.mount_list(unit, {}, host="n0")
    assert {(check["host"], check["status"]) for check in result["checks"]} == {("n0", "unknown")}


def test_a_controller_without_netaddr_is_told_what_to_do(monkeypatch):
    monkeypatch.setattr(addresses, "netaddr", None)
    with pytest.raises(addresses.MissingLibrary, match="pip install netaddr"):
        asked()
