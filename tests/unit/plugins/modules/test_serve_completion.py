# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""serve_completion against an API on a real port, with and without TLS."""

from __future__ import annotations

import json

import pytest

from ansible_collections.ascend.vllm.plugins.modules import serve_completion
from ansible_collections.ascend.vllm.tests.unit.plugins import certificates
from ansible_collections.ascend.vllm.tests.unit.plugins.servers import free_port, quiet_proxies, web_server

USAGE = {"prompt_tokens": 6, "completion_tokens": 50, "total_tokens": 56}
ANSWER = {"model": "deepseek_r1", "choices": [{"text": " bright"}], "usage": USAGE}
TLS = certificates.SIGNED + certificates.SIGNED_KEY
KEY = "k3y-of-the-service"


@pytest.fixture
def ask(run_module, monkeypatch):
    """A function (base URL, **parameters) -> the module's result."""
    quiet_proxies(monkeypatch, "http://127.0.0.1:1")
    return lambda url, **parameters: run_module(serve_completion, url=url, model="deepseek_r1", **parameters)


@pytest.fixture
def ca_file(tmp_path):
    """A function (certificates) -> the path of a file with them."""

    def write(text):
        path = tmp_path / "ca.pem"
        path.write_text(text)
        return str(path)

    return write


@pytest.mark.parametrize("check", [False, True])
def test_the_tutorials_request_is_sent_past_any_proxy_and_the_answer_comes_back(ask, check):
    with web_server(lambda asked: (200, ANSWER)) as server:
        result = ask(server.url + "/", check=check)
        (asked,) = server.asked
    assert (result["failed"], result["changed"], result["status"]) == (False, False, 200)
    assert (result["text"], result["model"], result["usage"]) == (" bright", "deepseek_r1", USAGE)
    assert 0 <= result["seconds"] < 30
    assert (asked.method, asked.path) == ("POST", "/v1/completions") and "Authorization" not in asked.headers
    assert asked.json() == {"model": "deepseek_r1", "prompt": "The future of AI is", "max_tokens": 50, "temperature": 0}


def test_the_key_is_sent_and_shown_nowhere(ask):
    def answer(asked):
        said = "you sent %s" % asked.headers["Authorization"]
        return (200, dict(ANSWER, choices=[{"text": said}])) if KEY in said else (401, said.encode())

    with web_server(answer) as server:
        result = ask(server.url, api_key=KEY)
        assert server.asked[0].headers["Authorization"] == "Bearer " + KEY
        assert not result["failed"] and KEY not in json.dumps(result)
    with web_server(lambda asked: (500, ("%s is wrong" % KEY).encode())) as server:
        result = ask(server.url, api_key=KEY)
        assert result["failed"] and "is wrong" in result["msg"] and KEY not in json.dumps(result)


@pytest.mark.parametrize(("expected", "failed"), [("bri[gh]+t", False), ("^ bright$", False), ("", False), ("dark", True)])
def test_a_text_is_judged_by_what_is_expected(ask, expected, failed):
    with web_server(lambda asked: (200, ANSWER)) as server:
        result = ask(server.url, expected=expected, prompt="Hi", max_tokens=3)
        assert (server.asked[0].json()["prompt"], server.asked[0].json()["max_tokens"]) == ("Hi", 3)
        assert result["failed"] is failed and result["text"] == " bright"
        if failed:
            said, _remedy, what = result["msg"].partition(". Remedy: ")
            assert said == server.url + "/v1/completions: found ' bright'; wanted a completion by deepseek_r1 within 300 s with a match of 'dark'"
            assert what.startswith("the engines compute something else")


def test_no_regular_expression_is_refused_before_anything_is_asked(ask):
    with web_server(lambda asked: (200, ANSWER)) as server:
        result = ask(server.url, expected="(")
        assert result["failed"] and "'('" in result["msg"] and "serve_verify_expected" in result["msg"] and server.asked == []


