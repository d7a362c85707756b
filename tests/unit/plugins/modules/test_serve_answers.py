# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""serve_answers against an API on a real port, with and without TLS."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest

from ansible_collections.ascend.vllm.plugins.module_utils import ask_service
from ansible_collections.ascend.vllm.plugins.modules import serve_answers
from ansible_collections.ascend.vllm.tests.unit.plugins import certificates, limits
from ansible_collections.ascend.vllm.tests.unit.plugins.served_group import CHAT, COMPLETIONS, WORDS, Group, sending
from ansible_collections.ascend.vllm.tests.unit.plugins.servers import closed_port, quiet_proxies, web_server

TLS = certificates.SIGNED + certificates.SIGNED_KEY
KEY = "k3y-of-the-service"
TEXT = "".join(WORDS)
ALL = ["models", "requests", "completion", "repeat", "stream", "chat", "chat_stream", "ranks"]


@pytest.fixture
def ask(run_module, monkeypatch):
    """A function (base URL, **parameters) -> the module's result."""
    quiet_proxies(monkeypatch, "http://127.0.0.1:1")
    return lambda url, **parameters: run_module(serve_answers, url=url, model="deepseek_r1", **parameters)


@pytest.fixture
def ca_file(tmp_path):
    """A function (certificates) -> the path of a file with them."""

    def write(text):
        path = tmp_path / "ca.pem"
        path.write_text(text)
        return str(path)

    return write


@pytest.mark.parametrize("check", [False, True])
def test_at_a_start_only_the_tutorials_request_is_sent_past_any_proxy(ask, check):
    with web_server(Group()) as server:
        result = ask(server.url + "/", check=check)
        (asked,) = server.asked
    assert (result["failed"], result["changed"], result["not_asked"], result["over"], result["asked"]) == (False, False, [], False, 1)
    found = result["answers"]["completion"]
    assert 0 <= found.pop("seconds") < 30
    assert found == {"answered": True, "status": 200, "timed_out": False, "failure": None, "text": TEXT, "model": "deepseek_r1",
                     "usage": {"prompt_tokens": 6, "completion_tokens": 13}, "finish_reason": "length", "path": COMPLETIONS, "prompt": "The future of AI is",
                     "max_tokens": 50, "expected": "", "matched": None}
    assert (asked.method, asked.path) == ("POST", COMPLETIONS) and "Authorization" not in asked.headers
    assert asked.json() == {"model": "deepseek_r1", "prompt": "The future of AI is", "max_tokens": 50, "temperature": 0}


def test_everything_in_one_round_trip(ask):
    with web_server(Group(key=KEY)) as server:
        result = ask(server.url, depth="full", ranks=4, api_key=KEY, prompt="Hi")
        bodies = [(asked.path, asked.json().get("stream"), asked.json()["max_tokens"]) for asked in server.asked if asked.method == "POST"]
        sent = [asked.headers["Authorization"] for asked in server.asked]
    answers = result["answers"]
    assert not result["failed"] and sorted(answers) == sorted([*ALL, "key_refusals"]) and (result["not_asked"], result["asked"]) == ([], 9)
    assert bodies == [(COMPLETIONS, None, 50)] * 2 + [(COMPLETIONS, True, 50), (CHAT, None, 50), (CHAT, True, 50)] + [(COMPLETIONS, None, 1)] * 6
    assert (answers["models"], answers["requests"]) == ({"status": 200, "names": ["deepseek_r1"]}, {"running": 0, "waiting": 0})
    assert [answers[name]["text"] for name in ("completion", "repeat", "stream", "chat", "chat_stream")] == [TEXT] * 5
    for name, path in (("stream", COMPLETIONS), ("chat_stream", CHAT)):
        stream = answers[name]
        assert stream["spread_s"] >= 0 and 0 <= stream["first_s"] <= stream["seconds"]
        keys = ("ended", "status", "error", "failure", "timed_out", "endless", "chunks", "finish_reason", "model", "same", "stable", "unstreamed", "path")
        assert [stream[key] for key in keys] == [True, 200, None, None, False, False, 13, "length", "deepseek_r1", True, True, TEXT, path]
    assert [(entry["rank"], entry["answered"]) for entry in answers["ranks"]] == [(0, True), (1, True), (2, True), (3, True)]
    assert [answers["key_refusals"][name]["status"] for name in ("wrong", "none")] == [401, 401]
    others = [key for key in sent if key != "Bearer " + KEY]
    assert len(others) == 2 and None in others and any(key and key.startswith("Bearer not-the-key-") for key in others)
    assert KEY not in json.dumps(result)


