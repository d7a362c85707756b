# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole report: every outcome of every check is found where it is, and nothing that was not answered passes."""

from __future__ import annotations

import copy

import pytest

from ansible_collections.ascend.vllm.plugins.plugin_utils.answers import FACTS
from ansible_collections.ascend.vllm.plugins.plugin_utils.checks import stops
from ansible_collections.ascend.vllm.plugins.plugin_utils.data import BUNDLED, read_yaml
from ansible_collections.ascend.vllm.tests.unit.plugins.cluster import CHECKS, DIR, IMAGE, Cluster
from ansible_collections.ascend.vllm.tests.unit.plugins.faults import BESIDE, FAULTS, OF_THE_RUN, SHAPES, cut

H, P = "a2-node0", "a2-node1"


def test_every_outcome_of_the_data_has_a_fault_here():
    preflights = read_yaml(BUNDLED / "checks" / "preflight.yml")
    stated = {(check, outcome) for check in preflights for outcome in CHECKS[check]["outcomes"]}
    assert set(FAULTS) | set(OF_THE_RUN) == stated


@pytest.mark.parametrize("key", FAULTS, ids=" ".join)
@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_fault_is_found_where_it_is_and_nothing_is_found_beside_it(key, language):
    (check, outcome), (device, broken, *number) = key, FAULTS[key]
    cluster = Cluster(*SHAPES.get(key, ()))
    cluster.plan["run"]["language"] = language
    broken(cluster)
    host = cluster.name(*number)
    report = cluster.report()
    bad = [entry for entry in report["checks"] if entry["status"] != "pass"]
    entry = CHECKS[check]
    found = [one for one in bad if (one["host"], one["check"], one["device"]) == (host, check, device)]
    assert len(found) == 1, [(one["host"], one["check"], one["device"], one["observed"]) for one in bad]
    assert found[0]["status"] == entry["outcomes"][outcome]["status"] and found[0]["title"] == entry["title"][language]
    # The beginning of a remedy, up to its first braces, tells it from those of the other outcomes.
    begin = entry["outcomes"][outcome]["remedy"][language].partition("{")[0]
    assert found[0]["remedy"].startswith(begin), found[0]["remedy"]
    beside = {one["check"] + ("" if one["host"] == host else "@") for one in bad if one is not found[0]}
    assert beside <= BESIDE.get(key, set()), [(one["host"], one["check"], one["device"], one["observed"]) for one in bad]
    assert report["result"] == ("fail" if any(one["status"] in ("fail", "unknown") for one in bad) else "pass")


@pytest.mark.parametrize("key", OF_THE_RUN, ids=" ".join)
def test_a_fault_of_the_run_is_told_on_the_controller(key):
    assert Cluster().brief(**OF_THE_RUN[key]) == [("localhost", key[0], "forks", "fail")]
    assert Cluster().brief(forks="2") == []


@pytest.mark.parametrize(("nodes", "hardware", "mode", "pings"), [(1, "a2", "off", 0), (2, "a2", "full", 128), (4, "a2", "rails", 192),
                                                                  (1, "a3", "off", 0), (2, "a3", "full", 512)])
def test_a_sound_cluster_has_nothing_to_say(nodes, hardware, mode, pings):
    cluster = Cluster(nodes, hardware)
    report = cluster.report()
    assert (report["result"], report["schema"], report["verb"], report["language"], report["version"]) == ("pass", 1, "preflight", "en", "0.1.0")
    assert {name: count for name, count in report["summary"].items() if count} == {"pass": len(report["checks"])}
    assert (report["mesh"]["mode"], report["mesh"]["planned"], report["mesh"]["sent"], len(report["mesh"]["pings"])) == (mode, pings, pings, pings)
    assert list(report["nodes"]) == cluster.hosts and all(node["answers"] for node in report["nodes"].values())
    assert report["started_at"] == "2025-10-09T08:53:20Z" < report["ended_at"]
    assert report["groups"]["vllm"]["hosts"] == cluster.hosts


@pytest.mark.parametrize(("nodes", "hardware"), [(1, "a2"), (2, "a2"), (1, "a3"), (2, "a3")])
def test_a_cluster_that_serves_passes(nodes, hardware):
    cluster = Cluster(nodes, hardware)
    for number, host in enumerate(cluster.hosts):
        cluster.serve(host, pid=100 + number)
        cluster.node(host)["listening"] += [{"port": port, "pid": 100 + number, "process": "vllm"} for port in (8000, 13389, 60000)]
        for entry in [entry for entry in cluster.reach(host).get("reached", []) if entry["port"] == 13389]:
            cluster.reach(host)["reached"].remove(entry)
    assert cluster.brief() == []
    found = [entry["observed"] for entry in cluster.report()["checks"] if entry["check"] == "tcp_reach" and "in use" in entry["observed"]]
    assert len(found) == (nodes if nodes > 1 else 0)


