# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine's answers over a real unix socket, and every way it can fail to give one."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from ansible_collections.ascend.vllm.plugins.module_utils import docker_engine
from ansible_collections.ascend.vllm.plugins.module_utils.docker_engine import DockerEngine, demultiplex, npu_access, processes_below, seconds
from ansible_collections.ascend.vllm.tests.unit.plugins.servers import FakeEngine, inspected, multiplexed, unix_server


@pytest.fixture
def path(tmp_path):
    """Where the engine listens."""
    return str(tmp_path / "d.sock")


def test_answers_are_what_the_engine_inspected(path):
    image = "quay.io/ascend/vllm-ascend:v0.13.0"
    fake = FakeEngine({"ServerVersion": "20.10"}, {"vllm-rank0": inspected()}, {image: {"Id": "sha256:1"}})
    with unix_server(path, fake) as server:
        engine = DockerEngine(path)
        assert engine.info() == {"ServerVersion": "20.10"}
        assert engine.container("vllm-rank0")["State"]["Running"] is True
        assert engine.image(image) == {"Id": "sha256:1"}
        assert [asked.target for asked in server.asked] == ["/info", "/containers/vllm-rank0/json", "/images/%s/json" % image]
        assert {asked.method for asked in server.asked} == {"GET"}


def test_running_containers_are_listed(path):
    with unix_server(path, FakeEngine(containers={"a": inspected(), "b": inspected()})) as server:
        assert DockerEngine(path).running() == ["a", "b"]
        # Without a query the engine lists those that run.
        assert server.asked[0].target == "/containers/json"
    with unix_server(path, lambda asked: (200, {"Id": "a"})):
        with pytest.raises(OSError, match="answered no object to /containers/json"):
            DockerEngine(path).running()


@pytest.mark.parametrize("status", [204, 304])
def test_containers_are_started_and_stopped(path, status):
    with unix_server(path, lambda asked: (status,)) as server:
        engine = DockerEngine(path)
        engine.start("vllm-rank0/x")
        engine.stop("vllm-rank0", 60)
        assert [(asked.method, asked.target) for asked in server.asked] == [
            ("POST", "/containers/vllm-rank0%2Fx/start"), ("POST", "/containers/vllm-rank0/stop?t=60")]


@pytest.mark.parametrize("status", [200, 404, 500])
def test_a_change_that_the_engine_refuses_raises_its_words(path, status):
    with unix_server(path, lambda asked: (status, {"message": "no such device"})):
        with pytest.raises(OSError, match='answered %d to /containers/a/start: {"message": "no such device"}' % status):
            DockerEngine(path).start("a")
        with pytest.raises(OSError, match="no such device"):
            DockerEngine(path).stop("a", 1)


def bind(source):
    return {"Mounts": [{"Type": "bind", "Source": source, "Destination": "/x"}]}


def ascend(value, runtime="ascend"):
    return {"HostConfig": {"Runtime": runtime}, "Config": {"Env": ["A=1", "ASCEND_VISIBLE_DEVICES=%s" % value]}}


def numbered(*numbers):
    return ["/dev/davinci%d" % number for number in numbers]


@pytest.mark.parametrize("found, devices, privileged", [
    ({"HostConfig": {"Devices": [{"PathOnHost": "/dev/davinci3", "PathInContainer": "/dev/davinci0"}]}}, numbered(3), False),
    ({"HostConfig": {"Privileged": True}}, [], True),
    ({"HostConfig": {"Privileged": True, "Devices": [{"PathOnHost": "/dev/davinci0"}]}}, numbered(0), True),
    ({"HostConfig": {"DeviceCgroupRules": ["c 236:* rwm"]}}, [], False),
    (bind("/dev"), [], False),
    (bind("/dev/"), [], False),
    (bind("/"), [], False),
    (bind("/dev/davinci5"), numbered(5), False),
    (ascend("0-2,5"), numbered(0, 1, 2, 5), False),
    (ascend("Ascend910-1,Ascend910-0"), numbered(0, 1), False),
    (ascend("10,9"), numbered(9, 10), False),
])
def test_containers_that_may_use_npus(found, devices, privileged):
    assert npu_access(found) == {"devices": devices, "privileged": privileged}


@pytest.mark.parametrize("found", [
    {}, {"HostConfig": {"Devices": None, "DeviceCgroupRules": None}, "Mounts": None, "Config": {"Env": None}},
    {"HostConfig": {"Devices": [{"PathOnHost": "/dev/fuse"}, {}]}}, bind("/dev/shm"), bind("/data"), ascend("0", "runc"), ascend("void"), ascend(""),
    {"Mounts": [{"Type": "volume", "Source": "/dev/davinci1"}]},
])
def test_containers_that_cannot_use_npus(found):
    assert npu_access(found) is None


def test_what_is_not_there_is_none(path):
    with unix_server(path, FakeEngine()):
        engine = DockerEngine(path)
        assert engine.container("vllm-rank0") is None
        assert engine.image("quay.io/a/b@sha256:0") is None
        assert engine.logs("vllm-rank0", 5) == []


def test_a_name_cannot_change_the_question(path):
    with unix_server(path, FakeEngine()) as server:
        DockerEngine(path).container("../x?all=1")
        assert server.asked[0].target == "/containers/..%2Fx%3Fall%3D1/json"


def test_logs_join_both_streams_and_lose_their_colours(path):
    said = multiplexed((1, b"one\n"), (2, b"\x1b[1;36m(APIServer pid=1)\x1b[0;0m two\ntw"), (1, "\u00fc\n".encode()[:1]), (1, "\u00fc\n".encode()[1:]))
    with unix_server(path, FakeEngine(logs={"vllm-rank0": said})) as server:
        assert DockerEngine(path).logs("vllm-rank0", 7) == ["one", "(APIServer pid=1) two", "tw\u00fc"]
        assert server.asked[0].query == {"stdout": "1", "stderr": "1", "tail": "7"}


