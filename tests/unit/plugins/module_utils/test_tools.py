# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Finding tools and running them, with real processes."""

from __future__ import annotations

import os
import select
import sys
import time
from types import SimpleNamespace

import pytest

from ansible_collections.ascend.vllm.plugins.module_utils import tools


def script(folder, body, name="tool", mode=0o755):
    path = folder / name
    path.write_text("#!/bin/sh\n" + body)
    path.chmod(mode)
    return str(path)


@pytest.fixture
def from_mark(tmp_path, monkeypatch):
    """The path of a file with which the time of a tool begins to run: its limit is short, however long the machine takes to start it."""
    mark, begun = tmp_path / "begun", []

    def monotonic():
        now = time.monotonic()
        if not begun and mark.exists():
            begun.append(now)
        return now - begun[0] if begun else 0.0

    monkeypatch.setattr(tools, "time", SimpleNamespace(monotonic=monotonic))
    return mark


def test_find_in_path_first_then_the_known_places(tmp_path):
    path = script(tmp_path, "exit 0\n", name="npu-smi")
    found = tools.find_tool("npu-smi", environ={"PATH": str(tmp_path)})
    assert found["path"] == path and found["problem"] is None
    folders = [os.path.dirname(place) for place in found["searched"]]
    assert folders == [
        str(tmp_path),
        "/usr/local/bin",
        "/usr/local/sbin",
        "/usr/bin",
        "/usr/local/Ascend/driver/tools",
    ]


def test_find_in_the_tools_of_the_driver(tmp_path):
    (tmp_path / "tools").mkdir()
    path = script(tmp_path / "tools", "exit 0\n", name="hccn_tool")
    assert tools.find_tool("hccn_tool", driver_home=str(tmp_path), environ={"PATH": ""})["path"] == path


def test_find_goes_on_past_what_cannot_be_run(tmp_path):
    first, second = tmp_path / "a", tmp_path / "b"
    first.mkdir()
    second.mkdir()
    (first / "hccn_tool").mkdir()
    path = script(second, "exit 0\n", name="hccn_tool")
    assert tools.find_tool("hccn_tool", environ={"PATH": "%s:%s" % (first, second)})["path"] == path


@pytest.mark.parametrize("kind, words", [("missing", None), ("directory", "a directory"), ("mode", "not executable"), ("pipe", "not a file")])
def test_a_stated_path_is_the_only_one(tmp_path, kind, words):
    place = tmp_path / "npu-smi"
    if kind == "directory":
        place.mkdir()
    elif kind == "mode":
        script(tmp_path, "exit 0\n", name="npu-smi", mode=0o644)
    elif kind == "pipe":
        os.mkfifo(str(place))
    found = tools.find_tool("npu-smi", str(place))
    assert found["path"] is None and found["searched"] == [str(place)]
    assert (found["problem"] is None) if words is None else words in found["problem"]
    message = tools.not_found_message("npu-smi", found, "npu_smi_path")
    assert str(place) in message and "npu_smi_path" in message


def test_run_captures_both_streams_and_the_status(tmp_path):
    run = tools.run_tool([script(tmp_path, "echo out; echo err >&2; exit 13\n"), "x"], 10)
    assert (run.rc, run.out, run.err, run.timed_out, run.truncated, run.error) == (13, "out\n", "err\n", False, False, None)
    assert run.text == "out\nerr" and run.failure() is None


def test_run_has_no_standard_input(tmp_path):
    assert tools.run_tool([script(tmp_path, "cat; echo done\n")], 10).out == "done\n"


def test_a_hanging_tool_is_stopped_with_its_children(tmp_path, from_mark):
    # The tool and its child have the pipe open, which ends with the last one of them.
    pipe = tmp_path / "pipe"
    os.mkfifo(str(pipe))
    reader = os.open(str(pipe), os.O_RDONLY | os.O_NONBLOCK)
    try:
        started = time.monotonic()
        run = tools.run_tool([script(tmp_path, "exec 3>%s; echo begun; (sleep 60) & touch %s; sleep 60\n" % (pipe, from_mark))], 0.3)
        assert time.monotonic() - started < 5
        assert run.timed_out and run.rc is None and run.out == "begun\n"
        assert "timed out after 0.3 s" in run.failure()
        assert select.select([reader], [], [], 10)[0] and os.read(reader, 1) == b"", "a child of the tool went on"
    finally:
        os.close(reader)


def test_a_tool_that_ignores_sigterm_is_stopped(tmp_path):
    run = tools.run_tool([script(tmp_path, "trap '' TERM INT HUP; while :; do sleep 0.1; done\n")], 0.3)
    assert run.timed_out


def test_a_child_that_keeps_the_pipe_open_is_not_waited_for(tmp_path):
    started = time.monotonic()
    run = tools.run_tool([script(tmp_path, "echo answer; sleep 8 & exit 0\n")], 30)
    assert time.monotonic() - started < 5
    assert (run.rc, run.out, run.timed_out) == (0, "answer\n", False)


