# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""client_data on real files and a real web server: what is proved, what is said of what is wrong, and what is fetched."""

from __future__ import annotations

import csv
import hashlib
import io
import json

import pytest

from ansible_collections.ascend.vllm.plugins.module_utils import data_sets
from ansible_collections.ascend.vllm.plugins.modules import client_data
from ansible_collections.ascend.vllm.tests.unit.plugins.servers import web_server

GSM8K = "".join(json.dumps({"question": "%d + 1?" % number, "answer": "It is\n#### %d" % (number + 1)}) + "\n" for number in range(3))
REMEDY = "put them there"
AIME = json.dumps({"origin_prompt": "Find x.", "gold_answer": "204"}) + "\n\n"


@pytest.fixture
def prove(run_module):
    """A function (dir=, sets=, ..) -> the module's result."""
    return lambda **given: run_module(client_data, **dict({"remedy": REMEDY}, **given))


def table(rows):
    stream = io.StringIO()
    writer = csv.DictWriter(stream, data_sets.FORMATS["gpqa"][1] + ["Subdomain"])
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


GPQA = table([dict({name: "a, \"b\"\nsecond line" for name in data_sets.FORMATS["gpqa"][1]}, Subdomain="") for dummy in range(2)])


def sha(text):
    return hashlib.sha256(text.encode()).hexdigest()


def put(tmp_path, name, text, **wanted):
    (tmp_path / "sets" / name).mkdir(parents=True, exist_ok=True)
    (tmp_path / "sets" / name / "f").write_bytes(text if isinstance(text, bytes) else text.encode())
    return {name: {"files": [dict({"path": "f", "format": name}, **wanted)]}}


@pytest.mark.parametrize(("name", "text", "lines"), [("gsm8k", GSM8K, 3), ("gpqa", GPQA, 2), ("aime2024", AIME, 1), ("gsm8k", "\ufeff" + GSM8K, 3)])
def test_right_files_are_proved(prove, tmp_path, name, text, lines):
    found = prove(dir=str(tmp_path / "sets"), sets=put(tmp_path, name, text, lines=lines, sha256=sha(text).upper()))
    assert (found["failed"], found["changed"], found["fetched"]) == (False, False, [])
    assert found["sets"][name] == {"dir": str(tmp_path / "sets" / name), "files": [
        {"path": str(tmp_path / "sets" / name / "f"), "there": True, "sha256": sha(text), "lines": lines, "wrong": []}]}


@pytest.mark.parametrize(("name", "text", "wanted", "said"), [
    ("gsm8k", GSM8K, {"sha256": "0" * 64}, "found sha256 %s, wanted %s" % (sha(GSM8K), "0" * 64)),
    ("gsm8k", GSM8K, {"lines": 1319}, "found 3 samples, wanted 1319"),
    ("gsm8k", "", {}, "found no sample, wanted some"),
    ("gsm8k", AIME, {}, "line 1: found no question, answer, wanted question, answer in each sample"),
    ("gsm8k", GSM8K + '{"question": "q", "answer": "7"}\n', {}, "line 4: found no #### in answer"),
    ("gsm8k", "<html>\n", {}, "line 1: no JSON"), ("gsm8k", "[1]\n", {}, "line 1: no object"), ("gsm8k", b"\xff\xfe\n", {}, "no UTF-8"),
    ("gpqa", table([]), {}, "found no sample"), ("gpqa", "a,b\n1,2\n", {}, "found no Question, Correct Answer"),
    ("aime2024", GSM8K, {}, "found no origin_prompt, gold_answer"), ("jsonl", '{"a": 1}\n', {"fields": ["b"]}, "found no b, wanted b"),
])
def test_wrong_files_are_named_with_found_wanted_remedy(prove, tmp_path, name, text, wanted, said):
    found = prove(dir=str(tmp_path / "sets"), sets=put(tmp_path, name, text, **wanted))
    assert found["failed"] and "%s: %s/sets/%s/f: " % (name, tmp_path, name) in found["msg"] and said in found["msg"]
    assert found["msg"].endswith("Remedy: %s" % REMEDY)


