# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets in every shape in which logs, tools and JSON show them, and the words beside them that must stay."""

from __future__ import annotations

import base64
import json

import pytest

from ansible_collections.ascend.vllm.plugins.module_utils import redact
from ansible_collections.ascend.vllm.plugins.module_utils.redact import REMOVED, Lines, Redactor, Splitter, clean

# Shaped like nothing that is known, so that only what stands around it can give it away.
S = "Zq9xWv7"
KEY = "-----BEGIN EC PRIVATE KEY-----"
KEY_END = "-----END EC PRIVATE KEY-----"
BODY = ["MHcCAQEEIMye8PxQ25cu247Kd", "AwEHoUQDQgAEjHaEGUkqu1p7m"]


@pytest.mark.parametrize("line", [
    "Authorization: Bearer %s",
    "authorization: basic %s and more",
    "headers: {'Authorization': 'Bearer %s', 'Host': 'x'}",
    "{\"Authorization\": \"%s\"}",
    "[(b'host', b'x'), (b'authorization', b'Bearer %s')]",
    "Authorization: Digest username=\"bob\", response=\"%s\"",
    "Proxy-Authorization: Basic %s",
    "curl -H 'authorization: Bearer %s' http://x",
    "sent bearer %s to the hub",
    "HF_TOKEN=%s",
    "export MODELSCOPE_API_TOKEN=\"%s x\" && run",
    "VLLM_API_KEY=%s",
    "AWS_SECRET_ACCESS_KEY: %s",
    "db_password_old=%s;x",
    "PASSWORD=ab,%s",
    "MY_PASSWD = '%s with blanks'",
    "{\"password\": \"a\\\"%s\"}",
    "\"{\\\"api_key\\\": \\\"a %s\\\"}\"",
    "non-default args: {'api_key': ['a b', '%s'], 'port': 8000}",
    "Namespace(api_key=['%s'], port=8000)",
    "secretKey: %s",
    "vllm serve /m --api-key %s --port 8000",
    "vllm serve /m --api-key=%s --port 8000",
    "vllm serve /m --api-key first %s --port 8000",
    "['vllm', 'serve', '--api-key', 'first', '%s', '--port', '8000']",
    "[\"--hf-token\", \"%s\"]",
    "GET http://user:%s@registry:5000/v2/",
    "GET http://%s@registry:5000/v2/",
    "GET /file?X-Amz-Signature=%s&a=1",
    "GET /file?Expires=1&Signature=%s&a=1",
    "GET /file?a=1&token=%s",
    "x-api-key: %s",
    "Set-Cookie: session=%s; path=/",
    "{\"auths\": {\"quay.io\": {\"auth\": \"%s\"}}}",
    "{'identitytoken': '%s'}",
    "-----BEGIN RSA PRIVATE KEY-----\\n%s\\n-----END RSA PRIVATE KEY-----",
    "the key was -----BEGIN PRIVATE KEY-----%s",
    "HF_TOK\x1b[31mEN=%s",
    "PASSWORD=\x00%s",
])
def test_what_looks_like_a_secret_is_removed(line):
    redactor = Redactor()
    cleaned = redactor.line(line % S)
    assert S not in cleaned and REMOVED[:8] in cleaned
    assert redactor.count >= 1


@pytest.mark.parametrize("token", [
    "hf_abcdefghijklmnopqrstuvwxyz", "sk-abcdefghijklmnopqrst", "ghp_abcdefghijklmnopqrstuvwxyz", "AKIAABCDEFGHIJKLMNOP",
    "ms-01234567-89ab-cdef-0123-456789abcdef", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3.SflKxwRJSMeKKF2QT4",
])
def test_tokens_known_by_their_looks(token):
    assert token not in Redactor().line("got %s." % token)


