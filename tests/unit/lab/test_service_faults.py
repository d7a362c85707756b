# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The faults of a server: their table, their record, and those parts that need no node."""

from __future__ import annotations

import json
import os
import pathlib
import socket
import subprocess
import sys

import pytest

LAB = pathlib.Path(__file__).resolve().parents[3] / "tests" / "lab"
sys.path.insert(0, str(LAB))
sys.path.insert(0, str(LAB / "emulator"))

from ascend_emulator.faults import FAULTS as EMULATOR_FAULTS  # noqa: E402
from lablib import cli as lab_cli, host, nodes, shape  # noqa: E402
from service_faults import cli, engine, files, net, store, system  # noqa: E402
from service_faults.base import Fault, FaultError  # noqa: E402
from service_faults.table import FAULTS  # noqa: E402


@pytest.fixture(name="record")
def record_fixture(tmp_path):
    return str(tmp_path / "state" / "faults.json")


@pytest.fixture(name="switch")
def switch_fixture(monkeypatch):
    """A table of one fault, a switch that is on or off; breaking it by `level=9` fails after it was turned."""
    world = {"level": "0", "undone": 0}

    def apply(values, saved):
        saved["before"] = world["level"]
        world["level"] = values["level"]
        if values["level"] == "9":
            raise FaultError("it broke")

    def undo(values, saved):
        world["undone"] += 1
        world["level"] = saved["before"]

    table = {"switch": Fault("switch", "turned", apply, undo, {"level": ("1", "how far")}),
             "file": Fault("file", "gone", lambda values, saved: None, lambda values, saved: None, {"path": (None, "which")}),
             "folder": Fault("folder", "gone", lambda values, saved: None, lambda values, saved: None, {"path": ("/opt/a", "which")})}  # fmt: skip
    monkeypatch.setattr(cli, "FAULTS", table)
    return world


def test_every_fault_has_a_name_of_its_own_and_a_line_of_help():
    assert not set(FAULTS) & set(EMULATOR_FAULTS)
    assert len(FAULTS) == sum(len(module.FAULTS) for module in (net, engine, files, system))
    for fault in FAULTS.values():
        assert 10 < len(fault.help) < 140 and "\n" not in fault.help
        assert f"  {fault.name} " in lab_cli._fault_help()


def test_set_list_and_clear_from_one_command_to_the_next(switch, record):
    assert cli.run(["set", "switch", "level=4"], record) == 'set switch {"level": "4"}'
    assert switch["level"] == "4"
    listing = cli.run(["list"], record)
    assert "* switch" in listing and "  folder" in listing and listing.endswith('active: switch {"level": "4"}')
    assert json.loads(cli.run(["list", "--json"], record))["active"] == {"switch": {"level": "4"}}
    assert cli.run(["clear", "switch"], record) == "cleared switch"
    assert (switch["level"], cli.run(["clear", "switch"], record)) == ("0", "cleared nothing: not active")
    assert cli.run(["list"], record).endswith("active: none")


def test_setting_again_replaces_and_clearing_restores_the_first_state(switch, record):
    for level in ("2", "2", "3"):
        cli.run(["set", "switch", f"level={level}"], record)
    cli.run(["clear", "all"], record)
    assert (switch["level"], switch["undone"]) == ("0", 3)


def test_what_fails_half_way_is_undone_and_not_recorded(switch, record):
    with pytest.raises(FaultError, match="it broke"):
        cli.run(["set", "switch", "level=9"], record)
    assert (switch["level"], store.load(record)) == ("0", {})


def test_a_wrong_value_leaves_an_active_fault_alone(switch, record):
    cli.run(["set", "switch"], record)
    with pytest.raises(FaultError, match="takes level, not colour"):
        cli.run(["set", "switch", "colour=red"], record)
    assert (switch["level"], switch["undone"]) == ("1", 0)


def test_a_fault_that_cannot_be_undone_stays_recorded(switch, record, monkeypatch):
    cli.run(["set", "switch"], record)
    switch_fault = cli.FAULTS["switch"]

    def refuses(values, saved):
        raise FaultError("not now")

    monkeypatch.setitem(cli.FAULTS, "switch", Fault("switch", "turned", switch_fault.apply, refuses, switch_fault.parameters))
    with pytest.raises(FaultError, match="not now"):
        cli.run(["clear", "all"], record)
    assert list(store.load(record)) == ["switch"]


@pytest.mark.parametrize("words", [[], ["set"], ["clear"], ["clear", "a", "b"], ["list", "all"], ["break"]])
def test_wrong_usage_has_its_own_exit_status(words, capsys):
    assert cli.main(words) == 2
    assert "usage: set NAME" in capsys.readouterr().err


