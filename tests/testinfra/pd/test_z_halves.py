# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prefill on one node and decode, two ranks, on the other: the KV cache really goes from one to the other, and the answers are those of one instance.

The replicas' tests come first, where they run, and leave nothing; each test here takes the halves as the one before it left them: they serve.
"""

from __future__ import annotations

import json
import re
import tarfile

import pytest

from conftest import LAB_TOOL, PROJECT, Requests, ask, complete, copy, inspect, lab, wait_until

INVENTORY = PROJECT / "molecule" / "pd" / "halves"
REPLICAS = PROJECT / "molecule" / "pd" / "replicas"
TAMPERED = PROJECT / "tests" / "testinfra" / "lifecycle" / "tampered.yml"
ROUTER = "http://198.51.100.11:1999"
PREFILL = "http://198.51.100.11:7100"
DECODE = ["http://198.51.100.12:7100", "http://198.51.100.12:7101"]
#: Container -> its node.
UNITS = {"prefill-rank0": "a2-node0", "decode-rank0": "a2-node1", "decode-rank1": "a2-node1", "vllm-proxy": "a2-node0"}
#: Where prefill hands over: kv_port of the inventory.
KV_PORT = 28000
#: Two starts of the lab's engines, three of them on two processors.
BACK_S = 600
#: Pings are other tests' business.
QUICK = ("-e", "preflight_mesh=off")
STATUS = ("-e", "serve_status_timeout_s=15")
#: Of every token of their answers the second best is far below; without the KV cache of prefill all are others.
PROMPTS = (
    "each large mountain future had was",
    "machine down down answer to house but are from river one these little music",
    "the of and to in is that for it as was with be by on not he his but at are this have from or had an they which one you were her all she "
    "there would their we him been has when who will more no if out so said what up its about into than them can only other new some could time "
    "these two may then do first any my now such like our over man me",
)


@pytest.fixture
def verb(playbook):
    """Run a playbook with the inventory of the halves."""
    return lambda name, *args, inventory=INVENTORY: playbook(name, *args, inventory=inventory)


@pytest.fixture(scope="module")
def said():
    """Keep what the halves answered, for the single instance at the end."""
    return {}


def answers(api):
    """Return what somebody answers to each prompt."""
    return [complete(8, api=api, prompt=prompt) for prompt in PROMPTS]


def moved(api):
    """Return what a rank received: tokens of prompts that it did not compute, and bytes."""
    lines = [line for line in ask("/metrics", api=api).splitlines() if not line.startswith("#")]
    tokens = [line for line in lines if line.startswith("vllm:prompt_tokens_by_source_total{") and 'source="external_kv_transfer"' in line]
    carried = [line for line in lines if line.startswith("vllm:nixl_bytes_transferred_sum{")]
    return [sum(float(line.split()[-1]) for line in found) for found in (tokens, carried)]


def started(nodes):
    """Return when each container was started."""
    return {name: inspect(nodes[host], name)["State"]["StartedAt"] for name, host in UNITS.items()}


def again(nodes, before):
    """Return the containers that were started since."""
    return {name for name, when in started(nodes).items() if when != before[name]}


def engines(nodes):
    """Return the engines' containers that run."""
    return [name for node in nodes.values() for name in node.check_output("docker ps --format '{{.Names}}'").split() if name != "vllm-proxy"]


def healthy():
    """Return whether every rank is up."""
    try:
        return [ask("/health", api=api, timeout=5) for api in (PREFILL, *DECODE)] == [""] * 3
    except OSError:
        return False


def has_all():
    """Return whether the router counts all ranks; while one side has none it answers 503."""
    try:
        return ready() == (1, 2)
    except OSError:
        return False


def ready():
    """Return how many healthy backends of each side the router counts."""
    found = ask("/readiness", api=ROUTER)
    return found["prefill"]["healthy"], found["decode"]["healthy"]


def test_site_serves_the_halves_behind_one_address(verb):
    run = verb("site.yml", *QUICK)
    assert run.rc == 0 and ready() == (1, 2), run.out[-5000:]
    assert complete(api=ROUTER)