@pytest.mark.parametrize("line", [
    "INFO 11-25 21:30:00 [loggers.py:127] Engine 000: Avg prompt throughput: 12.0 tokens/s, Avg generation throughput: 3.0 tokens/s",
    "--max-num-batched-tokens 4096 --max-num-seqs 16 --tokenizer /mnt/x",
    "tokenizer='/mnt/weights', max_tokens=16, eos_token_id=1, num_speculative_tokens: 1",
    "EI0006: [2026-01-31-23:59:59.000.000] Getting socket times out. Reason: 1. the remote end",
    "image quay.io/ascend/vllm-ascend@sha256:0123456789abcdef0123456789abcdef",
    "GET http://198.51.100.11:8000/v1/completions HTTP/1.1",
    "dev_id:0, tls switch[0](0:disable, 1:enable)",
    "RuntimeError: keys of the checkpoint do not match",
    "the authors of vLLM; a keyboard; the secretary",
])
def test_what_is_no_secret_stays(line):
    redactor = Redactor([S])
    assert redactor.line(line) == line and redactor.count == 0


def test_what_stands_beside_a_secret_stays():
    assert Redactor().line("vllm serve /m --api-key %s --port 8000" % S) == "vllm serve /m --api-key=[removed] --port 8000"
    assert Redactor().line("GET http://u:%s@registry:5000/v2/ failed" % S) == "GET http://[removed]@registry:5000/v2/ failed"
    assert Redactor().line("HF_TOKEN=%s HOME=/root" % S) == "HF_TOKEN=[removed] HOME=/root"
    assert Redactor().line("\x1b[1;36m(APIServer pid=1)\x1b[0;0m\tready") == "(APIServer pid=1)\tready"


@pytest.mark.parametrize("shape", [
    lambda word: word, lambda word: json.dumps(word)[1:-1], lambda word: base64.b64encode(word.encode()).decode().rstrip("="),
    lambda word: word.replace("%", "%25").replace("/", "%2F").replace("\"", "%22").replace("\u00fc", "%C3%BC"),
    "\x1b[1m".join,
])
def test_a_known_secret_is_removed_in_every_shape(shape):
    secret = "p%/\"\u00fcq9"
    redactor = Redactor([secret + "\n"])
    cleaned = redactor.line("x%sy" % shape(secret))
    assert cleaned == "x[removed]y"
    assert redactor.count == 1 and redactor.short == 0


def test_secrets_that_begin_alike_or_are_too_short():
    redactor = Redactor(["abcd", "abcdefgh", "xyz", "", "\n"])
    assert redactor.line("1 abcdefgh 2 abcd 3 xyz") == "1 [removed] 2 [removed] 3 xyz"
    assert redactor.short == 1


def test_logins_of_a_docker_config_are_known_and_its_names_are_none():
    config = {"auths": {"quay.io": {"auth": base64.b64encode(b"root:Zq9xWv7").decode()}, "x": {
        "username": "root", "password": "Pw5678", "identitytoken": "It5678"}}}
    redactor = Redactor([json.dumps(config, indent=2)])
    assert redactor.line("root quay.io %s Zq9xWv7 Pw5678 It5678" % config["auths"]["quay.io"]["auth"]) == "root quay.io %s" % " ".join([REMOVED] * 4)


def test_the_lines_of_a_key_file_are_known():
    redactor = Redactor(["\n".join([KEY] + BODY + [KEY_END])])
    assert redactor.line("x %s y" % BODY[1]) == "x [removed] y"


def test_a_key_over_several_lines_is_removed_whole():
    text = "\n".join(["one", "pem: " + KEY] + BODY + [KEY_END + "'", "two"])
    assert Redactor().text(text) == "one\npem: %s\n'\ntwo\n" % redact.REMOVED_KEY


def test_a_key_whose_beginning_was_cut_off_is_removed():
    text = "\n".join(BODY + [KEY_END, "two"])
    assert Redactor().text(text, cut_before=True) == "%s\ntwo\n" % redact.REMOVED_KEY
    # What is no key is held back only until that is known.
    assert Redactor().text("\n".join(["one"] + [KEY] + BODY + [KEY_END, "two"]), cut_before=True) == "one\n%s\ntwo\n" % redact.REMOVED_KEY
    assert Redactor().text("one\ntwo\n", cut_before=True) == "one\ntwo\n"
    many = ["line %d" % number for number in range(1000)]
    assert Redactor().text("\n".join(many), cut_before=True).splitlines() == many


