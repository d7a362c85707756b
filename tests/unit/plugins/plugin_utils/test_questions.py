# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node is asked, as it follows from the plan."""

from __future__ import annotations

import copy

import pytest

from ansible_collections.ascend.vllm.plugins.plugin_utils import questions
from ansible_collections.ascend.vllm.tests.unit.plugins.cluster import DIR, IMAGE, Cluster, apart

H, P = "a2-node0", "a2-node1"
HCCL = list(range(60000, 60032))


def asked(cluster, host):
    """Return the questions for one host."""
    return questions.driver_questions(cluster.plan)[host]


def test_questions_of_a_head_and_of_a_headless_node():
    cluster = Cluster()
    head, other = asked(cluster, H), asked(cluster, P)
    assert {"/dev/davinci0", "/dev/davinci7", "/dev/davinci_manager", "/usr/local/bin/npu-smi", "/usr/local/sbin/npu-smi",
            "/etc/hccn.conf"} <= set(head["paths"])
    assert head["paths"] == sorted(set(head["paths"])) == other["paths"]
    assert head["ports"] == [8000, 13389, *HCCL]
    # The head's rpc port is tried on every node, so every node says whether anybody is on it.
    assert other["ports"] == [13389, *HCCL]
    assert (head["images"], head["containers"], head["disk_paths"], head["local_ip"]) == ([IMAGE], ["vllm-rank0", "vllm-proxy"], [DIR], "198.51.100.11")
    assert (other["images"], other["containers"], other["disk_paths"], other["local_ip"]) == ([IMAGE], ["vllm-rank2", "vllm-proxy"], [], "198.51.100.12")
    assert (head["weights"], other["weights"]) == ([cluster.plan["groups"]["vllm"]["weights"]], [])
    assert head["sysctls"] == ["kernel.numa_balancing", "vm.swappiness"]


def test_a_group_of_one_has_no_rpc_port():
    assert asked(Cluster(1), H)["ports"] == [8000, *HCCL]


def test_a_watch_listens_only_where_there_are_other_nodes(hosts, planned):
    """What the plan says is asked for; nothing here decides it anew."""
    for count, hardware, watch in ((1, "a3", []), (2, "a2", [13390])):
        made = planned(hosts(count, hardware, vllm_supervise=True))["plan"]
        head = next(iter(made["hosts"]))
        assert [port for port in questions.driver_questions(made)[head]["ports"] if port == 13390] == watch
        assert questions.watch_ports(made["hosts"][head]["units"], made["groups"]) == watch


@pytest.mark.parametrize("stated", ["61000", 61000])
def test_hccls_ports_are_where_the_environment_says(stated):
    cluster = Cluster()
    cluster.host_plan(H)["units"][0]["env"]["HCCL_IF_BASE_PORT"] = stated
    assert asked(cluster, H)["ports"] == [8000, 13389, *range(61000, 61032)]


def test_a_site_asks_for_other_kernel_settings(tmp_path):
    (tmp_path / "checks").mkdir()
    (tmp_path / "checks" / "mine.yml").write_text(
        "kernel_settings: {title: {en: x}, meaning: {en: x}, source: x, limits: {vm.overcommit_memory: 1}, "
        "outcomes: {differs: {status: warn, remedy: {en: x}}}}\n")
    cluster = Cluster()
    cluster.plan["run"]["data_dirs"] = [str(tmp_path)]
    assert asked(cluster, H)["sysctls"] == ["vm.overcommit_memory"]


def test_ports_say_whose_they_are():
    cluster = Cluster()
    ports = questions.ports_of(cluster.host_plan(H)["units"][0], cluster.plan["groups"])
    assert {name: [port for port in ports if ports[port] == name] for name in set(ports.values())} == {
        "vllm_port": [8000], "vllm_data_parallel_rpc_port": [13389], "HCCL_IF_BASE_PORT": HCCL}


def test_a_prefill_or_decode_rank_listens_on_its_ports_for_the_kv_cache_too(hosts, planned):
    groups = [{"name": "prefill", "role": "prefill", "hosts_from": "p"}, {"name": "decode", "role": "decode", "hosts_from": "d"}]
    variables = hosts(4, "a2", name="n{index}", vllm_groups=groups, vllm_supervise=True)
    made = planned(variables, {"vllm": list(variables), "p": ["n0", "n1"], "d": ["n2", "n3"]})
    groups, units = made["plan"]["groups"], made["plan"]["hosts"]["n1"]["units"]
    wanted = {port for unit in units for port in range(unit["kv_ports"][0], unit["kv_ports"][1] + 1)} | {unit["port"] for unit in units}
    first, last = groups["prefill"]["kv_ports"]["n1"]
    assert set(range(first, last + 1)) < wanted and len(units) > 1
    assert questions.unit_ports(units, groups) == sorted({*wanted, 13389, *HCCL})
    # The watch of the group's first rank answers the others.
    assert 13390 in questions.unit_ports(made["plan"]["hosts"]["n0"]["units"], groups)
    # Of a part of the units only what is theirs.
    assert not set(range(units[1]["kv_ports"][0], units[1]["kv_ports"][1] + 1)) & set(questions.unit_ports(units[:1], groups))