def test_answers_are_those_of_an_instance_that_computes_by_itself(said):
    """A rank that is asked past the proxy computes the whole prompt itself, whatever its role."""
    said["halves"] = answers(ROUTER)
    assert said["halves"] == answers(PREFILL) == answers(DECODE[0])


def test_the_kv_cache_moves_and_both_ranks_of_decode_receive_it():
    before = [moved(api) for api in DECODE]
    for dummy in range(4):
        complete(api=ROUTER)
    grown = [[now > then for now, then in zip(moved(api), earlier)] for api, earlier in zip(DECODE, before)]
    assert grown == [[True, True], [True, True]], f"{before} -> {[moved(api) for api in DECODE]}"
    assert moved(PREFILL) == [0, 0]


def test_status_and_verify_know_every_rank(verb, reports):
    given, directory = reports
    before = [moved(api) for api in DECODE]
    run = verb("ascend.vllm.status", *STATUS, *given)
    groups = json.loads((directory / "status.json").read_text())["groups"]
    assert run.rc == 0 and {name: group["state"] for name, group in groups.items()} == {"prefill": "serving", "decode": "serving"}, run.out[-4000:]
    assert all(name in run.text for name in UNITS), run.out[-4000:]
    # What each rank counted of KV transfer, as its metrics have it; status sends a request through the router itself.
    shown = [[said["tokens"], said["bytes"]] for said in groups["decode"]["transfers"]]
    for counts in zip(before, shown, (moved(api) for api in DECODE)):
        assert all(0 < early <= said <= late for early, said, late in zip(*counts)), counts
    assert [said["tokens"] for said in groups["prefill"]["transfers"]] == [0] and "KV TOKENS FETCHED" in run.text
    run = verb("ascend.vllm.verify")
    assert run.rc == 0 and ROUTER in run.text, run.out[-4000:]


def test_a_second_run_changes_nothing(verb, nodes):
    before = started(nodes)
    run = verb("site.yml", *QUICK)
    assert run.rc == 0 and [run.recap(name)["changed"] for name in nodes] == [0, 0] and not again(nodes, before), run.out[-4000:]


@pytest.mark.extra
def test_preflight_of_what_serves_has_both_sides_ping_each_other(verb, reports):
    given, directory = reports
    run = verb("ascend.vllm.preflight", *given)
    assert run.rc == 0, run.out[-5000:]
    mesh = json.loads((directory / "preflight.json").read_text())["mesh"]
    assert mesh["sent"] == mesh["planned"] > 0
    assert {(ping["host"], ping["peer"]) for ping in mesh["pings"]} == {("a2-node0", "a2-node1"), ("a2-node1", "a2-node0")}


@pytest.mark.extra
def test_logs_have_every_rank_and_the_proxy(verb, reports):
    given, directory = reports
    run = verb("ascend.vllm.logs", *given)
    assert run.rc == 0, run.out[-4000:]
    (found,) = directory.glob("logs-*.tar.gz")
    with tarfile.open(found) as bundle:
        names = bundle.getnames()
    assert not [unit for unit, host in UNITS.items() if not any(host in name and unit in name for name in names)], names