@pytest.mark.parametrize(("words", "what"), [
    (["set", "nothing"], "no fault nothing; there are: file, folder, switch"),
    (["set", "switch", "level"], "'level' is not key=value"),
    (["set", "file"], "file needs path=..."),
])  # fmt: skip
def test_what_cannot_be_set_is_said(switch, record, words, what):
    with pytest.raises(FaultError) as raised:
        cli.run(words, record)
    assert what in str(raised.value)


@pytest.mark.parametrize(("path", "refused"), [("/opt/a", True), ("/opt/a/b", True), ("/opt", True), ("/opt/ab", False)])
def test_two_faults_do_not_share_a_path(switch, record, path, refused):
    cli.run(["set", "folder"], record)
    words = ["set", "file", f"path={path}"]
    if refused:
        with pytest.raises(FaultError, match="folder is active and changes /opt/a: clear it first"):
            cli.run(words, record)
    else:
        cli.run(words, record)
    assert ("file" in store.load(record)) is not refused


# -- files


def look(folder):
    """Everything under a folder: mode, time and content."""
    return {path.relative_to(folder).as_posix(): (path.lstat().st_mode, path.lstat().st_mtime_ns, path.read_text() if path.is_file() else "")
            for path in [folder, *folder.rglob("*")]}  # fmt: skip


@pytest.fixture(name="tree")
def tree_fixture(tmp_path):
    tree = tmp_path / "tree"
    (tree / "lib").mkdir(parents=True)
    (tree / "lib" / "a.py").write_text("1")
    (tree / "tool").write_text("#!")
    (tree / "tool").chmod(0o755)
    (tree / "link").symlink_to("tool")
    for path in (tree / "lib", tree):
        os.utime(path, ns=(10**18, 10**18))
    return tree


def test_what_is_moved_aside_comes_back_as_it_was(tree, tmp_path):
    before, saved = look(tree), {}
    files.move_aside([str(tree / name) for name in ("lib", "tool", "link")], saved, str(tmp_path / "aside"))
    assert sorted(os.listdir(tree)) == []
    files.put_back(json.loads(json.dumps(saved)))
    assert look(tree) == before


def test_what_came_in_its_place_goes(tree, tmp_path):
    before, saved = look(tree), {}
    files.move_aside([str(tree / "tool")], saved, str(tmp_path / "aside"))
    (tree / "tool").mkdir()
    (tree / "tool" / "inside").touch()
    files.put_back(saved)
    assert look(tree)["tool"] == before["tool"]


@pytest.mark.parametrize(("path", "what"), [
    ("/tree/absent", "not there"), ("tree/tool", "absolute"), ("/proc", "below a top folder"), ("/tree/../x/y", "absolute"), ("/dev/shm", "mounted"),
])  # fmt: skip
def test_a_path_that_cannot_be_moved_is_refused_and_nothing_moves(tmp_path, path, what):
    saved = {}
    with pytest.raises(FaultError, match=what):
        files.move_aside([path], saved, str(tmp_path / "aside"))
    assert saved == {} and not (tmp_path / "aside").exists()


def test_the_stale_rank_table_has_an_address_of_its_own_for_every_npu():
    devices = json.loads(files.rootinfo(16))["server_list"][0]["device"]
    assert len({device["device_ip"] for device in devices}) == 16
    assert all(device["device_ip"].startswith("192.0.2.") for device in devices)


# -- network


def test_the_service_nic_is_the_one_with_the_address():
    links = [{"ifname": "lo", "addr_info": [{"local": "127.0.0.1"}]}, {"ifname": "eth0", "addr_info": [{"local": "198.51.100.11"}]}]
    assert net.service_nic(links, "198.51.100.11") == "eth0"
    with pytest.raises(FaultError, match="198.51.100.99"):
        net.service_nic(links, "198.51.100.99")


@pytest.mark.parametrize(("peer", "rule"), [("", "        tcp dport 13389 drop\n"), ("198.51.100.12", "        ip saddr 198.51.100.12 tcp dport 13389 drop\n")])
def test_the_firewall_drops_one_port_from_one_peer(peer, rule):
    script = net.ruleset(13389, peer)
    assert rule in script
    assert script.count("drop") == 1 and "hook input" in script and "hook output" not in script


def test_a_peer_that_is_no_address_is_refused():
    with pytest.raises(FaultError, match="peer=node1: an IP address"):
        net._firewall({"port": "13389", "peer": "node1"}, {})


