# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""logs_bundle with a real archive, a Docker engine on a socket and tools that are scripts: what is in it, and what must not be."""

from __future__ import annotations

import json
import os
import stat
import tarfile

import pytest

from ansible_collections.ascend.vllm.plugins.module_utils import log_bundle
from ansible_collections.ascend.vllm.plugins.modules import logs_bundle
from ansible_collections.ascend.vllm.tests.unit.plugins import limits
from ansible_collections.ascend.vllm.tests.unit.plugins.servers import FakeEngine, inspected, multiplexed, unix_server

API_KEY, HF, PASSWORD, NODE_KEY = "Zq9xWv7-api", "Hf0Kj3-word", "Pw5Rt8Lm", "Nd6Yh2Gs"
SECRETS = (API_KEY, HF, PASSWORD, NODE_KEY, "MHcCAQEEIMye8PxQ25cu247Kd")
PEM = "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIMye8PxQ25cu247Kd\n-----END EC PRIVATE KEY-----\n"
TABLE = "+---+\n| npu-smi 25.5.1   Version: 25.5.1 |\n+---+\n"
SAID = "2026-01-31T23:59:%02d.000000000Z %s\n"


def log(*lines, stream=1):
    """Return what the engine streams of lines, each with its time."""
    return multiplexed(*((stream, (SAID % (number % 60, line)).encode()) for number, line in enumerate(lines)))


@pytest.fixture
def node(tmp_path, monkeypatch, fake_tool, run_module):
    """A node: folders, tools on PATH and an engine; C(run(..)) makes the archive and gives C((result, manifest, {name: bytes}))."""

    class Node:
        log_dir, etc_dir, weights = tmp_path / "log", tmp_path / "etc", tmp_path / "weights"
        folder = tmp_path / "made"
        engine = FakeEngine({"ServerVersion": "20.10", "HttpProxy": "http://u:%s@proxy" % PASSWORD}, {}, logs={})
        tools: dict = {}

        def plog(self, name, data, mtime=1700000000, unit="vllm-rank0"):
            """Write a log file of CANN."""
            path = self.log_dir / unit / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            os.utime(str(path), (mtime, mtime))
            return path

        def parameters(self, **parameters):
            """Return the module's parameters."""
            given = {"folder": str(self.folder), "units": ["vllm-rank0"], "log_dir": str(self.log_dir), "etc_dir": str(self.etc_dir),
                     "weights_dirs": [str(self.weights)], "docker_socket": str(tmp_path / "d.sock"), "devices": [0], "timeout": 5,
                     "npu_smi_path": str(self.tools["npu-smi"]), "hccn_tool_path": str(self.tools["hccn_tool"]), "secrets": [API_KEY, HF, PASSWORD]}
            return dict(given, **parameters)

        def run(self, **parameters):
            """Run the module and read the archive it made."""
            with unix_server(tmp_path / "d.sock", self.engine):
                result = run_module(logs_bundle, **self.parameters(**parameters))
            if result["failed"] or "archive" not in result:
                return result, None, {}
            with tarfile.open(result["archive"]) as tar:
                assert all(member.isreg() and member.mode == 0o600 and member.uid == 0 for member in tar.getmembers())
                files = {member.name: tar.extractfile(member).read() for member in tar.getmembers()}
            return result, json.loads(files["MANIFEST.json"].decode()), files

    made = Node()
    for folder in (made.log_dir, made.etc_dir, made.weights):
        folder.mkdir()
    (made.weights / "config.json").write_text("{}")
    made.tools["npu-smi"] = fake_tool({"info": (TABLE, 0), "info -m": ("NPU ID\n", 0)}, "npu-smi")
    made.tools["hccn_tool"] = fake_tool({"-i 0 %s" % " ".join(words): ("answer %s\n" % words[0], 0) for words in log_bundle.HCCN_QUESTIONS}, "hccn_tool")
    places = []
    for name, answers in {
        "journalctl": {"-k -n 5000 --no-pager -o short-iso": ("kernel says PASSWORD=%s\n" % PASSWORD, 0)}, "df": {"-hT": ("file systems\n", 0)},
        "free": {"-m": ("memory\n", 0)}, "ip": {"addr": ("addresses\n", 0)}, "ss": {"-ltn": ("ports\n", 0)}, "dmesg": {"-T": ("ring\n", 0)},
        "systemctl": {"status --no-pager --full --lines 200 ascend-vllm-*.service": ("ascend-vllm-vllm.service failed\n", 3)},
    }.items():
        made.tools[name] = fake_tool(answers, name)
        places.append(str(made.tools[name].parent))
    monkeypatch.setenv("PATH", os.pathsep.join(places + [os.environ["PATH"]]))
    return made


