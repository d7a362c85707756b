# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults of the emulated node: parameters, what the tools then believe, files, and exact restoration.

What the kernel does with a fault is seen by tests/lab/emulator/selftest, which needs root.
"""
from __future__ import annotations

import json
import os
import pathlib
import signal
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[3] / "tests" / "lab" / "emulator"))

from test_emulator_tools import make_node, smi  # noqa: E402
from ascend_emulator import common, fabric, fault_cli, faults, state as states  # noqa: E402

# name: parameters that are needed or keep the test quick
GIVEN = {"ping-block": {"peer": "10.20.2.10"}, "tool-hangs": {"seconds": "0.01"}, "hccn-tool-busy": {"seconds": "forever"}}


class Kernel:
    """Remembers what faults ask of the kernel, and answers as a healthy node does."""

    def __init__(self, monkeypatch):
        self.calls = []
        monkeypatch.setattr(fabric, "run", self.run)
        monkeypatch.setattr(fabric, "exists", lambda phy_id: True)
        monkeypatch.setattr(fabric, "default_gateway", lambda phy_id: "10.20.0.1")
        monkeypatch.setattr(fabric, "set_addresses", lambda *words: self.calls.append(["addresses"] + list(words)))
        monkeypatch.setattr(fabric, "port", lambda phy_id, kind="roce": {
            "address": states.roce_address(0, phy_id), "prefix": 16, "up": True})

    def run(self, argv, check=True, stdin=None):
        self.calls.append(argv)


@pytest.fixture(name="kernel")
def kernel_fixture(monkeypatch):
    return Kernel(monkeypatch)


def tree(root):
    """Every file below root but the emulator's own state: mode, and content, link target or device."""
    seen = {}
    for folder, names, files in os.walk(root):
        for name in names + files:
            path = os.path.join(folder, name)
            if "/var/lib/ascend-lab" in path or path.endswith("ascend-lab-state.json"):
                continue
            info = os.lstat(path)
            content = None
            if os.path.islink(path):
                content = os.readlink(path)
            elif os.path.isfile(path):
                content = pathlib.Path(path).read_bytes()
            seen[path] = (info.st_mode, info.st_uid, info.st_gid, content)
    return seen


def names(generation):
    return sorted(name for name, entry in faults.FAULTS.items() if generation in entry.generations)


ALL = [(generation, name) for generation in ("a2", "a3") for name in names(generation)]


@pytest.mark.parametrize("generation, name", ALL)
def test_clearing_restores_everything(tmp_path, kernel, generation, name):
    paths = make_node(tmp_path, generation)
    before, stored_before = tree(str(tmp_path)), states.load_stored(paths)
    with states.changing(paths) as stored:
        faults.set_fault(paths, stored, name, GIVEN.get(name, {}))
    assert list(states.load_stored(paths)["faults"]) == [name]
    entry = faults.FAULTS[name]
    changed = (tree(str(tmp_path)) != before, states.load(paths) != dict(stored_before, faults=states.load(paths)["faults"]),
               bool(kernel.calls))
    assert any(changed), "the fault has no effect at all"
    assert changed[1] or not entry.overlay, "the overlay changes nothing"
    with states.changing(paths) as stored:
        assert faults.clear_fault(paths, stored, name)
    assert tree(str(tmp_path)) == before
    assert states.load_stored(paths) == stored_before


@pytest.mark.parametrize("name", names("a3"))
def test_setting_again_replaces_and_still_restores(tmp_path, kernel, name):
    paths = make_node(tmp_path, "a3")
    before = tree(str(tmp_path))
    for dummy in range(2):
        with states.changing(paths) as stored:
            faults.set_fault(paths, stored, name, GIVEN.get(name, {}))
    with states.changing(paths) as stored:
        faults.clear_fault(paths, stored, name)
    assert tree(str(tmp_path)) == before


@pytest.mark.parametrize("generation", ["a2", "a3"])
def test_many_faults_at_once_clear_in_any_order(tmp_path, kernel, generation):
    paths = make_node(tmp_path, generation)
    before, stored_before = tree(str(tmp_path)), states.load_stored(paths)
    active = []
    with states.changing(paths) as stored:
        for name in names(generation):
            try:
                faults.set_fault(paths, stored, name, GIVEN.get(name, {}))
                active.append(name)
            except faults.FaultError as error:
                assert "clear it first" in str(error)
    assert len(active) > 20
    with states.changing(paths) as stored:
        for name in sorted(active, key=lambda word: word[::-1]):
            faults.clear_fault(paths, stored, name)
    assert tree(str(tmp_path)) == before and states.load_stored(paths) == stored_before


