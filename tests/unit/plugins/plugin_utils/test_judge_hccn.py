# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The network ports of the NPUs: alone, against each other, and by pings."""

from __future__ import annotations

import pytest

from ansible_collections.ascend.vllm.plugins.plugin_utils import judge_hccn
from ansible_collections.ascend.vllm.tests.unit.plugins.cluster import Cluster, apart
from ansible_collections.ascend.vllm.tests.unit.plugins.faults import BUSY, cut

H, P = "a2-node0", "a2-node1"
MUTE = {name: BUSY for name in ("ip", "link", "net_health", "netdetect", "gateway", "tls", "lldp", "vnic")}
SILENT = dict.fromkeys(("ip", "netmask", "gateway", "netdetect", "link", "net_health", "tls", "lldp", "vnic"))
DARK = {"link": "DOWN", "net_health": "Init", "gateway": None, "lldp": None}


def seen(cluster):
    """Return (host, check, device, status, observed) of what did not pass."""
    return [(entry["host"], entry["check"], entry["device"], entry["status"], entry["observed"]) for entry in cluster.bad()]


# one port


@pytest.mark.parametrize(("nodes", "status"), [(2, "fail"), (1, "warn")])
@pytest.mark.parametrize(("answer", "check", "observed"), [
    ({"link": "DOWN"}, "hccn_link", "DOWN"), ({"link": None}, "hccn_link", "nothing"),
    ({"net_health": "Receive timeout"}, "hccn_net_health", "Receive timeout, detecting 10.20.255.254"),
    ({"net_health": None}, "hccn_net_health", "nothing"), ({"gateway": None}, "hccn_gateway", "nothing"),
])
def test_a_fault_of_a_port_fails_in_a_pair_and_warns_alone(nodes, status, answer, check, observed):
    cluster = Cluster(nodes)
    cluster.port(2).update(answer)
    assert seen(cluster) == [(cluster.name(), check, "npu2", status, observed)] and "-i 2 " in cluster.bad()[0]["remedy"]


def test_init_alone_is_nothing_to_say():
    cluster = Cluster(1)
    cluster.port(2)["net_health"] = "Init"
    cluster.port(3)["lldp"] = None
    assert cluster.brief() == []


@pytest.mark.parametrize("nodes", [1, 2])
def test_an_a3_die_needs_no_roce_while_hccs_is_up(nodes):
    cluster = Cluster(nodes, "a3")
    for host in cluster.hosts:
        for entry in cluster.hccn(host)["devices"]:
            entry.update(DARK, ip=None, netmask=None)
        cluster.hccn(host)["hccn_conf"].update(exists=False, type=None, devices={}, errors=["missing"])
        for unit in cluster.host_plan(host)["units"]:
            unit["mount_candidates"]["/etc/hccn.conf"]["required"] = nodes > 1
    assert cluster.brief() == []
    addresses = [entry["observed"] for entry in cluster.report()["checks"] if entry["check"] == "hccn_address"]
    assert len(addresses) == 16 * nodes and addresses[0] == "192.168.0.1 (HCCS)"


@pytest.mark.parametrize("vnic", [None, {"link": "DOWN", "ip": "192.168.1.4"}, {"link": "UP", "ip": None}, {"link": None, "ip": None}])
def test_an_a3_die_without_hccs_is_judged_by_roce(vnic):
    cluster = Cluster(2, "a3")
    cluster.port(3).update(DARK, vnic=vnic)
    cluster.facts[cluster.name()]["mesh"]["results"] = []
    cluster.plan["run"]["preflight_mesh"] = "off"
    assert [entry[1:4] for entry in cluster.brief()] == [("hccn_link", "npu3", "fail"), ("hccn_net_health", "npu3", "warn"), ("hccn_gateway", "npu3", "fail")]


@pytest.mark.parametrize(("device", "hardware", "good"), [
    ({"vnic": {"link": "UP", "ip": "1.2.3.4"}}, "a3", True), ({"vnic": {"link": "UP", "ip": "1.2.3.4"}}, "a2", False),
    ({"vnic": None}, "a3", False), ({}, "a3", False),
    ({"vnic": {"link": "DOWN", "ip": "1.2.3.4"}}, "a3", False), ({"vnic": {"link": "UP", "ip": None}}, "a3", False),
])
def test_good_hccs(device, hardware, good):
    assert judge_hccn.hccs_good(device, hardware) is good


