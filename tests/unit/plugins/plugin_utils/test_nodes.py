# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host is, from what is stated and what its node answered."""

from __future__ import annotations

import pytest

from ansible_collections.ascend.vllm.plugins.plugin_utils import nodes

MACHINES = {"a2": {"npus_max": 16, "title": "A2"}, "a3": {"npus_max": 16, "title": "A3"}}
#: A node with a management network, the network between the nodes on a real, dashed name, and a second address there.
PORTS = [
    {"name": "lo", "up": True, "mtu": 65536, "addresses": ["127.0.0.1/8"]},
    {"name": "eth0", "up": True, "mtu": 1500, "addresses": ["10.0.0.5/8"]},
    {"name": "enp67s0f0-1", "up": True, "mtu": 9000, "addresses": ["198.51.100.11/24", "203.0.113.11/24"]},
    {"name": "enp67s0f1", "up": False, "mtu": 1500, "addresses": ["192.0.2.11/24"]},
    {"name": "eth9", "up": True, "mtu": 1500, "addresses": []},
]
ANSWER = {"interfaces": PORTS, "hardware": "a2", "npus": list(range(8))}


def settle(answer=None, **values):
    """Return (node, checks) of a host h; an answer is taken as given, or ANSWER with changes."""
    return nodes.settle("h", {f"vllm_{key}": value for key, value in values.items()}, answer, MACHINES)


@pytest.mark.parametrize(
    ("values", "answer", "wanted"),
    [
        ({"hardware": "a2", "npus": 8, "local_ip": "192.0.2.9", "nic_name": "e"}, None, ("a2", tuple(range(8)), "192.0.2.9", "e")),
        ({"hardware": "a2", "npus": [2, 5], "local_ip": "192.0.2.9", "nic_name": "e"}, None, ("a2", (2, 5), "192.0.2.9", "e")),
        ({"network": "198.51.100.0/24"}, {}, ("a2", tuple(range(8)), "198.51.100.11", "enp67s0f0-1")),
        ({"network": "203.0.113.0/24"}, {}, ("a2", tuple(range(8)), "203.0.113.11", "enp67s0f0-1")),
        ({"local_ip": "203.0.113.11"}, {}, ("a2", tuple(range(8)), "203.0.113.11", "enp67s0f0-1")),
        ({"nic_name": "eth0"}, {}, ("a2", tuple(range(8)), "10.0.0.5", "eth0")),
        ({"nic_name": "enp67s0f0-1", "network": "198.51.100.0/25"}, {}, ("a2", tuple(range(8)), "198.51.100.11", "enp67s0f0-1")),
        ({"nic_name": "eth0", "npus": 4}, {}, ("a2", (0, 1, 2, 3), "10.0.0.5", "eth0")),
        ({"nic_name": "eth0", "npus": 2}, {"npus": [4, 5, 6, 7]}, ("a2", (4, 5), "10.0.0.5", "eth0")),
        ({"nic_name": "eth0", "npus": [1, 6]}, {}, ("a2", (1, 6), "10.0.0.5", "eth0")),
        # The inventory knows better than a node that cannot tell.
        ({"nic_name": "eth0", "hardware": "a3"}, {"hardware": "unknown"}, ("a3", tuple(range(8)), "10.0.0.5", "eth0")),
    ],
)
def test_settled(values, answer, wanted):
    node, checks = settle(None if answer is None else {**ANSWER, **answer}, **values)
    assert checks == []
    assert (node.hardware, node.npus, node.local_ip, node.nic_name) == wanted


