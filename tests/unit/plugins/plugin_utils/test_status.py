# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a group is, judged from what its nodes answered."""

from __future__ import annotations

import copy
import json

import pytest

from ansible_collections.ascend.vllm.plugins.plugin_utils import status
from ansible_collections.ascend.vllm.tests.unit.plugins.cluster import Cluster, apart
from ansible_collections.ascend.vllm.tests.unit.plugins.status_cluster import CONTROLLER, HANGS, IMAGE_ID, REFUSED, Serving, done

HEAD, PEER = "a2-node0", "a2-node1"


@pytest.mark.parametrize(("nodes", "hardware", "npus"), [(2, "a2", 8), (1, "a3", 16), (2, "a3", 16)])
def test_a_group_that_serves(nodes, hardware, npus):
    serving = Serving(nodes, hardware)
    report = serving.report()
    assert (report["state"], report["result"], report["summary"]["fail"], report["schema"], report["verb"]) == ("serving", "pass", 0, 1, "status")
    assert serving.brief() == ("serving", [])
    group = report["groups"]["vllm"]
    assert (group["health"], group["models"], group["requests"]) == (200, ["deepseek_r1"], {"running": 2, "waiting": 1})
    assert group["ranks_answered"] == len(group["ranks"]) == group["data_parallel_size"]
    assert group["completion"]["answered"] and group["reasons"] == []
    node = report["nodes"][serving.hosts[-1]]
    [unit] = node["units"]
    assert (unit["state"], unit["image_id"], unit["uptime_s"], unit["restarts"], len(node["npus"])) == ("running", IMAGE_ID, 273720, 0, npus)
    assert (unit["hbm_used_mb"], unit["hbm_total_mb"]) == (npus * 59000, npus * 65536)
    assert (unit["links_up"], unit["links_asked"]) == ((npus, npus) if nodes > 1 else (0, 0))
    assert {entry["check"] for entry in report["checks"]} >= {
        "node_answers", "container_runs", "container_image", "container_command", "npu_smi", "npu_count", "npu_health", "npu_processes", "api_health",
        "api_models", "api_open", "completion", "rank_answers", "requests"}
    assert json.loads(json.dumps(report)) == report


def test_the_questions_follow_from_the_plan():
    serving = Serving()
    serving.group["api_key_file"] = "/etc/keys/vllm"
    asked = status.status_questions(serving.plan)
    assert asked[HEAD] == {
        "containers": ["vllm-rank0"], "images": ["quay.io/ascend/vllm-ascend:v0.13.0"], "links": list(range(8)), "link_questions": ["link"],
        "services": [{"name": "vllm", "url": "http://198.51.100.11:8000", "model": "deepseek_r1", "ranks": 4, "rank_urls": [],
                      "answers_alone": True, "ca_file": None}], "proxies": [],
        "key_files": {"vllm": "/etc/keys/vllm"}}
    assert asked[PEER]["services"] == [] and asked[PEER]["key_files"] == {} and asked[PEER]["containers"] == ["vllm-rank2"]
    assert status.status_questions(serving.plan, links=False)[HEAD]["links"] == []
    single = status.status_questions(Serving(1, "a3").plan)["a3-node0"]
    assert (single["links"], single["link_questions"]) == ([], ["link", "vnic"])


def test_the_head_is_dead():
    serving = Serving()
    serving.container(0).update(running=False, status="exited", exit_code=1, uptime_s=None, pids=[])
    serving.service.update(dict.fromkeys(("health", "models_status", "models", "requests", "ranks")))
    serving.service.update(health_error="[Errno 111] Connection refused", completion=REFUSED)
    for entry in serving.said[HEAD]["npu"]["npus"]:
        entry["processes"] = []
    assert serving.brief() == ("down", [
        (HEAD, "container_runs", "vllm-rank0", "fail"), (HEAD, "api_health", "vllm", "fail"), (HEAD, "completion", "vllm", "fail")])
    assert "exited with 1" in serving.only("container_runs")["observed"] and "docker logs --tail 100 vllm-rank0" in serving.only("completion")["remedy"]
    assert "http://198.51.100.11:8000/health: [Errno 111]" in serving.only("api_health")["observed"]