@pytest.mark.parametrize(("lldp", "wanted"), [
    ({"ifname": "400GE1/1/5:1"}, "pass"), ({"ifname": "Ethernet12", "system": None}, "pass"), ({"port_id": "swp3"}, "pass"),
    ({"port_id": "MAC: 00:11:22:33:44:55", "system": "leaf1"}, "pass"), ({"port_id": "MAC: 00:11:22:33:44:55"}, "fail"), ({"ifname": "eth3"}, "fail"),
    ({"port_id": "MAC: 00:11:22:33:44:55", "system": "AscendNPU Linux 4.19.90"}, "fail"),
    ({"port_id": "Ifname: eth0"}, "fail"), ({"ifname": "npu2"}, "fail"), ({"ifname": None, "port_id": None}, "warn"), (None, "warn"), ({"ifname": " "}, "warn"),
])
def test_what_is_behind_a_port(lldp, wanted):
    cluster = Cluster()
    cluster.port(2)["lldp"] = lldp
    assert [entry[1:] for entry in cluster.brief()] == ([] if wanted == "pass" else [("hccn_lldp", "npu2", wanted)])


@pytest.mark.parametrize(("change", "wanted"), [
    ({"errors": ["line 3: cut off"]}, [("hccn_conf", "/etc/hccn.conf", "fail")]), ({"devices": {}}, [("hccn_conf", f"npu{n}", "fail") for n in range(8)]),
    ({"type": "directory", "devices": {}, "errors": ["not a file but a directory"]}, []), ({"exists": False, "type": None, "devices": {}}, []),
])
def test_the_file_against_the_live_values(change, wanted):
    cluster = Cluster()
    cluster.hccn()["hccn_conf"].update(change)
    assert [entry[1:] for entry in cluster.brief()] == wanted


# no answers


def test_a_tool_that_is_busy_for_ever_is_said_once_a_node():
    cluster = Cluster()
    for entry in cluster.hccn()["devices"]:
        entry.update(SILENT, errors=dict(MUTE))
    for host in cluster.hosts:
        cluster.facts[host]["mesh"] = {"skipped": True}
    assert [entry[:4] for entry in seen(cluster)] == [(P, "hccn_tool", "", "unknown")] and "any of 8 NPUs" in cluster.bad()[0]["observed"]


def test_one_npu_without_answers_is_said_once():
    cluster = Cluster()
    cluster.port(3).update(SILENT, errors=dict(MUTE))
    cluster.mesh(P)["results"] = [entry for entry in cluster.mesh(P)["results"] if entry["phy_id"] != 3]
    cluster.mesh(H)["results"] = [entry for entry in cluster.mesh(H)["results"] if entry["address"] != "10.20.1.13"]
    assert seen(cluster) == [(P, "hccn_tool", "npu3", "unknown", BUSY)]


def test_an_npu_of_the_plan_that_was_not_asked_is_unknown():
    cluster = Cluster()
    del cluster.hccn()["devices"][3]
    assert cluster.brief() == [(P, "hccn_tool", "npu3", "unknown")]


@pytest.mark.parametrize("question", ["link", "ip", "net_health", "gateway", "tls", "lldp", "netdetect", "vnic"])
def test_one_question_without_an_answer_neither_passes_nor_fails(question):
    cluster = Cluster()
    cluster.port(3)["errors"] = {question: BUSY}
    assert cluster.brief() == [(P, "hccn_tool", "npu3", "unknown")] and f"-{question} -g" in cluster.bad()[0]["remedy"]
    passed = {entry["check"] for entry in cluster.report()["checks"] if (entry["host"], entry["device"], entry["status"]) == (P, "npu3", "pass")}
    assert {"link": "hccn_link", "ip": "hccn_address", "net_health": "hccn_net_health", "gateway": "hccn_gateway",
            "lldp": "hccn_lldp"}.get(question) not in passed


# against each other