def test_one_rank_is_not_asked_twice_and_no_key_is_not_tried(ask):
    with web_server(Group(ranks=1)) as server:
        result = ask(server.url, depth="full")
        assert not any(asked.headers["X-data-parallel-rank"] for asked in server.asked)
    assert sorted(result["answers"]) == sorted(ALL) and [entry["rank"] for entry in result["answers"]["ranks"]] == [0]


def test_a_reasoning_models_chat_begins_with_its_reasoning(ask):
    said = {"role": "assistant", "content": None, "reasoning": "I think.", "reasoning_content": "I think."}
    group = Group().breaks(CHAT, lambda number, answer: (200, dict(answer[1], choices=[{"message": said, "finish_reason": "length"}])))
    with web_server(group) as server:
        assert ask(server.url, depth="full")["answers"]["chat"]["text"] == "I think."


def test_questions_are_asked_as_they_are_stated(ask):
    questions = [{"prompt": "1 + 1 =", "expected": "bri[gh]+t", "max_tokens": 3}, {"prompt": "Which?", "expected": "^dark", "chat": True}]
    with web_server(Group()) as server:
        result = ask(server.url, questions=questions, expected="sea", max_tokens=9)
        bodies = [asked.json() for asked in server.asked]
    assert [entry["matched"] for entry in [result["answers"]["completion"], *result["answers"]["questions"]]] == [True, True, False]
    assert bodies[1] == {"model": "deepseek_r1", "prompt": "1 + 1 =", "max_tokens": 3, "temperature": 0}
    assert bodies[2] == {"model": "deepseek_r1", "messages": [{"role": "user", "content": "Which?"}], "max_tokens": 9, "temperature": 0}


@pytest.mark.parametrize(("given", "words"), [
    ({"expected": "("}, ["serve_verify_expected: found '('"]),
    ({"expected": "*", "questions": [{"prompt": "a", "expected": "b"}, {"prompt": "a", "expected": "["}]},
     ["serve_verify_expected: found '*'", "serve_verify_questions, number 2: found '['"]),
    ({"timeout_s": 0}, ["serve_verify_timeout_s"]), ({"limit_s": -1}, ["limit_s: found -1, wanted more than 0"]), ({"max_tokens": 0}, ["max_tokens"]),
])
def test_what_cannot_be_asked_is_refused_before_anything_is_asked(ask, given, words):
    with web_server(Group()) as server:
        result = ask(server.url, **given)
        assert result["failed"] and "Remedy: correct" in result["msg"] and all(word in result["msg"] for word in words) and server.asked == []


def test_the_key_is_sent_and_shown_nowhere(ask):
    def answer(asked):
        said = "you sent %s" % asked.headers["Authorization"]
        return 500, said.encode()

    for given in ({}, {"depth": "full", "ranks": 2}):
        with web_server(answer) as server:
            result = ask(server.url, api_key=KEY, **given)
            assert server.asked[-1 if not given else 0].headers["Authorization"] == "Bearer " + KEY
        assert "you sent" in json.dumps(result["answers"]) and KEY not in json.dumps(result)
    result = ask("http://127.0.0.1:%d" % closed_port(), api_key="two\nlines")
    assert "has a character that is not allowed" in result["answers"]["completion"]["text"] and "two" not in json.dumps(result)