@pytest.mark.parametrize("name, given, message", [
    ("nonsense", {}, "no fault nonsense; there are: "),
    ("link-down", {"npu": "9"}, "npu=9: this node has NPUs 0 to 7"),
    ("link-down", {"npu": "x"}, "npu=x: physical ids such as 0 or 0,3, or all"),
    ("link-down", {"speed": "1"}, "link-down takes npu, not speed"),
    ("npu-health", {"health": "Poorly"}, "health=Poorly: one of OK, Warning, Alarm"),
    ("net-health", {"status": "Fine"}, "status=Fine: one of Success, Socket fail"),
    ("hbm-in-use", {"mb": "lots"}, "mb=lots: a whole number is needed"),
    ("ping-block", {}, "peer=ADDRESS is needed"),
    ("ping-loss", {"every": "1"}, "every=1: at least 2"),
    ("ping-block", {"peer": "10.20.2.10", "plane": "pcie"}, "plane=pcie: roce or hccs"),
    ("hccn-tool-busy", {"seconds": "long"}, "seconds=long: a whole number is needed"),
    ("output-garbled", {"tool": "msnpureport"}, "tool=msnpureport: npu-smi or hccn_tool"),
    ("tool-missing", {"tool": "x"}, "tool=x: npu-smi or hccn_tool"),
    ("process-left", {"name": "a/b"}, "name=a/b: 1 to 15 characters, no slash"),
    ("roce-down", {}, "roce-down is a fault of a3 nodes; this node is a2"),
])
def test_bad_parameters_change_nothing(tmp_path, kernel, name, given, message):
    paths = make_node(tmp_path)
    before, stored_before = tree(str(tmp_path)), states.load_stored(paths)
    with pytest.raises(faults.FaultError) as caught:
        with states.changing(paths) as stored:
            faults.set_fault(paths, stored, name, given)
    assert message in str(caught.value)
    assert tree(str(tmp_path)) == before and states.load_stored(paths) == stored_before


def test_two_faults_of_one_file_exclude_each_other(tmp_path, kernel):
    paths = make_node(tmp_path)
    with states.changing(paths) as stored:
        faults.set_fault(paths, stored, "hccn-conf-stale", {})
        for other in ("hccn-conf-missing", "npu-wrong-subnet"):
            with pytest.raises(faults.FaultError, match="hccn-conf-stale is active"):
                faults.set_fault(paths, stored, other, {})


def test_a_left_process_is_real_and_ends_with_the_fault(tmp_path):
    paths = make_node(tmp_path)
    with states.changing(paths) as stored:
        pid = faults.set_fault(paths, stored, "process-left", {"npu": "3", "name": "pt_main_thread", "mb": "20000"})["pid"]
    try:
        assert pathlib.Path("/proc/%d/comm" % pid).read_text(encoding="ascii") == "pt_main_thread\n"
        assert "| 3       0                 | %-13d | pt_main_thread           | 20000" % pid in smi(paths, "info").stdout
        with states.changing(paths) as stored:
            faults.clear_fault(paths, stored, "process-left")
        os.waitpid(pid, 0)
        pid = None
        assert "pt_main_thread" not in smi(paths, "info").stdout
    finally:
        if pid:
            os.kill(pid, signal.SIGKILL)


def test_what_the_tools_say(tmp_path, kernel):
    paths = make_node(tmp_path)
    with states.changing(paths) as stored:
        faults.set_fault(paths, stored, "npu-health", {"npu": "2,5", "health": "Critical"})
        faults.set_fault(paths, stored, "driver-version", {"version": "24.1.rc3", "tool": "25.0.rc1"})
        faults.set_fault(paths, stored, "hbm-in-use", {"npu": "4", "mb": "30750"})
    info = smi(paths, "info").stdout
    assert info.count("| Critical      |") == 2 and "30750/ 65536" in info
    assert "| npu-smi 25.0.rc1                 Version: 24.1.rc3 " in info
    assert pathlib.Path(paths.driver, "version.info").read_text(encoding="ascii").startswith("Version=24.1.rc3\n")
    health = smi(paths, "info", "-t", "health", "-i", "5", "-c", "0").stdout
    assert "\tError Code                     : 80E01801\n" in health