def test_health_says_200_and_the_completion_hangs_because_a_peer_is_dead():
    serving = Serving()
    serving.container(1).update(running=False, status="exited", exit_code=137, uptime_s=None, pids=[])
    for entry in serving.said[PEER]["npu"]["npus"]:
        entry["processes"] = []
    serving.service.update(completion=HANGS, ranks=[dict(HANGS, rank=rank) for rank in range(4)])
    assert serving.brief() == ("down", [
        (PEER, "container_runs", "vllm-rank2", "fail"), (HEAD, "completion", "vllm", "fail"), (HEAD, "rank_answers", "vllm", "fail")])
    found = serving.only("completion")
    assert found["observed"] == "/health says 200, but a completion did not come back within 30 s"
    assert "ansible-playbook ascend.vllm.restart -i" in found["remedy"]
    assert serving.only("rank_answers")["observed"] == "0 of 4 ranks"


def test_one_rank_does_not_answer_and_its_host_is_named():
    serving = Serving()
    serving.service["ranks"][1] = dict(HANGS, rank=1)
    serving.service["ranks"][3] = {"rank": 3, "answered": False, "status": 500, "seconds": 0.1, "timed_out": False, "text": "oops"}
    assert serving.brief() == ("degraded", [(HEAD, "rank_answers", "vllm rank 1", "fail"), (PEER, "rank_answers", "vllm rank 3", "fail")])
    observed = {entry["device"]: (entry["observed"], entry["remedy"]) for entry in serving.report()["checks"] if entry["check"] == "rank_answers"}
    assert observed["vllm rank 1"][0] == "no completion within 30 s" and "vllm-rank0" in observed["vllm rank 1"][1]
    assert observed["vllm rank 3"][0] == "HTTP 500: oops" and "vllm-rank2" in observed["vllm rank 3"][1]
    assert serving.report()["groups"]["vllm"]["ranks_answered"] == 2


def test_a_completion_that_hangs_while_a_rank_answers_is_a_group_that_is_degraded():
    serving = Serving()
    serving.service.update(completion=HANGS)
    serving.service["ranks"][0] = dict(HANGS, rank=0)
    assert serving.brief() == ("degraded", [(HEAD, "completion", "vllm", "fail"), (HEAD, "rank_answers", "vllm rank 0", "fail")])


@pytest.mark.parametrize(("index", "state"), [(0, "down"), (1, "degraded")])
def test_a_node_that_is_unreachable(index, state):
    serving = Serving()
    serving.lose(index)
    host = serving.hosts[index]
    wanted = [(host, "node_answers", "", "fail")] + ([(HEAD, "completion", "vllm", "fail")] if index == 0 else [])
    assert serving.brief() == (state, wanted)
    assert "Connection timed out" in serving.only("node_answers")["observed"]
    node = serving.report()["nodes"][host]
    assert node["answers"] is False and node["npus"] == [] and node["units"][0]["state"] == "unknown"
    if index == 0:
        found = serving.only("completion")
        assert found["observed"].startswith("nobody asked http://198.51.100.11:8000: ssh:") and HEAD in found["remedy"]


@pytest.mark.parametrize(("prerequisites", "said", "status_of", "words"), [
    ({"python": "/usr/bin/python3"}, {"failed": True, "msg": "boom"}, "unknown", "boom"),
    ({"python": "/usr/bin/python3"}, {"unreachable": True, "msg": "gone"}, "fail", "gone"),
    ({"python": None}, {"skipped": True}, "fail", "no Python found"), ({"error": "Welcome!"}, {"skipped": True}, "fail", "Welcome!"),
    ({}, None, "fail", "no answer"),
])
def test_why_a_node_did_not_answer(prerequisites, said, status_of, words):
    serving = Serving()
    serving.prerequisites[PEER], serving.said[PEER] = prerequisites, said
    found = serving.only("node_answers")
    assert (found["status"], found["observed"]) == (status_of, words)


def test_facts_that_are_not_there():
    serving = Serving()
    report = status.build(serving.plan, {host: {} for host in serving.hosts}, CONTROLLER)
    assert (report["state"], [entry["check"] for entry in report["checks"]]) == ("down", ["node_answers", "node_answers", "completion"])


@pytest.mark.parametrize(("change", "outcome", "words"), [
    ({"exists": False, "running": False}, "absent", "no such container"),
    ({"labels": {}}, "foreign", "without the label ascend.vllm.group"),
    ({"running": False, "exit_code": 137, "oom": True}, "out_of_memory", "out of memory (exit 137)"),
    ({"running": False, "exit_code": 127, "error": "exec: not found"}, "exited", "exited with 127: exec: not found"),
    ({"paused": True}, "paused", "paused"),
    ({"restarts": 3}, "restarted", "started again 3 times"),
])
def test_a_container_that_does_not_run_as_planned(change, outcome, words):
    serving = Serving()
    serving.container(1).update(change)
    if outcome in ("absent", "foreign"):
        for entry in serving.said[PEER]["npu"]["npus"]:
            entry["processes"] = []
    assert serving.brief() == ("degraded", [(PEER, "container_runs", "vllm-rank2", "fail")])
    remedies = {name: entry["remedy"]["en"].format(name="vllm-rank2") for name, entry in
                status.data_folders.load_all()[0]["checks"]["container_runs"]["outcomes"].items()}
    found = serving.only("container_runs")
    assert words in found["observed"] and found["remedy"] == remedies[outcome]


