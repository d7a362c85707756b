# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The program above a client, run as it is run in a container: its text given to a Python. The clients are real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from ansible_collections.ascend.vllm.plugins.module_utils import client_guard
from ansible_collections.ascend.vllm.plugins.module_utils.client_runs import guard_text

SLEEPER = "import time; print('here', flush=True); time.sleep(60)"


def given(folder, argv, **more):
    return dict({"run_id": "r-%s" % os.path.basename(os.path.dirname(str(folder))), "settings": "s", "argv": argv, "results_dir": str(folder), "limit_s": 30,
                 "secrets": {}}, **more)


def begin(folder, argv, env=None, **more):
    assert client_guard.prepare(str(folder)) is None
    return subprocess.Popen([sys.executable, "-I", "-c", guard_text(), "run", json.dumps(given(folder, argv, **more))], env=dict(os.environ, **(env or {})))


def until(what, seconds=15):
    deadline = time.monotonic() + seconds
    while not what() and time.monotonic() < deadline:
        time.sleep(0.05)
    return what()


@pytest.fixture
def folder(tmp_path):
    """Where the results go."""
    return tmp_path / "results"


def test_a_client_runs_in_its_folder_without_proxies_and_with_its_secrets(folder, tmp_path):
    (tmp_path / "key").write_text("of-the-service\n")
    code = ("import os, sys; open('out.json', 'w').write(os.environ['OPENAI_API_KEY']); "
            "print(sorted(n for n in os.environ if n.lower().endswith('_proxy'))); sys.stderr.write('half\\rwhole\\n'); sys.exit(3)")
    process = begin(folder, [sys.executable, "-c", code], {"HTTPS_PROXY": "http://p", "no_proxy": "x", "all_proxy": "y"},
                    secrets={"OPENAI_API_KEY": str(tmp_path / "key")})
    assert process.wait(20) == 3
    state = client_guard.read_state(str(folder))
    assert (state["rc"], state["timed_out"], state["error"], state["collected"]) == (3, False, None, False)
    assert state["tail"] == ["[]", "half", "whole"] and state["seconds"] < 20
    assert (folder / "out.json").read_text() == "of-the-service" and (folder / client_guard.LOG).read_bytes() == b"[]\nhalf\rwhole\n"
    assert "of-the-service" not in (folder / client_guard.STATE).read_text()


def test_at_its_limit_it_is_ended_with_all_that_it_started_and_nothing_else(folder, tmp_path):
    bystander = subprocess.Popen([sys.executable, "-c", SLEEPER], stdout=subprocess.DEVNULL, env=dict(os.environ, ASCEND_VLLM_CLIENT="r-another"))
    # The child leaves the session, the client ignores SIGTERM. A shell has begun long before the limit.
    code = "setsid sleep 60 & echo $! >pids; trap '' TERM; echo begun; sleep 60"
    text = guard_text().replace("GRACE_S = 10.0", "GRACE_S = 0.5")
    assert client_guard.prepare(str(folder)) is None
    process = subprocess.Popen([sys.executable, "-I", "-c", text, "run", json.dumps(given(folder, ["sh", "-c", code], limit_s=3))])
    try:
        assert process.wait(30) == 124
        state = client_guard.read_state(str(folder))
        assert (state["rc"], state["timed_out"]) == (124, True) and "its limit" in state["error"] and "begun" in state["tail"]
        child = int((folder / "pids").read_text())
        assert until(lambda: not os.path.exists("/proc/%d" % child) or open("/proc/%d/stat" % child).read().rpartition(")")[2].split()[0] == "Z")
        assert client_guard.marked(state["run_id"]) == [] and bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait(10)


def test_sigterm_ends_the_client(folder):
    process = begin(folder, [sys.executable, "-c", SLEEPER])
    assert until(lambda: "here" in ((client_guard.read_state(str(folder)) or {}).get("tail") or []))
    pid = client_guard.read_state(str(folder))["pid"]
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 128 + signal.SIGTERM
    state = client_guard.read_state(str(folder))
    assert (state["rc"], state["timed_out"], state["error"]) == (143, False, "it was ended from outside")
    with pytest.raises(OSError):
        os.kill(pid, 0)


