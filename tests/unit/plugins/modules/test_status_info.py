# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""status_info against an engine on a real socket and an API on a real port."""

from __future__ import annotations

import os
import time

import pytest

from ansible_collections.ascend.vllm.plugins.module_utils import ask_hccn, ask_npu, tools
from ansible_collections.ascend.vllm.plugins.modules import status_info
from ansible_collections.ascend.vllm.tests.unit.plugins import limits
from ansible_collections.ascend.vllm.tests.unit.plugins.servers import closed_port, FakeEngine, inspected, quiet_proxies, unix_server, web_server

NAME, IMAGE = "vllm-rank0", "quay.io/ascend/vllm-ascend:v0.13.0"
COMPLETION = {"choices": [{"text": " bright"}]}
METRICS = b'vllm:num_requests_running{engine="0"} 2.0\nvllm:num_requests_waiting{engine="0"} 1.0\n'
DONE = {"answered": True, "status": 200, "timed_out": False, "text": " bright"}


@pytest.fixture
def tools_asked(monkeypatch):
    """What npu-smi and hccn_tool were asked; both answer."""
    questions = {}

    def replace(name, collector, answer):
        def said(**given):
            questions[name] = given
            return answer

        monkeypatch.setattr(collector, "answer", said)

    replace("npu", ask_npu, {"npus": [], "driver_version": "25.5.1"})
    replace("hccn", ask_hccn, {"devices": [], "calls": 0})
    return questions


@pytest.fixture
def ask(run_module, tmp_path, monkeypatch, tools_asked):
    """A function (containers and images as the engine inspects them, **parameters) -> the module's result."""
    quiet_proxies(monkeypatch)

    def run(there=None, pulled=None, **parameters):
        path = str(tmp_path / "d.sock")
        with unix_server(path, FakeEngine(containers=there or {}, images=pulled or {})):
            return run_module(status_info, docker_socket=path, **parameters)

    return run


def service(url, **change):
    """Return the options of one service."""
    return {"name": "vllm", "url": url, "model": "deepseek_r1", **change}


def api(health=(200,), models=(200, {"data": [{"id": "deepseek_r1"}]}), metrics=(200, METRICS), completion=(200, COMPLETION), ranks=None):
    """Return an API's answers; ``ranks``: those to a completion of one rank."""
    def answer(asked):
        rank = asked.headers["X-data-parallel-rank"]
        if rank is not None and ranks:
            return ranks[int(rank)]
        return {"/health": health, "/v1/models": models, "/metrics": metrics, "/v1/completions": completion}[asked.path]

    return answer


def without_time(said):
    """Return a completion without how long it took."""
    return {key: value for key, value in said.items() if key != "seconds"}


def test_a_container_that_runs(ask):
    started = time.strftime("%Y-%m-%dT%H:%M:%S.123456789Z", time.gmtime(time.time() - 90))
    found = inspected(Status="running", StartedAt=started)
    found.update(Image="sha256:1234", RestartCount=2, Config={"Image": IMAGE, "Cmd": ["vllm", "serve"], "Labels": {"ascend.vllm.group": "vllm"}})
    result = ask({NAME: found}, {IMAGE: {"Id": "sha256:1234"}}, containers=[NAME, "vllm-rank1"], images=[IMAGE, "gone:1"])
    entry = result["docker"]["containers"][NAME]
    assert 89 <= entry.pop("uptime_s") <= 120 and os.getpid() in entry.pop("pids")
    assert entry == {"exists": True, "status": "running", "running": True, "paused": False, "exit_code": None, "error": None, "oom": False, "image": IMAGE,
                     "image_id": "sha256:1234", "started_at": started, "restarts": 2, "command": ["vllm", "serve"], "labels": {"ascend.vllm.group": "vllm"}}
    assert result["docker"]["containers"]["vllm-rank1"]["exists"] is False
    assert result["docker"]["images"] == {IMAGE: "sha256:1234", "gone:1": None} and result["docker"]["error"] is None
    assert result["changed"] is False and abs(result["time"] - time.time()) < 60