@pytest.mark.parametrize(("host", "wanted"), [("a", "big"), ("b", "big"), ("c", "one"), ("d", None)])
def test_largest_group(host, wanted):
    groups = {"one": {"hosts": ["a", "c"]}, "big": {"hosts": ["a", "b", "x"]}}
    assert questions.largest_group(host, groups) is (groups[wanted] if wanted else None)


# who connects to whom


def reach(cluster, host, change=None):
    """Return the options of tcp_reach for one host; ``change`` is laid over what node_info says, None takes it away."""
    answers = {name: copy.deepcopy(cluster.node(name)) for name in cluster.hosts}
    for name, more in (change or {}).items():
        answers[name] = None if more is None else {**answers[name], **more}
    return questions.reach_questions(cluster.plan, answers)[host]


BUSY = {"listening": [{"port": 13389, "pid": 1, "process": "x"}, {"port": 8000, "pid": 1, "process": "x"}]}


def ports(question):
    """Return the ports that are listened on, and (peer, ports) that are connected to."""
    return [entry["port"] for entry in question["listen"]], [(peer["host"], peer["ports"]) for peer in question["peers"]]


@pytest.mark.parametrize(("change", "listen", "peer"), [
    ({}, [13389, 40001], [13389, 40002]),
    ({H: BUSY}, [40001], [13389, 40002]),
    ({P: BUSY}, [13389, 40001], [40002]),
    ({P: {"free_port": None}}, [13389, 40001], None),
    ({P: {}}, [13389, 40001], [13389, 40002]),
    ({P: None}, [13389, 40001], None),
    ({H: {"free_port": None}}, [], None),
    ({H: None}, [], None),
])
def test_reach_of_a_pair(change, listen, peer):
    mine, theirs = ports(reach(Cluster(), H, change))
    assert sorted(mine) == listen and [(name, sorted(numbers)) for name, numbers in theirs] == ([(P, peer)] if peer else [])


def test_the_other_nodes_reach_the_watch_of_the_head():
    cluster = Cluster()
    cluster.plan["groups"]["vllm"]["supervise"].update(enabled=True, port=8123)
    mine, theirs = ports(reach(cluster, H))
    assert sorted(mine) == [8123, 13389, 40001] and [sorted(numbers) for dummy, numbers in theirs] == [[13389, 40002]]
    assert [sorted(numbers) for dummy, numbers in ports(reach(cluster, P))[1]] == [[8123, 13389, 40001]]
    # It answers already.
    watched = {H: {"listening": [{"port": 8123, "pid": 1, "process": "python3"}]}}
    assert ports(reach(cluster, H, watched))[0] == [13389, 40001]


def test_groups_without_a_proxy_connect_to_nobody():
    assert questions.between(apart(Cluster(), "serve", "serve").plan) == {} and reach(apart(Cluster(), "serve", "serve"), H)["peers"] == []


def test_a_proxy_connects_to_what_is_behind_it_elsewhere():
    replicas = apart(Cluster(4), *["serve"] * 4, proxy=H)
    behind = [P, "a2-node2", "a2-node3"]
    assert questions.between(replicas.plan) == {(H, name): [8000] for name in behind}
    assert ports(reach(replicas, H)) == ([40001], [(name, [8000, port]) for name, port in zip(behind, (40002, 40003, 40004))])
    assert ports(reach(replicas, P)) == ([8000, 40002], [(H, [40001])])
    # It serves already.
    assert ports(reach(replicas, P, {P: BUSY}))[0] == [40002]


def test_prefill_and_decode_connect_both_ways():
    halves = apart(Cluster(), "prefill", "decode", proxy=H)
    # The proxy beside prefill connects to decode's API, too; what is beside itself needs no network.
    assert questions.between(halves.plan) == {(H, P): [8000], (P, H): []}
    assert ports(reach(halves, H)) == ([40001], [(P, [8000, 40002])]) and ports(reach(halves, P)) == ([8000, 40002], [(H, [40001])])
    assert questions.between(apart(Cluster(), "prefill", "decode").plan) == {(H, P): [], (P, H): []}


def test_the_npus_of_prefill_and_decode_ping_each_other():
    plan = apart(Cluster(4), "prefill", "prefill", "decode", "serve").plan
    found = questions.meshes(plan)
    assert list(found)[:4] == list(plan["groups"]) and list(found)[4] == f"{H}, {P} and a2-node2" and len(found) == 5
    across, mine = found[f"{H}, {P} and a2-node2"], list(range(8))
    assert (across["hosts"], across["hardware"]) == ([H, P, "a2-node2"], "a2")
    assert across["ways"] == {way: [(mine, mine)] for way in ((H, "a2-node2"), (P, "a2-node2"), ("a2-node2", H), ("a2-node2", P))}
    assert questions.meshes(apart(Cluster(2), "serve", "serve").plan).keys() == {H, P}