def test_a_port_is_taken_by_a_real_process_until_it_is_cleared():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    saved = {}
    values = {"port": str(port), "address": "127.0.0.1"}
    net._take_port(values, saved)
    try:
        assert net.comm(saved["pid"]).startswith("python")
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            assert connection.recv(1) == b""
        with pytest.raises(FaultError, match=f"port {port} of 127.0.0.1: .*in use"):
            net._take_port(values, {})
    finally:
        net._free_port(values, json.loads(json.dumps(saved)))
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)


def test_a_pid_that_is_another_process_by_now_is_left_alone():
    with subprocess.Popen(["sleep", "30"]) as stranger:
        try:
            net._free_port({}, {"pid": stranger.pid, "started": net.start_time(stranger.pid) - 1})
            assert stranger.poll() is None
        finally:
            stranger.kill()


# -- engine and system


def test_the_full_disk_is_known_by_its_name_in_the_mount_table():
    plain = "181 154 254:0 /docker /var/lib/docker rw shared:27 - ext4 /dev/vda rw\n"
    assert not engine.is_mounted(plain, engine.TMPFS)
    assert engine.is_mounted(plain + "182 181 0:90 / /var/lib/docker rw,relatime - tmpfs ascend-lab-disk-full rw,size=51200k\n", engine.TMPFS)


@pytest.mark.parametrize(("name", "path"), [("vm.swappiness", "/proc/sys/vm/swappiness"), ("net/ipv4/conf/eth0.1/mtu", "/proc/sys/net/ipv4/conf/eth0.1/mtu")])
def test_the_name_of_a_sysctl_is_a_path(name, path):
    assert system.sysctl_path(name) == path


@pytest.mark.parametrize("name", ["", "/etc/passwd", "vm/../../x", ".vm", "vm swappiness"])
def test_what_is_no_sysctl_is_refused(name):
    with pytest.raises(FaultError, match="the name of a sysctl"):
        system.sysctl_path(name)


def test_huge_pages_read_as_the_kernel_writes_them():
    assert system.thp_text("always") == "[always] madvise never\n"
    with pytest.raises(FaultError, match="one of always, madvise, never"):
        system.thp_text("sometimes")


def test_a_value_of_the_node_own_is_written_there_and_comes_back(tmp_path, monkeypatch):
    monkeypatch.setattr(system, "KERNEL", str(tmp_path))
    own = tmp_path / "proc/sys/vm/swappiness"
    own.parent.mkdir(parents=True)
    own.write_text("0\n")
    saved = {}
    system.put_value("/proc/sys/vm/swappiness", "60\n", saved)
    assert own.read_text() == "60\n"
    system._value_back({}, saved)
    assert own.read_text() == "0\n"


# -- `lab fault`


@pytest.fixture(name="calls")
def calls_fixture(monkeypatch):
    """`lab fault` on a pair; what it runs inside a node, as (which program, its words)."""
    made = []

    def docker(engine_, *args):
        command = nodes.SERVICE_FAULT_COMMAND if args[2:][: len(nodes.SERVICE_FAULT_COMMAND)] == nodes.SERVICE_FAULT_COMMAND else nodes.FAULT_COMMAND
        words = list(args[2 + len(command) :])
        made.append(("server" if command is nodes.SERVICE_FAULT_COMMAND else "emulator", *words))
        return 1 if "unknown" in words else 0

    monkeypatch.setattr(lab_cli, "_docker", docker)
    monkeypatch.setattr(lab_cli, "_node", lambda name: (host.Engine(None, False), shape.Shape("a2", 2).nodes[0]))
    return made


@pytest.mark.parametrize(("words", "ran"), [
    (["set", "port-taken", "port=8000"], [("server", "set", "port-taken", "port=8000")]),
    (["set", "tls-on", "npu=1"], [("emulator", "set", "tls-on", "npu=1")]),
    (["clear", "nic-down"], [("server", "clear", "nic-down")]),
    (["clear"], [("server", "clear", "all"), ("emulator", "clear", "all")]),
    (["clear", "all"], [("server", "clear", "all"), ("emulator", "clear", "all")]),
    (["list"], [("emulator", "list"), ("server", "list")]),
])  # fmt: skip
def test_a_fault_goes_to_the_program_that_knows_it(calls, words, ran):
    assert lab_cli.main(["fault", "a2-node0", *words]) == 0
    assert calls == ran


def test_an_unknown_fault_names_those_of_the_server_too(calls, capsys):
    assert lab_cli.main(["fault", "a2-node0", "set", "unknown"]) == 1
    assert "nic-down" in capsys.readouterr().err