def test_a_strangers_process_beside_our_own_is_named_alone():
    cluster = Cluster()
    for host in cluster.hosts:
        cluster.serve(host)
    cluster.npu(H)["npus"][5]["processes"].append({"pid": 4711, "name": "python3", "memory_mb": 900})
    cluster.npu(H)["npus"][5]["hbm_used_mb"] += 900
    assert cluster.brief() == [(H, "npu_processes", "npu5", "fail")]
    assert "4711" in cluster.bad()[0]["observed"] and "ps -fp 4711" in cluster.bad()[0]["remedy"]


# nodes that say little


@pytest.mark.parametrize("facts", [
    {},
    {"node": {"unreachable": True, "msg": "timed\nout"}},
    {"node": None},
    {"prerequisites": {"unreachable": True, "msg": "timed out"}},
    {"prerequisites": {"unreachable": True, "msg": "timed out"}, "node": {"unreachable": True, "msg": "timed out"}},
    {"node": {"failed": False, "msg": "MODULE FAILURE"}, "npu": {"skipped": True}},
    {"node": {"interfaces": None}},
])
def test_a_node_that_does_not_answer_is_said_once_beside_the_results_of_the_others(facts):
    cluster = Cluster()
    cluster.facts[P] = facts
    # What the other one says when nobody was there to connect to or to ping.
    cluster.facts[H].update(reach={"skipped": True, "changed": False}, mesh={"skipped": True})
    cluster.npu(H)["npus"][2]["health"] = "Alarm"
    assert sorted(cluster.brief()) == [(H, "npu_health", "npu2", "fail"), (P, "node_answers", "", "fail")]
    report = cluster.report()
    assert report["result"] == "fail" and not report["nodes"][P]["answers"] and report["nodes"][P]["npus"] == []


def test_all_nodes_are_dead():
    cluster = Cluster(4)
    for host in cluster.hosts:
        cluster.facts[host] = {}
    assert cluster.brief() == [(host, "node_answers", "", "fail") for host in cluster.hosts]


def test_a_node_without_python_is_said_once():
    cluster = Cluster()
    cluster.facts[P] = {"prerequisites": {**cluster.prerequisites(P), "python": None, "python_version": None},
                        "node": {"failed": False, "msg": "/bin/sh: python3: not found"}}
    cluster.facts[H].update(reach={"skipped": True}, mesh={"skipped": True})
    assert cluster.brief() == [(P, "python_version", "", "fail")]
    assert "dnf install python3" in cluster.bad()[0]["remedy"]


def test_a_node_without_a_driver_is_said_once():
    cluster = Cluster()
    cluster.facts[P]["npu"] = {"msg": "dcmi module initialize failed. ret is -8005", "error_code": -8005, "rc": 187}
    cluster.facts[P]["hccn"] = {"msg": "hccn_tool failed"}
    for host in cluster.hosts:
        cluster.facts[host]["mesh"] = {"skipped": True}
    assert cluster.brief() == [(P, "npu_smi", "", "fail")]


# what is accepted


@pytest.mark.parametrize(("accepted", "left"), [
    ([], {H, P}), (["hccn_gateway"], set()), ([f"hccn_gateway@{P}"], {H}), ([f"hccn_gateway@{H}", f"hccn_gateway@{P}"], set()),
    (["hccn_link", "hccn_gateway@a2-node7"], {H, P}),
])
def test_an_accepted_fault_is_shown_and_does_not_stop(accepted, left):
    cluster = Cluster()
    cluster.plan["run"]["preflight_accept"] = accepted
    for host in (H, P):
        cluster.port(1, host)["gateway"] = None
    report = cluster.report()
    bad = [entry for entry in report["checks"] if entry["status"] != "pass"]
    assert {(entry["host"], entry["check"], entry["device"], entry["status"]) for entry in bad} == {(host, "hccn_gateway", "npu1", "fail") for host in (H, P)}
    assert {entry["host"] for entry in bad if stops(entry)} == left == {entry["host"] for entry in bad if not entry["accepted"]}
    assert report["result"] == ("fail" if left else "pass")
    assert (report["summary"]["fail"], report["summary"]["accepted"]) == (len(left), 2 - len(left))
    assert sum(report["summary"].values()) == len(report["checks"])


def test_warnings_do_not_stop_a_run():
    cluster = Cluster()
    cluster.port(1).update(net_health="Init")
    assert (cluster.report()["result"], cluster.report()["summary"]["warn"]) == ("pass", 1)