def test_a_key_without_an_end_takes_only_so_many_lines():
    lines = Redactor().text("\n".join([KEY] + ["line %d" % number for number in range(1000)])).splitlines()
    assert len(lines) == 1 + 1000 - redact.KEY_LINES and lines[-1] == "line 999"


def test_json_keeps_its_shape():
    value = {
        "Env": ["HF_TOKEN=a b %s" % S, "HCCL_IF_IP=198.51.100.11"],
        "Cmd": ["vllm", "serve", "--api-key", S, S, "--port", "8000", "--hf-token=" + S],
        "auths": {"quay.io": {"auth": S}}, "api_key": [S], "password": 1234, "empty_token": "", "use_token": True, "tokens": 16,
        "log": "one\nPASSWORD=%s\ntwo" % S, "url": "http://u:%s@x/" % S, S + "x": 1, "number": 98765,
    }
    cleaned = Redactor([S, "98765"]).value(value)
    assert S not in json.dumps(cleaned) and "98765" not in json.dumps(cleaned)
    assert cleaned["Env"] == ["HF_TOKEN=[removed]", "HCCL_IF_IP=198.51.100.11"]
    assert cleaned["Cmd"] == ["vllm", "serve", "--api-key", REMOVED, REMOVED, "--port", "8000", "--hf-token=[removed]"]
    assert (cleaned["auths"], cleaned["api_key"], cleaned["password"]) == (REMOVED, REMOVED, REMOVED)
    assert (cleaned["empty_token"], cleaned["use_token"], cleaned["tokens"]) == ("", True, 16)
    assert cleaned["log"] == "one\nPASSWORD=[removed]\ntwo"


def split(pieces, strict=False):
    splitter = Splitter(strict)
    return [line for piece in pieces for line in splitter.feed(piece)] + splitter.end()


def test_lines_of_pieces():
    assert split([b"on", b"e\ntw", "\u00fc".encode()[:1], "\u00fc".encode()[1:] + b"\r50%\r\nend"]) == [
        ("one", True), ("tw\u00fc", True), ("50%", True), ("end", True)]
    assert split([b"\xff\n"]) == [("\ufffd", True)]
    for data in (b"\xff\n", b"a\x00b"):
        with pytest.raises(UnicodeDecodeError):
            split([data], strict=True)
    # A file that is written to at this moment.
    assert split([b"ab\xc3"], strict=True) == [("ab", True)]


@pytest.mark.parametrize("size", [100, 65536])
def test_a_line_without_end_is_cut_and_half_a_secret_is_not_shown(size):
    data = b"x" * (redact.LONGEST_LINE - 4) + b"Zq9xWv7Zq9x" + b"y" * 300000 + b"\nnext\n"
    lines, splitter = Lines(Redactor(["Zq9xWv7Zq9x"])), Splitter()
    found = [line for at in range(0, len(data), size) for line in splitter.feed(data[at:at + size])]
    shown = [line for text, whole in found for line in clean(lines, text, whole)]
    assert len(shown) == 2 and shown[1] == "next"
    assert "Zq9x" not in shown[0] and shown[0].endswith("[cut: a line of more than 65536 characters]") and len(shown[0]) < redact.LONGEST_LINE


def test_no_line_takes_long():
    # Each of these made a careless pattern look at every pair of places.
    for piece in ("token=[", "a" * 7, "--key", "://", "eyJaaaaaaaaaaa-", "-----BEGIN ", "secret", "\\\"", "'token': '"):
        line = piece * (redact.LONGEST_LINE // len(piece))
        assert isinstance(Redactor([S]).line(line), str)