@pytest.mark.extra
def test_benchmark_and_evaluate_ask_the_proxy(verb, nodes, sets, lm_eval, reports):
    """The records have the name of the decode group, on whose head the clients run; both ranks of decode have done what was asked."""
    given, directory = reports
    earlier = [moved(api) for api in DECODE]
    # `sets` has put the questions on the head of the replicas.
    for name in ("test.jsonl", "train.jsonl"):
        copy(LAB_TOOL.parent / "sets" / "gsm8k_lab" / name, nodes["a2-node1"], f"{sets}/{name}")
    run = verb("ascend.vllm.benchmark", "-e", "benchmark_num_prompts=6", "-e", "benchmark_input_len=16", "-e", "benchmark_output_len=8", *given)
    assert run.rc == 0 and ROUTER in run.text, run.out[-4000:]
    (record,) = json.loads((directory / "benchmark.json").read_text())["records"]
    assert (record["samples"]["done"], record["samples"]["failed"]) == (6, 0) and record["performance"]["output_throughput"] > 0
    short = ("-e", "evaluate_sets=gsm8k_random", "-e", "evaluate_min_model_len=512", "-e", "evaluate_concurrency=2", "-e", "evaluate_max_tokens=16",
             "-e", json.dumps({"evaluate_extra_flags": {"num_fewshot": 1}}))  # fmt: skip
    run = verb("ascend.vllm.evaluate", *short, *given)
    assert run.rc == 0, run.out[-4000:]
    (record,) = json.loads((directory / "evaluate.json").read_text())["records"]
    assert record["gate"]["outcome"] == "none" and record["samples"]["done"] == 8
    assert {path.parent.name for path in (directory / "results").glob("*/*.json")} == {"decode"}
    assert all(now > then for api, past in zip(DECODE, earlier) for now, then in zip(moved(api), past))


@pytest.mark.extra
@pytest.mark.parametrize(("unit", "group", "back"), [
    ("prefill-rank0", "prefill", {"prefill-rank0"}),
    ("decode-rank1", "decode", {"decode-rank0", "decode-rank1"}),
], ids=["prefill", "decode"])
def test_a_half_that_is_killed_is_named_fails_requests_in_time_and_comes_back_whole(verb, nodes, reports, unit, group, back):
    given, directory = reports
    before = started(nodes)
    with Requests(clients=2, tokens=8, api=ROUTER) as clients:
        nodes[UNITS[unit]].check_output("docker kill %s", unit)
        # Nobody waits for one that is gone: an error comes, and the router itself stays.
        wait_until(lambda: clients.outcomes["broken"], 60, "a client sees an error")
    assert clients.outcomes["refused"] == 0 and "500" in " ".join(clients.said), clients.said
    run = verb("ascend.vllm.status", *STATUS, *given)
    state = json.loads((directory / "status.json").read_text())["groups"][group]["state"]
    assert run.rc != 0 and state in ("down", "degraded") and UNITS[unit] in run.text and unit in run.text, run.out[-4000:]
    run = verb("site.yml", *QUICK)
    assert run.rc == 0 and ready() == (1, 2), run.out[-5000:]
    # The other half goes on; whether the router does is the router's.
    assert again(nodes, before) - {"vllm-proxy"} == back
    assert answers(ROUTER) == answers(PREFILL)


@pytest.mark.extra
def test_a_router_that_is_killed_is_named_and_comes_back_while_the_halves_go_on(verb, nodes):
    before = started(nodes)
    nodes["a2-node0"].check_output("docker kill vllm-proxy")
    with pytest.raises(OSError, match="refused"):
        complete(api=ROUTER)
    run = verb("ascend.vllm.status", *STATUS)
    assert run.rc != 0 and "vllm-proxy" in run.text, run.out[-4000:]
    run = verb("site.yml", *QUICK)
    assert run.rc == 0 and ready() == (1, 2) and again(nodes, before) == {"vllm-proxy"}, run.out[-4000:]
    assert complete(api=ROUTER)