@pytest.mark.parametrize(("answer", "found", "remedy"), [
    ((401, {"error": "Unauthorized"}), 'HTTP 401: {"error": "Unauthorized"}', "vllm_api_key_file"),
    ((404, {"error": {"message": "The model `deepseek_r1` does not exist."}}), "HTTP 404: ", "vllm_served_model_name"),
    ((400, b"max_tokens"), "HTTP 400: max_tokens", "refuses the request"),
    ((500, b"a\nb"), "HTTP 500: a b", "docker logs"),
    ((503, b""), "HTTP 503: ", "docker logs"),
    ((200, b"<html>"), "no completion: <html>", "vllm_port"),
    ((200, [1]), "no completion: [1]", "vllm_port"),
    ((200, {"choices": []}), "no completion: ", "vllm_port"),
    ((200, {"choices": [{"text": None}]}), "no completion: ", "vllm_port"),
    ((200, dict(ANSWER, model="other")), "one by other", "vllm_served_model_name"),
    ((200, dict(ANSWER, choices=[{"text": ""}])), "one without a text or without tokens", "docker logs"),
    ((200, dict(ANSWER, usage={"completion_tokens": 0})), "one without a text or without tokens", "docker logs"),
    ((200, dict(ANSWER, usage=None)), "one without a text or without tokens", "docker logs"),
])
def test_what_is_no_completion_fails_with_what_was_found_and_what_to_do(ask, answer, found, remedy):
    with web_server(lambda asked: answer) as server:
        result = ask(server.url)
    assert result["failed"] and result["status"] == answer[0]
    assert result["msg"].startswith("%s/v1/completions: found %s" % (server.url, found))
    assert "; wanted a completion by deepseek_r1 within 300 s. Remedy: " in result["msg"] and remedy in result["msg"].partition("Remedy: ")[2]


@pytest.mark.parametrize(("answer", "found"), [(None, "timed out"), (b"garbage\r\n\r\n", "no valid HTTP answer")])
def test_silence_and_what_is_no_http_fail(ask, answer, found):
    with web_server(lambda asked: answer) as server:
        result = ask(server.url, timeout_s=0.2)
    assert result["failed"] and result["status"] is None and found in result["msg"] and "within 0.2 s. Remedy: a group with a lost peer hangs" in result["msg"]


def test_a_port_that_refuses_fails(ask):
    result = ask("http://127.0.0.1:%d" % free_port())
    assert result["failed"] and "refused" in result["msg"] and "Remedy: nothing listens there" in result["msg"]


@pytest.mark.parametrize("vouching", [certificates.AUTHORITY, certificates.SIGNED])
def test_a_service_with_tls_is_asked_by_its_address(ask, ca_file, vouching):
    with web_server(lambda asked: (200, ANSWER), tls=TLS) as server:
        result = ask(server.url, ca_file=ca_file(vouching))
        assert server.url.startswith("https://127.0.0.1:") and (result["failed"], result["text"]) == (False, " bright")


@pytest.mark.parametrize("vouching", [certificates.OTHER, None])
def test_a_certificate_that_nobody_vouches_for_fails_before_anything_is_sent(ask, ca_file, vouching):
    with web_server(lambda asked: (200, ANSWER), tls=TLS) as server:
        result = ask(server.url, api_key=KEY, ca_file=ca_file(vouching) if vouching else None)
        assert server.asked == []
    who = "/ca.pem" if vouching else "the system"
    assert result["failed"] and who + " does not vouch for: " in result["msg"] and "Remedy: vllm_tls_ca_file" in result["msg"]


def test_http_and_https_mixed_up(ask, ca_file):
    with web_server(lambda asked: (200, ANSWER)) as server:
        result = ask(server.url.replace("http:", "https:"), ca_file=ca_file(certificates.AUTHORITY))
    assert result["failed"] and "http and https are mixed up" in result["msg"]


def test_the_file_that_vouches_is_missing_or_empty(ask, ca_file, tmp_path):
    result = ask("https://127.0.0.1:1", ca_file=str(tmp_path / "no.pem"))
    assert result["failed"] and "found no file %s/no.pem; " % tmp_path in result["msg"] and "Remedy: run site.yml" in result["msg"]
    result = ask("https://127.0.0.1:1", ca_file=ca_file("none"))
    assert result["failed"] and "holds no certificate" in result["msg"]
