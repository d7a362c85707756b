# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Several groups on one inventory: each with its own settings, hosts, NPUs and ports."""

from __future__ import annotations

import pytest


def four(hosts, *entries, **variables):
    """Return hostvars of four A2 nodes with vllm_groups, and their inventory groups: the first two and the last two."""
    hostvars = hosts(4, vllm_groups=list(entries), **variables)
    names = list(hostvars)
    return hostvars, {"vllm": names, "east": names[:2], "west": names[2:]}


def test_two_replicas_side_by_side(hosts, planned, bad):
    result = planned(
        *four(
            hosts,
            {"name": "one", "hosts_from": "east"},
            {"name": "two", "hosts_from": "west", "port": "8100", "served_model_name": "r1"},
            vllm_port=8000,
        )
    )
    assert bad(result) == []
    groups = result["plan"]["groups"]
    assert [(name, group["head"], group["api"]["port"], group["served_model_name"]) for name, group in groups.items()] == [
        ("one", "a2-node0", 8000, "deepseek_r1"),
        ("two", "a2-node2", 8100, "r1"),
    ]
    units = [entry["units"] for entry in result["plan"]["hosts"].values()]
    assert [[unit["name"] for unit in entry] for entry in units] == [["one-rank0"], ["one-rank2"], ["two-rank0"], ["two-rank2"]]
    assert "HCCL_IF_BASE_PORT" not in units[0][0]["env"]
    assert {notice["group"] for notice in result["plan"]["notices"]} == {"one", "two"}


def shared(**second):
    """Return two entries that share two A3 hosts, half the NPUs each; the second one with changes."""
    first = {"name": "one", "npus": [0, 1, 2, 3, 4, 5, 6, 7]}
    return [first, {"name": "two", "npus": list(range(8, 16)), "port": 8001, "data_parallel_rpc_port": 13390, **second}]


def test_two_groups_on_the_same_hosts(hosts, planned, bad):
    result = planned(hosts(2, "a3", vllm_groups=shared()))
    assert bad(result) == []
    for entry in result["plan"]["hosts"].values():
        one, two = entry["units"]
        assert (one["npus"], two["npus"]) == (list(range(8)), list(range(8, 16)))
        assert "/dev/davinci8" in two["devices"] and "/dev/davinci0" not in two["devices"]
        # HCCL's ports of the second group must not meet those of the first.
        assert "HCCL_IF_BASE_PORT" not in one["env"]
        assert int(two["env"]["HCCL_IF_BASE_PORT"]) >= 60032 and "HCCL_IF_BASE_PORT" in two["env_added"]


@pytest.mark.parametrize(
    ("second", "device", "words"),
    [
        ({"port": 8000}, "vllm_port", "8000 for vllm_port of group two and for vllm_port of group one"),
        ({"data_parallel_rpc_port": 13389}, "vllm_data_parallel_rpc_port", "13389 for"),
        ({"supervise": True, "watch_port": 8000}, "vllm_watch_port", "8000 for vllm_watch_port of group two and for vllm_port of group one"),
        ({"port": 60040}, "vllm_port", "HCCL's ports 60032 to 60063 of group two"),
        ({"extra_env": {"HCCL_IF_BASE_PORT": 60010}}, "vllm_extra_env", "within 32 ports of 60000"),
        ({"npus": list(range(7, 15))}, "vllm_groups", "NPU 7 in group one and in group two"),
        ({"npus": list(range(9, 17))}, "vllm_groups", "npus [9, 10,"),
        ({"npus": 17}, "vllm_groups", "npus 17"),
    ],
)
def test_groups_on_one_host_stay_apart(hosts, planned, bad, second, device, words):
    found = bad(planned(hosts(2, "a3", vllm_groups=shared(**second))))
    assert found
    for check in found:
        assert check["host"] in ("a3-node0", "a3-node1")
        assert check["device"] == device
        assert words in check["observed"] and check["remedy"]