@pytest.mark.extra
def test_the_example_proxy_of_vllm_ascend_serves_the_same(verb, nodes, said, reports):
    """The script of its source distribution, in the groups' image as in vllm-ascend's own."""
    given, directory = reports
    example = ("-e", json.dumps({"vllm_proxy": {"kind": "vllm-ascend", "port": 1999}}))
    before = started(nodes)
    run = verb("site.yml", *QUICK, *example)
    assert run.rc == 0 and again(nodes, before) == {"vllm-proxy"}, run.out[-5000:]
    found = ask("/healthcheck", api=ROUTER)
    assert (found["prefill_instances"], found["decode_instances"]) == (1, 2)
    earlier = [moved(api) for api in DECODE]
    assert answers(ROUTER) == said["halves"]
    # It sends a request to the rank that has least to do: the second one has its turn when the first is busy.
    with Requests(clients=4, tokens=16, api=ROUTER) as clients:
        wait_until(lambda: all(now > then for api, past in zip(DECODE, earlier) for now, then in zip(moved(api), past)), 60, "both ranks receive")
    assert set(clients.outcomes) == {"answered"}, clients.said
    run = verb("site.yml", *QUICK, *example)
    assert run.rc == 0 and [run.recap(name)["changed"] for name in nodes] == [0, 0], run.out[-4000:]
    run = verb("ascend.vllm.status", *STATUS, *given, *example)
    groups = json.loads((directory / "status.json").read_text())["groups"]
    assert run.rc == 0 and {group["state"] for group in groups.values()} == {"serving"}, run.out[-4000:]
    run = verb("ascend.vllm.verify", *example)
    assert run.rc == 0 and ROUTER in run.text, run.out[-4000:]
    nodes["a2-node0"].check_output("docker kill vllm-proxy")
    run = verb("ascend.vllm.status", *STATUS, *example)
    assert run.rc != 0 and "vllm-proxy" in run.text, run.out[-4000:]
    run = verb("site.yml", *QUICK)
    assert run.rc == 0 and ready() == (1, 2) and again(nodes, before) == {"vllm-proxy"}, run.out[-5000:]


@pytest.mark.extra
def test_a_second_prefill_comes_and_goes_and_the_first_is_restarted_while_a_client_asks(verb, nodes):
    """The router takes its backends when it starts. Another one has the new requests meanwhile, so that none fails."""
    more = {"vllm_groups": [
        {"name": "prefill", "hosts_from": "prefill", "role": "prefill", "data_parallel_size": 1, "npus": [0], "kv_port": KV_PORT},
        {"name": "prefill1", "hosts_from": "prefill", "role": "prefill", "data_parallel_size": 1, "npus": [1], "data_parallel_rpc_port": 13390},
        {"name": "decode", "hosts_from": "decode", "role": "decode", "data_parallel_size": 2, "npus": [0, 1], "kv_port": 28100},
    ]}  # fmt: skip
    before = started(nodes)
    # Three engines compute on two processors: few completions, and a quick question all the time.
    quick = Requests(clients=1, pause=0.1, what=lambda: ask("/readiness", api=ROUTER))
    with quick, Requests(clients=1, tokens=2, pause=3.0, api=ROUTER) as clients:
        run = verb("site.yml", *QUICK, "-e", json.dumps(more))
        assert run.rc == 0 and ready() == (2, 2), run.out[-5000:]
        wait_until(lambda: computed("http://198.51.100.11:7101") > 0, 60, "the second prefill is asked")
        run = verb("ascend.vllm.restart", *QUICK, "-e", "only_groups=prefill", "-e", json.dumps(more))
        assert run.rc == 0 and ready() == (2, 2) and "clients have to try again" not in run.text, run.out[-5000:]
        run = verb("ascend.vllm.stop", "-e", "only_groups=prefill1", "-e", json.dumps(more))
        assert run.rc == 0, run.out[-4000:]
        run = verb("site.yml", *QUICK)
        assert run.rc == 0 and ready() == (1, 2), run.out[-5000:]
    assert set(clients.outcomes) == {"answered"}, clients.said
    assert set(quick.outcomes) == {"answered"}, quick.said
    assert again(nodes, before) == {"prefill-rank0", "vllm-proxy"}
    left = nodes["a2-node0"].check_output("docker ps -a --format '{{.Names}}'; nft list tables; ls /etc/ascend-vllm/vllm-proxy")
    assert "next" not in left and "handover" not in left, left