def entry(manifest, name):
    """Return the entry of a file."""
    found = [one for one in manifest["entries"] if one["file"] == name]
    assert len(found) == 1, (name, [one["file"] for one in manifest["entries"]])
    return found[0]


def test_everything_is_taken_in_one_archive_for_its_owner_only(node):
    node.engine.containers["vllm-rank0"] = inspected()
    node.engine.logs["vllm-rank0"] = log("one", "two")
    node.plog("debug/plog/plog-1.log", b"[ERROR] HCCL EI0006\n")
    result, manifest, files = node.run()
    assert not result["changed"] and result["archive"] == str(node.folder / "bundle.tar.gz")
    assert stat.S_IMODE(os.stat(str(node.folder)).st_mode) == 0o700 and stat.S_IMODE(os.stat(result["archive"]).st_mode) == 0o600
    # Nothing but the archive is left there.
    assert os.listdir(str(node.folder)) == ["bundle.tar.gz"] and result["bytes"] == os.path.getsize(result["archive"])
    assert files["containers/vllm-rank0.log"] == b"2026-01-31T23:59:00.000000000Z one\n2026-01-31T23:59:01.000000000Z two\n"
    assert json.loads(files["containers/vllm-rank0.inspect.json"].decode())["State"]["Running"] is True
    assert json.loads(files["docker/info.json"].decode())["ServerVersion"] == "20.10"
    assert files["plog/vllm-rank0/debug/plog/plog-1.log"] == b"[ERROR] HCCL EI0006\n"
    assert files["npu/npu-smi.txt"].decode().startswith("$ %s info\n+---+" % node.tools["npu-smi"])
    assert [line for line in files["npu/hccn-0.txt"].decode().splitlines() if line.startswith("answer")] == [
        "answer %s" % words[0] for words in log_bundle.HCCN_QUESTIONS]
    assert files["weights.txt"].decode() == "%s\n              2  config.json\n" % node.weights
    assert {"system/kernel.txt", "system/df.txt", "system/free.txt", "system/ip_addr.txt", "system/ss.txt", "system/units.txt"} < set(files)
    assert files["system/units.txt"] == b"ascend-vllm-vllm.service failed\n"
    # The driver's files are not on this machine, and that is said.
    assert entry(manifest, "files/etc/hccn.conf")["error"] == "missing" and manifest["units"] == ["vllm-rank0"]
    assert result["files"] == len(files) - 1 and result["errors"] == sum(1 for one in manifest["entries"] if one["error"]) and result["cut"] == 0


