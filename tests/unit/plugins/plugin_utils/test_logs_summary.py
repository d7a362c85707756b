# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The summary of a bundle: which errors it tells of, of which start, what it lacks, and which node gave nothing."""

from __future__ import annotations

import io
import json
import tarfile

import pytest

from ansible_collections.ascend.vllm.plugins.plugin_utils import causes, logs_summary

PLAN = {"groups": {"vllm": {"head": "a2-node0"}}, "hosts": {"a2-node0": {}, "a2-node1": {}}}
STARTED = "2026-01-31T12:00:00.123456789Z"
KNOWN = causes.load()
PORT = "(EngineCore_DP0 pid=7) ERROR 11-23 20:26:09 [core.py:866] zmq.error.ZMQError: Address already in use (addr='tcp://198.51.100.11:13389')"
EI0006 = "[ERROR] HCCL(7,python):2026-01-31-12:30:00.000.000 EI0006: Getting socket times out. Reason: the remote does not initiate a connect request"


def archive(path, inspect=None, log="", plogs=(), entries=(), **manifest):
    """Write a node's archive; C(plogs): (name, mtime, text)."""
    files = [("containers/vllm-rank0.inspect.json", 0, json.dumps(inspect))] if inspect else []
    files += [("containers/vllm-rank0.log", 0, log)] if log else []
    files += [(f"plog/vllm-rank0/{name}", mtime, text) for name, mtime, text in plogs]
    files.append(("MANIFEST.json", 0, json.dumps({"units": ["vllm-rank0"], "entries": list(entries), **manifest})))
    with tarfile.open(path, "w:gz") as tar:
        for name, mtime, text in files:
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(text.encode()), mtime
            tar.addfile(info, io.BytesIO(text.encode()))
    return {"archive": str(path), "error": "", "bytes": 1234567}


def state(**values):
    """Return what the engine says of a container."""
    return {"State": {"Running": False, "ExitCode": 1, "StartedAt": STARTED, **values}}


def stamped(*lines, hour=13):
    """Return lines with the engine's time."""
    return "".join(f"2026-01-31T{hour}:00:00.000000000Z {line}\n" for line in lines)


def built(part, language="en"):
    """Return the summary of two nodes, the second of which was not reached."""
    parts = {"a2-node0": part, "a2-node1": {"archive": None, "error": "no route to host"}}
    return logs_summary.build("vllm", "2026-01-31T23:59:59Z", PLAN, parts, KNOWN, language)


def test_a_cause_is_told_with_its_remedy_and_its_lines(tmp_path):
    summary = built(archive(tmp_path / "a.tar.gz", state(), stamped("INFO 11-23 20:26:00 [x.py:1] starting", PORT)))
    unit = summary["nodes"][0]["units"][0]
    assert unit["state"] == "exited with status 1" and [cause["name"] for cause in unit["now"]["causes"]] == ["zmq_port_in_use"]
    assert not unit["before"]["causes"] and not summary["complete"]
    text = logs_summary.text(summary)
    cause = unit["now"]["causes"][0]
    assert cause["cause"] in text and f"Remedy: {cause['remedy']}" in text and "13389" in text
    shown = "\n".join(logs_summary.lines(summary))
    assert cause["cause"] in shown and cause["remedy"] in shown and "2026-01-31T13" not in shown
    assert "a2-node0 (head): 0 files, 1.2 MB" in shown and "a2-node1: NOT IN THE BUNDLE: no route to host" in shown
    assert text.index("NOT IN THE BUNDLE: a2-node1: no route to host") < text.index("ERRORS") < text.index(cause["cause"]) < text.index("WHAT IS LACKING")


def test_what_was_before_the_last_start_is_told_as_such(tmp_path):
    running = state(Running=True)
    summary = built(archive(tmp_path / "a.tar.gz", running, stamped(PORT, hour=11) + stamped("INFO 11-23 20:26:00 [x.py:1] fine")))
    unit = summary["nodes"][0]["units"][0]
    assert unit["state"] == "running since 2026-01-31T12:00:00Z"
    assert not unit["now"]["causes"] and [cause["name"] for cause in unit["before"]["causes"]] == ["zmq_port_in_use"]
    assert "before its last start: " in logs_summary.text(summary) and "before its last start: " in "\n".join(logs_summary.lines(summary))


def test_cann_logs_are_explained_too_by_their_age(tmp_path):
    noon = 1769860800
    for moment, when in ((noon + 60, "now"), (noon - 60, "before")):
        unit = built(archive(tmp_path / "a.tar.gz", state(Running=True), plogs=[("debug/plog-1.log", moment, EI0006 + "\n")]))["nodes"][0]["units"][0]
        assert [cause["name"] for cause in unit[when]["causes"]] == ["EI0006"]