def test_all_files_of_all_sets_are_named_at_once(prove, tmp_path):
    sets = dict(put(tmp_path, "gsm8k", ""), aime2024={"dir": "aime", "files": [{"path": "aime.jsonl", "format": "aime2024"}]})
    found = prove(dir=str(tmp_path / "sets"), sets=sets, remedy="ask Ann")
    assert "sets/gsm8k/f: found no sample" in found["msg"] and "sets/aime/aime.jsonl: found no such file" in found["msg"]
    assert found["msg"].endswith("Remedy: ask Ann") and len(found["sets"]) == 2


def test_of_many_wrong_lines_the_first_are_said(prove, tmp_path):
    found = prove(dir=str(tmp_path / "sets"), sets=put(tmp_path, "gsm8k", "x\n" * 1000))
    assert found["msg"].count("no JSON") == data_sets.MOST


@pytest.mark.parametrize(("sets", "said"), [
    ({"a": {}}, "found no files"), ({"a": {"files": [{"path": "../x", "format": "csv"}]}}, "below the set's folder"),
    ({"a": {"files": [{"path": "/x", "format": "csv"}]}}, "below the set's folder"), ({"a": {"files": ["x"]}}, "below the set's folder"),
    ({"a": {"files": [{"path": "x", "format": "xml"}]}}, "found format xml, wanted one of aime2024, csv, gpqa, gsm8k, jsonl"),
])
def test_data_that_is_not_understood(prove, tmp_path, sets, said):
    found = prove(dir=str(tmp_path), sets=sets)
    assert found["failed"] and said in found["msg"] and "Remedy: correct the data" in found["msg"]


def test_a_missing_file_is_fetched_once_and_only_where_allowed(prove, tmp_path):
    with web_server(lambda asked: (200, GSM8K.encode())) as server:
        sets = {"gsm8k": {"files": [{"path": "test.jsonl", "format": "gsm8k", "url": server.url + "/t", "sha256": sha(GSM8K)}]}}
        for more in ({}, {"fetch": True, "check": True}):
            assert prove(dir=str(tmp_path / "s"), sets=sets, **more)["failed"] and not server.asked
        found = prove(dir=str(tmp_path / "s"), sets=sets, fetch=True)
        assert (found["failed"], found["changed"], found["fetched"]) == (False, True, [str(tmp_path / "s" / "gsm8k" / "test.jsonl")])
        assert prove(dir=str(tmp_path / "s"), sets=sets, fetch=True)["changed"] is False and len(server.asked) == 1
    assert [path.name for path in (tmp_path / "s" / "gsm8k").iterdir()] == ["test.jsonl"]


@pytest.mark.parametrize(("answer", "more", "said"), [
    ((404, b""), {}, "answered 404"), ((200, b"another"), {}, "has a file with sha256 %s" % sha("another")),
    ((200, GSM8K.encode()), {"sha256": None}, "it is not fetched: found no sha256 of it in the data"),
])
def test_what_is_not_the_wanted_file_is_not_put_there(prove, tmp_path, answer, more, said):
    with web_server(lambda asked: answer) as server:
        entry = dict({"path": "f", "format": "gsm8k", "url": server.url, "sha256": sha(GSM8K)}, **more)
        found = prove(dir=str(tmp_path), sets={"gsm8k": {"files": [entry]}}, fetch=True)
    assert found["failed"] and said in found["msg"] and not (tmp_path / "gsm8k").exists()


def test_a_server_that_is_not_there_is_said(prove, tmp_path):
    entry = {"path": "f", "format": "gsm8k", "url": "http://127.0.0.1:1/x", "sha256": sha("")}
    assert "it was not fetched: " in prove(dir=str(tmp_path), sets={"gsm8k": {"files": [entry]}}, fetch=True)["msg"]