def test_a_container_that_ended_and_one_that_never_ran(ask):
    dead = inspected(False, Status="exited", ExitCode=137, OOMKilled=True, Error="no", StartedAt="2026-01-02T03:04:05Z")
    new = inspected(False, Status="created", StartedAt="0001-01-01T00:00:00Z")
    containers = ask({NAME: dead, "b": new}, containers=[NAME, "b"], check=True)["docker"]["containers"]
    keys = ("running", "exit_code", "oom", "error", "started_at", "uptime_s", "pids")
    assert [containers[NAME][key] for key in keys] == [False, 137, True, "no", "2026-01-02T03:04:05Z", None, []]
    assert [containers["b"][key] for key in ("exists", "status", "started_at", "uptime_s")] == [True, "created", None, None]


def test_an_engine_that_is_silent_leaves_the_rest(run_module, tmp_path, tools_asked):
    result = run_module(status_info, docker_socket=str(tmp_path / "d.sock"), containers=[NAME])
    assert not result["failed"] and "d.sock: No such file" in result["docker"]["error"] and result["npu"]["driver_version"] == "25.5.1"


def test_npus_without_details_and_links_only_where_asked(ask, tools_asked):
    assert ask(timeout=7)["hccn"] == {}
    assert tools_asked == {"npu": {"timeout": 14.0, "details": False}}
    assert ask(links=[3, 4], link_questions=["link", "vnic"], timeout=7)["hccn"] == {"devices": [], "calls": 0}
    assert tools_asked["hccn"] == {"devices": [3, 4], "questions": ["link", "vnic"], "timeout": 7.0}


@pytest.mark.parametrize(("collector", "key"), [(ask_npu, "npu"), (ask_hccn, "hccn")])
@pytest.mark.parametrize(("error", "words"), [
    (tools.NoAnswer("not found. Install it.", {"searched": ["/x"]}), "not found. Install it."), (KeyError("x"), "KeyError: 'x'")])
def test_a_tool_that_fails_leaves_the_others(ask, monkeypatch, collector, key, error, words):
    def fails(**given):
        raise error

    monkeypatch.setattr(collector, "answer", fails)
    result = ask({NAME: inspected()}, containers=[NAME], links=[0])
    assert not result["failed"] and words in result[key]["msg"] and result["docker"]["containers"][NAME]["running"]


def test_a_healthy_service_says_everything(ask):
    with web_server(api()) as server:
        result = ask(services=[service(server.url, ranks=3)], api_keys={"vllm": "s3cret"})
        said = result["services"]["vllm"]
        assert "s3cret" not in str(result)
        assert {key: said[key] for key in ("health", "health_error", "models_status", "models", "requests")} == {
            "health": 200, "health_error": None, "models_status": 200, "models": ["deepseek_r1"], "requests": {"running": 2, "waiting": 1}}
        assert without_time(said["completion"]) == DONE and said["completion"]["seconds"] >= 0
        assert [without_time(entry) for entry in said["ranks"]] == [{**DONE, "rank": rank} for rank in range(3)]
        # Requests are counted before any of ours is one of them.
        assert [asked.path for asked in server.asked][:4] == ["/health", "/v1/models", "/metrics", "/v1/completions"]
        assert sorted(str(asked.headers["X-data-parallel-rank"]) for asked in server.asked[3:]) == ["0", "1", "2", "None"]
        assert all(asked.headers["Authorization"] == "Bearer s3cret" for asked in server.asked)


def test_the_only_rank_is_not_asked_twice(ask):
    with web_server(api()) as server:
        said = ask(services=[service(server.url)])["services"]["vllm"]
        assert len(server.asked) == 4 and [entry["rank"] for entry in said["ranks"]] == [0] and said["ranks"][0]["answered"]


