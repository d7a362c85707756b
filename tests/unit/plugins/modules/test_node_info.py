# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""node_info on this machine and with fake tools: it answers every question and fails for none."""

from __future__ import annotations

import os
import socket
import sys
import time

import pytest

from ansible_collections.ascend.vllm.plugins.module_utils import ask_node
from ansible_collections.ascend.vllm.plugins.modules import node_info

A3 = """\
| NPU   Name                | Health        | Power(W)    Temp(C)           Hugepages-Usage(page)|
| Chip  Phy-ID              | Bus-Id        | AICore(%)   Memory-Usage(MB)  HBM-Usage(MB)        |
| 0     Ascend910           | OK            | 170.3       33                0    / 0             |
| 0     0                   | 0000:85:00.0  | 0           0    / 0          3333 / 65536         |
| 0     Ascend910           | OK            | -           34                0    / 0             |
| 1     1                   | 0000:87:00.0  | 3           0    / 0          3334 / 65536         |
"""


@pytest.fixture
def run(run_module, tmp_path, monkeypatch):
    """Run the module with no Docker engine, no NPU tool and no NPU unless the test gives them."""
    monkeypatch.setattr(ask_node.host, "pci_generation", lambda: "unknown")

    def go(**parameters):
        parameters.setdefault("docker_host", "unix://%s" % (tmp_path / "none.sock"))
        parameters.setdefault("npu_smi_path", str(tmp_path / "none" / "npu-smi"))
        parameters.setdefault("hccn_tool_path", str(tmp_path / "none" / "hccn_tool"))
        return run_module(node_info, **parameters)

    return go


def test_nothing_asked_and_nothing_there_is_no_failure(run):
    before = time.time()
    result = run()
    assert not result["failed"] and result["changed"] is False
    assert (result["npu_smi"], result["hccn_tool"], result["hardware"]) == (None, None, "unknown")
    assert result["paths"] == {} and result["disk"] == {} and result["listening"] == []
    assert result["docker"]["reachable"] is False and "none.sock" in result["docker"]["error"]
    assert result["docker"]["insecure_registries"] == []
    assert before - 1 <= result["time_epoch_s"] <= time.time() + 1
    assert (result["hostname"], result["kernel"], result["arch"]) == tuple(os.uname()[i] for i in (1, 2, 4))
    assert result["python"]["executable"] == sys.executable
    assert result["python"]["version"] == "%d.%d.%d" % sys.version_info[:3]


def test_interfaces_of_this_machine(run):
    result = run()
    by_name = dict((entry["name"], entry) for entry in result["interfaces"])
    assert "127.0.0.1/8" in by_name["lo"]["addresses"] and by_name["lo"]["up"] is True and by_name["lo"]["mtu"] > 1000
    assert sorted(by_name) == sorted(name for name in os.listdir("/sys/class/net") if os.path.isdir("/sys/class/net/" + name))
    assert result["interfaces_error"] is None


def test_an_ip_without_json(run, fake_tool, monkeypatch):
    line = "2: lo    inet 198.51.100.11/24 brd 198.51.100.255 scope global lo\\ valid_lft forever\n"
    tool = fake_tool({"-o -4 addr": (line, 0), "-j addr": ("", 255, 'Option "-j" is unknown\n')}, name="ip")
    monkeypatch.setenv("PATH", "%s:%s" % (tool.parent, os.environ["PATH"]))
    by_name = dict((entry["name"], entry) for entry in run()["interfaces"])
    assert by_name["lo"]["addresses"] == ["198.51.100.11/24"] and by_name["lo"]["up"] is True


def test_an_ip_that_is_broken(run, fake_tool, monkeypatch):
    tool = fake_tool({}, name="ip")
    monkeypatch.setenv("PATH", "%s:%s" % (tool.parent, os.environ["PATH"]))
    result = run()
    assert not result["failed"] and "exit 1" in result["interfaces_error"]
    assert all(entry["addresses"] == [] for entry in result["interfaces"])


def test_no_ip_at_all(run, tmp_path, monkeypatch):
    real = ask_node.tools.find_tool
    monkeypatch.setattr(ask_node.tools, "find_tool", lambda name, *a, **k: real(name, str(tmp_path / "none")) if name == "ip" else real(name, *a, **k))
    result = run()
    assert not result["failed"] and "ip was not found" in result["interfaces_error"] and result["interfaces"]


def test_tools_and_hardware(run, fake_tool):
    smi, hccn = fake_tool({"info": (A3, 0)}, name="npu-smi"), fake_tool({}, name="hccn_tool")
    result = run(npu_smi_path=str(smi), hccn_tool_path=str(hccn))
    assert (result["npu_smi"], result["hccn_tool"], result["hardware"], result["npu_smi_error"]) == (str(smi), str(hccn), "a3", None)