@pytest.mark.extra
def test_services_bring_back_the_group_of_a_rank_that_is_killed_and_no_other(verb, nodes, said):
    """With no controller present; the router sends requests there again by itself."""
    supervised = ("-e", json.dumps({"vllm_supervise": True}))
    watched = {name: host for name, host in UNITS.items() if name != "vllm-proxy"}
    before = started(nodes)
    run = verb("site.yml", *QUICK, *supervised)
    assert run.rc == 0 and not again(nodes, before), run.out[-5000:]
    assert {nodes[host].run("systemctl is-active ascend-vllm-%s", name).stdout.strip() for name, host in watched.items()} == {"active"}
    for unit, back in (("decode-rank1", {"decode-rank0", "decode-rank1"}), ("prefill-rank0", {"prefill-rank0"})):
        before = started(nodes)
        nodes[UNITS[unit]].check_output("docker kill %s", unit)
        wait_until(lambda before=before, back=back: again(nodes, before) == back and healthy(), BACK_S, f"{', '.join(back)} run again, and no other")
        wait_until(has_all, 120, "the router has all ranks")
        assert answers(ROUTER) == said["halves"]
    run = verb("site.yml", *QUICK)
    assert run.rc == 0 and ready() == (1, 2), run.out[-5000:]
    assert not [host for name, host in watched.items() if nodes[host].file(f"/etc/systemd/system/ascend-vllm-{name}.service").exists]


def computed(api):
    """Return how many tokens of prompts a rank computed itself."""
    found = re.search(r'^vllm:prompt_tokens_by_source_total\{.*source="local_compute".*\} (\S+)$', ask("/metrics", api=api), re.M)
    return float(found[1]) if found else 0.0


@pytest.fixture(scope="module")
def planned(playbook, tmp_path_factory):
    """Return the plan of the halves, as JSON text."""
    path = tmp_path_factory.mktemp("plan") / "plan.json"
    run = playbook("ascend.vllm.plan", "-e", f"plan_file={path}", inventory=INVENTORY)
    assert run.rc == 0, run.out[-3000:]
    return path.read_text()


def change_transfer(unit, change):
    """Change what the connector of a unit is told."""
    place = unit["argv"].index("--kv-transfer-config") + 1
    transfer = json.loads(unit["argv"][place])
    change(transfer["kv_connector_extra_config"])
    unit["argv"][place] = json.dumps(transfer)


def wrong_sizes(units):
    change_transfer(units["decode-rank1"], lambda sizes: sizes["decode"].update(dp_size=4))


def no_sizes(units):
    change_transfer(units["prefill-rank0"], lambda sizes: sizes.pop("decode"))


def no_hccn_conf(units):
    unit = units["prefill-rank0"]
    unit["mounts"] = [mount for mount in unit["mounts"] if "hccn.conf" not in mount]
    unit["mount_candidates"].pop("/etc/hccn.conf")


@pytest.mark.extra
@pytest.mark.parametrize(("tamper", "words", "group", "host"), [
    (wrong_sizes, "decode is said to be {'dp_size': 4, 'tp_size': 1}, this instance is {'dp_size': 2, 'tp_size': 1}", "decode", "a2-node1"),
    (no_sizes, "kv_connector_extra_config: decode has no tp_size", "prefill", "a2-node0"),
    (no_hccn_conf, "hccn.conf is not in", "prefill", "a2-node0"),
], ids=["wrong-sizes", "no-sizes", "no-hccn-conf"])
def test_a_start_that_fails_names_node_and_cause_and_leaves_no_half_group(verb, nodes, planned, tmp_path, tamper, words, group, host):
    plan = json.loads(planned)
    tamper({unit["name"]: unit for entry in plan["hosts"].values() for unit in entry["units"]})
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    run = verb(TAMPERED, *QUICK, "-e", f"tampered_plan={tmp_path / 'plan.json'}")
    assert run.rc != 0 and words in run.text and host in run.text, run.out[-5000:]
    assert not [name for name in engines(nodes) if name.startswith(group)]