def test_the_image_differs_from_the_plan():
    serving = Serving()
    serving.container(1)["image_id"] = "sha256:feedfacecafe0000"
    assert serving.brief() == ("degraded", [(PEER, "container_image", "vllm-rank2", "fail")])
    found = serving.only("container_image")
    assert found["observed"].startswith("feedfacecafe (quay.io/") and found["expected"].startswith("0123456789ab (quay.io/")


def test_an_image_that_was_removed_since_is_compared_by_its_name():
    serving = Serving()
    serving.said[HEAD]["docker"]["images"] = {serving.group["image"]: None}
    assert serving.brief() == ("serving", [])
    serving.container(0)["image"] = "quay.io/ascend/vllm-ascend:v0.12.0"
    assert serving.brief() == ("degraded", [(HEAD, "container_image", "vllm-rank0", "fail")])


def test_the_command_line_differs_from_the_plan():
    serving = Serving()
    command = serving.container(0)["command"]
    place = command.index("--max-num-seqs")
    command[place:place + 2] = ["--swap-space", "9"]
    assert serving.brief() == ("degraded", [(HEAD, "container_command", "vllm-rank0", "fail")])
    assert "with --swap-space 9 and without --max-num-seqs" in serving.only("container_command")["observed"]
    serving.container(0)["command"] = serving.plan["hosts"][HEAD]["units"][0]["argv"][::-1]
    assert serving.only("container_command")["observed"] == "the same words in another order"


def test_an_npu_with_an_alarm_degrades_and_one_with_a_warning_does_not():
    serving = Serving()
    serving.npu(5)["health"] = "Warning"
    assert serving.brief() == ("serving", [(HEAD, "npu_health", "npu5", "warn")])
    serving.npu(3, 1)["health"] = "Alarm"
    assert serving.brief() == ("degraded", [(HEAD, "npu_health", "npu5", "warn"), (PEER, "npu_health", "npu3", "fail")])
    assert serving.report()["groups"]["vllm"]["reasons"] == ["a2-node1 npu3 npu_health: Alarm"]


def test_npus_that_no_unit_has_do_not_matter():
    serving = Serving()
    for unit in serving.plan["hosts"][HEAD]["units"]:
        unit["npus"] = unit["npus"][:4]
    serving.npu(6)["health"] = "Alarm"
    serving.npu(6)["processes"].append({"pid": 7, "name": "other", "memory_mb": 1})
    serving.port(6)["link"] = "DOWN"
    assert serving.brief() == ("serving", []) and len(serving.report()["nodes"][HEAD]["npus"]) == 4
    del serving.said[HEAD]["npu"]["npus"][2]
    assert serving.brief() == ("degraded", [(HEAD, "npu_count", "npu2", "fail")])


def test_a_stranger_on_an_npu_and_whose_process_it_is_when_docker_is_silent():
    serving = Serving()
    serving.npu(2)["processes"].append({"pid": 4711, "name": "train.py", "memory_mb": 900})
    assert serving.brief() == ("degraded", [(HEAD, "npu_processes", "npu2", "fail")])
    assert "train.py (pid 4711" in serving.only("npu_processes")["observed"]
    serving.said[HEAD]["docker"] = {"error": "/var/run/docker.sock: no answer within 10 s", "containers": {}, "images": {}}
    assert serving.brief() == ("degraded", [(HEAD, "docker_engine", "", "fail")])


def test_a_collector_that_failed_is_named():
    serving = Serving()
    serving.said[PEER]["docker"] = {"msg": "Docker: KeyError: 'State'"}
    assert serving.brief() == ("degraded", [(PEER, "docker_engine", "", "fail")]) and "KeyError" in serving.only("docker_engine")["observed"]
    serving = Serving()
    serving.said[HEAD]["services"]["vllm"] = {"msg": "API: KeyError: 'x'"}
    assert serving.brief() == ("down", [(HEAD, "completion", "vllm", "fail")]) and "KeyError" in serving.only("completion")["observed"]


