# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The nodes of a group against each other: who is the odd one, and who does not reach whom."""

from __future__ import annotations

import pytest

from ansible_collections.ascend.vllm.plugins.plugin_utils import judge_group
from ansible_collections.ascend.vllm.plugins.plugin_utils.answers import Answers
from ansible_collections.ascend.vllm.tests.unit.plugins.cluster import DIR, GIB, Cluster, apart

H, P, Q, R = "a2-node0", "a2-node1", "a2-node2", "a2-node3"


@pytest.mark.parametrize(("values", "wanted"), [
    ([], None), ([None, None], None), (["a"], "a"), (["a", "b", "b"], "b"), (["a", "b"], "a"), (["b", "a"], "b"), ([None, "a", "b", None], "a"),
    (["a", "b", "b", "a"], "a"), ([0, 1, 1, 0, 0], 0),
])
def test_common(values, wanted):
    assert judge_group.common({f"h{index}": value for index, value in enumerate(values)}) == wanted


#: Drivers of four nodes -> which of them differ, and from what.
@pytest.mark.parametrize(("versions", "odd", "like"), [
    (["25.5.1"] * 4, [], ""),
    (["25.5.1", "25.5.2", "25.5.1", "25.5.1"], [P], f"25.5.1, as on {H}"),
    (["25.5.2", "25.5.1", "25.5.1", "25.5.1"], [H], f"25.5.1, as on {P}"),
    (["25.5.2", "25.5.2", "25.5.1", "25.5.1"], [Q, R], f"25.5.2, as on {H}"),
    (["25.5.1", None, "25.5.1", "25.5.2"], [R], f"25.5.1, as on {H}"),
    ([None, None, None, "25.5.2"], [], ""),
])
@pytest.mark.parametrize(("key", "check"), [("driver_version", "driver_equal"), ("firmware_version", "firmware_equal")])
def test_the_majority_is_right_and_the_first_host_when_there_is_none(versions, odd, like, key, check):
    cluster = Cluster(4)
    for host, version in zip(cluster.hosts, versions):
        cluster.npu(host)[key] = version
    found = [entry for entry in cluster.report()["checks"] if entry["check"] == check]
    assert [entry["host"] for entry in found if entry["status"] == "fail"] == odd
    assert all(entry["expected"] == like for entry in found if entry["status"] == "fail")
    # A host that does not know its version neither passes nor fails here.
    assert {entry["host"] for entry in found} == {host for host, version in zip(cluster.hosts, versions) if version}


def test_mtus():
    cluster = Cluster(4)
    for host in (P, Q, R):
        cluster.node(host)["interfaces"][1]["mtu"] = 9000
    [found] = cluster.bad()
    assert (found["host"], found["check"], found["device"], found["observed"], found["expected"]) == (H, "mtu_equal", "eth0", "1500", f"9000, as on {P}")
    assert "ip link set eth0 mtu 9000" in found["remedy"]


def test_hosts_without_answers_have_no_say():
    cluster = Cluster(4)
    for host in (Q, R):
        cluster.npu(host)["driver_version"] = "25.5.2"
        cluster.facts[host]["node"] = {"unreachable": True, "msg": "timed out"}
    cluster.npu(P)["driver_version"] = "25.5.3"
    assert [entry["host"] for entry in cluster.bad() if entry["check"] == "driver_equal"] == [P]


# clocks


def offsets(*ahead):
    """Return the offsets of hosts h0, h1, .. whose clocks are so many seconds ahead of the controller's."""
    answers = {f"h{index}": Answers(prerequisites={"clock_ahead_s": value}) for index, value in enumerate(ahead)}
    return list(judge_group.clock_offsets(list(answers), answers).values())


@pytest.mark.parametrize(("ahead", "wanted"), [
    ([], []), ([None], []), ([0.2], [0.2]), ([60.0], [60.0]), ([0.0, 60.0], [0.0, 60.0]), ([60.0, 0.0, None], [60.0, 0.0]),
    # The controller's own clock is the odd one.
    ([-60.0, -60.0], [0.0, 0.0]), ([90.0, 90.0, 90.0, 90.0], [0.0] * 4), ([0.0, 0.0, 0.0, -40.0], [0.0, 0.0, 0.0, -40.0]),
])
def test_offsets_of_clocks(ahead, wanted):
    assert offsets(*ahead) == wanted


@pytest.mark.parametrize(("ahead", "status", "text"), [
    (0.0, "pass", "agrees"), (4.9, "pass", "agrees"), (-4.9, "pass", "agrees"), (5.3, "warn", "5 s ahead of the other clocks"),
    (-29.0, "warn", "29 s behind the other clocks"), (31.0, "fail", "31 s ahead of the other clocks"), (-3600.0, "fail", "3600 s behind the other clocks"),
])
def test_clock(ahead, status, text):
    cluster = Cluster()
    cluster.prerequisites(H)["clock_ahead_s"] = 0.0
    cluster.prerequisites(P)["clock_ahead_s"] = ahead
    found = {entry["host"]: entry for entry in cluster.report()["checks"] if entry["check"] == "clock"}
    assert (found[H]["status"], found[P]["status"], found[P]["observed"]) == ("pass", status, text)