@pytest.mark.parametrize(
    ("values", "answer", "name", "device", "words"),
    [
        ({"network": "172.16.0.0/12"}, {}, "network_address", "vllm_network", "enp67s0f0-1 198.51.100.11"),
        ({"network": "0.0.0.0/0"}, {}, "network_address", "vllm_network", "198.51.100.11 on enp67s0f0-1 and 203.0.113.11 on enp67s0f0-1"),
        ({}, {}, "network_address", "vllm_network", "nothing stated; the host has lo 127.0.0.1; eth0 10.0.0.5"),
        ({"local_ip": "198.51.100.99"}, {}, "nic_owns_address", "vllm_local_ip", "eth0 10.0.0.5"),
        ({"local_ip": "198.51.100.11", "nic_name": "eth0"}, {}, "nic_owns_address", "vllm_nic_name", "198.51.100.11 on enp67s0f0-1"),
        (
            {"local_ip": "198.51.100.11", "nic_name": "eth1"},
            {},
            "nic_owns_address",
            "vllm_nic_name",
            "the interfaces lo, eth0, enp67s0f0-1",
        ),
        ({"nic_name": "enp67s0f0-1"}, {}, "network_address", "vllm_nic_name", "198.51.100.11 on enp67s0f0-1 and 203.0.113.11"),
        ({"nic_name": "eth9"}, {}, "network_address", "vllm_nic_name", "lo 127.0.0.1"),
        ({"network": "192.0.2.0/24"}, {}, "nic_up", "enp67s0f1", "enp67s0f1 is down"),
        ({"local_ip": "192.0.2.11", "nic_name": "enp67s0f1"}, {}, "nic_up", "vllm_nic_name", "enp67s0f1 is down"),
        ({"local_ip": "198.51.100.11", "network": "203.0.113.0/24"}, {}, "network_address", "vllm_local_ip", "198.51.100.11"),
        ({"nic_name": "eth0", "hardware": "a3"}, {}, "hardware_found", "vllm_hardware", "a2 on the node"),
        ({"nic_name": "eth0"}, {"hardware": "unknown"}, "hardware_found", "vllm_hardware", "unknown on the node"),
        ({"nic_name": "eth0"}, {"hardware": "310p"}, "hardware_found", "vllm_hardware", "310p on the node"),
        ({"nic_name": "eth0", "npus": 16}, {}, "npus_found", "vllm_npus", "8 NPU(s) on the node"),
        ({"nic_name": "eth0", "npus": [7, 8]}, {}, "npus_found", "vllm_npus", "NPU ids 0, 1, 2, 3, 4, 5, 6, 7 on the node"),
        ({"nic_name": "eth0"}, {"npus": []}, "npus_found", "vllm_npus", "no NPU on the node"),
        ({"nic_name": "eth0"}, {"npus": [16]}, "npus_found", "vllm_npus", "NPU id 16"),
        ({"nic_name": "eth0"}, {"error": "Permission denied\n (publickey)"}, "reachable", "ssh", "Permission denied (publickey)"),
    ],
)
def test_refused(values, answer, name, device, words):
    node, checks = settle({**ANSWER, **answer}, **values)
    assert node is None
    assert [(check["host"], check["check"], check["device"]) for check in checks] == [("h", name, device)]
    assert words in checks[0]["observed"]
    assert checks[0]["expected"] and checks[0]["remedy"]


def test_several_problems_of_one_host_are_all_named():
    _node, checks = settle({**ANSWER, "npus": []}, hardware="a3", network="172.16.0.0/12")
    assert [check["device"] for check in checks] == ["vllm_hardware", "vllm_npus", "vllm_network"]


def test_an_answer_that_is_none_is_unknown():
    _node, checks = settle({"hardware": "a2"}, nic_name="eth0")
    assert [check["status"] for check in checks] == ["unknown"]


def test_a_host_that_was_not_asked_although_it_had_to_be():
    node, checks = settle(None, hardware="a2")
    assert node is None and checks[0]["observed"] == "nothing stated for vllm_npus, vllm_local_ip, vllm_nic_name"


def test_unstated_npus_of_an_unknown_machine_do_not_hide_it():
    node, checks = nodes.settle("h", {"vllm_nic_name": "eth0"}, {**ANSWER, "hardware": "b9"}, MACHINES)
    assert node is None and checks[0]["expected"] == "one of a2, a3"


def node(name, address):
    """Return a settled node."""
    return nodes.Node(name, "a2", (0,), address, "e")


def test_duplicates_name_both_hosts():
    checks = nodes.duplicates([node("a", "192.0.2.1"), node("b", "192.0.2.2"), node("c", "192.0.2.1"), node("d", "192.0.2.1")])
    assert [(check["host"], check["observed"]) for check in checks] == [
        ("c", "192.0.2.1, which a has too"),
        ("d", "192.0.2.1, which a has too"),
    ]


def test_loopback_only_alone():
    assert nodes.unreachable([node("a", "127.0.0.1")]) == []
    assert [check["host"] for check in nodes.unreachable([node("a", "127.0.0.1"), node("b", "192.0.2.1")])] == ["a"]