def test_no_secret_is_in_any_byte(node):
    (node.etc_dir / "vllm-rank0").mkdir()
    (node.etc_dir / "vllm-rank0" / "api_key").write_text(NODE_KEY + "\n")
    node.engine.containers["vllm-rank0"] = dict(inspected(), Config={
        "Env": ["HF_TOKEN=" + HF, "A=" + NODE_KEY], "Cmd": ["vllm", "--api-key", "x " + API_KEY], "Labels": {API_KEY: "1"}})
    # A line that the engine cut in two, within a secret; the time before the second half is the engine's.
    node.engine.logs["vllm-rank0"] = log("key %s" % API_KEY, "node %s" % NODE_KEY, "\x1b[1mHF_TOK\x1b[0mEN=%s" % HF) + multiplexed(
        (1, b"2026-01-31T23:59:58.000000000Z half " + API_KEY[:5].encode()), (2, b"2026-01-31T23:59:58.000000000Z between\n"),
        (1, b"2026-01-31T23:59:59.000000000Z " + API_KEY[5:].encode() + b"\n")) + log(*PEM.splitlines(), stream=2)
    node.plog("plog-1.log", ("Authorization: Bearer %s\n%s\n%s" % (API_KEY, "--api-key=" + HF, PEM)).encode())
    node.plog("name-%s.log" % HF, b"x\n")
    node.plog("binary.log", b"\x00" + API_KEY.encode())
    (node.weights / ("w-" + API_KEY)).write_text("1")
    node.tools["npu-smi"].write_text("#!/bin/sh\necho token: %s; exit 187\n" % HF)
    node.tools["hccn_tool"].write_text("#!/bin/sh\necho http://u:%s@x/ >&2; exit 1\n" % PASSWORD)
    result, manifest, files = node.run()
    assert not result["failed"] and len(files) > 10
    with open(result["archive"], "rb") as stream:
        everything = b"".join(list(files.values()) + [name.encode() for name in files] + [json.dumps(result).encode(), stream.read()])
    for secret in SECRETS:
        assert secret.encode() not in everything, secret
    assert b"half [removed]" in files["containers/vllm-rank0.log"] and b"between" in files["containers/vllm-rank0.log"]
    assert manifest["secrets_removed"] >= 12
    assert "no text" in entry(manifest, "plog/vllm-rank0/binary.log")["error"]


def test_of_a_huge_log_the_newest_lines_are_kept(node):
    node.engine.containers["vllm-rank0"] = inspected()
    node.engine.logs["vllm-rank0"] = log(*("line %06d %s" % (number, "x" * 100) for number in range(20000)))
    dummy, manifest, files = node.run(max_source_bytes=300000)
    lines = files["containers/vllm-rank0.log"].decode().splitlines()
    assert 250000 < len(files["containers/vllm-rank0.log"]) <= 300000
    assert lines[-1].split()[2] == "019999" and all(line.startswith("2026-01-31T23:59:") for line in lines)
    numbers = [int(line.split()[2]) for line in lines]
    assert numbers == list(range(numbers[0], 20000))
    assert entry(manifest, "containers/vllm-rank0.log")["cut"] == "the newest %d of 2880000 bytes" % len(files["containers/vllm-rank0.log"])


def test_the_whole_is_limited_and_units_share_what_there_is(node):
    for unit in ("vllm-rank0", "vllm-rank1"):
        node.engine.containers[unit] = inspected()
        node.engine.logs[unit] = log(*("%s %d %s" % (unit, number, "x" * 100) for number in range(5000)))
        for number in range(10):
            node.plog("plog-%d.log" % number, (b"%d\n" % number) * 20000, 1700000000 + number, unit)
    dummy, manifest, files = node.run(units=["vllm-rank0", "vllm-rank1"], max_bytes=500000)
    assert sum(map(len, files.values())) - len(files["MANIFEST.json"]) <= 500000
    sizes = [len(files["containers/%s.log" % unit]) for unit in ("vllm-rank0", "vllm-rank1")]
    assert min(sizes) > 100000 and max(sizes) - min(sizes) < 10000
    for unit in ("vllm-rank0", "vllm-rank1"):
        kept = sorted(name for name in files if name.startswith("plog/%s/" % unit))
        assert kept and kept[-1] == "plog/%s/plog-9.log" % unit and len(kept) < 10
        assert "older file(s)" in entry(manifest, "plog/" + unit)["cut"]


def test_the_end_of_a_large_log_file_begins_with_a_whole_line(node):
    node.plog("plog-1.log", b"secret is %s " % API_KEY.encode() + b"".join(b"line %06d\n" % number for number in range(10000)))
    dummy, manifest, files = node.run(max_source_bytes=6000)
    lines = files["plog/vllm-rank0/plog-1.log"].decode().splitlines()
    assert len(lines) > 400 and lines[-1] == "line 009999" and all(len(line) == 11 for line in lines)
    assert "the first" in entry(manifest, "plog/vllm-rank0/plog-1.log")["cut"]