def test_an_entry_wins_and_its_mappings_are_merged(hosts, planned, bad):
    result = planned(
        hosts(
            2,
            vllm_model="unknown",
            vllm_extra_env={"A": "host", "B": "host"},
            vllm_extra_args={"seed": 1, "max-num-seqs": 8},
            vllm_groups=[
                {
                    "name": "g",
                    "model": "deepseek_r1_w8a8",
                    "extra_env": {"A": "entry"},
                    "extra_args": {"seed": 2},
                    "shm_size": "2g",
                    "image": "r/x:1",
                }
            ],
        )
    )
    assert bad(result) == []
    unit = result["plan"]["hosts"]["a2-node1"]["units"][0]
    assert (unit["env"]["A"], unit["env"]["B"], unit["shm_size"], unit["image"]) == ("entry", "host", "2g", "r/x:1")
    assert unit["argv"][unit["argv"].index("--seed") + 1] == "2"
    assert unit["argv"][unit["argv"].index("--max-num-seqs") + 1] == "8"


def test_hosts_outside_every_entry_are_left_alone(hosts, planned, bad):
    hostvars, groups = four(hosts, {"name": "one", "hosts_from": "east"})
    del hostvars["a2-node3"]["vllm_npus"]
    result = planned(hostvars, groups)
    assert bad(result) == []
    assert list(result["plan"]["hosts"]) == ["a2-node0", "a2-node1"]


@pytest.mark.parametrize(
    ("entry", "words", "remedy"),
    [
        ({"name": "g", "role": "encode"}, "the role 'encode'", "did you mean 'decode'?"),
        ({"name": "g", "hosts_from": "eas"}, "'eas'", "did you mean 'east'?"),
        ({"name": "g", "hosts_from": ["east"]}, "['east']", "put the hosts into it"),
        ({"name": "g", "prot": 1}, "the key 'prot'", "did you mean 'port'?"),
        ({"name": "g", "vllm_port": 1}, "the key 'vllm_port'", "without 'vllm_'"),
        ({"name": "g", "local_ip": "198.51.100.1"}, "the key 'local_ip'", "stated on the host"),
        ({"name": "g", "port": "high"}, "port: 'high'", "correct port"),
        ({"name": "g", "npus": "x"}, "npus: 'x'", "correct npus"),
        ({"name": "G!"}, "entry 1: 'G!'", "give every entry a name"),
        ({"port": 1}, "entry 1: nothing", "give every entry a name"),
    ],
)
def test_an_entry_that_is_wrong(hosts, planned, bad, entry, words, remedy):
    found = bad(planned(*four(hosts, entry)))
    assert [check["device"] for check in found] == ["vllm_groups"]
    assert words in found[0]["observed"] and remedy in found[0]["remedy"]


def test_names_hosts_and_the_list_itself(hosts, planned, bad):
    found = bad(planned(*four(hosts, {"name": "g"}, {"name": "g"})))
    assert "the name g a second time" in found[0]["observed"]
    hostvars, groups = four(hosts, {"name": "g", "hosts_from": "other"})
    found = bad(planned(hostvars, {**groups, "other": ["a2-node0", "stranger"]}))
    assert [(check["host"], check["device"]) for check in found] == [("stranger", "vllm_groups")]
    assert "an empty list" in bad(planned(*four(hosts)))[0]["observed"]


def test_the_order_of_node_ranks_counts_in_each_group(hosts, planned, bad):
    hostvars, groups = four(hosts, {"name": "one", "hosts_from": "east"}, {"name": "two", "hosts_from": "west", "port": 8001})
    for host, rank in zip(hostvars, (1, 0, 1, 0)):
        hostvars[host]["vllm_node_rank"] = rank
    result = planned(hostvars, groups)
    assert bad(result) == []
    assert [group["head"] for group in result["plan"]["groups"].values()] == ["a2-node1", "a2-node3"]
    assert [group["hosts"] for group in result["plan"]["groups"].values()] == [["a2-node1", "a2-node0"], ["a2-node3", "a2-node2"]]
