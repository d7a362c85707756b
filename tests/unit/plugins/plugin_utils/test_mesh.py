# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which NPU pings which: every link and every pair of nodes is used, whatever the mode."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.ascend.vllm.plugins.plugin_utils import mesh, questions
from ansible_collections.ascend.vllm.tests.unit.plugins.cluster import Cluster, apart

H, P = "a2-node0", "a2-node1"


def group(counts):
    """Return (group, npus) of nodes with these numbers of NPUs, whose physical ids start at the node's own number."""
    hosts = [f"n{index}" for index in range(len(counts))]
    return {"hosts": hosts, "hardware": "a2"}, {host: list(range(index, index + count)) for index, (host, count) in enumerate(zip(hosts, counts))}


def all_pings(counts, mode):
    """Return ((host, npu), (peer, npu)) of all pings of a group."""
    where, npus = group(counts)
    return [((host, ping["phy_id"]), (ping["peer"], ping["peer_npu"])) for host in where["hosts"] for ping in mesh.pairs(host, where, {}, npus, mode)]


@settings(max_examples=60)
@given(counts=st.one_of(st.builds(lambda nodes, npus: [npus] * nodes, st.integers(2, 16), st.integers(1, 16)),
                        st.lists(st.integers(1, 16), min_size=2, max_size=8)))
def test_rails_use_every_npu_and_every_pair_of_nodes_in_both_directions(counts):
    pings = all_pings(counts, "rails")
    where, npus = group(counts)
    ends = {(host, number) for host in where["hosts"] for number in npus[host]}
    assert {one for one, dummy in pings} == ends
    if len(set(counts)) == 1:
        assert {other for dummy, other in pings} == ends
        assert len(pings) == sum(counts) * (len(counts) - 1) * min(2, counts[0])
    assert {(one[0], other[0]) for one, other in pings} == set(itertools.permutations(where["hosts"], 2))
    assert len(set(pings)) == len(pings) == mesh.planned(where, npus, "rails")
    assert set(pings) <= set(all_pings(counts, "full"))
    for one, other in pings:
        assert other in ends and one[0] != other[0]


@settings(max_examples=30)
@given(counts=st.lists(st.integers(1, 16), min_size=2, max_size=5))
def test_full_is_every_npu_to_every_npu_of_other_nodes(counts):
    where, npus = group(counts)
    ends = [(host, number) for host in where["hosts"] for number in npus[host]]
    pings = all_pings(counts, "full")
    assert sorted(pings) == sorted((one, other) for one, other in itertools.permutations(ends, 2) if one[0] != other[0])
    assert len(pings) == mesh.possible(where, npus) == mesh.planned(where, npus, "full")


@pytest.mark.parametrize("counts", [[8, 8], [1, 1, 1], [8]])
def test_off_is_no_ping(counts):
    assert all_pings(counts, "off") == [] and mesh.planned(*group(counts), "off") == 0


@pytest.mark.parametrize(("mode", "place", "own", "peer", "count", "wanted"), [
    ("rails", 0, 0, 1, 8, [0, 1]), ("rails", 7, 0, 1, 8, [7, 0]), ("rails", 3, 0, 2, 8, [3, 5]), ("rails", 3, 2, 0, 8, [3, 5]),
    ("rails", 0, 0, 8, 8, [0, 1]), ("rails", 0, 0, 7, 8, [0, 7]), ("rails", 0, 0, 1, 1, [0]), ("rails", 5, 0, 1, 2, [1, 0]), ("rails", 5, 0, 1, 0, []),
    ("full", 5, 0, 1, 3, [0, 1, 2]), ("off", 5, 0, 1, 3, []),
])
def test_partners(mode, place, own, peer, count, wanted):
    assert mesh.partners(mode, place, own, peer, count) == wanted


@pytest.mark.parametrize(("stated", "nodes", "wanted"), [
    (None, 1, "off"), ("full", 1, "off"), (None, 2, "full"), (None, 3, "rails"), (None, 32, "rails"), ("off", 2, "off"), ("rails", 2, "rails"),
    ("full", 32, "full"), ("", 2, "full"),
])
def test_mode(stated, nodes, wanted):
    assert mesh.mode_of(stated, nodes) == wanted and wanted in mesh.MODES


VNIC = {"link": "UP", "ip": "192.168.2.199"}


@pytest.mark.parametrize(("device", "hardware", "wanted"), [
    ({"ip": "10.0.0.1", "vnic": VNIC}, "a3", ("hccs", "192.168.2.199")), ({"ip": "10.0.0.1", "vnic": None}, "a3", ("roce", "10.0.0.1")),
    ({"ip": "10.0.0.1", "vnic": dict(VNIC, ip=None)}, "a3", ("roce", "10.0.0.1")), ({"ip": "10.0.0.1", "vnic": VNIC}, "a2", ("roce", "10.0.0.1")),
    ({"ip": None, "vnic": None}, "a3", ("roce", None)), ({}, "a2", ("roce", None)),
])
def test_an_a3_die_is_pinged_over_hccs_where_that_has_an_address(device, hardware, wanted):
    assert mesh.address_of(device, hardware) == wanted


def test_rails_come_first():
    where, npus = group([4, 4, 4])
    flags = [ping["rail"] for ping in mesh.pairs("n1", where, {}, npus, "full")]
    assert flags == sorted(flags, reverse=True) and flags.count(True) == 8


# what a node is told to send


def infos(cluster):
    """Return host -> what hccn_info says."""
    return {host: cluster.hccn(host) for host in cluster.hosts}


