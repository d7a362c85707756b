# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a group answers to verify, judged: each fault of a real server on a real port is found, named, and told with a remedy."""

from __future__ import annotations

import json

import pytest

from ansible_collections.ascend.vllm.plugins.filter import answer_checks as registered
from ansible_collections.ascend.vllm.plugins.module_utils import ask_service
from ansible_collections.ascend.vllm.plugins.plugin_utils import verify
from ansible_collections.ascend.vllm.plugins.plugin_utils.lines import check_lines
from ansible_collections.ascend.vllm.tests.unit.plugins import limits
from ansible_collections.ascend.vllm.tests.unit.plugins.cluster import KEYS, Cluster
from ansible_collections.ascend.vllm.tests.unit.plugins.as_ansible import Lazy, filter_of
from ansible_collections.ascend.vllm.tests.unit.plugins.served_group import CHAT, COMPLETIONS, WORDS, Group, sending
from ansible_collections.ascend.vllm.tests.unit.plugins.servers import closed_port, quiet_proxies, web_server

KEY = "k3y-of-the-service"
HEAD, PEER = "a2-node0", "a2-node1"
TEXT = "".join(WORDS)
OPTIONS = {"model": "deepseek_r1", "ranks": 4, "rank_urls": [],
           "depth": "full", "prompt": "The future of AI is", "max_tokens": 50, "expected": "", "questions": [],
           "timeout_s": 5.0, "limit_s": 60.0, "api_key": None, "ca_file": None}


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    """No proxy of the environment is asked."""
    quiet_proxies(monkeypatch)


def asked(url, **given):
    """Return the result of serve_answers."""
    questions = ask_service.Questions({**OPTIONS, "url": url, **given})
    said, not_asked, over = questions.run()
    return {"answers": said, "not_asked": not_asked, "over": over, "asked": len(questions.names), "seconds": 2.0}


def judged(said, language="en", key=False):
    """Return the check results of a pair, after looking at what every one has."""
    plan = Cluster(2, "a2").plan
    plan["groups"]["vllm"]["api_key_file"] = "/etc/keys/vllm" if key else None
    found = verify.answer_checks({"vllm": said}, plan["groups"], plan["hosts"], language)
    for entry in found:
        assert set(entry) == KEYS and entry["host"] in plan["hosts"], entry
        assert all(isinstance(entry[name], str) for name in KEYS - {"accepted"}) and entry["observed"] and entry["expected"], entry
        assert bool(entry["remedy"]) == (entry["status"] != "pass") and "{" not in entry["remedy"] and "None" not in entry["remedy"], entry
    return found


def verified(group, **given):
    """Return the check results of what a group answers."""
    with web_server(group) as server:
        said = asked(server.url, **given)
    return judged(said, key=bool(given.get("api_key")))


def wrong(found):
    """Return (host, check, device, status) of what did not pass."""
    return [(entry["host"], entry["check"], entry["device"], entry["status"]) for entry in found if entry["status"] != "pass"]


def one(found):
    """Return the only check result that did not pass."""
    [entry] = [entry for entry in found if entry["status"] != "pass"]
    return entry


def test_a_group_that_answers_as_it_should():
    questions = [{"prompt": "1 + 1 =", "expected": "sea", "max_tokens": None, "chat": False}]
    found = verified(Group(key=KEY), api_key=KEY, expected="bright", questions=questions)
    assert wrong(found) == []
    assert [(entry["check"], entry["device"]) for entry in found] == [
        ("api_models", "vllm"), ("completion", "vllm"), ("answer_model", "vllm"), ("answer_tokens", "vllm"), ("answer_finish", "vllm"),
        ("answer_expected", "vllm"), ("answer_expected", "vllm question 1"), ("answer_repeats", "vllm"), ("stream_answers", "vllm /v1/completions"),
        ("chat_answers", "vllm"), ("stream_answers", "vllm /v1/chat/completions"), ("rank_answers", "vllm"), ("api_key_refused", "vllm wrong key"),
        ("api_key_refused", "vllm no key"), ("verify_whole", "vllm")]
    seen = {entry["check"]: entry["observed"] for entry in found}
    assert seen["answer_tokens"] == "6 + 13 tokens" and seen["verify_whole"] == "10 of 10 questions asked" and seen["rank_answers"] == "4 of 4 ranks"