@pytest.mark.parametrize(
    "before, words",
    [("sleep 30", "timed out after 0.5 s"), ("echo dcmi module initialize failed. ret is -8005; exit 187", "-8005"), (":", "exit 1")],
)
def test_hardware_by_pci_when_the_tool_does_not_tell(run, fake_tool, monkeypatch, before, words):
    monkeypatch.setattr(ask_node.host, "pci_generation", lambda: "a2")
    result = run(npu_smi_path=str(fake_tool({}, name="npu-smi", before=before)), timeout=0.5 if "timed out" in words else 20)
    assert not result["failed"] and result["hardware"] == "a2" and words in result["npu_smi_error"]


def test_npus_are_the_device_nodes(run, monkeypatch):
    monkeypatch.setattr(ask_node.driver_files, "device_ids", lambda: [0, 1, 10])
    assert run()["npus"] == [0, 1, 10]


def test_paths_and_disk(run, tmp_path):
    (tmp_path / "hccn.conf").mkdir()
    (tmp_path / "version.info").write_text("Version=1\n")
    asked = [str(tmp_path / "hccn.conf"), str(tmp_path / "version.info"), str(tmp_path / "gone"), "/dev/null"]
    result = run(paths=asked, disk_paths=[str(tmp_path / "weights" / "model")])
    assert [(result["paths"][path]["exists"], result["paths"][path]["type"]) for path in asked] == [
        (True, "directory"), (True, "file"), (False, None), (True, "char"),
    ]
    assert result["paths"][asked[1]]["size"] == 10
    disk = result["disk"][str(tmp_path / "weights" / "model")]
    assert disk["path"] == str(tmp_path) and disk["total_bytes"] >= disk["free_bytes"] > 0


def test_listening(run):
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(1)
    port = listener.getsockname()[1]
    try:
        assert run(ports=[port])["listening"][0]["port"] == port
        assert run(ports=[])["listening"] == []
    finally:
        listener.close()


def test_memory_settings_and_rsync_of_this_machine(run, tmp_path, monkeypatch):
    (tmp_path / "rsync").write_text("#!/bin/sh\n")
    (tmp_path / "rsync").chmod(0o755)
    monkeypatch.setenv("PATH", "%s:%s" % (tmp_path, os.environ["PATH"]))
    result = run(sysctls=["vm.swappiness", "kernel.no_such_setting"])
    assert result["rsync"] == str(tmp_path / "rsync")
    assert result["memory"]["total_bytes"] >= result["memory"]["available_bytes"] > 0
    with open("/proc/sys/vm/swappiness") as stream:
        assert result["sysctls"] == {"vm.swappiness": stream.read().strip(), "kernel.no_such_setting": None}
    for key, kinds in (("shm", (dict, type(None))), ("hugepages", (dict, type(None))), ("transparent_hugepage", (str, type(None))), ("cpu_governors", list)):
        assert isinstance(result[key], kinds), key
    assert isinstance(result["device_holders"], list) and sorted(result["rootinfo"]) == ["addresses", "errors", "exists", "type"]


def test_device_holders_are_told(run, monkeypatch):
    holder = {"path": "/dev/davinci3", "pid": 4711, "process": "python3", "container": None}
    monkeypatch.setattr(ask_node.host, "device_holders", lambda: [holder])
    assert run()["device_holders"] == [holder]


def test_no_rsync(run, monkeypatch):
    real = ask_node.tools.find_tool
    monkeypatch.setattr(ask_node.tools, "find_tool", lambda name, *a, **k: real(name, "/none/rsync") if name == "rsync" else real(name, *a, **k))
    assert run()["rsync"] is None


def test_a_free_port_only_of_an_address_of_this_node(run):
    port = run(local_ip="127.0.0.2")["free_port"]
    with socket.socket() as probe:
        probe.bind(("127.0.0.2", port))
    assert run()["free_port"] is None and run(local_ip="198.51.100.250")["free_port"] is None


def test_the_asked_ports_are_not_offered_as_free(run, monkeypatch):
    asked = []
    monkeypatch.setattr(ask_node.host, "free_port", lambda *given: asked.append(given))
    assert run(local_ip="127.0.0.2", ports=[8000, 13389])["free_port"] is None
    assert asked == [("127.0.0.2", {8000, 13389})]


def test_check_mode_reads_all_the_same(run):
    assert sorted(run(check=True)) == sorted(run())


def test_a_timeout_that_is_none(run):
    assert "timeout" in run(timeout=0)["msg"]