@pytest.mark.parametrize(("mine", "theirs", "odd", "wanted"), [
    ((0, 0), (0, 1), [(P, "npu1")], 0), ((1, 1), (1, 0), [(P, "npu1")], 1), ((1, 1), (0, 0), [(H, "npu0"), (H, "npu1")], 0), ((0, 0), (None, None), [], 0),
    ((0, 1), (None, None), [(H, "npu1")], 0),
])
def test_the_majority_of_the_tls_switches_is_right_and_off_when_there_is_none(mine, theirs, odd, wanted):
    cluster = Cluster()
    for host, values in ((H, mine), (P, theirs)):
        for entry in cluster.hccn(host)["devices"]:
            entry["tls"] = values[entry["phy_id"]] if entry["phy_id"] < 2 else None
        for stated in cluster.hccn(host)["hccn_conf"]["devices"].values():
            del stated["tls_enable"]
    assert [(entry[0], entry[2]) for entry in cluster.brief()] == odd
    for entry in cluster.bad():
        assert entry["check"] == "hccn_tls" and entry["remedy"].startswith(f"hccn_tool -i {entry['device'][3:]} -tls -s enable {wanted}")


def test_a_subnet_for_each_rail_or_for_each_node_is_a_design():
    for prefix in (lambda node, npu: f"10.{npu}.0.{node + 1}", lambda node, npu: f"10.{node}.0.{npu + 1}"):
        cluster = Cluster()
        cluster.plan["run"]["preflight_mesh"] = "off"
        for index, host in enumerate(cluster.hosts):
            for entry in cluster.hccn(host)["devices"]:
                entry.update(ip=prefix(index, entry["phy_id"]), netmask="255.255.0.0")
            cluster.hccn(host)["hccn_conf"]["devices"] = {str(entry["phy_id"]): {"address": entry["ip"], "netmask": entry["netmask"]}
                                                          for entry in cluster.hccn(host)["devices"]}
        assert cluster.brief() == []


def test_a_subnet_for_each_npu_of_a_node_alone_is_no_mistake():
    cluster = Cluster(1)
    for entry in cluster.hccn()["devices"]:
        entry.update(ip=f"10.{entry['phy_id']}.0.1", netmask="255.255.0.0")
        cluster.hccn()["hccn_conf"]["devices"][str(entry["phy_id"])]["address"] = entry["ip"]
    assert cluster.brief() == []


@pytest.mark.parametrize(("entry", "wanted"), [
    ({"ip": "10.0.0.1", "netmask": "255.255.255.0"}, "10.0.0.0/24"), ({"ip": "10.0.0.1", "netmask": None}, None), ({"ip": None}, None), ({}, None),
    ({"ip": "10.0.0.1", "netmask": "banana"}, None),
])
def test_network(entry, wanted):
    assert judge_hccn.network_of(entry) == wanted


@pytest.mark.parametrize(("addresses", "exists", "status"), [
    (["10.20.1.10", "10.20.1.11"], True, "pass"), (["10.9.9.9"], True, "warn"), (["10.9.9.9", "10.20.1.10"], True, "pass"), ([], True, "pass"),
    (["10.9.9.9"], False, None),
])
def test_rootinfo(addresses, exists, status):
    cluster = Cluster()
    cluster.node()["rootinfo"].update(exists=exists, addresses=addresses)
    assert [entry["status"] for entry in cluster.report()["checks"] if entry["check"] == "hccl_rootinfo"] == ([status] if status else [])


def test_rootinfo_is_not_stale_for_want_of_live_addresses():
    cluster = Cluster()
    cluster.node()["rootinfo"].update(exists=True, addresses=["10.20.1.10"])
    cluster.facts[P]["hccn"] = {"msg": "hccn_tool was not found"}
    assert [entry[1] for entry in cluster.brief()] == ["hccn_tool"]


# pings


def test_a_dead_npu_is_named_once_on_its_own_host():
    cluster = Cluster()
    cut(cluster, 3)
    assert seen(cluster) == [(P, "hccn_ping", "npu3", "fail", "16 of 16 pings from and to it failed: no packet came back")]


def test_two_dead_npus_on_two_nodes_are_two_findings():
    cluster = Cluster()
    cut(cluster, 3)
    cut(cluster, 6, H)
    assert sorted(entry[:3] for entry in cluster.brief()) == [(H, "hccn_ping", "npu6"), (P, "hccn_ping", "npu3")]


def test_one_direction_names_the_pair_and_not_the_npu():
    cluster = Cluster()
    cluster.pings(P, 3, H, 5)[0].update(status="fail", received=0)
    assert seen(cluster) == [(P, "hccn_ping", f"npu3 -> {H} npu5", "fail", "0 of 3 packets came back")]
    assert f"-i 5 on {H}" in cluster.bad()[0]["remedy"].replace("on a2-node1, ", "")