def test_chinese(tmp_path):
    unit = built(archive(tmp_path / "a.tar.gz", state(), stamped(PORT)), "zh")["nodes"][0]["units"][0]
    assert unit["now"]["causes"][0]["cause"] == causes.explain([PORT], KNOWN, "zh")["causes"][0]["cause"]
    assert not unit["now"]["causes"][0]["cause"].isascii()


def test_how_a_container_ended_is_explained(tmp_path):
    unit = built(archive(tmp_path / "a.tar.gz", state(ExitCode=137, OOMKilled=True)))["nodes"][0]["units"][0]
    assert unit["state"] == "exited with status 137, out of memory"
    assert "host_out_of_memory" in [cause["name"] for cause in unit["now"]["causes"]]


def test_an_unknown_error_is_shown_by_its_traceback(tmp_path):
    trace = ["Traceback (most recent call last):", '  File "/a.py", line 7, in <module>', "    frobnicate()", "FrobnicationError: the frob is not nicated"]
    summary = built(archive(tmp_path / "a.tar.gz", state(), stamped("INFO 11-23 20:26:00 [x.py:1] starting", *trace)))
    text = logs_summary.text(summary)
    assert "an error that is not known; its first traceback:" in text and text.index("frobnicate()") < text.index("the frob is not nicated")
    assert "unknown error, see SUMMARY.txt: FrobnicationError: the frob is not nicated" in "\n".join(logs_summary.lines(summary))


def test_an_unknown_error_without_a_traceback_is_shown_by_its_last_lines(tmp_path):
    summary = built(archive(tmp_path / "a.tar.gz", state(Running=True), stamped(*(f"ERROR 11-23 20:26:09 [x.py:1] odd {number}" for number in range(9)))))
    text = logs_summary.text(summary)
    assert "errors that are not known; the last:" in text and "odd 8" in text and "odd 3" not in text


def test_no_error(tmp_path):
    summary = built(archive(tmp_path / "a.tar.gz", state(Running=True), stamped("INFO 11-23 20:26:09 [x.py:1] fine")))
    assert "no error found" in logs_summary.text(summary)
    assert logs_summary.lines(summary)[1:2] == ["  vllm-rank0: running since 2026-01-31T12:00:00Z"]


def test_what_is_lacking_is_said(tmp_path):
    entries = [{"file": "containers/vllm-rank0.log", "bytes": 5, "cut": "the newest 5 of 9 bytes", "error": None}]
    entries += [{"file": "containers/vllm-rank0.inspect.json", "bytes": 0, "cut": None, "error": "there is no such container"}]
    entries += [{"file": f"plog/vllm-rank0/{number}", "bytes": 0, "cut": None, "error": "no text"} for number in range(39)]
    part = dict(archive(tmp_path / "a.tar.gz", entries=entries, secrets_too_short=1), note="A folder may be left.")
    summary = built(part)
    text = logs_summary.text(summary)
    assert "cut: containers/vllm-rank0.log: the newest 5 of 9 bytes" in text and "not to be had: plog/vllm-rank0/0: no text" in text
    assert "not to be had: 10 more, see MANIFEST.json of the node" in text and "A folder may be left." in text and "1 secret(s) of fewer than 4" in text
    assert logs_summary.lines(summary)[0] == "a2-node0 (head): 1 files, 1.2 MB, 1 cut, 40 not to be had"
    assert "vllm-rank0: there is no such container" in text


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: b"no archive"])
def test_an_archive_that_is_none_is_a_node_that_gave_nothing(tmp_path, damage):
    path = tmp_path / "a.tar.gz"
    part = archive(path, state(), stamped(*(f"ERROR {number * 7919}" for number in range(2000))))
    path.write_bytes(damage(path.read_bytes()))
    node = built(part)["nodes"][0]
    assert not node["given"] and "its archive cannot be read" in node["why"]


def test_a_node_that_nobody_heard_of():
    summary = logs_summary.build("vllm", "now", PLAN, {}, KNOWN)
    assert [node["why"] for node in summary["nodes"]] == ["no answer", "no answer"] and not summary["complete"]


def test_of_many_errors_the_first_and_the_last_are_looked_at():
    picked = logs_summary.Picked()
    for number in range(100000):
        picked.take(f"error {number}")
    lines = picked.lines()
    assert len(lines) == logs_summary.FIRST + logs_summary.LAST and (lines[0], lines[-1]) == ("error 0", "error 99999")
    picked = logs_summary.Picked()
    for line in ["fine"] * 5 + ["Traceback"] + ["frame"] * 100:
        picked.take(line)
    assert len(picked.lines()) == 1 + logs_summary.AFTER


@pytest.mark.parametrize(("number", "said"), [(0, "0 bytes"), (999, "999 bytes"), (1500, "1.5 kB"), (200000000, "200.0 MB"), (3 * 10**9, "3.0 GB")])
def test_sizes(number, said):
    assert logs_summary.size(number) == said
