# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""serve_released: what is left of containers that were stopped, on a made up node and with real processes and ports."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import pytest

from ansible_collections.ascend.vllm.plugins.module_utils import host, tools
from ansible_collections.ascend.vllm.plugins.modules import serve_released
from ansible_collections.ascend.vllm.tests.unit.plugins.servers import FakeEngine, free_port, inspected, unix_server

LISTEN = "import socket, sys, time; s = socket.create_server(('127.0.0.1', int(sys.argv[1]))); print('ready', flush=True); time.sleep(60)"


class Engine:
    """Containers by name, each with whether it runs."""

    def __init__(self, **containers):
        self.containers = containers

    def container(self, name):
        """Return the inspected container, or None."""
        return inspected(self.containers[name]) if name in self.containers else None


@pytest.fixture
def proc(tmp_path):
    """A function (pid, name, state) that adds a process to a made up /proc."""
    def add(pid, name="VLLM::Worker_TP0", state="S"):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "stat").write_text("%d (%s) %s 1 2 3\n" % (pid, name, state))

    return add


def table(*npus):
    """Return what npu-smi says of (phy_id, HBM in use, pids of its processes) each."""
    def ask(npu_smi_path, details):
        assert details is False
        return {"npus": [{"npu_id": number, "phy_id": number, "hbm_used_mb": used, "processes": [{"pid": pid, "name": "x"} for pid in pids]}
                         for number, used, pids in npus]}

    return ask


def left(tmp_path, engine=None, ask=None, **given):
    """Return (check, device, observed) of what is left."""
    asked = dict({"containers": ["vllm-rank0"], "pids": [], "ports": [], "npus": [], "hbm_idle_mb": 4096, "npu_smi_path": None}, **given)
    return [(entry["check"], entry["device"], entry["observed"]) for entry in serve_released.look(asked, engine or Engine(), ask, str(tmp_path))]


def test_nothing_is_left(tmp_path):
    assert left(tmp_path, pids=[7, 8], ports=[8000], npus=[0, 1], ask=table((0, 3445, []), (1, 4096, []), (2, 60000, [9]))) == []
    assert left(tmp_path, Engine(**{"vllm-rank0": False})) == []


def test_a_container_that_runs(tmp_path):
    assert left(tmp_path, Engine(**{"vllm-rank0": True, "other": True})) == [("container_stopped", "vllm-rank0", "it runs")]


def test_processes(tmp_path, proc):
    proc(7)
    proc(8, "a) S (b")
    proc(9, "gone", "Z")
    proc(10, "")
    proc(11, "going", "X")
    proc(12, "a stranger's")
    assert left(tmp_path, pids=[11, 10, 9, 8, 7, 6]) == [
        ("process_gone", "pid 7", "VLLM::Worker_TP0 runs"), ("process_gone", "pid 8", "a) S (b runs"), ("process_gone", "pid 10", "a process runs")]


def test_ports_are_the_group_s_only_while_one_of_its_processes_has_them(tmp_path, proc, monkeypatch):
    proc(7)
    proc(12)
    found = [{"port": 8000, "address": address, "pid": 7, "process": "x"} for address in ("0.0.0.0", "::")]
    found += [{"port": 13389, "address": "0.0.0.0", "pid": 12, "process": "a stranger's"}, {"port": 13390, "address": "0.0.0.0", "pid": None, "process": None}]
    monkeypatch.setattr(host, "listening", lambda ports, proc: found if ports == [8000, 13389, 13390] and proc == str(tmp_path) else [])
    assert left(tmp_path, pids=[7, 9], ports=[8000, 13389, 13390]) == [
        ("process_gone", "pid 7", "VLLM::Worker_TP0 runs"), ("port_released", "port 8000", "pid 7 listens on it")]


def test_npus(tmp_path, proc):
    proc(7)
    proc(12)
    npus = table((0, 60000, [12, 7]), (1, 60000, [12]), (2, 4097, []), (3, 4096, []), (4, 60000, []), (5, None, []))
    assert left(tmp_path, pids=[7], npus=[0, 1, 2, 3, 5], ask=npus)[1:] == [
        ("npu_released", "npu0", "pid 7 is on it"), ("npu_released", "npu2", "4097 MB of HBM in use without a process")]
    # Without a limit only processes count.
    assert left(tmp_path, npus=[0, 1, 2, 3, 5], ask=npus, hbm_idle_mb=None) == []


def test_an_npu_without_a_physical_id_is_known_by_its_number(tmp_path):
    npus = {"npus": [{"npu_id": 3, "phy_id": None, "hbm_used_mb": 9999, "processes": None}]}
    assert left(tmp_path, npus=[3], ask=lambda **given: npus) == [("npu_released", "npu3", "9999 MB of HBM in use without a process")]


def test_a_driver_that_does_not_answer_is_named_by_its_own_checks(tmp_path):
    def ask(npu_smi_path, details):
        raise tools.NoAnswer("npu-smi hangs", {})

    assert left(tmp_path, npus=[0], ask=ask) == []