def test_npu_smi_that_fails_leaves_the_links_to_it():
    serving = Serving()
    serving.said[PEER]["npu"] = {"msg": "dcmi module initialize failed", "error_code": -8005}
    assert serving.brief() == ("degraded", [(PEER, "npu_smi", "", "fail")])


@pytest.mark.parametrize(("nodes", "hardware", "change", "wanted"), [
    (2, "a2", {"link": "DOWN"}, ("degraded", [("hccn_link", "fail")])),
    (2, "a2", {"link": None, "errors": {"link": "busy"}}, ("degraded", [("hccn_tool", "unknown")])),
    (2, "a3", {"link": "DOWN"}, ("serving", [])),
    (2, "a3", {"link": "DOWN", "vnic": None}, ("degraded", [("hccn_link", "fail")])),
])
def test_links(nodes, hardware, change, wanted):
    serving = Serving(nodes, hardware)
    serving.port(4, 1).update(change)
    state, found = serving.brief()
    assert (state, [(check, level) for host, check, device, level in found]) == wanted
    assert all((host, device) == (serving.hosts[1], "npu4") for host, check, device, level in found)
    assert serving.report()["nodes"][serving.hosts[1]]["units"][0]["links_up"] == (8 if hardware == "a2" else 16) - 1


@pytest.mark.parametrize(("roles", "asked", "level"), [(("prefill", "decode"), list(range(8)), "fail"), (("serve", "serve"), [], "warn")])
def test_the_links_of_a_node_that_is_a_prefill_group_alone_matter(roles, asked, level):
    cluster = apart(Cluster(2), *roles)
    plan = cluster.plan
    assert [status.status_questions(plan)[host]["links"] for host in (HEAD, PEER)] == [asked, asked]
    assert status.status_questions(plan, links=False)[HEAD]["links"] == []
    cluster.port(4, PEER)["link"] = "DOWN"
    said = {host: {"time": 0, "npu": cluster.npu(host), "hccn": cluster.hccn(host), "services": {}, "docker": {"error": None, "containers": {}, "images": {}}}
            for host in cluster.hosts}
    facts = {host: {"prerequisites_found": cluster.prerequisites(host), "serve_status_said": said[host]} for host in cluster.hosts}
    report = status.build(plan, facts, CONTROLLER)
    assert [(entry["device"], entry["status"]) for entry in report["checks"] if entry["host"] == PEER and entry["check"] == "hccn_link"
            and entry["status"] != "pass"] == [("npu4", level)]


def test_hccn_tool_that_is_not_there():
    serving = Serving()
    serving.said[HEAD]["hccn"] = {"msg": "hccn_tool was not found"}
    assert serving.brief() == ("degraded", [(HEAD, "hccn_tool", "", "fail")])


def test_a_fault_that_is_accepted_does_not_degrade():
    serving = Serving()
    serving.port(4)["link"] = "DOWN"
    serving.plan["run"]["preflight_accept"] = [f"hccn_link@{HEAD}"]
    assert serving.brief() == ("serving", [(HEAD, "hccn_link", "npu4", "fail")])
    assert serving.report()["summary"]["accepted"] == 1


def test_no_check_of_status_alone_can_be_accepted():
    checks = status.data_folders.load_all()[0]["checks"]
    own = status.data_folders.read_yaml(status.data_folders.BUNDLED / "checks" / "status.yml")
    assert own and all(checks[name]["acceptable"] is False for name in own)


def test_another_model_is_served():
    serving = Serving()
    refused = {"answered": False, "status": 404, "seconds": 0.1, "timed_out": False, "text": "The model `deepseek_r1` does not exist."}
    serving.service.update(models=["qwen3"], completion=refused, ranks=None)
    assert serving.brief() == ("down", [(HEAD, "api_models", "vllm", "fail"), (HEAD, "completion", "vllm", "fail")])
    assert serving.only("api_models")["observed"] == "qwen3" and "vllm_served_model_name" in serving.only("completion")["remedy"]


@pytest.mark.parametrize(("key_file", "words"), [
    ("/etc/keys/vllm", "the API key of /etc/keys/vllm is refused"), (None, "an API key is wanted, and none is stated")])
def test_a_key_that_is_refused_is_named(key_file, words):
    serving = Serving()
    serving.group["api_key_file"] = key_file
    refused = {"answered": False, "status": 401, "seconds": 0.1, "timed_out": False, "text": '{"error":"Unauthorized"}'}
    serving.service.update(models_status=401, models=[], completion=refused, ranks=None, requests=None)
    assert serving.brief() == ("down", [(HEAD, "api_models", "vllm", "fail"), (HEAD, "completion", "vllm", "fail")])
    for check in ("api_models", "completion"):
        assert serving.only(check)["observed"] == f"HTTP 401: {words}" and "vllm_api_key_file" in serving.only(check)["remedy"]