def test_a_clock_that_is_not_known_does_not_pass():
    cluster = Cluster()
    cluster.prerequisites()["clock_ahead_s"] = None
    assert [entry["host"] for entry in cluster.report()["checks"] if entry["check"] == "clock"] == [H]


# connections


@pytest.mark.parametrize(("status", "connected", "wanted", "said"), [
    ("reached", True, "pass", "connected to 198.51.100.11 port 13389"),
    ("other_service", True, "pass", "connected to 198.51.100.11 port 13389"),
    ("in_use", False, "pass", "port 13389 of a2-node0 was in use by then and was not tried; a random high port was"),
    ("refused", False, "fail", "connection refused from 198.51.100.11 port 13389"),
    ("not_opened", False, "fail", "it did not listen from 198.51.100.11 port 13389"),
    ("timeout", False, "fail", "no answer from 198.51.100.11 port 13389"),
    ("unreachable", False, "fail", "no way to it from 198.51.100.11 port 13389"),
    ("strange", None, "fail", "no answer from 198.51.100.11 port 13389"),
])
def test_a_connection(status, connected, wanted, said):
    cluster = Cluster()
    cluster.reach()["reached"][0].update(status=status, connected=connected)
    found = next(entry for entry in cluster.report()["checks"] if (entry["host"], entry["check"], entry["device"]) == (P, "tcp_reach", f"{H}:13389"))
    assert (found["status"], found["observed"]) == (wanted, said)
    assert len(cluster.bad()) == (wanted != "pass")


def test_a_firewall_names_both_ends_and_the_port():
    cluster = Cluster()
    cluster.reach()["reached"][0].update(status="timeout", connected=False)
    assert "from 198.51.100.12 to 198.51.100.11 port 13389" in cluster.bad()[0]["remedy"] and f"on {H}" in cluster.bad()[0]["remedy"]


def test_an_interface_that_is_at_fault_is_not_named_again_by_connections():
    cluster = Cluster(4)
    cluster.node(P)["interfaces"][1]["up"] = False
    for host in cluster.hosts:
        for entry in cluster.reach(host)["reached"]:
            if P in (host, entry["host"]):
                entry.update(status="timeout", connected=False)
    assert cluster.brief() == [(P, "nic_up", "eth0", "fail")]


def test_a_peer_that_nobody_tried_is_unknown():
    cluster = Cluster(4)
    cluster.reach(Q)["reached"] = [entry for entry in cluster.reach(Q)["reached"] if entry["host"] != P]
    assert cluster.brief() == [(Q, "tcp_reach", P, "unknown")]


def test_an_rpc_port_that_was_left_out_without_a_reason_is_unknown():
    cluster = Cluster()
    del cluster.reach(P)["reached"][0]
    assert cluster.brief() == [(P, "tcp_reach", f"{H}:13389", "unknown")]
    cluster.node(H)["listening"].append({"port": 13389, "pid": 7, "process": "x"})
    assert cluster.brief() == [(H, "port_free", "vllm_data_parallel_rpc_port", "fail")]


def test_a_peer_without_a_free_port_was_not_tried():
    cluster = Cluster()
    cluster.node(H)["free_port"] = None
    cluster.reach(P)["reached"] = []
    assert cluster.brief() == [(P, "tcp_reach", H, "unknown")]


@pytest.mark.parametrize(("free", "here", "status"), [(99, 0, "fail"), (106, 0, "pass"), (54, 50, "pass"), (51, 50, "fail")])
@pytest.mark.parametrize("head_has_it", [True, False])
def test_the_room_for_a_copy_is_judged_by_what_the_head_knows(free, here, status, head_has_it):
    cluster = Cluster(2)
    cluster.plan["groups"]["vllm"]["weights"]["target"] = "local"
    [head] = cluster.facts[H]["artefacts"]["weights"]
    head.update(complete=head_has_it, bytes=100 * GIB if head_has_it else 0, hub=None if head_has_it else {"exists": True, "bytes": 100 * GIB})
    cluster.facts[P]["artefacts"]["weights"] = [{"dir": DIR, "complete": False, "differences": ["x"], "files": 1, "bytes": here * GIB, "hub": None}]
    cluster.node(P)["disk"][DIR]["free_bytes"] = free * GIB
    found = [(entry["host"], entry["status"]) for entry in cluster.report()["checks"] if entry["check"] == "disk_weights" and entry["host"] == P]
    assert found == [(P, status)]
    # What a copy lacks is no fault of its own.
    assert not [entry for entry in cluster.bad() if entry["check"] == "model_exists"]