def test_on_a_host_with_both_sides_each_side_has_its_own_npus():
    plan = apart(Cluster(2), "prefill", "decode").plan
    for name, group, other in ((H, plan["groups"][H], P), (P, plan["groups"][P], H)):
        group["hosts"] = [H, P]
        own = plan["hosts"][name]["units"][0]
        plan["hosts"][other]["units"].append(dict(own, npus=[4, 5, 6, 7]))
        own["npus"] = [0, 1, 2, 3]
    # Prefill has 0 to 3 of one host and 4 to 7 of the other, decode the rest: each way once from prefill and once from decode.
    ends = [([0, 1, 2, 3], [0, 1, 2, 3]), ([4, 5, 6, 7], [4, 5, 6, 7])]
    ways = questions.meshes(plan)[f"{H} and {P}"]["ways"]
    assert {way: sorted(sides) for way, sides in ways.items()} == {(H, P): ends, (P, H): ends}


def test_reach_names_addresses():
    question = reach(Cluster(), H)
    assert question["local_ip"] == "198.51.100.11" and [peer["address"] for peer in question["peers"]] == ["198.51.100.12"]
    assert set(question) == {"local_ip", "listen", "peers"} and {entry["port"]: bool(entry["name"]) for entry in question["listen"]} == {13389: True,
                                                                                                                                         40001: True}


def test_reach_of_one_node_has_nobody_to_connect_to():
    assert reach(Cluster(1), H)["peers"] == []


def test_a_peer_in_two_groups_is_connected_to_once_on_both_rpc_ports():
    cluster = Cluster()
    cluster.plan["groups"]["second"] = dict(cluster.plan["groups"]["vllm"], rpc_port=13399)
    for host in cluster.hosts:
        unit = cluster.host_plan(host)["units"][0]
        cluster.host_plan(host)["units"].append(dict(unit, group="second", name="second"))
    mine, [(peer, theirs)] = ports(reach(cluster, H))
    assert peer == P and sorted(theirs) == [13389, 13399, 40002] and sorted(mine) == [13389, 13399, 40001]


@pytest.mark.parametrize("change", [{}, {P: BUSY}, {P: None}, {"a2-node2": {"free_port": None}}, {P: BUSY, H: None}])
def test_everybody_listens_where_the_others_connect_and_waits_for_nobody_else(change):
    cluster = Cluster(4)
    asked_of = {host: ports(reach(cluster, host, change)) for host in cluster.hosts}
    for host in cluster.hosts:
        for peer, numbers in asked_of[host][1]:
            assert set(numbers) == set(asked_of[peer][0]) and host in [name for name, dummy in asked_of[peer][1]]


def test_a_copy_is_looked_at_on_its_node_and_no_hub_is_asked_there():
    cluster = Cluster()
    weights = cluster.plan["groups"]["vllm"]["weights"]
    weights["target"] = "local"
    head, other = asked(cluster, H), asked(cluster, P)
    assert (head["weights"], other["weights"]) == ([weights], [dict(weights, ask_hub=False)])
    assert head["disk_paths"] == other["disk_paths"] == [DIR]


def test_an_image_that_comes_from_the_head_is_looked_for_there_only():
    cluster = Cluster()
    sources = cluster.plan["groups"]["vllm"]["image_sources"]
    cluster.plan["groups"]["vllm"]["image_fanout"] = "head"
    assert (asked(cluster, H)["image_sources"], asked(cluster, P)["image_sources"]) == ({IMAGE: sources}, {IMAGE: []}) and sources


def test_each_rank_of_prefill_and_decode_has_its_ports(hosts, planned):
    entries = [{"name": side, "hosts_from": side, "role": side} for side in ("prefill", "decode")]
    hostvars = hosts(4, vllm_groups=entries)
    names = list(hostvars)
    plan = planned(hostvars, {"vllm": names, "prefill": names[:2], "decode": names[2:]})["plan"]
    ports = {host: questions.driver_questions(plan)[host]["ports"] for host in names}
    kv = plan["groups"]["prefill"]["kv_port"]
    assert ports[names[1]] == sorted([7100, 7101, 13389, *range(kv + 8, kv + 16), *HCCL])
    # The proxy is on the first host, and so is the port at which the ranks of its group meet.
    assert ports[names[0]] == sorted([1999, 2000, 2001, 29000, 7100, 7101, 13389, *range(kv, kv + 8), *HCCL])
    for group in plan["groups"].values():
        group["image_fanout"], group["weights"]["target"] = "head", "local"
    heads, others = ([questions.driver_questions(plan)[host] for host in names[start::2]] for start in (0, 1))
    # Image and weights come from the head to the other host, and the head itself is asked for both, whichever rank is its last.
    assert all(list(asked["image_sources"].values())[0] and len(asked["weights"]) == 1 and "ask_hub" not in asked["weights"][0] for asked in heads)
    assert all(list(asked["image_sources"].values()) == [[]] and [entry["ask_hub"] for entry in asked["weights"]] == [False] for asked in others)
    unit = plan["hosts"][names[1]]["units"][1]
    known = questions.ports_of(unit, plan["groups"])
    assert (known[7101], known[kv + 12], 7100 in known) == ("vllm_rank_port", "vllm_kv_port", False)