def test_ranks_that_answer_by_themselves_are_asked_each_at_its_place(ask):
    with web_server(Group(key=KEY)) as first, web_server(Group(key=KEY)) as second:
        result = ask(first.url, depth="full", ranks=2, rank_urls=[first.url, second.url], api_key=KEY)
        assert [(entry["rank"], entry["answered"]) for entry in result["answers"]["ranks"]] == [(0, True), (1, True)]
        assert [(asked.path, asked.headers["X-data-parallel-rank"]) for asked in second.asked] == [("/v1/completions", None)]


def test_a_hung_group_is_over_within_the_limit_and_its_ranks_are_asked(ask, monkeypatch):
    group = Group().breaks(COMPLETIONS, None).breaks(COMPLETIONS + " rank 1", None)
    limits.of_questions(monkeypatch, lambda question, key: question in group.broken)
    with web_server(group) as server:
        began = time.monotonic()
        result = ask(server.url, depth="full", ranks=2, timeout_s=40)
        assert time.monotonic() - began < 10
    assert [result["answers"]["completion"][key] for key in ("answered", "status", "failure", "timed_out")] == [False, None, "hung", True]
    assert [(entry["answered"], entry["timed_out"]) for entry in result["answers"]["ranks"]] == [(True, False), (False, True)]
    assert result["not_asked"] == ["repeat", "stream", "chat", "chat_stream"] and not result["over"]


def test_a_server_that_sends_a_byte_now_and_then_is_over_within_the_limit(ask, monkeypatch):
    monkeypatch.setattr(ask_service, "GRACE_S", 0.2)

    def dribble(handler):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while not handler.server.over.wait(0.05):
            handler.wfile.write(b" ")

    with web_server(Group().breaks(COMPLETIONS, lambda number, answer: dribble)) as server:
        began = time.monotonic()
        result = ask(server.url, depth="full", timeout_s=3, limit_s=3)
        assert time.monotonic() - began < 10
    assert result["over"] and result["not_asked"] == [name for name in ALL if name not in ("models", "requests")]


def test_what_is_left_when_the_time_is_over_is_named(ask, monkeypatch):
    # It has two seconds left for the chat, which takes them.
    clock = limits.Clock()
    monkeypatch.setattr(ask_service, "time", clock)
    group = Group().breaks(COMPLETIONS + " stream", lambda number, answer: clock.at(58.0, answer)).breaks(CHAT, lambda number, answer: clock.at(60.0, None))
    with web_server(group) as server:
        result = ask(server.url, depth="full", limit_s=60)
    assert result["over"] and result["not_asked"] == ["chat_stream", "ranks"] and result["answers"]["chat"]["timed_out"]


@pytest.mark.parametrize("texts", [1, 2])
def test_texts_that_differ_are_asked_for_once_more(ask, texts):
    """The first stream differs: the second one is as it should be, or the service itself says this and that."""
    group = Group()
    group.breaks(COMPLETIONS + " stream", lambda number, answer: group.streamed(COMPLETIONS, ["other"]) if number == 1 or texts == 2 else answer)
    if texts == 2:
        group.breaks(COMPLETIONS, lambda number, answer: (200, group.answer(COMPLETIONS, ["text %d" % number])))
    with web_server(group) as server:
        stream = ask(server.url, depth="full")["answers"]["stream"]
    assert (group.counts[COMPLETIONS], group.counts[COMPLETIONS + " stream"]) == (3, 2)
    assert (stream["text"], stream["same"], stream["stable"]) == ("other", texts == 1, texts == 1)


@pytest.mark.parametrize("events", [["[1]"], ["{"], ['{"choices": [{"delta": 1}]}', "x"], ['{"error": {"message": "no"}}'], ['{"object": "error"}']])
def test_an_event_that_is_no_chunk_ends_a_stream(ask, events):
    with web_server(Group().breaks(CHAT + " stream", lambda number, answer: sending(events))) as server:
        stream = ask(server.url, depth="full")["answers"]["chat_stream"]
    assert not stream["ended"] and stream["error"] and stream["failure"] is None