def test_a_shared_directory_needs_room_once():
    cluster = Cluster(2)
    cluster.facts[P]["artefacts"]["weights"] = [{"dir": DIR, "complete": False, "differences": ["x"], "files": 1, "bytes": 0, "hub": None}]
    cluster.node(P)["disk"][DIR]["free_bytes"] = 0
    assert cluster.bad() == []


def replicas(**change):
    """Return a cluster whose two nodes are replicas, with the proxy on the first one; ``change`` is laid over its connection to the second one's API."""
    cluster = Cluster()
    whole = cluster.plan["groups"].pop("vllm")
    for host in cluster.hosts:
        cluster.plan["groups"][host] = {**whole, "head": host, "hosts": [host]}
        cluster.host_plan(host)["units"] = [{**unit, "group": host} for unit in cluster.host_plan(host)["units"]]
    cluster.plan["proxies"] = {"vllm-proxy": {"name": "vllm-proxy", "host": H, "port": 1999, "prometheus_port": 29000,
                                              "backends": [{"host": H, "port": 8000}, {"host": P, "port": 8000}]}}
    cluster.reach(H)["reached"][0].update({"port": 8000, **change})
    # Which port the firewall rejects between others is nobody's business.
    cluster.reach(P)["reached"][0].update(status="timeout", connected=False)
    return cluster


def between(cluster):
    """Return what is said of the connection to the second replica's API."""
    return [(entry["host"], entry["status"], entry["observed"]) for entry in cluster.report()["checks"] if entry["check"] == "tcp_reach"]


@pytest.mark.parametrize(("change", "wanted"), [
    ({}, (H, "pass", "connected to 198.51.100.12 port 8000")),
    ({"status": "timeout", "connected": False}, (H, "fail", "no answer from 198.51.100.12 port 8000")),
    ({"port": 40009}, (H, "pass", f"port 8000 of {P} is in use and was not tried; a random high port was")),
])
def test_the_proxy_reaches_what_is_behind_it(change, wanted):
    assert between(replicas(**change)) == [wanted]


def test_a_proxy_whose_connections_were_not_tried_is_unknown():
    cluster = replicas()
    cluster.facts[H]["reach"] = {"failed": True, "msg": "timed out"}
    assert between(cluster) == [(H, "unknown", "timed out")]


def test_an_interface_at_fault_is_named_alone():
    cluster = replicas()
    cluster.node(P)["interfaces"][1]["up"] = False
    assert between(cluster) == []


def halves(*roles):
    """Return a cluster with a prefill node and those of decode, and the proxy on the first one; all connections are there."""
    cluster = apart(Cluster(1 + len(roles)), "prefill", *roles, proxy=H)
    for host in cluster.hosts:
        cluster.reach(host)["reached"] = [
            {"host": peer, "address": f"198.51.100.1{number + 1}", "port": port, "status": "reached", "connected": True, "ms": 0.2, "text": ""}
            for number, peer in enumerate(cluster.hosts) if peer != host for port in ([cluster.node(peer)["free_port"]] + [8000] * (peer != H))]
    return cluster


def cut(cluster, host, port):
    """Let nothing come through to a port of the second node, from a host."""
    for entry in cluster.reach(host)["reached"]:
        if (entry["host"], entry["port"]) == (P, port):
            entry.update(status="timeout", connected=False)
    return [(entry["host"], entry["device"]) for entry in cluster.bad() if entry["check"] == "tcp_reach"]


def test_a_proxy_beside_prefill_reaches_the_apis_of_decode_and_the_sides_reach_each_other():
    assert [entry for entry in halves("decode").bad() if entry["check"] == "tcp_reach"] == []
    assert cut(halves("decode"), H, 8000) == [(H, f"{P}:8000")]
    assert cut(halves("decode"), H, 40002) == [(H, f"{P}:40002")]
    # It serves already.
    cluster = halves("decode")
    cluster.reach(H)["reached"] = cluster.reach(H)["reached"][:1]
    assert (H, "pass", f"port 8000 of {P} is in use and was not tried; a random high port was") in between(cluster)


def test_the_hosts_of_a_decode_group_need_not_reach_each_other_s_apis():
    cluster = halves("decode", "decode", "serve")
    third, groups = cluster.hosts[2], cluster.plan["groups"]
    groups[P].update(hosts=[P, third], units=groups[P]["units"] + [{"name": "x", "host": third, "rank": 1, "url": "http://198.51.100.13:8000"}])
    del groups[third]
    cluster.host_plan(third)["units"][0]["group"] = P
    for host, peer in ((P, third), (third, P)):
        number = cluster.hosts.index(peer) + 1
        cluster.reach(host)["reached"].append({"host": peer, "address": f"198.51.100.1{number}", "port": 13389, "status": "reached", "connected": True})
    assert cut(cluster, third, 8000) == [] and cut(cluster, third, 13389) == [(third, f"{P}:13389")]
    assert sorted(cut(cluster, H, 8000)) == [(H, f"{P}:8000"), (third, f"{P}:13389")]