def test_a_rank_that_fails_and_one_that_hangs(ask, monkeypatch):
    limits.of_questions(monkeypatch, lambda question, key: question == "/v1/completions rank 2")
    with web_server(api(ranks=[(200, COMPLETION), (500, b"oops"), None])) as server:
        ranks = ask(services=[service(server.url, ranks=3)], completion_timeout_s=20)["services"]["vllm"]["ranks"]
    assert [(entry["answered"], entry["status"], entry["timed_out"]) for entry in ranks] == [(True, 200, False), (False, 500, False), (False, None, True)]
    assert ranks[1]["text"] == "oops" and "timed out" in ranks[2]["text"]


def test_health_says_200_and_a_completion_hangs(ask, monkeypatch):
    limits.of_questions(monkeypatch, lambda question, key: question in ("/v1/completions", "/v1/completions rank 0"))
    before = time.monotonic()
    with web_server(api(completion=None, ranks=[None, (200, COMPLETION)])) as server:
        said = ask(services=[service(server.url, ranks=2)], completion_timeout_s=20)["services"]["vllm"]
    assert said["health"] == 200 and said["completion"]["timed_out"] and not said["completion"]["answered"] and time.monotonic() - before < 20
    # The one that was asked may be the only one that is stuck.
    assert [entry["answered"] for entry in said["ranks"]] == [False, True]


def test_ranks_that_answer_by_themselves_are_asked_each_at_its_place(ask):
    with web_server(api()) as first, web_server(api(completion=(500, b"oops"))) as second:
        said = ask(services=[service(first.url, ranks=2, rank_urls=[first.url, second.url])], api_keys={"vllm": "s3cret"})["services"]["vllm"]
        assert [asked.headers["Authorization"] for asked in second.asked] == ["Bearer s3cret"] * 3
        assert all(asked.headers["X-data-parallel-rank"] is None for asked in first.asked + second.asked)
        one = ask(services=[service(first.url)])["services"]["vllm"]
    assert [(entry["rank"], entry["answered"], entry["status"]) for entry in said["ranks"]] == [(0, True, 200), (1, False, 500)]
    assert said["requests"] == {key: 2 * number for key, number in one["requests"].items()}


def test_decode_ranks_are_asked_what_they_serve_and_for_no_completion(ask):
    with web_server(api()) as first, web_server(api(models=(200, {"data": []}))) as second:
        said = ask(services=[service(first.url, ranks=2, rank_urls=[first.url, second.url], answers_alone=False)])["services"]["vllm"]
        assert not [asked for asked in first.asked + second.asked if asked.path == "/v1/completions"]
    assert said["completion"]["answered"] and [entry["answered"] for entry in said["ranks"]] == [True, False]
    assert said["ranks"][1]["text"] == "/v1/models has no model"


#: What a rank with NIXL says at vLLM 0.32.0, and one of vllm-ascend at v0.13.0.
NIXL = b"""# TYPE vllm:prompt_tokens_by_source_total counter
vllm:prompt_tokens_by_source_total{engine="0",model_name="m",source="local_compute"} 3.0
vllm:prompt_tokens_by_source_total{engine="0",model_name="m",source="external_kv_transfer"} 42.0
vllm:external_prefix_cache_queries_total{engine="0",model_name="m"} 45.0
vllm:external_prefix_cache_hits_total{engine="0",model_name="m"} 44.0
vllm:nixl_bytes_transferred_bucket{engine="0",le="1024.0",model_name="m"} 0.0
vllm:nixl_bytes_transferred_count{engine="0",model_name="m"} 4.0
vllm:nixl_bytes_transferred_sum{engine="0",model_name="m"} 1.2345e+07
vllm:nixl_num_failed_transfers_total{engine="0",model_name="m"} 1.0
vllm:nixl_num_kv_expired_reqs_total{engine="0",model_name="m"} 0.0
"""
MOONCAKE = b"""vllm:external_prefix_cache_queries_total{engine="0",model_name="m"} 45.0
vllm:external_prefix_cache_hits_total{engine="0",model_name="m"} 44.0
vllm:prompt_tokens_total{engine="0",model_name="m"} nan
"""