@pytest.fixture
def ask(run_module, tmp_path):
    """A function (engine, **parameters) -> the module's result."""
    def run(engine, **parameters):
        path = str(tmp_path / "d.sock")
        with unix_server(path, engine):
            return run_module(serve_released, docker_socket=path, **parameters)

    return run


@pytest.fixture
def process():
    """A function that starts a process that listens on a port."""
    children = []

    def start(port):
        child = subprocess.Popen([sys.executable, "-c", LISTEN, str(port)], stdout=subprocess.PIPE)
        children.append(child)
        assert child.stdout.readline() == b"ready\n"
        return child

    yield start
    for child in children:
        child.kill()
        child.communicate(timeout=10)


def test_real_processes_and_ports(ask, process):
    port, other = free_port(), free_port()
    mine, stranger = process(port), process(other)
    given = {"containers": ["vllm-rank0"], "pids": [mine.pid], "ports": [port, other], "wait_s": 0}
    result = ask(FakeEngine(containers={"vllm-rank0": inspected(False)}), check=True, **given)
    assert [(entry["check"], entry["device"]) for entry in result["left"]] == [("process_gone", "pid %d" % mine.pid), ("port_released", "port %d" % port)]
    assert result["changed"] is False and result["left"][1]["observed"] == "pid %d listens on it" % mine.pid
    mine.kill()
    # It is not waited for: one that has ended and was not waited for holds nothing.
    until = time.monotonic() + 10
    while serve_released.process_name(mine.pid) and time.monotonic() < until:
        time.sleep(0.01)
    assert os.path.exists("/proc/%d" % mine.pid) and ask(FakeEngine(), **given)["left"] == []
    assert stranger.poll() is None


def test_all_that_run_are_stopped_at_the_same_time_each_with_its_own_time(ask):
    runs, together, stopped = {"a": True, "b": True, "c": False}, threading.Barrier(2, timeout=20), []

    def stop(name, seconds):
        together.wait()
        stopped.append((name, seconds))
        runs[name.partition("-")[2]] = False
        return 204, {}

    def container(name):
        return lambda: dict(inspected(runs[name]), Id="id-" + name, Config={"StopTimeout": 60} if name == "a" else {})

    engine = FakeEngine(containers={name: container(name) for name in runs}, stop=stop)
    given = {"containers": ["a", "b", "c", "gone"], "stop": True, "wait_s": 0}
    dry = ask(engine, check=True, **given)
    assert (dry["changed"], dry["stopped"], dry["left"], stopped) == (True, ["a", "b"], [], [])
    result = ask(engine, **given)
    assert (result["changed"], result["stopped"], result["left"], sorted(stopped)) == (True, ["a", "b"], [], [("id-a", 60), ("id-b", 10)])
    again = ask(engine, **given)
    assert (again["changed"], again["stopped"], len(stopped)) == (False, [], 2)


def test_one_that_cannot_be_stopped_is_named_in_the_engine_s_words_and_the_others_are_stopped(ask):
    stopped = []

    def stop(name, seconds):
        stopped.append((name, seconds))
        return (500, {"message": "did not receive an exit event"}) if name == "1d" else (204, {})

    # Made to be killed at once: no time is a time.
    engine = FakeEngine(containers={"x": dict(inspected(), Id="1d", Config={"StopTimeout": 0}), "y": dict(inspected(), Id="2d")}, stop=stop)
    result = ask(engine, containers=["x", "y"], stop=True)
    assert sorted(stopped) == [("1d", 0), ("2d", 10)]
    assert result["failed"] and "container x was not stopped" in result["msg"] and "container y" not in result["msg"]
    assert "answered 500" in result["msg"] and "did not receive an exit event" in result["msg"] and "Remedy:" in result["msg"]


def test_it_looks_until_nothing_is_left_or_the_time_is_over(ask, monkeypatch):
    monkeypatch.setattr(serve_released, "LOOK_S", 0.05)
    looks = []

    def container():
        looks.append(1)
        return inspected(len(looks) < 4)

    result = ask(FakeEngine(containers={"x": container}), containers=["x"], wait_s=20)
    assert (result["left"], len(looks)) == ([], 4) and 0.1 <= result["seconds"] < 5
    result = ask(FakeEngine(containers={"x": inspected()}), containers=["x"], wait_s=0.2)
    assert [entry["check"] for entry in result["left"]] == ["container_stopped"] and result["seconds"] < 2


def test_an_engine_that_does_not_answer_is_no_proof(run_module, tmp_path):
    result = run_module(serve_released, containers=["x"], docker_socket=str(tmp_path / "d.sock"))
    assert result["failed"] and "d.sock: No such file or directory" in result["msg"] and "Remedy:" in result["msg"]


def test_the_driver_is_asked_by_its_own_tool(ask, monkeypatch):
    # look() has taken the function for its default.
    asked = []
    monkeypatch.setattr(serve_released, "npus_left", lambda given, alive, ask: asked.append((given["npus"], given["npu_smi_path"], ask)) or [])
    assert ask(FakeEngine(), containers=["x"], npus=["0", 1], npu_smi_path="/opt/npu-smi", wait_s=0)["left"] == []
    assert asked == [([0, 1], "/opt/npu-smi", serve_released.ask_npu.answer)]