def test_at_a_start_it_is_one_request():
    group = Group(key=KEY)
    found = verified(group, depth="completion", api_key=KEY)
    assert wrong(found) == [] and sum(group.counts.values()) == 1
    assert [entry["check"] for entry in found] == ["completion", "answer_model", "answer_tokens", "answer_finish"]


def test_another_model_name():
    found = verified(Group(model="other"))
    assert wrong(found) == [(HEAD, "api_models", "vllm", "fail"), (HEAD, "completion", "vllm", "fail"), (HEAD, "verify_whole", "vllm", "unknown")]
    assert found[0]["observed"] == "other" and "HTTP 404: " in found[1]["observed"] and "vllm_served_model_name" in found[1]["remedy"]
    assert found[2]["observed"] == "not asked: repeat, stream, chat, chat_stream, ranks"


def change(**values):
    """Return what makes an answer have other values."""
    return lambda number, answer: (200, {**answer[1], **values})


def choice(**values):
    """Return what makes the choice of an answer have other values."""
    return lambda number, answer: (200, {**answer[1], "choices": [{**answer[1]["choices"][0], **values}]})


@pytest.mark.parametrize(("question", "answer", "check", "words"), [
    (COMPLETIONS, change(model="other"), "answer_model", "completion by other, the same completion again by other"),
    (CHAT, change(model=None), "answer_model", "chat by None"),
    (COMPLETIONS, change(usage=None), "answer_tokens", "completion without tokens: None of the prompt, None of the text"),
    (CHAT, change(usage={"prompt_tokens": 0, "completion_tokens": 3}), "answer_tokens", "chat without tokens: 0 of the prompt, 3 of the text"),
    (COMPLETIONS, change(usage={"prompt_tokens": 6, "completion_tokens": 51}), "answer_tokens", "completion with 51 tokens where 50 were asked for"),
    (CHAT, choice(message={"content": ""}), "answer_tokens", "chat without a text"),
    (COMPLETIONS, choice(finish_reason="abort"), "answer_finish", "completion: abort"),
    (CHAT, choice(finish_reason=None), "answer_finish", "chat: no finish_reason"),
])
def test_an_answer_that_is_not_as_it_should_be(question, answer, check, words):
    entry = next(entry for entry in verified(Group().breaks(question, answer)) if entry["status"] != "pass")
    assert (entry["check"], entry["status"]) == (check, "fail") and words in entry["observed"]


@pytest.mark.parametrize(("answer", "status", "words", "remedy"), [
    ((401, {"error": "Unauthorized"}), "fail", "HTTP 401: an API key is wanted", "vllm_api_key_file"),
    ((400, b"max_tokens"), "fail", "HTTP 400: max_tokens", "refuses the request itself"),
    ((500, b"a\nb"), "fail", "HTTP 500: a b", "docker logs --tail 100 vllm-rank0"),
    ((200, b"<html>"), "unknown", "HTTP 200: <html>", "compare vllm_port"),
    ((200, [1]), "unknown", "HTTP 200: [1]", "compare vllm_port"),
    ((200, {"choices": [{"text": None}]}), "unknown", "HTTP 200: {", "compare vllm_port"),
    (b"garbage\r\n\r\n", "fail", "no completion: ", "nobody answers at http"),
])
def test_what_is_no_completion(answer, status, words, remedy):
    entry = verified(Group().breaks(COMPLETIONS, answer), depth="completion")[0]
    assert (entry["check"], entry["status"]) == ("completion", status) and words in entry["observed"] and remedy in entry["remedy"]
    assert entry["expected"] == "a completion by deepseek_r1"


@pytest.mark.parametrize(("failure", "remedy"), [
    ("certificate", "vllm_tls_ca_file has to be of the authority"), ("tls", "http and https are mixed up"), ("ca_file", "ascend.vllm.site -i INVENTORY puts")])