def test_each_rank_is_asked_for_its_kv_transfer(ask):
    with web_server(api(metrics=(200, NIXL))) as first, web_server(api(metrics=(200, MOONCAKE))) as second, web_server(api(metrics=(404, b"no"))) as third:
        urls = [first.url, second.url, third.url, f"http://127.0.0.1:{closed_port()}"]
        said = ask(services=[service(first.url, ranks=4, rank_urls=urls, answers_alone=False)])["services"]["vllm"]["transfers"]
    none = dict.fromkeys(("tokens", "asked", "transfers", "bytes", "failed", "expired"))
    assert said == [{"tokens": 42, "asked": 45, "transfers": 4, "bytes": 12345000, "failed": 1, "expired": 0}, {**none, "tokens": 44, "asked": 45}, none, None]


def test_a_group_that_is_one_service_has_no_kv_transfer(ask):
    with web_server(api(metrics=(200, NIXL))) as server:
        assert ask(services=[service(server.url)])["services"]["vllm"]["transfers"] is None


@pytest.mark.parametrize(("status", "ranks"), [(401, None), (404, None), (503, 2)])
def test_a_completion_that_is_refused(ask, status, ranks):
    with web_server(api(completion=(status, {"error": "x" * 1000}))) as server:
        said = ask(services=[service(server.url, ranks=2)])["services"]["vllm"]
    assert (said["completion"]["status"], said["completion"]["timed_out"], len(said["completion"]["text"])) == (status, False, 300)
    assert (said["ranks"] and len(said["ranks"])) == ranks


def test_a_port_that_refuses(ask):
    said = ask(services=[service("http://127.0.0.1:%d" % closed_port(), ranks=2)])["services"]["vllm"]
    assert (said["health"], said["models"], said["requests"], said["ranks"]) == (None, None, None, None)
    assert "refused" in said["health_error"] and "refused" in said["completion"]["text"] and not said["completion"]["timed_out"]


def test_a_key_that_no_header_carries_is_not_shown(ask):
    with web_server(api()) as server:
        result = ask(services=[service(server.url)], api_keys={"vllm": "s3c\nret"})
        said = result["services"]["vllm"]
        assert "s3c" not in str(result) and "API key" in said["health_error"] and "API key" in said["completion"]["text"] and server.asked == []


def test_metrics_that_say_nothing_and_a_health_that_is_bad(ask):
    with web_server(api(health=(503,), metrics=(404,))) as server:
        said = ask(services=[service(server.url)])["services"]["vllm"]
    assert (said["health"], said["requests"], said["completion"]["answered"]) == (503, None, True)


@pytest.mark.parametrize("name", ["timeout", "completion_timeout_s"])
def test_a_timeout_of_nothing_is_refused(ask, name):
    result = ask(**{name: 0})
    assert result["failed"] and "%s must be more than 0 seconds" % name in result["msg"]


def test_the_real_collectors_on_any_machine(run_module, tmp_path):
    result = run_module(status_info, links=[], docker_socket=str(tmp_path / "none"))
    assert not result["failed"] and ("npus" in result["npu"] or result["npu"]["msg"])


@pytest.mark.parametrize(("said", "wanted"), [
    ((0, '{"nftables": [{"set": {"elem": [{"elem": {"val": 8000, "timeout": 900}}]}}]}', ""), [8000]),
    ((1, "", "Error: No such file or directory"), []), ((1, "", "Operation not permitted"), None),
])
def test_ports_that_are_kept_from_clients(said, wanted):
    assert status_info.kept_away(lambda arguments: said) == wanted