def test_bytes_that_are_no_text(node):
    node.engine.containers["vllm-rank0"] = inspected()
    node.engine.logs["vllm-rank0"] = multiplexed((1, b"2026-01-31T23:59:58.000000000Z \xff\xfe\x00x\n"))
    node.plog("plog-1.log", b"\xff\xfe")
    node.plog("plog-2.log", "gr\u00fc\u00df\n".encode())
    dummy, manifest, files = node.run()
    assert files["containers/vllm-rank0.log"].decode() == "2026-01-31T23:59:58.000000000Z \ufffd\ufffdx\n"
    assert "plog/vllm-rank0/plog-1.log" not in files and entry(manifest, "plog/vllm-rank0/plog-1.log")["bytes"] == 0
    assert files["plog/vllm-rank0/plog-2.log"].decode() == "gr\u00fc\u00df\n"


def test_links_and_other_things_that_are_no_files_are_not_read(node, tmp_path):
    (tmp_path / "shadow").write_text("stranger's\n")
    folder = node.plog("plog-1.log", b"mine\n").parent
    (folder / "link.log").symlink_to(tmp_path / "shadow")
    (folder / "all").symlink_to(tmp_path)
    os.mkfifo(str(folder / "pipe.log"))
    dummy, dummy, files = node.run()
    assert [name for name in files if name.startswith("plog/")] == ["plog/vllm-rank0/plog-1.log"]
    assert b"stranger" not in b"".join(files.values())


def test_a_link_or_a_pipe_is_neither_listed_nor_opened(tmp_path):
    (tmp_path / "real").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    os.mkfifo(str(tmp_path / "pipe"))
    assert [name for dummy, dummy, name in log_bundle.plog_files(str(tmp_path))[0]] == ["real"]
    assert log_bundle.read_own(str(tmp_path / "real"), 9) == b"x"
    for name in ("link", "pipe"):
        assert log_bundle.read_own(str(tmp_path / name), 9) is None


def test_what_is_not_there_is_said_and_no_failure(node):
    result, manifest, files = node.run(npu_smi_path="/nowhere/npu-smi", hccn_tool_path="/nowhere/hccn_tool", weights_dirs=["/nowhere/weights"])
    assert not result["failed"] and result["errors"] >= 5
    assert entry(manifest, "containers/vllm-rank0.inspect.json")["error"] == "there is no such container"
    assert "npu-smi was not found" in entry(manifest, "npu/npu-smi.txt")["error"]
    assert "hccn_tool was not found" in entry(manifest, "npu/hccn.txt")["error"]
    assert "No such file" in entry(manifest, "weights.txt")["error"]
    assert "No such file" in entry(manifest, "plog/vllm-rank0")["error"]
    assert "containers/vllm-rank0.log" not in files
    dummy, manifest, dummy = node.run(folder=str(node.folder) + "2", docker_socket="/nowhere/docker.sock")
    assert "/nowhere/docker.sock" in entry(manifest, "docker/info.json")["error"]


def test_an_engine_that_ends_in_the_middle_leaves_what_it_gave(node):
    node.engine.containers["vllm-rank0"] = inspected()
    whole = log("one", "two")
    node.engine.logs["vllm-rank0"] = whole[:-20]
    dummy, dummy, files = node.run()
    assert files["containers/vllm-rank0.log"].decode().splitlines()[0].endswith("one")


def test_an_engine_that_keeps_no_log_is_said(node):
    fake = node.engine
    fake.containers["vllm-rank0"] = inspected()
    node.engine = lambda asked: (500, {"message": "configured logging driver does not support reading"}) if asked.path.endswith("/logs") else fake(asked)
    dummy, manifest, dummy = node.run()
    assert "answered 500" in entry(manifest, "containers/vllm-rank0.log")["error"] and "does not support reading" in json.dumps(manifest)