def test_megabytes_are_drained_and_cut(tmp_path):
    body = "%s -c \"import sys; sys.stdout.write('x' * 20000000); sys.stderr.write('e' * 3000000)\"; exit 3\n" % sys.executable
    run = tools.run_tool([script(tmp_path, body)], 60, max_bytes=1000)
    assert (run.rc, len(run.out), len(run.err), run.truncated) == (3, 1000, 1000, True)


def test_output_without_end_is_a_timeout(tmp_path, from_mark):
    run = tools.run_tool([script(tmp_path, "yes | head -c 1000; touch %s; yes\n" % from_mark)], 0.5, max_bytes=1000)
    assert run.timed_out and len(run.out) == 1000


def test_bytes_that_are_no_utf8(tmp_path):
    run = tools.run_tool([script(tmp_path, "printf 'a\\377\\376b\\000c'\n")], 10)
    assert run.out == "a\ufffd\ufffdbc"


@pytest.mark.parametrize("kind", ["missing", "mode", "interpreter", "rubbish", "directory"])
def test_what_cannot_be_started(tmp_path, kind):
    place = tmp_path / "tool"
    if kind == "mode":
        script(tmp_path, "exit 0\n", mode=0o644)
    elif kind == "interpreter":
        place.write_text("#!/nowhere/sh\n")
        place.chmod(0o755)
    elif kind == "rubbish":
        place.write_bytes(b"\x7fELF\x00\x01")
        place.chmod(0o755)
    elif kind == "directory":
        place.mkdir()
    run = tools.run_tool([str(place)], 5)
    assert run.rc is None and run.error and "could not be run" in run.failure()


def test_killed_by_a_signal(tmp_path):
    run = tools.run_tool([script(tmp_path, "kill -SEGV $$\n")], 5)
    assert run.rc == -11 and "killed by signal 11" in run.failure()


def test_environment_has_the_driver_libraries_first():
    environment = tools.tool_environment("/opt/a/driver", {"PATH": "/bin", "LD_LIBRARY_PATH": "/x", "HOME": "/root"})
    assert environment["LD_LIBRARY_PATH"] == "/opt/a/driver/lib64:/opt/a/driver/lib64/common:/opt/a/driver/lib64/driver:/x"
    assert environment["PATH"].split(":")[0] == "/bin" and "/usr/local/sbin" in environment["PATH"].split(":")
    assert environment["HOME"] == "/root"


class Tool:
    """Stands in for run_tool: gives its answers in turn, the last one for ever, and keeps its own time."""

    def __init__(self, answers, takes=0.0):
        self.answers = list(answers)
        self.takes = takes
        self.now = 0.0
        self.pauses = []

    def run(self, argv, timeout, env):
        self.now += self.takes
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer == "hang":
            return tools.ToolRun(argv, timed_out=True, timeout=timeout)
        return tools.ToolRun(argv, rc=0, out=answer)

    def sleep(self, seconds):
        self.pauses.append(seconds)
        self.now += seconds

    def runner(self, budget):
        return tools.PatientRunner(
            30, budget, is_busy=lambda run: run.out == "busy", run=self.run, sleep=self.sleep, clock=lambda: self.now
        )


def test_busy_is_retried_with_growing_pauses():
    tool = Tool(["busy", "busy", "busy", "done"])
    runner = tool.runner(30)
    assert runner(["t"]).out == "done"
    assert tool.pauses == [0.2, 0.4, 0.8] and runner.retries == 3 and runner.calls == 4


def test_busy_for_ever_costs_its_budget_once():
    tool = Tool(["busy"])
    runner = tool.runner(30)
    assert runner(["t"]).out == "busy"
    assert tool.now == pytest.approx(30) and max(tool.pauses) == 5.0
    calls = runner.calls
    assert runner(["t"]).out == "busy"
    assert runner.calls == calls + 1 and tool.now == pytest.approx(30)


def test_the_budget_comes_back_once_the_tool_is_free_again():
    tool = Tool(["busy"])
    runner = tool.runner(1)
    runner(["t"])
    tool.answers = ["done", "busy", "done"]
    assert runner(["t"]).out == "done"
    assert runner(["t"]).out == "done" and tool.pauses[-1] == 0.2


def test_no_budget_means_one_try():
    tool = Tool(["busy"])
    runner = tool.runner(0)
    assert runner(["t"]).out == "busy" and runner.calls == 1 and tool.pauses == []


def test_two_timeouts_in_a_row_end_the_asking():
    tool = Tool(["hang", "fine", "hang", "hang", "fine"])
    runner = tool.runner(30)
    kinds = [runner(["t"]).failure() for dummy in range(6)]
    assert [bool(kind) for kind in kinds] == [True, False, True, True, True, True]
    assert "timed out twice in a row" in kinds[4] and runner.calls == 4


@pytest.mark.parametrize(
    "text, words",
    [
        ("npu-smi: error while loading shared libraries: libdcmi.so: cannot open shared object file", "libraries"),
        ("permission denied: pls check this cmd run permission.", "become"),
        ("Permission denied", "become"),
        ("anything else", ""),
    ],
)
def test_hint(text, words):
    assert (words in tools.hint(text)) if words else tools.hint(text) == ""


def test_clip():
    assert tools.clip(" a \n\n\tb\n") == "a / b"
    assert len(tools.clip("x" * 5000)) < 420