@pytest.mark.parametrize(("kept_away", "wanted"), [
    ([8000, 9000], ("degraded", [(HEAD, "api_open", "vllm port 8000", "fail")])), ([9000], ("serving", [])), (None, ("serving", [])),
])
def test_clients_that_are_kept_away_by_a_stop_that_was_killed(kept_away, wanted):
    """The node's own questions come over loopback and are answered: nothing else would show it."""
    serving = Serving()
    serving.said[HEAD]["kept_away"] = kept_away
    assert serving.brief() == wanted


@pytest.mark.parametrize(("change", "wanted"), [
    ({"health": 503}, ("degraded", [("api_health", "fail")])),
    ({"models_status": 500, "models": []}, ("degraded", [("api_models", "unknown")])),
    ({"requests": None}, ("serving", [("requests", "warn")])),
    ({"completion": {**REFUSED, "status": 500, "text": "Internal Server Error"}, "ranks": None}, ("down", [("completion", "fail")])),
    ({"completion": REFUSED, "ranks": None}, ("down", [("completion", "fail")])),
    ({"health": 503, "completion": HANGS, "ranks": None}, ("down", [("api_health", "fail"), ("completion", "fail")])),
])
def test_the_api(change, wanted):
    serving = Serving()
    serving.service.update(change)
    state, found = serving.brief()
    assert (state, [(check, level) for host, check, device, level in found]) == wanted


def test_a_host_without_units():
    serving = Serving()
    serving.plan["hosts"][PEER]["units"] = []
    serving.said[PEER]["docker"]["containers"] = {}
    serving.said[PEER]["hccn"] = {}
    assert serving.brief() == ("serving", []) and serving.report()["nodes"][PEER]["units"] == []


def two_groups():
    """Return a pair whose hosts each are a group of their own."""
    serving = Serving()
    for index, (host, name) in enumerate(((HEAD, "vllm"), (PEER, "other"))):
        group = copy.deepcopy(serving.group)
        group.update(hosts=[host], head=host, data_parallel_size=2)
        serving.plan["groups"][name] = group
        for unit in serving.plan["hosts"][host]["units"]:
            unit.update(group=name, head=True, rank=0)
        services = serving.said[HEAD]["services"]
        serving.said[host]["services"] = {name: copy.deepcopy(services[next(iter(services))])}
        serving.said[host]["services"][name]["ranks"] = [done(rank=rank) for rank in range(2)]
    return serving


def test_each_group_has_its_own_state_and_the_worst_is_that_of_all():
    serving = two_groups()
    assert serving.report()["state"] == "serving"
    serving.npu(0, 1)["health"] = "Critical"
    report = serving.report()
    assert ({name: group["state"] for name, group in report["groups"].items()}, report["state"]) == ({"vllm": "serving", "other": "degraded"}, "degraded")
    serving.said[HEAD]["services"]["vllm"].update(completion=HANGS, ranks=None)
    report = serving.report()
    assert ({name: group["state"] for name, group in report["groups"].items()}, report["state"]) == ({"vllm": "down", "other": "degraded"}, "down")


def test_no_group_is_not_serving():
    assert status.build({"run": {"language": "en"}, "groups": {}, "hosts": {}}, {}, CONTROLLER)["state"] == "down"


def test_the_language_of_the_run():
    serving = Serving()
    serving.plan["run"]["language"] = "zh"
    serving.service.update(completion=HANGS, ranks=None)
    assert "重启整个服务组" in serving.only("completion")["remedy"] and serving.only("completion")["title"] == "真实推理有应答"


@pytest.mark.parametrize(("seconds", "text"), [(None, "?"), (0, "0s"), (59, "59s"), (60, "1m 0s"), (3600, "1h 0m"), (273720, "3d 4h"), (86400, "1d 0h")])
def test_durations(seconds, text):
    assert status.duration(seconds) == text


@pytest.mark.parametrize(("container", "state"), [
    ({}, "unknown"), ({"exists": False}, "absent"), ({"exists": True, "running": True}, "running"),
    ({"exists": True, "running": True, "paused": True}, "paused"),
    ({"exists": True, "running": False, "status": "created"}, "created"), ({"exists": True, "running": False}, "exited"),
])
def test_states_of_a_container(container, state):
    assert status.container_state(container) == state