def test_progress_bars_and_bytes_that_are_no_text(path):
    with unix_server(path, FakeEngine(logs={"vllm-rank0": multiplexed((2, b"50%\r100%\n\xff"))})):
        assert DockerEngine(path).logs("vllm-rank0", 7) == ["50%", "100%", "\ufffd"]


@pytest.mark.parametrize("body, text", [
    (b"", b""),
    (b"a terminal sends plain text\n", b"a terminal sends plain text\n"),
    (multiplexed((1, b"")), b""),
    (multiplexed((1, b"a"), (2, b"b"), (0, b"c")), b"abc"),
    (multiplexed((1, b"whole\n"), (1, b"cut off"))[:-4], b"whole\ncut"),
    (multiplexed((1, b"x"))[:5], multiplexed((1, b"x"))[:5]),
    (multiplexed((1, b"x" * 70000)), b"x" * 70000),
    (multiplexed((3, b"no stream has this number")), multiplexed((3, b"no stream has this number"))),
])
def test_demultiplex(body, text):
    assert demultiplex(body) == text


@pytest.mark.parametrize("answer, wanted", [
    ((500, {"message": "driver failed"}), "answered 500 to /info: {\"message\": \"driver failed\"}"),
    ((200, b"<html>"), "answered no object to /info: <html>"),
    ((200, [1]), "answered no object to /info: [1]"),
    (b"SSH-2.0-OpenSSH_9.2\r\n", "gave no valid HTTP answer: SSH-2.0-OpenSSH_9.2"),
    (b"", "gave no valid HTTP answer: "),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{}", "gave no valid HTTP answer: "),
    (None, "no answer within 0.2 s"),
])
def test_an_answer_that_is_none_raises_and_names_the_socket(path, answer, wanted):
    with unix_server(path, lambda asked: answer):
        with pytest.raises(OSError) as raised:
            DockerEngine(path, timeout=0.2 if answer is None else 20).info()
    assert path in str(raised.value) and wanted in str(raised.value)


def test_no_engine_raises_and_names_the_socket(path):
    with pytest.raises(OSError, match="d.sock: No such file or directory"):
        DockerEngine(path).container("vllm-rank0")
    with unix_server(path, FakeEngine()):
        pass
    with pytest.raises(OSError, match="d.sock: Connection refused"):
        DockerEngine(path).logs("vllm-rank0", 5)


def test_processes_below_are_the_whole_tree_of_real_processes():
    # A child and a grandchild, which says that it is there and then waits for its input to end.
    inner = "import os, sys; print(os.getpid(), flush=True); sys.stdin.read()"
    outer = "import os, subprocess, sys; print(os.getpid(), flush=True); subprocess.call([sys.executable, '-c', sys.argv[1]])"
    child = subprocess.Popen([sys.executable, "-c", outer, inner], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        tree = {int(child.stdout.readline()), int(child.stdout.readline())}
        assert set(processes_below(child.pid)) == tree and child.pid in tree
        assert tree < set(processes_below(os.getpid()))
    finally:
        child.communicate(timeout=20)


def test_processes_below_reads_around_names_and_processes_that_are_gone(tmp_path):
    for pid, stat in {"10": "10 (a) S 1 9) S 1 10", "11": "11 (b (c) R 10 1", "12": "12 (d) S 11 1", "13": "13 (e) S 1 1", "14": ""}.items():
        (tmp_path / pid).mkdir()
        (tmp_path / pid / "stat").write_text(stat)
    (tmp_path / "15").mkdir()
    (tmp_path / "self").mkdir()
    assert processes_below(10, str(tmp_path)) == [10, 11, 12]
    assert processes_below(99, str(tmp_path)) == [99]


@pytest.mark.parametrize(("text", "wanted"), [
    ("2026-11-25T22:37:02.5Z", "1795646222.5"), ("2026-11-25T22:37:02Z", "1795646222"), ("0001-01-01T00:00:00Z", None), ("", None), (None, None), ("now", None),
])
def test_times_of_the_engine_are_seconds(text, wanted):
    assert seconds(text) == wanted


class Clock:
    """A clock that goes on by what is paused. C(failures): how often an engine does not answer."""

    def __init__(self, failures, error):
        self.now, self.failures, self.error = 1000.0, failures, error

    def pause(self, seconds):
        self.now += seconds

    def ask(self):
        """Ask the engine."""
        self.failures -= 1
        if self.failures >= 0:
            raise self.error
        return "answer"

    def patiently(self, **more):
        return docker_engine.patiently(self.ask, clock=lambda: self.now, pause=self.pause, **more)


def test_an_engine_that_is_away_is_asked_again_and_not_forever():
    clock = Clock(60, OSError("away"))
    assert clock.patiently() == "answer" and clock.now == 1000.0 + 60 * docker_engine.AGAIN_S
    clock = Clock(10 ** 6, OSError("away"))
    with pytest.raises(OSError, match="away"):
        clock.patiently()
    assert docker_engine.AWAY_S <= clock.now - 1000.0 <= docker_engine.AWAY_S + docker_engine.AGAIN_S
    for clock, final in ((Clock(1, FileExistsError("no")), FileExistsError), (Clock(1, ValueError("other")), ())):
        with pytest.raises(type(clock.error)):
            clock.patiently(final=final)
        assert clock.now == 1000.0
