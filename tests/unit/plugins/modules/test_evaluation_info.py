# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""evaluation_info against an API on a real port and folders on a real disk."""

from __future__ import annotations

import json
import time

import pytest

from ansible_collections.ascend.vllm.plugins.modules import evaluation_info
from ansible_collections.ascend.vllm.tests.unit.plugins.servers import closed_port, quiet_proxies, unix_server, web_server

KEY = "k3y-of-the-service"


@pytest.fixture
def ask(run_module, monkeypatch, tmp_path):
    """A function (base URL, **parameters) -> the module's result."""
    quiet_proxies(monkeypatch, "http://127.0.0.1:1")
    given = {"weights_dir": str(tmp_path), "results_dir": str(tmp_path / "a" / "b")}
    return lambda url=None, **parameters: run_module(evaluation_info, **dict(given, **({"url": url} if url else {}), **parameters))


@pytest.mark.parametrize("check", [False, True])
def test_models_and_the_length_of_their_context_past_any_proxy(ask, check):
    listed = [{"id": "deepseek_r1", "max_model_len": 35000}, {"id": "lora"}, {"name": "x"}, 7, {"id": "y", "max_model_len": True}]
    with web_server(lambda asked: (200, {"data": listed})) as server:
        result = ask(server.url, api_key=KEY, check=check)
        (asked,) = server.asked
    assert (asked.method, asked.path, asked.headers["Authorization"]) == ("GET", "/v1/models", "Bearer " + KEY)
    assert result["service"] == {"status": 200, "error": None, "models": [
        {"id": "deepseek_r1", "max_model_len": 35000}, {"id": "lora", "max_model_len": None}, {"id": "y", "max_model_len": None}], "requests": None}
    assert (result["failed"], result["changed"]) == (False, False) and KEY not in json.dumps(result)


@pytest.mark.parametrize(("answer", "status", "words"), [
    ((401, b'{"error": "Unauthorized"}'), 401, "Unauthorized"),
    ((200, b"<html>"), 200, "something else than a list of models"),
    ((200, {"data": None}), 200, "no list of models"),
    (b"nonsense\r\n\r\n", None, ""),
])
def test_what_is_no_answer_is_said(ask, answer, status, words):
    with web_server(lambda asked: answer) as server:
        found = ask(server.url, timeout_s=5)["service"]
    assert (found["status"], found["models"]) == (status, []) and words in found["error"]


def test_nobody_listens_and_nobody_is_asked(ask):
    found = ask("http://127.0.0.1:%d" % closed_port())["service"]
    assert found["status"] is None and "refused" in found["error"]
    assert ask()["service"] == {"status": None, "error": None, "models": [], "requests": None}


def test_a_service_that_is_silent_does_not_hold_it_up(ask):
    with web_server(lambda asked: None) as server:
        began = time.monotonic()
        found = ask(server.url, timeout_s=0.3)["service"]
        assert time.monotonic() - began < 10
    assert found["status"] is None and found["error"]


def test_a_tokenizer_is_a_vocabulary(ask, tmp_path):
    assert ask()["tokenizer"] == {"files": [], "error": None}
    (tmp_path / "tokenizer_config.json").write_text("{}")
    assert ask()["tokenizer"]["files"] == []
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "model-1.safetensors").write_text("")
    assert ask()["tokenizer"]["files"] == ["tokenizer.json", "tokenizer_config.json"]
    gone = ask(weights_dir=str(tmp_path / "gone"))["tokenizer"]
    assert gone["files"] == [] and str(tmp_path / "gone") in gone["error"]


def test_room_is_that_of_the_nearest_folder_there_is(ask, tmp_path):
    room = ask()["room"]
    assert (room["path"], room["error"]) == (str(tmp_path), None) and room["free_mb"] > 0


def test_since_when_the_serving_container_runs(ask, tmp_path):
    state = {"Running": True, "StartedAt": "2026-05-02T09:00:00.1Z"}
    with unix_server(tmp_path / "d.sock", lambda asked: (200, {"State": state}) if asked.path == "/containers/vllm-rank0/json" else (404, {})):
        def of(name):
            return ask(container=name, docker_socket=str(tmp_path / "d.sock"))["container"]

        assert of("vllm-rank0") == {"started": "2026-05-02T09:00:00.1Z", "error": None}
        state["Running"] = False
        assert of("vllm-rank0") == of("gone") == {"started": None, "error": None}
    assert ask()["container"] == {"started": None, "error": None}
    gone = ask(container="a", docker_socket=str(tmp_path / "none"))["container"]
    assert gone["started"] is None and gone["error"]


def gauges(running, waiting):
    return "".join('%s{engine="%d"} %.1f\n' % (name, engine, count) for name, counts in
                   (("vllm:num_requests_running", running), ("vllm:num_requests_waiting", waiting)) for engine, count in enumerate(counts))


@pytest.mark.parametrize(("texts", "found", "looks"), [
    ([gauges([0, 0], [0, 0])], {"running": 0, "waiting": 0}, 1),
    # A probe has ended a second later; a load has not.
    ([gauges([1, 0], [0, 0]), gauges([0, 0], [0, 0])], {"running": 0, "waiting": 0}, 2),
    ([gauges([4, 2], [0, 1]), gauges([3, 1], [0, 0])], {"running": 4, "waiting": 0}, 2),
    ([gauges([1, 0], [0, 0]), gauges([5, 5], [0, 0])], {"running": 1, "waiting": 0}, 2),
    (["other 1\n"], None, 1), ([None], None, 1),
])
def test_requests_that_the_service_has(ask, monkeypatch, texts, found, looks):
    monkeypatch.setattr(evaluation_info, "AGAIN_S", 0.01)
    left = list(texts)

    def answer(asked):
        if asked.path != "/metrics":
            return 200, {"data": []}
        text = left.pop(0)
        return (404, b"") if text is None else (200, text.encode())

    with web_server(answer) as server:
        assert ask(server.url)["service"]["requests"] is None and len(server.asked) == 1
        assert ask(server.url, requests=True)["service"]["requests"] == found
        assert [asked.path for asked in server.asked].count("/metrics") == looks
    assert ask("http://127.0.0.1:%d" % closed_port(), requests=True)["service"]["requests"] is None


def test_behind_a_proxy_the_ranks_say_how_many_requests_there_are(ask, monkeypatch):
    monkeypatch.setattr(evaluation_info, "AGAIN_S", 0.01)

    def rank(running):
        return lambda asked: (200, gauges([running], [0]).encode())

    with web_server(lambda asked: (200, {"data": []})) as proxy, web_server(rank(2)) as one, web_server(rank(3)) as other:
        found = ask(proxy.url, requests=True, load_urls=[one.url, other.url])["service"]
        assert (found["status"], found["requests"]) == (200, {"running": 5, "waiting": 0})
        assert [asked.path for asked in proxy.asked] == ["/v1/models"]