@pytest.mark.parametrize(("nodes", "hardware", "stated", "count", "kind"), [
    (2, "a2", None, 64, "roce"), (2, "a2", "rails", 16, "roce"), (2, "a2", "off", 0, None), (1, "a2", "full", 0, None), (4, "a2", None, 48, "roce"),
    (4, "a2", "full", 192, "roce"), (2, "a3", None, 256, "hccs"), (1, "a3", None, 0, None),
])
def test_pings_of_a_host(nodes, hardware, stated, count, kind):
    cluster = Cluster(nodes, hardware)
    cluster.plan["run"]["preflight_mesh"] = stated
    pings = mesh.mesh_pings(cluster.plan, infos(cluster))[cluster.name()]
    assert len(pings) == count and all(set(ping) == {"phy_id", "address", "kind"} for ping in pings)
    assert {ping["kind"] for ping in pings} == ({kind} if kind else set())
    assert len({(ping["phy_id"], ping["address"]) for ping in pings}) == count


def test_what_cannot_be_pinged_is_left_out():
    cluster = Cluster()
    cluster.port(2, P)["ip"] = None
    cluster.port(3, H)["errors"] = dict.fromkeys(("link", "ip", "net_health"), "busy")
    pings = mesh.mesh_pings(cluster.plan, infos(cluster))[H]
    assert len(pings) == 7 * 7 and 3 not in {ping["phy_id"] for ping in pings} and "10.20.1.12" not in {ping["address"] for ping in pings}
    answers = infos(cluster)
    for answer in ({"msg": "unreachable"}, {}, None):
        answers[P] = answer
        assert mesh.mesh_pings(cluster.plan, answers)[H] == [] == mesh.mesh_pings(cluster.plan, answers)[P]
    assert mesh.mesh_pings(cluster.plan, {})[H] == []


def test_a_host_of_two_groups_sends_each_ping_once():
    cluster = Cluster()
    cluster.plan["groups"]["again"] = cluster.plan["groups"]["vllm"]
    assert len(mesh.mesh_pings(cluster.plan, infos(cluster))[H]) == 64
    cluster.plan["groups"]["vllm"] = dict(cluster.plan["groups"]["vllm"], hosts=[H])
    assert len(mesh.mesh_pings(cluster.plan, infos(cluster))[H]) == 64


@pytest.mark.parametrize(("roles", "stated", "counts"), [
    # One of each is full as a pair is; more of them are rails; a node's own group has nobody to ping.
    (("prefill", "decode"), None, [64, 64]), (("prefill", "decode"), "rails", [16, 16]), (("prefill", "decode"), "off", [0, 0]),
    (("prefill", "prefill", "decode", "decode"), None, [32, 32, 32, 32]), (("prefill", "decode", "serve", "serve"), "full", [64, 64, 0, 0]),
    (("prefill", "prefill", "decode", "serve"), "full", [64, 64, 128, 0]),
])
def test_the_npus_of_prefill_and_decode_ping_each_other(roles, stated, counts):
    cluster = apart(Cluster(len(roles)), *roles)
    cluster.plan["run"]["preflight_mesh"] = stated
    pings = mesh.mesh_pings(cluster.plan, infos(cluster))
    assert [len(pings[host]) for host in cluster.hosts] == counts
    behind = [number for number, role in enumerate(roles) if role == "decode"]
    assert {ping["address"].split(".")[2] for ping in pings[H]} == ({str(number) for number in behind} if stated != "off" else set())
    if stated != "off":
        assert {ping["phy_id"] for ping in pings[H]} == set(range(8))
        assert {ping["address"] for ping in pings[H]} == {f"10.20.{number}.{place + 10}" for number in behind for place in range(8)}


# what is said beforehand


@pytest.mark.parametrize(("nodes", "stated", "wanted"), [
    (2, None, "vllm: 128 pings from NPU to NPU, 64 a node one after the other, about 2 min"),
    (2, "rails", "vllm: 32 pings from NPU to NPU, 16 a node one after the other, about 34 s; 96 of 128 pairs are skipped (preflight_mesh=full pings them all)"),
    (2, "off", "vllm: no NPU pings another one (preflight_mesh is off)"),
    (4, None, "vllm: 192 pings from NPU to NPU, 48 a node one after the other, about 101 s; 576 of 768 pairs are skipped (preflight_mesh=full pings them all)"),
    (4, "full", "vllm: 768 pings from NPU to NPU, 192 a node one after the other, about 7 min"),
    (1, None, None), (1, "full", None),
])
def test_lines(nodes, stated, wanted):
    plan = Cluster(nodes).plan
    plan["run"]["preflight_mesh"] = stated
    assert mesh.lines(plan) == ([wanted] if wanted else [])


def test_lines_of_prefill_and_decode():
    plan = apart(Cluster(4), "prefill", "prefill", "decode", "serve").plan
    assert mesh.lines(plan) == ["a2-node0, a2-node1 and a2-node2: 64 pings from NPU to NPU, 32 a node one after the other, about 67 s; 192 of 256 pairs are "
                                "skipped (preflight_mesh=full pings them all)"]
    plan["groups"]["a2-node2"]["hardware"] = "a3"
    assert {ping["kind"] for ping in mesh.pairs(H, questions.meshes(plan)["a2-node0, a2-node1 and a2-node2"], {}, {}, "full")} == {"roce"}


@pytest.mark.parametrize(("seconds", "text"), [(0, "0 s"), (2.1, "2 s"), (119.4, "119 s"), (120, "2 min"), (3600, "60 min")])
def test_duration(seconds, text):
    assert mesh.duration(seconds) == text