@pytest.mark.extra
def test_a_kv_port_that_somebody_has_is_named_and_nothing_is_left_half_started(verb, nodes):
    """Preflight names it; accepted there, the connector of prefill dies of it."""
    assert verb("ascend.vllm.stop").rc == 0
    lab("fault", "a2-node0", "set", "port-taken", f"port={KV_PORT}")
    try:
        run = verb("site.yml", *QUICK)
        assert run.rc != 0 and "port_free" in run.text and f"{KV_PORT}" in run.text and "a2-node0" in run.text, run.out[-4000:]
        assert not engines(nodes)
        run = verb("site.yml", *QUICK, "-e", "preflight_accept=port_free")
        assert run.rc != 0 and f"Address already in use (addr='tcp://198.51.100.11:{KV_PORT}')" in run.text, run.out[-5000:]
        assert "a2-node0" in run.text and "Remedy:" in run.text and not engines(nodes), run.out[-5000:]
    finally:
        lab("fault", "a2-node0", "clear")


@pytest.mark.extra
def test_after_that_site_serves_again(verb, said):
    run = verb("site.yml", *QUICK)
    assert run.rc == 0 and answers(ROUTER) == said["halves"], run.out[-4000:]


def test_a_stop_of_all_leaves_nothing(verb, nodes):
    run = verb("ascend.vllm.stop")
    assert run.rc == 0, run.out[-4000:]
    ports = " or ".join(f"sport = :{port}" for port in (1999, 29000, 7100, 7101, KV_PORT))
    for node in nodes.values():
        assert node.run(f"ss -ltnH '( {ports} )'").stdout == "" and node.run("docker ps -q").stdout == ""


@pytest.mark.extra
def test_two_groups_of_each_side_are_upgraded_one_after_the_other_while_a_client_asks(verb, nodes):
    two = json.dumps({"vllm_groups": [
        {"name": "prefill", "hosts_from": "prefill", "role": "prefill", "data_parallel_size": 1, "npus": [0], "kv_port": KV_PORT},
        {"name": "prefill1", "hosts_from": "prefill", "role": "prefill", "data_parallel_size": 1, "npus": [1], "data_parallel_rpc_port": 13390},
        {"name": "decode", "hosts_from": "decode", "role": "decode", "data_parallel_size": 1, "npus": [0], "kv_port": 28100},
        {"name": "decode1", "hosts_from": "decode", "role": "decode", "data_parallel_size": 1, "npus": [1], "data_parallel_rpc_port": 13390},
    ]})  # fmt: skip
    units = {"prefill-rank0": "a2-node0", "prefill1-rank0": "a2-node0", "decode-rank0": "a2-node1", "decode1-rank0": "a2-node1"}
    run = verb("site.yml", *QUICK, "-e", two)
    assert run.rc == 0 and ready() == (2, 2), run.out[-5000:]
    with Requests(clients=1, tokens=2, pause=3.0, api=ROUTER) as clients:
        changed = json.dumps({"vllm_extra_args": {"max-model-len": 16384, "dtype": "float32", "max-num-seqs": 12}})
        run = verb("ascend.vllm.upgrade", *QUICK, "-e", two, "-e", changed)
        assert run.rc == 0 and ready() == (2, 2), run.out[-5000:]
    assert set(clients.outcomes) == {"answered"}, clients.said
    argv = {unit: inspect(nodes[host], unit)["Config"]["Cmd"] for unit, host in units.items()}
    assert {unit: words[words.index("--max-num-seqs") + 1] for unit, words in argv.items()} == dict.fromkeys(units, "12")
    left = nodes["a2-node0"].check_output("docker ps -a --format '{{.Names}}'; nft list tables; ls /etc/ascend-vllm/vllm-proxy")
    assert "next" not in left and "handover" not in left, left
    assert verb("ascend.vllm.stop", "-e", two).rc == 0 and not engines(nodes)


@pytest.mark.extra
def test_a_single_instance_without_any_of_it_says_the_same(verb, said):
    """Replicas, which know nothing of prefill and decode, in 32 bits as the halves."""
    exact = json.dumps({"vllm_extra_args": {"dtype": "float32"}})
    run = verb("site.yml", *QUICK, "-e", exact, inventory=REPLICAS)
    assert run.rc == 0 and answers("http://198.51.100.11:8000") == said["halves"], run.out[-4000:]
    assert verb("ascend.vllm.stop", inventory=REPLICAS).rc == 0