@pytest.mark.parametrize(("answer", "failure", "words"), [
    (b"garbage\r\n\r\n", "silent", "no valid HTTP answer"), (b"", "silent", "no valid HTTP answer"), (None, "hung", "timed out")])
def test_what_is_no_answer(ask, answer, failure, words):
    with web_server(lambda asked: answer) as server:
        found = ask(server.url, timeout_s=0.3 if answer is None else 20)["answers"]["completion"]
    assert not found["answered"] and found["status"] is None
    assert found["failure"] in (failure, "refused") and (words in found["text"] or found["failure"] == "refused")


def test_a_port_that_refuses(ask):
    result = ask("http://127.0.0.1:%d" % closed_port(), depth="full", api_key=KEY)
    found = result["answers"]["completion"]
    assert (found["failure"], found["timed_out"]) == ("refused", False) and "refused" in found["text"]
    assert result["not_asked"] == ["models", *ALL[3:], "key_refusals"]


@pytest.mark.parametrize("vouching", [certificates.AUTHORITY, certificates.SIGNED])
def test_a_service_with_tls_is_asked_by_its_address(ask, ca_file, vouching):
    with web_server(Group(key=KEY), tls=TLS) as server:
        result = ask(server.url, ca_file=ca_file(vouching), api_key=KEY, depth="full", ranks=2)
        assert server.url.startswith("https://127.0.0.1:") and result["answers"]["stream"]["same"] and result["not_asked"] == []


@pytest.mark.parametrize("vouching", [certificates.OTHER, None])
def test_a_certificate_that_nobody_vouches_for_fails_before_anything_is_sent(ask, ca_file, vouching):
    with web_server(Group(), tls=TLS) as server:
        found = ask(server.url, api_key=KEY, ca_file=ca_file(vouching) if vouching else None)["answers"]["completion"]
        assert server.asked == []
    assert found["failure"] == "certificate" and ("/ca.pem" if vouching else "the system") + " does not vouch for: " in found["text"]


def test_http_and_https_mixed_up_and_a_file_that_vouches_for_nothing(ask, ca_file, tmp_path):
    with web_server(Group()) as server:
        assert ask(server.url.replace("http:", "https:"), ca_file=ca_file(certificates.AUTHORITY))["answers"]["completion"]["failure"] == "tls"
    found = ask("https://127.0.0.1:1", ca_file=str(tmp_path / "no.pem"))["answers"]["completion"]
    assert (found["failure"], found["text"]) == ("ca_file", "no file %s/no.pem" % tmp_path)
    assert ask("https://127.0.0.1:1", ca_file=ca_file("none"))["answers"]["completion"]["failure"] == "tls"


#: A caller that ends as a module does: what its threads do keeps it from ending only where they are no daemons.
RANKS = """
import sys, time
from ansible_collections.ascend.vllm.plugins.module_utils import ask_service
ask_service.RANKS_GRACE_S = 0.2
print(*("%(answered)s/%(timed_out)s/%(rank)d" % rank for rank in ask_service.ask_ranks(ask_service.Api(sys.argv[1], None, None), "m", 20, 5.0, 0.8)))
"""


def test_ranks_that_send_a_byte_now_and_then_are_over_within_their_time_and_keep_nobody_from_ending():
    def dribble(handler):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while not handler.server.over.wait(0.05):
            handler.wfile.write(b" ")

    with web_server(lambda asked: dribble) as server:
        began = time.monotonic()
        done = subprocess.run([sys.executable, "-c", RANKS, server.url], capture_output=True, text=True, timeout=60, check=True)
        assert time.monotonic() - began < 10
    assert done.stdout.split() == ["False/True/%d" % rank for rank in range(20)]