def test_a_host_of_two_groups_is_not_judged_twice():
    cluster = Cluster()
    cluster.plan["groups"]["again"] = copy.deepcopy(cluster.plan["groups"]["vllm"])
    cluster.node(P)["interfaces"][1]["mtu"] = 9000
    cluster.port(2, P)["link"] = "DOWN"
    assert cluster.brief() == [(P, "hccn_link", "npu2", "fail"), (P, "mtu_equal", "eth0", "fail")]


def test_several_faults_of_several_nodes_are_all_said_at_once():
    cluster = Cluster(4)
    for number, (check, outcome) in enumerate([("npu_health", "bad"), ("port_free", "taken"), ("kernel_settings", "differs"), ("rsync", "absent")]):
        FAULTS[(check, outcome)][1](cluster)
        assert len(cluster.bad()) == number + 1
    cut(cluster, 3, "a2-node1")
    assert ("a2-node1", "hccn_ping", "npu3", "fail") in cluster.brief() and len(cluster.bad()) == 5


def test_what_a_card_of_the_page_shows():
    cluster = Cluster(1, "a3")
    cluster.port(3, "a3-node0")["ip"] = None
    node = cluster.report()["nodes"]["a3-node0"]
    assert (node["driver"], node["firmware"], node["docker"], node["kernel"], node["python"], node["free_bytes"]) == (
        "25.5.1", "7.1.0.11.220", "20.10.24", "5.10.0", "3.9.9", 500 * 1024**3)
    assert [entry["npu"] for entry in node["npus"]] == list(range(16))
    assert node["npus"][3]["address"] == "192.168.0.4" and node["npus"][2]["address"] == "10.20.0.12"
    assert node["npus"][3]["health"] == "OK" and node["npus"][3]["link"] == "UP"


def test_pings_of_the_page_name_both_ends():
    cluster = Cluster()
    cluster.pings(P, 3, H, 5)[0].update(status="fail", received=0, loss_percent=100.0, text="exit 1")
    [ping] = [entry for entry in cluster.report()["mesh"]["pings"] if entry["status"] != "pass"]
    assert {key: ping[key] for key in ("host", "npu", "peer", "peer_npu", "address", "kind", "sent", "received", "text")} == {
        "host": P, "npu": 3, "peer": H, "peer_npu": 5, "address": "10.20.0.15", "kind": "roce", "sent": 3, "received": 0, "text": "exit 1"}


# answers with holes

#: What is taken out of a sound answer of the last node, and the checks that cannot pass there any more.
HOLES = {
    ("node", "listening"): {"port_free"},
    ("node", "paths"): {"mount_source"},
    ("node", "docker"): {"docker_engine"},
    ("node", "npus"): {"npu_device_nodes"},
    ("node", "device_holders"): {"npu_processes"},
    ("node", "sysctls"): {"kernel_settings"},
    ("node", "cpu_governors"): {"kernel_settings"},
    ("node", "transparent_hugepage"): {"memory_pages"},
    ("node", "hugepages"): {"memory_pages"},
    ("node", "memory"): {"memory_pages", "shared_memory"},
    ("npu", "npus"): {"npu_smi", "npu_count", "npu_health", "npu_hbm_idle", "npu_processes", "hccn_link", "hccn_ping"},
    ("npu", "hardware"): {"npu_hardware"},
    ("artefacts", "images"): {"image_exists", "artefacts"},
    ("artefacts", "device_containers"): {"npu_containers"},
    ("reach", "reached"): {"tcp_reach"},
    ("hccn", "devices"): {"hccn_link", "hccn_address", "hccn_net_health", "hccn_gateway", "hccn_lldp", "hccn_ping"},
    ("mesh", "results"): {"hccn_ping"},
}


#: A kernel without them says so by null.
NULL = ("transparent_hugepage", "hugepages")


@pytest.mark.parametrize(("hole", "gone"), [(hole, gone) for hole in HOLES for gone in (True, False) if gone or hole[1] not in NULL])
def test_what_was_not_answered_stops_the_run_and_does_not_pass(hole, gone):
    fact, key = hole
    cluster = Cluster()
    cluster.facts[P][fact][key] = None
    if gone:
        del cluster.facts[P][fact][key]
    report = cluster.report()
    assert report["result"] == "fail"
    assert not [entry["check"] for entry in report["checks"] if (entry["host"], entry["status"]) == (P, "pass") and entry["check"] in HOLES[hole]]