def test_tls_has_remedies_of_its_own(failure, remedy):
    said = asked("http://127.0.0.1:%d" % closed_port(), depth="completion")
    said["answers"]["completion"]["failure"] = failure
    [entry] = judged(said)
    assert entry["check"] == "completion" and remedy in entry["remedy"]


def test_nobody_answers():
    found = judged(asked("http://127.0.0.1:%d" % closed_port(), api_key=KEY), key=True)
    assert wrong(found) == [(HEAD, "completion", "vllm", "fail"), (HEAD, "verify_whole", "vllm", "unknown")]
    assert "refused" in found[0]["observed"] and "models, repeat" in found[1]["observed"] and "key_refusals" in found[1]["observed"]


def test_a_hung_group_is_named_within_the_limit_with_the_ranks_that_hang(monkeypatch):
    group = Group().breaks(COMPLETIONS, None)
    for rank in (2, 3):
        group.breaks(f"{COMPLETIONS} rank {rank}", None)
    limits.of_questions(monkeypatch, lambda question, key: question in group.broken)
    found = verified(group, timeout_s=40.0)
    assert wrong(found) == [(HEAD, "completion", "vllm", "fail"), (PEER, "rank_answers", "vllm rank 2", "fail"),
                            (PEER, "rank_answers", "vllm rank 3", "fail"), (HEAD, "verify_whole", "vllm", "unknown")]
    assert "did not come back within 1 s" in found[1]["observed"] and "/health" not in found[1]["observed"]


def test_the_limit_of_all_questions(monkeypatch):
    # There are two seconds left for the chat, which takes them.
    clock = limits.Clock()
    monkeypatch.setattr(ask_service, "time", clock)
    group = Group().breaks(COMPLETIONS + " stream", lambda number, answer: clock.at(58.0, answer)).breaks(CHAT, lambda number, answer: clock.at(60.0, None))
    found = verified(group, limit_s=60.0)
    assert wrong(found) == [(HEAD, "chat_answers", "vllm", "fail"), (HEAD, "verify_whole", "vllm", "fail")]
    assert found[-1]["observed"] == "2 s were over; not asked: chat_stream, ranks" and "serve_verify_limit_s" in found[-1]["remedy"]


def test_one_rank_is_missing():
    group = Group().breaks(COMPLETIONS + " rank 3", (400, b"data_parallel_rank 3 is out of range [0, 3)."))
    entry = one(verified(group))
    assert (entry["host"], entry["check"], entry["device"]) == (PEER, "rank_answers", "vllm rank 3")
    assert "out of range" in entry["observed"] and "docker logs --tail 100 vllm-rank2" in entry["remedy"]


def test_a_completion_that_differs_is_said_and_stops_nothing():
    group = Group().breaks(COMPLETIONS, lambda number, answer: (200, Group().answer(COMPLETIONS, WORDS[:8] + ([" x"] if number == 2 else [" y"]))))
    group.breaks(COMPLETIONS + " stream", lambda number, answer: group.streamed(COMPLETIONS, WORDS[:8] + [" x"]))
    group.metrics = b"vllm:num_requests_running 7\nvllm:num_requests_waiting 0\n"
    entry = one(verified(group))
    assert (entry["check"], entry["status"]) == ("answer_repeats", "warn")
    begin = "".join(WORDS[:8]) + " "
    assert entry["observed"] == f"{begin + 'y'!r}, then {begin + 'x'!r}, beside 7 request(s) of others"
    assert "another order" in entry["remedy"]


def test_the_second_completion_does_not_come():
    found = verified(Group().breaks(COMPLETIONS, lambda number, answer: answer if number == 1 else (500, b"dead")))
    assert wrong(found) == [(HEAD, "answer_repeats", "vllm", "fail")] and "HTTP 500: dead" in one(found)["observed"]