def test_processes_are_ended_by_their_mark(folder):
    process = begin(folder, [sys.executable, "-c", SLEEPER])
    assert until(lambda: "here" in ((client_guard.read_state(str(folder)) or {}).get("tail") or []))
    state = client_guard.read_state(str(folder))
    assert client_guard.marked(state["run_id"]) == [state["pid"]] and client_guard.marked(state["run_id"][:-1]) == []
    assert client_guard.main(["end", json.dumps({"run_id": state["run_id"]})]) == 0
    assert process.wait(20) == 143


def test_a_client_that_cannot_be_started_is_said(folder, tmp_path):
    assert begin(folder, ["/no/such/client"]).wait(20) == 127
    assert "No such file" in client_guard.read_state(str(folder))["error"]
    assert begin(folder, ["true"], secrets={"A": str(tmp_path / "none")}).wait(20) == 127
    assert "none" in client_guard.read_state(str(folder))["error"]


def test_one_client_at_a_time_holds_the_lock(folder, tmp_path):
    lock = str(tmp_path / "lock")
    first = begin(folder, [sys.executable, "-c", SLEEPER], lock=lock)
    assert until(lambda: client_guard.read_state(str(folder)))
    assert json.loads(open(lock).read())["results_dir"] == str(folder)
    assert begin(tmp_path / "other", ["true"], lock=lock).wait(20) == 75
    first.terminate()
    first.wait(20)
    assert begin(tmp_path / "other", ["true"], lock=lock).wait(20) == 0


def test_a_folder_is_emptied_only_if_a_client_left_it(tmp_path):
    mine = tmp_path / "mine"
    assert client_guard.prepare(str(mine), owner=[os.getuid(), os.getgid()]) is None
    client_guard.write_state(str(mine), {"run_id": "r"})
    (mine / "out").mkdir()
    (mine / "out" / "x").write_text("x")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    (mine / "link").symlink_to(outside)
    assert client_guard.prepare(str(mine)) is None and os.listdir(str(mine)) == [client_guard.FOLDER]
    assert (outside / "kept").exists()
    assert "no client of this collection wrote" in client_guard.prepare(str(outside))[0] and (outside / "kept").exists()
    (tmp_path / "a").symlink_to(mine)
    assert "link or a file" in client_guard.prepare(str(tmp_path / "a"))[0]
    assert "MB free" in client_guard.prepare(str(mine), min_free_mb=1 << 40)[0]


def test_a_state_that_is_a_link_or_none_is_not_read(tmp_path):
    (tmp_path / client_guard.FOLDER).mkdir()
    assert client_guard.read_state(str(tmp_path)) is None
    (tmp_path / "secret").write_text("{}")
    (tmp_path / client_guard.STATE).symlink_to(tmp_path / "secret")
    assert client_guard.read_state(str(tmp_path)) is None
    (tmp_path / client_guard.STATE).unlink()
    (tmp_path / client_guard.STATE).write_text("[]")
    assert client_guard.read_state(str(tmp_path)) is None


def test_collected_is_said_of_its_own_run_only(tmp_path):
    client_guard.prepare(str(tmp_path / "r"))
    client_guard.write_state(str(tmp_path / "r"), {"run_id": "a"})
    for run_id, wanted in (("b", None), ("a", True)):
        client_guard.main(["collected", json.dumps({"results_dir": str(tmp_path / "r"), "run_id": run_id})])
        assert client_guard.read_state(str(tmp_path / "r")).get("collected") == wanted


def test_the_tail_is_bounded():
    tail = client_guard.Tail()
    tail.feed(b"".join(b"line %d\n" % number for number in range(1000)) + b"x" * 100000)
    lines = tail.lines()
    assert len(lines) == client_guard.TAIL_LINES and lines[-2] == "line 999" and len(lines[-1]) == client_guard.TAIL_WIDTH


def test_it_stands_alone():
    # In a container there is no Ansible.
    assert "import ansible" not in guard_text() and "from ansible" not in guard_text()