def test_a_truncated_conf_ends_within_a_line(tmp_path, kernel):
    paths = make_node(tmp_path)
    with states.changing(paths) as stored:
        faults.set_fault(paths, stored, "hccn-conf-truncated", {})
    content = pathlib.Path(paths.hccn_conf).read_text(encoding="ascii")
    assert content.endswith("\nnetmask_1=255") and "address_1=" in content and "address_2" not in content


@pytest.mark.parametrize("kind, spoilt", [
    ("output-garbled", lambda out: "ipaddr" not in out.stdout and out.stdout.count("\n") == 2),
    ("output-empty", lambda out: out.stdout == ""),
    ("output-huge", lambda out: len(out.stdout) > 5_000_000 and out.stdout.endswith("netmask:255.255.0.0\n")),
    ("output-non-utf8", lambda out: isinstance(out.stdout, bytes) and out.stdout.decode("utf-8", "replace") != out.stdout),
    ("tool-hangs", lambda out: out.stdout == "ipaddr:10.20.1.10\nnetmask:255.255.0.0\n"),
])
def test_spoilt_output(tmp_path, kernel, kind, spoilt):
    paths = make_node(tmp_path)
    good = common.Out("ipaddr:10.20.1.10\nnetmask:255.255.0.0\n", "", 0)
    with states.changing(paths) as stored:
        faults.set_fault(paths, stored, kind, dict(GIVEN.get(kind, {}), verb="-ip"))
    state = states.load(paths)
    assert spoilt(common.spoil(state, "hccn_tool", ["-i", "0", "-ip", "-g"], lambda: good))
    assert common.spoil(state, "hccn_tool", ["-i", "0", "-link", "-g"], lambda: good) == good
    assert common.spoil(state, "npu-smi", ["-ip"], lambda: good) == good


def test_a_boot_sets_active_faults_again(tmp_path, kernel):
    paths = make_node(tmp_path)
    order = []
    with states.changing(paths) as stored:
        faults.set_fault(paths, stored, "hccn-conf-missing", {})
        faults.set_fault(paths, stored, "link-down", {"npu": "3"})
    with states.changing(paths) as stored:
        faults.reapply(paths, stored, lambda: order.append((os.path.exists(paths.hccn_conf), dict(stored["faults"]))))
    assert order == [(True, {})]
    assert not os.path.exists(paths.hccn_conf)
    assert sorted(states.load_stored(paths)["faults"]) == ["hccn-conf-missing", "link-down"]
    with states.changing(paths) as stored:
        for name in ("link-down", "hccn-conf-missing"):
            faults.clear_fault(paths, stored, name)
    assert os.path.isfile(paths.hccn_conf)


# --- the command -------------------------------------------------------------------------------------------

def test_command_sets_lists_and_clears(tmp_path, kernel):
    paths = make_node(tmp_path)
    assert fault_cli.run(paths, ["set", "tls-on", "npu=0,1"]) == 'set tls-on {"npu": "0,1"}'
    listing = json.loads(fault_cli.run(paths, ["list", "--json"]))
    assert listing["active"] == {"tls-on": {"npu": "0,1"}}
    assert {entry["name"] for entry in listing["available"]} == set(names("a2"))
    assert "* tls-on" in fault_cli.run(paths, ["list"])
    assert fault_cli.run(paths, ["clear", "all"]) == "cleared tls-on"
    assert fault_cli.run(paths, ["clear", "tls-on"]) == "cleared nothing: not active"


@pytest.mark.parametrize("argv", [[], ["set"], ["list", "x"], ["frob"], ["clear"]])
def test_command_usage(tmp_path, argv):
    with pytest.raises(SystemExit) as caught:
        fault_cli.run(make_node(tmp_path), argv)
    assert caught.value.code == 2


def test_command_words_that_are_no_pairs(tmp_path):
    with pytest.raises(faults.FaultError, match="'fast' is not key=value"):
        fault_cli.run(make_node(tmp_path), ["set", "tls-on", "fast"])