@pytest.mark.parametrize("words", [
    ("npu", "npus", "health", "npu_health"), ("npu", "npus", "processes", "npu_processes"),
    ("npu", "npus", "hbm_used_mb", "npu_hbm_idle"), ("npu", "npus", "npu_id", "npu_count"),
    ("hccn", "devices", "link", "hccn_link"), ("hccn", "devices", "net_health", "hccn_net_health"),
    ("hccn", "devices", "ip", "hccn_address"), ("hccn", "devices", "gateway", "hccn_gateway"),
    ("hccn", "devices", "phy_id", "hccn_tool"), ("reach", "reached", "connected", "tcp_reach"),
    ("reach", "reached", "host", "tcp_reach"), ("mesh", "results", "status", "hccn_ping"),
    ("mesh", "results", "phy_id", "hccn_ping"), ("node", "interfaces", "addresses", "nic_owns_address"),
    ("node", "interfaces", "up", "nic_up"),
])
def test_a_word_that_an_entry_lacks_stops_the_run_by_its_own_check(words):
    fact, key, word, check = words
    cluster = Cluster()
    del cluster.facts[P][fact][key][1][word]
    assert (P, check) in {(entry["host"], entry["check"]) for entry in cluster.bad() if stops(entry)}


@pytest.mark.parametrize("image", [{}, None, {"present": None}])
def test_an_image_that_nothing_is_said_of_does_not_pass(image):
    cluster = Cluster()
    cluster.artefacts()["images"][IMAGE] = image
    assert cluster.report()["result"] == "fail"


def test_weights_that_nothing_is_said_of_are_unknown():
    cluster = Cluster()
    cluster.artefacts(H)["weights"] = []
    assert cluster.brief() == [(H, "artefacts", "", "unknown")] and DIR in cluster.bad()[0]["observed"]


@pytest.mark.parametrize("answer", [None, {}, [], "text", {"failed": True, "msg": "MODULE FAILURE"}, {"skipped": True},
                                    {"unreachable": True, "msg": "timed out"}])
@pytest.mark.parametrize("fact", [fact for fact in FACTS if fact != "prerequisites"])
def test_a_module_that_gave_nothing_stops_the_run(fact, answer):
    cluster = Cluster()
    cluster.facts[P][fact] = answer
    assert cluster.report()["result"] == "fail"


@pytest.mark.parametrize("answer", [None, {}, [], "text", {"unreachable": True, "msg": "timed out"}, {"error": "x"}, {"python": "/usr/bin/python3"}])
def test_prerequisites_that_said_nothing_do_not_raise(answer):
    cluster = Cluster()
    cluster.facts[P]["prerequisites"] = answer
    passed = {entry["check"] for entry in cluster.report()["checks"] if (entry["host"], entry["status"]) == (P, "pass")}
    assert not passed & {"python_version", "python_requests", "rsync", "clock"}


def places(value, path=()):
    """Return the paths of all keys in nested mappings and lists."""
    found = []
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        found += [(*path, key), *places(value[key], (*path, key))]
    return found


SOUND = {hardware: Cluster(2, hardware) for hardware in ("a2", "a3")}
PLACES = {hardware: places(cluster.facts[cluster.name()]) for hardware, cluster in SOUND.items()}


#: Of a list its first element stands for all.
EVERY_KEY = [(hardware, path) for hardware in PLACES for path in PLACES[hardware] if all(key in (0, "") or not isinstance(key, int) for key in path)]


def with_hole(hardware, path, gone):
    """Return a sound cluster with one key of one answer gone, or None in its place."""
    cluster = copy.deepcopy(SOUND[hardware])
    place = cluster.facts[cluster.name()]
    for key in path[:-1]:
        place = place[key]
    if gone:
        del place[path[-1]]
    else:
        place[path[-1]] = None
    return cluster


@pytest.mark.parametrize("gone", [True, False], ids=["gone", "null"])
@pytest.mark.parametrize("hardware", list(PLACES))
def test_no_hole_in_an_answer_raises_or_passes(hardware, gone):
    """Each key of each answer, one after the other: nothing raises, and nothing passes that the sound cluster was not asked for."""
    sound = {(entry["host"], entry["check"], entry["device"]) for entry in SOUND[hardware].report()["checks"]}
    wrong = {}
    for kind, path in EVERY_KEY:
        if kind != hardware:
            continue
        try:
            report = with_hole(hardware, path, gone).report()
        except Exception as error:  # pylint: disable=broad-except
            wrong[path] = repr(error)[:200]
            continue
        passed = {(entry["host"], entry["check"], entry["device"]) for entry in report["checks"] if entry["status"] == "pass"}
        odd = passed - sound - {(host, "memory_pages", "") for host in SOUND[hardware].hosts}
        if odd or sum(report["summary"].values()) != len(report["checks"]):
            wrong[path] = odd
    assert wrong == {}
