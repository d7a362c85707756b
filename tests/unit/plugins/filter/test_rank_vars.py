# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter rank_vars: a table of groups, and every bad input named."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.ascend.vllm.plugins.filter.rank_vars import FilterModule, rank_vars

KEYS = {
    "rank",
    "head",
    "headless",
    "local_ip",
    "nic_name",
    "HCCL_IF_IP",
    "HCCL_SOCKET_IFNAME",
    "GLOO_SOCKET_IFNAME",
    "TP_SOCKET_IFNAME",
    "npus",
    "data_parallel_size",
    "data_parallel_size_local",
    "data_parallel_start_rank",
    "data_parallel_address",
    "data_parallel_rpc_port",
    "tensor_parallel_size",
}


def hosts(count, npus=8, **variables):
    """Return hostvars of hosts n0, n1, .. that state everything."""
    own = {"vllm_hardware": "a2", "vllm_npus": npus, "vllm_nic_name": "bond0"}
    return {f"n{index}": {**own, "vllm_local_ip": f"198.51.{100 + index // 250}.{1 + index % 250}", **variables} for index in range(count)}


def test_is_registered():
    assert FilterModule().filters() == {"rank_vars": rank_vars}


def test_the_pair():
    result = rank_vars(["n0", "n1"], hosts(2))
    assert set(result["n0"]) == set(result["n1"]) == KEYS
    assert result["n1"] == {
        "rank": 1,
        "head": False,
        "headless": True,
        "local_ip": "198.51.100.2",
        "nic_name": "bond0",
        "HCCL_IF_IP": "198.51.100.2",
        "HCCL_SOCKET_IFNAME": "bond0",
        "GLOO_SOCKET_IFNAME": "bond0",
        "TP_SOCKET_IFNAME": "bond0",
        "npus": [0, 1, 2, 3, 4, 5, 6, 7],
        "data_parallel_size": 4,
        "data_parallel_size_local": 2,
        "data_parallel_start_rank": 2,
        "data_parallel_address": "198.51.100.1",
        "data_parallel_rpc_port": 13389,
        "tensor_parallel_size": 4,
    }
    assert (result["n0"]["head"], result["n0"]["data_parallel_start_rank"], result["n0"]["data_parallel_address"]) == (
        True,
        0,
        "198.51.100.1",
    )


@pytest.mark.parametrize(
    ("count", "npus", "variables", "recipe", "starts", "local", "tp"),
    [
        (1, 16, {}, "deepseek_r1_w8a8", [0], 4, 4),
        (4, 8, {}, "deepseek_r1_w8a8", [0, 2, 4, 6], 2, 4),
        (2, 8, {"vllm_tensor_parallel_size": "8"}, None, [0, 1], 1, 8),
        (3, 8, {}, {"tensor_parallel_size": 4}, [0, 2, 4], 2, 4),
        (5, 8, {"vllm_data_parallel_size": 10}, {"tensor_parallel_size": 2}, [0, 2, 4, 6, 8], 2, 2),
        (2, 8, {}, {"tensor_parallel_size": 4, "npus_needed": 16, "expert_parallel_sizes": [16]}, [0, 2], 2, 4),
    ],
)
def test_any_number_of_hosts(count, npus, variables, recipe, starts, local, tp):
    hostvars = hosts(count, npus, **variables)
    result = rank_vars(list(hostvars), hostvars, recipe)
    assert [entry["data_parallel_start_rank"] for entry in result.values()] == starts
    assert [entry["rank"] for entry in result.values()] == list(range(count))
    assert {entry["data_parallel_size_local"] for entry in result.values()} == {local}
    assert {entry["data_parallel_size"] for entry in result.values()} == {count * local}
    assert {entry["tensor_parallel_size"] for entry in result.values()} == {tp}
    assert all(len(entry["npus"]) == local * tp for entry in result.values())


def test_a_thousand_hosts():
    hostvars = hosts(1000)
    result = rank_vars(list(hostvars), hostvars, {"tensor_parallel_size": 4})
    assert result["n999"]["data_parallel_start_rank"] == 1998


def test_discovered_answers_count():
    hostvars = hosts(2, vllm_network="198.51.100.0/24")
    for values in hostvars.values():
        del values["vllm_local_ip"], values["vllm_nic_name"]
    answers = {
        host: {
            "hardware": "a2",
            "npus": list(range(8)),
            "interfaces": [{"name": "eth7", "up": True, "addresses": [f"198.51.100.{index + 40}/24"]}],
        }
        for index, host in enumerate(hostvars)
    }
    result = rank_vars(["n1", "n0"], hostvars, discovered=answers)
    assert (result["n1"]["rank"], result["n1"]["HCCL_IF_IP"], result["n0"]["data_parallel_address"], result["n0"]["TP_SOCKET_IFNAME"]) == (
        0,
        "198.51.100.41",
        "198.51.100.41",
        "eth7",
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("n0", {}), "needs a list of host names, got str"),
        (({"n0": 1}, {}), "needs a list of host names, got dict"),
        (([1], {}), "needs a list of host names, got list"),
        ((None, {}), "needs a list of host names, got NoneType"),
        ((["n0"], ["n0"]), "needs hostvars, a mapping, got list"),
        ((["n0"], {}), "knows no variables of n0"),
        ((["n0"], hosts(1), 5), "needs the name of a recipe or a mapping, got int"),
        ((["n0"], hosts(1), "nope"), "recipe_known: found the recipe 'nope'"),
        ((["n0"], hosts(1), {"tensor_parallel_size": 0}), "no whole number of 1 or more as tensor_parallel_size"),
        (([], {}), "group_members"),
    ],
)
def test_bad_input(arguments, words):
    with pytest.raises(AnsibleFilterError) as caught:
        rank_vars(*arguments)
    assert words in str(caught.value)


def test_every_problem_of_every_host_is_raised_at_once():
    hostvars = hosts(3)
    hostvars["n0"]["vllm_port"] = "high"
    hostvars["n1"]["vllm_npus"] = -1
    hostvars["n2"]["vllm_local_ip"] = "198.51.100.1"
    with pytest.raises(AnsibleFilterError) as caught:
        rank_vars(list(hostvars), hostvars)
    for words in ("n0 vllm_port", "n1 vllm_npus", "n2 vllm_local_ip", "Remedy:"):
        assert words in str(caught.value)


def test_what_the_caller_names_is_the_group_whatever_vllm_groups_says():
    hostvars = hosts(2, vllm_groups=[{"name": "g"}])
    assert list(rank_vars(["n1", "n0"], hostvars)) == ["n1", "n0"]