def test_an_npu_that_sends_but_does_not_receive_is_named_by_its_pairs():
    cluster = Cluster()
    for entry in cluster.pings(H, None, P, 3):
        entry.update(status="fail", received=0)
    assert sorted(cluster.brief()) == [(H, "hccn_ping", f"npu{number} -> {P} npu3", "fail") for number in range(8)]


def test_partial_loss_is_no_dead_npu():
    cluster = Cluster()
    cut(cluster, 3, received=2, loss_percent=33.3)
    found = cluster.bad()
    assert len(found) == 16 and all("packets are lost" in entry["remedy"] and entry["observed"] == "2 of 3 packets came back" for entry in found)


def test_nothing_between_two_nodes_is_one_fault_each_way():
    cluster = Cluster()
    for number in range(8):
        cut(cluster, number)
    assert sorted(cluster.brief()) == [(H, "hccn_ping", f"all NPUs -> {P}", "fail"), (P, "hccn_ping", f"all NPUs -> {H}", "fail")]


def test_a_node_that_nobody_reaches_is_named_by_its_npus():
    cluster = Cluster(4)
    for number in range(8):
        cut(cluster, number)
    assert cluster.brief() == [("a2-node3", "hccn_ping", f"npu{number}", "fail") for number in range(8)]


def test_pings_without_an_answer_are_one_finding_a_host():
    cluster = Cluster()
    for entry in cluster.mesh(P)["results"][:7]:
        entry.update(status="unknown", sent=None, received=None, text=BUSY)
    assert [entry[:4] for entry in seen(cluster)] == [(P, "hccn_ping", f"npu0 -> {H} npu0", "unknown")]
    assert cluster.bad()[0]["observed"] == f"{BUSY} (and 6 more such answers)"


@pytest.mark.parametrize(("answer", "why"), [
    ({"failed": False, "msg": "hccn_tool was\nnot found"}, "hccn_tool was not found"), ({"skipped": True}, "no answer"), (None, "no answer"),
    ({"results": [], "left": 64}, "the tool did not get to them"),
])
def test_pings_that_were_not_sent_are_unknown(answer, why):
    cluster = Cluster()
    cluster.facts[P]["mesh"] = answer
    assert seen(cluster) == [(P, "hccn_ping", "", "unknown", f"64 pings were not sent: {why}")]


@pytest.mark.parametrize("mode", ["full", "rails", "off"])
def test_only_the_pings_of_the_mode_are_wanted(mode):
    cluster = Cluster()
    cluster.plan["run"]["preflight_mesh"] = mode
    assert cluster.brief() == []
    cluster.facts[P]["mesh"] = {"skipped": True}
    assert len(cluster.brief()) == (mode != "off")


def test_the_link_of_a_node_that_is_a_prefill_group_alone_matters():
    for roles, status in ((("prefill", "decode"), "fail"), (("serve", "serve"), "warn")):
        cluster = apart(Cluster(2), *roles)
        cluster.port(2, "a2-node0")["link"] = "DOWN"
        assert [entry["status"] for entry in cluster.bad() if entry["check"] == "hccn_link"] == [status]


def test_a_ping_between_prefill_and_decode_that_is_lost_is_named_and_is_in_the_report():
    cluster = apart(Cluster(2), "prefill", "decode")
    report = cluster.report()
    assert report["result"] == "pass" and report["mesh"]["mode"] == "full"
    assert (report["mesh"]["planned"], report["mesh"]["sent"], report["mesh"]["possible"]) == (128, 128, 128)
    (lost,) = cluster.pings(cluster.hosts[0], 3, cluster.hosts[1], 5)
    lost.update(received=0, loss_percent=100.0, status="fail")
    assert [(entry["host"], entry["check"], entry["device"]) for entry in cluster.bad()] == [("a2-node0", "hccn_ping", "npu3 -> a2-node1 npu5")]
    for ping in cluster.mesh("a2-node0")["results"]:
        ping.update(received=0, status="fail")
    assert [(entry["host"], entry["device"]) for entry in cluster.bad()] == [("a2-node0", "all NPUs -> a2-node1")]
    # A decode rank reads from a prefill rank: that way counts by itself.
    cluster = apart(Cluster(2), "prefill", "decode")
    (lost,) = cluster.pings(cluster.hosts[1], 5, cluster.hosts[0], 3)
    lost.update(received=0, loss_percent=100.0, status="fail")
    assert [(entry["host"], entry["check"], entry["device"]) for entry in cluster.bad()] == [("a2-node1", "hccn_ping", "npu5 -> a2-node0 npu3")]