@pytest.mark.parametrize("path", [COMPLETIONS, CHAT])
@pytest.mark.parametrize(("make", "status", "words"), [
    # Cut off, by the end of the connection and by silence of a whole answer.
    (lambda group, path: group.streamed(path, WORDS[:4], end=False), "fail", "then the end without [DONE]"),
    (lambda group, path: (200, b"data: x"), "fail", "0 chunks in "),
    # Never ends: silent after some chunks, from the start on, and with more and more chunks.
    (lambda group, path: sending([json.dumps(chunk) for chunk in group.chunks(path, WORDS[:4])], closed=False), "fail", "4 chunks in "),
    (lambda group, path: sending([], closed=False), "fail", "no chunk within 1 s"),
    (lambda group, path: sending([], forever=json.dumps(group.chunks(path, ["a"])[-1])), "fail", "and no end, more than tokens were asked for"),
    (lambda group, path: sending([], 0.02, forever='{"choices": []}'), "fail", "no chunk within 1 s"),
    # Another text, and none.
    (lambda group, path: group.streamed(path, [*WORDS[:5], *WORDS[6:]]), "fail", " as a stream, "),
    (lambda group, path: group.streamed(path, [*WORDS[:5], *WORDS[4:]]), "fail", " as a stream, "),
    (lambda group, path: group.streamed(path, [""]), "fail", "'' as a stream, ' bright and"),
    (lambda group, path: group.streamed(path, [TEXT]), "fail", "13 tokens in one chunk"),
    (lambda group, path: sending(['{"error": {"message": "engine dead"}}', "[DONE]"]), "fail", 'then: {"error": {"message": "engine dead"}}'),
    (lambda group, path: (500, b"dead"), "fail", "HTTP 500: dead"),
    (lambda group, path: (400, b"default chat template is no longer allowed"), "warn", "HTTP 400: default chat template"),
])
def test_a_stream_that_is_not_as_it_should_be(path, make, status, words, monkeypatch):
    group = Group()
    limits.of_questions(monkeypatch, lambda question, key: question == path + " stream" and words in ("4 chunks in ", "no chunk within 1 s"))
    found = verified(group.breaks(path + " stream", lambda number, answer: make(group, path)), timeout_s=40.0)
    entry = one(found)
    assert (entry["check"], entry["device"], entry["status"]) == ("stream_answers", "vllm " + path, status) and words in entry["observed"], entry


def test_a_stream_is_not_blamed_for_a_service_that_says_this_and_that():
    group = Group()
    group.breaks(COMPLETIONS, lambda number, answer: (200, group.answer(COMPLETIONS, ["text %d" % number])))
    assert wrong(verified(group)) == [(HEAD, "answer_repeats", "vllm", "warn"), (HEAD, "stream_answers", "vllm /v1/completions", "warn")]


def test_a_stream_that_was_held_somewhere():
    """All chunks come at once, after as long as the answer without a stream took."""
    with web_server(Group()) as server:
        said = asked(server.url)
    said["answers"]["chat"]["seconds"] = 6.0
    entry = one(judged(said))
    assert (entry["device"], entry["status"]) == ("vllm /v1/chat/completions", "warn") and "13 chunks within 0.0" in entry["observed"]
    said["answers"]["chat_stream"]["spread_s"] = 5.5
    assert wrong(judged(said)) == []


@pytest.mark.parametrize(("answer", "status", "words"), [
    (None, "fail", "no answer within 1 s"), ((500, b"dead"), "fail", "HTTP 500: dead"), ((200, b"{}"), "fail", "HTTP 200: {}"),
    ((400, {"message": "you must provide a chat template"}), "warn", "chat template")])
def test_a_chat_without_an_answer(answer, status, words, monkeypatch):
    limits.of_questions(monkeypatch, lambda question, key: question == CHAT and answer is None)
    found = verified(Group().breaks(CHAT, answer), timeout_s=40.0)
    assert wrong(found) == [(HEAD, "chat_answers", "vllm", status)] and words in one(found)["observed"]


@pytest.mark.parametrize(("broken", "status", "words"), [
    ("wrong key", "fail", "HTTP 200"), ("no key", "fail", "HTTP 200")])
def test_a_key_that_is_not_needed(broken, status, words):
    group = Group(key=KEY)
    entry = one(verified(group.breaks(broken, lambda number, answer: (200, group.answer(COMPLETIONS, WORDS[:1]))), api_key=KEY))
    assert (entry["check"], entry["device"], entry["status"], entry["observed"]) == ("api_key_refused", "vllm " + broken, status, words)