def test_a_hanging_tool_costs_its_limit_and_no_more(node):
    node.tools["npu-smi"].write_text("#!/bin/sh\nsleep 60\n")
    node.tools["hccn_tool"].write_text("#!/bin/sh\nsleep 60\n")
    result, manifest, dummy = node.run(timeout=0.3, devices=[0, 1, 2, 3])
    assert not result["failed"] and manifest["seconds"] < 8
    assert "timed out after 0.6 s" in entry(manifest, "npu/npu-smi.txt")["error"]
    assert "timed out" in entry(manifest, "npu/hccn-0.txt")["error"] and "not asked" in entry(manifest, "npu/hccn-3.txt")["error"]


def test_file_systems_that_hang_leave_the_local_ones(node, monkeypatch):
    limits.of_tools(monkeypatch, lambda arguments: arguments == ["-hT"])
    node.tools["df"].write_text('#!/bin/sh\n[ "$1" = -hTl ] || sleep 60\necho local ones\n')
    result, manifest, files = node.run(timeout=20)
    assert not result["failed"] and manifest["seconds"] < 8
    assert files["system/df.txt"] == b"local ones\n"


def test_when_the_time_is_used_up_the_archive_is_closed_with_what_there_is(node):
    node.engine.containers["vllm-rank0"] = inspected()
    node.engine.logs["vllm-rank0"] = log("one")
    node.plog("plog-1.log", b"mine\n")
    result, manifest, dummy = node.run(time_limit=0.000001)
    assert not result["failed"]
    assert "time limit" in entry(manifest, "system/free.txt")["error"] and "time limit" in entry(manifest, "plog/vllm-rank0")["cut"]


def test_health_of_a_chip_that_is_not_well_is_asked(node, monkeypatch):
    monkeypatch.setattr(log_bundle.npu_smi, "parse_info", lambda text: {"npus": [
        {"npu_id": 3, "chip_id": 0, "health": "Alarm"}, {"npu_id": 4, "chip_id": 0, "health": "OK"}]})
    dummy, dummy, files = node.run()
    assert "info -t health -i 3 -c 0" in files["npu/npu-smi.txt"].decode() and "-i 4" not in files["npu/npu-smi.txt"].decode()


def test_without_room_less_is_taken_or_nothing(node, monkeypatch):
    free = [log_bundle.KEPT_FREE + 3 * 2000000]
    monkeypatch.setattr(log_bundle.shutil, "disk_usage", lambda path: type("Usage", (), {"free": free[0]}))
    dummy, manifest, dummy = node.run()
    assert manifest["limits"]["bytes"] == 2000000 and "bytes free" in entry(manifest, "bundle")["error"]
    free[0] = log_bundle.KEPT_FREE
    result, dummy, dummy = node.run(folder=str(node.folder) + "2")
    assert result["failed"] and "Remedy" in result["msg"] and not os.path.exists(str(node.folder) + "2")


def test_a_folder_that_is_there_is_nobody_elses(node):
    node.folder.mkdir()
    (node.folder / "stranger").write_text("x")
    result, dummy, dummy = node.run()
    assert result["failed"] and "cannot be made" in result["msg"] and (node.folder / "stranger").exists()


@pytest.mark.parametrize("name", ["max_bytes", "max_source_bytes", "tail_lines", "timeout", "time_limit"])
def test_a_limit_of_nothing_is_refused(node, name):
    result, dummy, dummy = node.run(**{name: 0})
    assert result["failed"] and name in result["msg"] and not node.folder.exists()


def test_check_mode_says_what_it_would_take_and_makes_nothing(node):
    result, dummy, dummy = node.run(check=True)
    assert not result["changed"] and "docker logs vllm-rank0" in result["planned"] and not node.folder.exists()


def test_names_in_the_archive_are_unlike_and_lead_nowhere(tmp_path):
    bundle = log_bundle.Bundle(str(tmp_path), log_bundle.redact.Redactor(), 1000, 1000, 1e12)
    for name in ("../../etc/x", "etc/x", "/a//./b\n", "MANIFEST.json", "\udcff"):
        bundle.add_text(name, "s", "t\n")
    assert [one["file"] for one in bundle.entries] == ["etc/x", "etc/x.2", "a/b_", "MANIFEST.json.2", "_"]
    bundle.close()
