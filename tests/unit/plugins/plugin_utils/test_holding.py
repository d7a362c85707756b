# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who holds a lock, and whether a holder is there any more, on real processes and on made up ones."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ansible_collections.ascend.vllm.plugins.plugin_utils import holding

NOW = 1760000000.0


@pytest.fixture
def process():
    """A process that goes on for a while."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield child
    child.kill()
    child.wait(10)


def stat(folder, pid, state="S", start="4711", name="a (b) c"):
    """Write what the kernel says of a process."""
    (folder / str(pid)).mkdir(exist_ok=True)
    (folder / str(pid) / "stat").write_text(f"{pid} ({name}) {state} " + " ".join(str(number) for number in range(4, 22)) + f" {start} 99\n")


def test_a_holder_says_who_for_what_and_how_long():
    found = holding.describe(os.getpid(), "stop", "ops", NOW, 600)
    assert set(found) == {"id", "controller", "pid", "began", "who", "verb", "since", "until"}
    assert (found["pid"], found["verb"], found["since"], found["until"]) == (os.getpid(), "stop", 1760000000, 1760000600)
    assert found["who"].startswith("ops on ") and found["began"].isdigit()
    assert found["id"] == f"{found['controller']}/{os.getpid()}/{found['began']}"
    assert holding.describe(os.getpid(), "launch", "ops", NOW + 9, 600)["id"] == found["id"]
    assert holding.describe(os.getppid(), "stop", "ops", NOW, 600)["id"] != found["id"]


def test_a_controller_is_told_apart_by_machine_and_by_how_its_processes_are_numbered(tmp_path):
    machine, space = tmp_path / "machine-id", tmp_path / "self" / "ns" / "pid"
    space.parent.mkdir(parents=True)
    bare = holding.controller(machine, tmp_path)
    machine.write_text("c0ffee\n")
    space.symlink_to("pid:[1]")
    first = holding.controller(machine, tmp_path)
    space.unlink()
    space.symlink_to("pid:[2]")
    assert first.endswith("/c0ffee/pid:[1]") and len({bare, first, holding.controller(machine, tmp_path)}) == 3
    machine.write_bytes(b"\xff")
    assert holding.controller(machine, tmp_path).endswith("//pid:[2]")


def test_when_a_process_began(tmp_path, process):
    assert holding.began(process.pid) == holding.began(process.pid) and holding.began(process.pid).isdigit()
    stat(tmp_path, 7)
    assert holding.began(7, tmp_path) == "4711"
    stat(tmp_path, 7, state="Z")
    assert holding.began(7, tmp_path) is None and holding.began(8, tmp_path) is None
    (tmp_path / "7" / "stat").write_text("7 (a")
    assert holding.began(7, tmp_path) is None


def test_a_system_without_proc_is_asked_by_ps(tmp_path, monkeypatch):
    ps = tmp_path / "bin" / "ps"
    ps.parent.mkdir()
    ps.write_text('#!/bin/sh\n[ "$*" = "-o lstart= -p 7" ] && echo "Thu Oct  9 08:53:20 2025 $LC_ALL $TZ"\n')
    ps.chmod(0o755)
    monkeypatch.setenv("PATH", str(ps.parent))
    monkeypatch.setenv("LC_ALL", "zh_CN.UTF-8")
    assert holding.began(7, tmp_path / "no-proc") == "Thu Oct  9 08:53:20 2025 C UTC"
    assert holding.began(8, tmp_path / "no-proc") is None
    ps.unlink()
    assert holding.began(7, tmp_path / "no-proc") is None


def test_a_process_that_was_killed_has_ended_also_before_anybody_waits_for_it(process):
    start = holding.began(process.pid)
    assert holding.ended(process.pid, start) is False and holding.ended(process.pid, "1") is True
    process.kill()
    until = time.monotonic() + 10
    while holding.began(process.pid) and time.monotonic() < until:
        time.sleep(0.01)
    assert Path(f"/proc/{process.pid}").exists() and holding.ended(process.pid, start) is True
    process.wait(10)
    assert holding.ended(process.pid, start) is True


def test_a_process_that_the_system_hides_has_not_ended(tmp_path, process, monkeypatch):
    def refuse(pid, signal):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(holding.os, "kill", refuse)
    assert holding.ended(process.pid, "4711", tmp_path) is False


def test_a_holder_that_did_not_know_when_it_began_is_there_while_its_number_is(process):
    assert holding.ended(process.pid, None) is False


def test_another_run_of_this_controller_is_waited_for_while_its_process_is_there(process):
    mine = holding.describe(os.getpid(), "stop", "ops", NOW, 600)
    other = holding.describe(process.pid, "switch", "ops", NOW, 600)
    assert holding.gone(other, mine, NOW) is None
    # However long it takes.
    assert holding.gone(other, mine, NOW + 10**6) is None
    # The number belongs to somebody else now.
    assert holding.gone({**other, "began": "1"}, mine, NOW) == f"its process {process.pid} on this controller has ended"
    process.kill()
    process.wait(10)
    assert holding.gone(other, mine, NOW) == f"its process {process.pid} on this controller has ended"


def test_a_run_of_another_controller_is_waited_for_while_its_time_is(process):
    mine = holding.describe(os.getpid(), "stop", "ops", NOW, 600)
    other = {**mine, "controller": "elsewhere", "pid": 2**22 + 1}
    assert holding.gone(other, mine, NOW + 600) is None
    assert holding.gone(other, mine, NOW + 601) == "its time was over at 2025-10-09 09:03:20 UTC"


@pytest.mark.parametrize("other", [{"id": ""}, {"id": "x", "until": "soon"}, {"id": "x", "pid": "7", "until": None}])
def test_a_holder_of_whom_nothing_is_known_is_waited_for(other):
    assert holding.gone(other, holding.describe(os.getpid(), "stop", "ops", NOW, 600), NOW * 2) is None


def test_a_lock_without_a_usable_number_of_a_process_is_judged_by_its_time():
    mine = holding.describe(os.getpid(), "stop", "ops", NOW, 600)
    for pid in (0, -1, None, "7"):
        assert holding.gone({**mine, "pid": pid}, mine, NOW) is None
        assert "its time was over" in holding.gone({**mine, "pid": pid}, mine, NOW + 601)


@pytest.mark.parametrize(("other", "wanted"), [
    ({"who": "ops on c1", "pid": 7, "verb": "stop", "since": NOW}, "ops on c1 (process 7), verb stop since 2025-10-09 08:53:20 UTC"),
    ({"who": "a file that is no lock: /run/x"}, "a file that is no lock: /run/x"), ({}, "somebody"),
])
def test_a_holder_in_words(other, wanted):
    assert holding.words(other) == wanted