@pytest.mark.parametrize(("answer", "words"), [((500, (KEY + " is").encode()), "HTTP 500"), (None, "no answer within 1 s")])
def test_a_wrong_key_that_is_not_understood(answer, words, monkeypatch):
    # A question that has to be refused gets at most thirty seconds.
    monkeypatch.setattr(ask_service, "REFUSE_S", 40.0)
    limits.of_questions(monkeypatch, lambda question, key: key not in (None, KEY) and answer is None)
    found = verified(Group(key=KEY).breaks("wrong key", answer), api_key=KEY, timeout_s=40.0)
    assert wrong(found) == [(HEAD, "api_key_refused", "vllm wrong key", "unknown")] and one(found)["observed"] == words and KEY not in json.dumps(found)


def test_the_key_is_refused():
    found = verified(Group(key="another"), api_key=KEY)
    assert wrong(found) == [(HEAD, "api_models", "vllm", "fail"), (HEAD, "completion", "vllm", "fail"), (HEAD, "verify_whole", "vllm", "unknown")]
    assert found[1]["observed"] == "HTTP 401: the API key of /etc/keys/vllm is refused"


def test_answers_that_have_to_be_right():
    questions = [{"prompt": "1 + 1 =", "expected": "^ *2", "max_tokens": 3, "chat": False},
                 {"prompt": "Sea?", "expected": "sea", "max_tokens": None, "chat": True}]
    found = verified(Group(), depth="completion", questions=questions, expected="dark")
    assert wrong(found) == [(HEAD, "answer_expected", "vllm", "fail"), (HEAD, "answer_expected", "vllm question 1", "fail")]
    bad = [entry for entry in found if entry["status"] == "fail"]
    assert bad[0]["observed"] == repr(TEXT) and bad[0]["expected"] == "a match of 'dark' after 'The future of AI is'"
    assert bad[1]["observed"] == "' bright and wide'" and "image, weights and options" in bad[1]["remedy"]
    found = verified(Group().breaks(CHAT, (500, b"dead")), depth="completion", questions=questions[1:])
    assert wrong(found) == [(HEAD, "answer_expected", "vllm question 1", "fail")] and one(found)["observed"] == "HTTP 500: dead"


def test_all_faults_are_shown_at_once():
    group = Group(key=KEY).breaks("no key", (200, b"{}")).breaks(COMPLETIONS + " rank 1", (500, b"dead")).breaks(CHAT, choice(finish_reason="abort"))
    group.breaks(COMPLETIONS + " stream", lambda number, answer: group.streamed(COMPLETIONS, WORDS[:3], end=False))
    group.names.append("other")
    found = verified(group, api_key=KEY, expected="dark")
    assert [check for dummy, check, *rest in wrong(found)] == ["answer_finish", "answer_expected", "stream_answers", "rank_answers", "api_key_refused"]
    lines = check_lines(found)
    assert all(line.startswith("[fail] a2-node0 vllm") and ". Remedy: " in line for line in lines[:5]) and lines[5].startswith("[pass]")


def test_the_language_and_lazy_plans():
    plan = Cluster(2, "a2").plan
    said = asked("http://127.0.0.1:%d" % closed_port())
    found = filter_of(registered)(Lazy({"vllm": said}), Lazy(plan["groups"]), Lazy(plan["hosts"]), "zh")
    assert json.loads(json.dumps(found)) == found and found[0]["title"] == "真实推理有应答" and "无应答" in found[0]["remedy"]


@pytest.mark.parametrize(("one_text", "other", "shown"), [
    ("ab", "ab", ("'ab'", "'ab'")), ("abc", "ab", ("'abc'", "'ab'")),
    ("x" * 100 + "a", "x" * 100 + "b", ("'..." + "x" * 40 + "a'", "'..." + "x" * 40 + "b'")), ("", "a" * 300, ("''", "'" + "a" * 200 + "...'")),
])
def test_texts_are_shown_from_where_they_differ(one_text, other, shown):
    assert verify.difference(one_text, other) == shown
