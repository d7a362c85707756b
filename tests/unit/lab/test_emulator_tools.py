# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The emulated tools' arguments, errors, exit statuses and order of checks; no root, no namespaces."""
from __future__ import annotations

import fcntl
import json
import os
import pathlib
import subprocess
import sys
import time

import pytest

EMULATOR = pathlib.Path(__file__).resolve().parents[3] / "tests" / "lab" / "emulator"
sys.path.insert(0, str(EMULATOR))

from ascend_emulator import common, fabric, hccn, hccn_text, node, npu_smi, state as states  # noqa: E402

BUSY = "hccn_tool is busy, please try again.\n"


def description(generation="a2", **more):
    return dict({"hostname": "%s-node0" % generation, "generation": generation, "node_index": 0, "nodes": 2,
                 "npus": 16 if generation == "a3" else 8, "roce_interface": "roce0"}, **more)


def make_node(root, generation="a2"):
    """The files of a node under a root; device nodes are plain files (only their presence counts)."""
    paths = states.Paths(str(root))
    stored = states.default_state(description(generation))
    os.makedirs(str(root) + "/dev")
    os.makedirs(str(root) + "/run")
    for name in ["davinci%d" % npu["phy_id"] for npu in stored["npus"]] + list(node.MANAGERS):
        pathlib.Path(str(root) + "/dev/" + name).touch()
    node.install_files(paths, stored, str(EMULATOR), compiled=False)
    states.save(paths, stored)
    return paths


@pytest.fixture(name="a2")
def a2_fixture(tmp_path):
    return make_node(tmp_path, "a2")


@pytest.fixture(name="a3")
def a3_fixture(tmp_path):
    return make_node(tmp_path, "a3")


def smi(paths, *argv):
    return npu_smi.run(paths, states.load(paths), list(argv))


def hccn_run(paths, *argv):
    try:
        return hccn.run(paths, states.load(paths), list(argv))
    except hccn.Refusal as refused:
        return hccn.refusal_out(refused)


@pytest.fixture(name="kernel")
def kernel_fixture(monkeypatch):
    """A kernel of a few values instead of namespaces."""
    values = {"up": True, "address": "10.20.1.10", "netmask": "255.255.0.0", "gateway": "10.20.0.1",
              "replies": [0.1, 0.05, 0.06], "pings": []}
    monkeypatch.setattr(fabric, "exists", lambda phy_id: True)
    monkeypatch.setattr(fabric, "port", lambda phy_id, kind="roce": {
        "up": values["up"], "address": values["address"], "netmask": values["netmask"], "prefix": 16, "mtu": 1500,
        "mac": "02:1e:85:01:00:00", "name": "eth%d" % phy_id})
    monkeypatch.setattr(fabric, "default_gateway", lambda phy_id: values["gateway"])

    def ping(phy_id, address, count, interval_s, wait_s=1.0, size=None):
        values["pings"].append((phy_id, address, count, interval_s))
        return values["replies"][:count] if values["replies"] is not None else None
    monkeypatch.setattr(fabric, "ping", ping)
    monkeypatch.setattr(hccn.time, "sleep", lambda seconds: None)
    return values


# --- npu-smi -----------------------------------------------------------------------------------------------

def test_info_lists_every_npu_and_no_process(a2):
    out = smi(a2, "info")
    assert out.code == 0 and out.stderr == ""
    assert out.stdout.count("| 910B3 ".replace("| ", "")) == 8
    assert out.stdout.count("No running processes found in NPU") == 8
    assert "[WARNING]" not in out.stdout


def test_a_device_that_is_not_here_is_not_shown(a2):
    os.unlink(a2.davinci(6))
    out = smi(a2, "info", "-l")
    assert "Total Count                    : 7\n" in out.stdout
    assert "NPU ID                         : 6\n" not in out.stdout


def test_a3_maps_dies_to_npus(a3):
    lines = smi(a3, "info", "-m").stdout.splitlines()
    assert len(lines) == 1 + 16 + 8
    assert lines[5].split() == ["1", "1", "3", "3", "Ascend910"]


def test_processes_of_the_state_and_of_the_drop_folder_are_shown_and_counted(a2):
    os.makedirs(a2.process_drops)
    pathlib.Path(a2.process_drops, "one.json").write_text(
        json.dumps([{"phy_id": 3, "pid": 4242, "name": "VLLMEngineCore", "memory_mb": 50000}]), encoding="utf-8")
    pathlib.Path(a2.process_drops, "broken.json").write_text("{", encoding="utf-8")
    out = smi(a2, "info").stdout
    assert "| 3       0                 | 4242          | VLLMEngineCore           | 50000                   |\n" in out
    assert "53419/ 65536" in out
    assert out.count("No running processes") == 7


@pytest.fixture(name="holder")
def holder_fixture(a2):
    """A process 77, an engine core, that has NPUs 2 and 5 open; as /proc shows it."""
    folder = pathlib.Path(a2.proc, "77", "fd")
    folder.mkdir(parents=True)
    for number, target in enumerate(["/dev/null", "/dev/davinci2", "/dev/davinci5", "/dev/davinci5", "/dev/davinci_manager"]):
        (folder / str(number)).symlink_to(target)
    (folder.parent / "comm").write_text("VLLM::EngineCor\n", encoding="utf-8")
    pathlib.Path(a2.proc, "meminfo").touch()
    pathlib.Path(a2.proc, "78").mkdir()
    return a2


def test_a_process_that_has_a_device_open_is_a_process_of_that_npu_with_its_memory(holder):
    out = smi(holder, "info").stdout
    assert "| 2       0                 | 77            | VLLM::EngineCor          | 56630                   |\n" in out
    assert "| 5       0                 | 77            | VLLM::EngineCor          | 56630                   |\n" in out
    assert out.count("No running processes") == 6
    assert "60042/ 65536" in out
    assert smi(holder, "info", "-t", "proc-mem", "-i", "2").stdout.count("Process id:77") == 1


def test_what_was_told_of_a_process_goes_before_what_is_found(holder):
    with states.changing(holder) as stored:
        stored["processes"] = [{"phy_id": 2, "pid": 77, "name": "told", "memory_mb": 100}]
    assert [(process["phy_id"], process["name"]) for process in states.processes(holder, states.load(holder))] == [
        (2, "told"), (5, "VLLM::EngineCor")]


def test_hccn_tool_knows_the_same_processes(holder, kernel):
    assert [hccn_run(holder, "-i", npu, "-process", "-g").stdout for npu in ("2", "3")] == [
        "device hccp process: exist\n", "device hccp process: not exist\n"]


def test_the_file_of_the_lab_sets_the_pace_of_a_ping(a2, kernel):
    hccn_run(a2, "-i", "0", "-ping", "-g", "address", "10.20.2.10")
    pathlib.Path(a2.packet_interval).parent.mkdir(parents=True, exist_ok=True)
    for text in ("0.25\n", "soon\n"):
        pathlib.Path(a2.packet_interval).write_text(text, encoding="utf-8")
        hccn_run(a2, "-i", "0", "-ping", "-g", "address", "10.20.2.10")
    assert [interval for dummy, dummy, dummy, interval in kernel["pings"]] == [1.0, 0.25, 1.0]


@pytest.mark.parametrize("argv, code, text", [
    ([], 215, "Usage: npu-smi <Command|-h|-v> [Options...]"),
    (["frob"], 211, "Command or option is not found."),
    (["-v"], 0, "npu-smi version: 25.5.1\n"),
    (["info", "-h"], 0, "Usage: npu-smi info <watch|proc|-h|-m|-l|-t type> [Options...]"),
    (["info", "-t", "nonsense", "-i", "0"], 215, "Error parameter of -t\nUsage: npu-smi info"),
    (["info", "-t", "board"], 215, "This command must input card id."),
    (["info", "-t", "board", "-i", "8"], 215, "Invalid card id.\nError parameter of -i\n"),
    (["info", "-t", "board", "-i", "0", "-c", "1"], 215, "Invalid chip id.\nError parameter of -c\n"),
    (["info", "-x"], 215, "Error parameter of -x\n"),
    (["info", "-i", "0"], 215, "Input parameter format error."),
    (["info", "-t", "spod-info", "-i", "0", "-c", "0"], 0, "This device does not support querying spod-info.\n"),
    (["info", "-t", "topo"], 0, "Legend:"),
    (["info", "-t", "common", "-i", "3"], 0, "\tChip Name                      : mcu\n"),
    (["info", "-t", "phyid-remap", "-p", "3"], 0, "\tNPU ID                        :3\n"),
    (["info", "-t", "proc-mem", "-i", "3"], 0, "\tNo process in device.\n"),
    (["info", "-t", "health", "-i", "3", "-c", "0"], 0, "\tHealth Status                  : OK\n"),
    (["info", "-t", "memory", "-i", "3"], 0, "\tHBM Capacity(MB)               : 65536\n"),
])
def test_npu_smi_arguments(a2, argv, code, text):
    out = smi(a2, *argv)
    assert (out.code, out.stderr) == (code, "")
    assert text in out.stdout


def test_spod_info_needs_a_chip_and_names_the_super_device(a3):
    assert smi(a3, "info", "-t", "spod-info", "-i", "5").code == 215
    out = smi(a3, "info", "-t", "spod-info", "-i", "5", "-c", "1").stdout
    # 169148427: server 40, chip 5, die 1, device 11, as in a pair of captures.
    assert out == ("\tSDID                           : 169148427\n\tSuper Pod Size                 : 384\n"
                   "\tSuper Pod ID                   : 0\n\tServer Index                   : 40\n")


@pytest.mark.parametrize("argv", [["info"], ["-v"], ["-h"], ["info", "-h"], ["info", "-l"]])
def test_without_the_driver_nothing_works_not_even_help(a2, argv):
    with states.changing(a2) as stored:
        stored["driver_error"] = -8005
    out = smi(a2, *argv)
    assert (out.code, out.stderr) == (187, "")
    assert out.stdout == "DrvMngGetConsoleLogLevel failed. (ret=4)\ndcmi module initialize failed. ret is -8005\n"


def test_no_device_nodes_are_no_driver(a2):
    os.unlink(a2.manager)
    assert smi(a2, "info").code == 187


@pytest.mark.parametrize("change", ["missing", "directory", "incomplete"])
def test_an_incomplete_install_warns_below_the_table_and_exits_0(a2, change):
    os.unlink(a2.install_info)
    if change == "directory":
        os.mkdir(a2.install_info)
    if change == "incomplete":
        pathlib.Path(a2.install_info).write_text(node.install_info("yes", ()), encoding="utf-8")
    out = smi(a2, "info")
    assert out.code == 0
    assert out.stdout.endswith("[WARNING]The driver package may not be completely installed, which may cause function "
                               "abnormal. Please reinstall it.\n")


def test_watch_never_ends_by_itself(a2):
    lines, pauses = [], []
    npu_smi.watch(a2, states.load(a2), ["info", "watch", "-i", "2"], rounds=3, pause=pauses.append, write=lines.append)
    assert len(lines) == 4 and pauses == [1, 1]
    assert lines[1].startswith("2           0           ")


# --- hccn_tool ---------------------------------------------------------------------------------------------

@pytest.mark.parametrize("argv, code, stdout, stderr", [
    ([], 2, "", "Get invalid major cmd number. Please check your input.\n"),
    (["-x"], 1, "", "Get invalid major cmd type."),
    (["-i", "0", "-nonsense", "-g"], 3, "", "Get invalid major cmd.\n"),
    (["-i", "8", "-ip", "-g"], 4, "", "Get invalid device id.\n"),
    (["-i", "x", "-ip", "-g"], 4, "", "Get invalid device id.\n"),
    (["-i", "100", "-ip", "-g"], 4, "", "Get invalid device id.\n"),
    (["-i", "0", "-ip"], 4, "[ hccn_tool -i devid -ip ] needs", "The total count of input parameters is wrong!\n"),
    (["-i", "0", "-ip", "-z"], 3, "[ hccn_tool -i devid -ip ] needs", "Get unknown option!\n"),
    (["-i", "0", "-ip", "-g", "more"], 4, "[ hccn_tool", "The total count of input parameters is wrong!\n"),
    (["-i", "0", "-ping", "-g", "address", "1.2.3"], 6, "", "The ip address you configured is invalid!\n"),
    (["-i", "0", "-ping", "-g"], 4, "[ hccn_tool", "The total count of input parameters is wrong!\n"),
    (["-i", "0", "-hccs_ping", "-g", "address", "192.40.2.199"], 13, "The command is not supported on this product.\n", ""),
    (["-i", "0", "-tls", "-s", "enable", "2"], 16, "[ hccn_tool", "Get invalid enable value!\n"),
    (["-i", "0", "-cfg", "status"], 0, "config status:SUCCESS\n", ""),
    (["-i", "0", "-ip", "-g"], 0, "ipaddr:10.20.1.10\nnetmask:255.255.0.0\n", ""),
    (["-i", "3", "-gateway", "-g"], 0, "default gateway:10.20.0.1, Iface:eth3\n", ""),
    (["-i", "0", "-mtu", "-g"], 0, "mtu:1500\n", ""),
    (["-i", "0", "-mac", "-g"], 0, "mac addr: 02:1e:85:01:00:00\n", ""),
])
def test_hccn_tool_arguments(a2, kernel, argv, code, stdout, stderr):
    out = hccn_run(a2, *argv)
    assert out.code == code
    assert out.stdout.startswith(stdout) and (stdout or not out.stdout)
    assert out.stderr.startswith(stderr) and (stderr or not out.stderr)


def test_no_address_and_no_gateway_are_errors_of_their_own(a2, kernel):
    kernel.update(address=None, gateway=None)
    assert hccn_run(a2, "-i", "0", "-ip", "-g") == common.Out("", "Get ipconf failed, because no ip was preset there!\n", 13)
    assert hccn_run(a2, "-i", "0", "-gateway", "-g").code == 2


@pytest.mark.parametrize("generation, change, wanted", [
    ("a2", {}, "Success"), ("a2", {"up": False}, "Fault"), ("a3", {"up": False}, "Init"),
    ("a2", {"replies": ["timeout"]}, "Receive timeout"), ("a2", {"replies": ["unreachable"]}, "Unreachable"),
    ("a2", {"replies": None}, "Unreachable"),
])
def test_net_health_is_looked_at_live(tmp_path, kernel, generation, change, wanted):
    paths = make_node(tmp_path, generation)
    kernel.update(change)
    assert hccn_run(paths, "-i", "0", "-net_health", "-g") == common.Out("net health status: %s\n" % wanted, "", 0)


def test_ping_sends_three_packets_one_per_interval(a2, kernel):
    out = hccn_run(a2, "-i", "2", "-ping", "-g", "address", "10.20.2.12")
    assert out.code == 0 and "3 packets transmitted, 3 received, 0.00% packet loss\n" in out.stdout
    assert kernel["pings"] == [(2, "10.20.2.12", 3, states.PACKET_INTERVAL_S)]
    assert states.PACKET_INTERVAL_S == 1.0


def test_one_lost_packet_fails_the_ping(a2, kernel):
    kernel["replies"] = [0.1, "timeout", 0.1]
    out = hccn_run(a2, "-i", "2", "-ping", "-g", "address", "10.20.2.12")
    assert out.code == 1
    assert "recv time out seq=1\n" in out.stdout and "3 packets transmitted, 2 received, 33.33% packet loss\n" in out.stdout


def test_hccs_ping_exits_0_with_every_packet_lost(a3, kernel):
    kernel["replies"] = None
    out = hccn_run(a3, "-i", "2", "-hccs_ping", "-g", "address", "192.41.2.199", "cnt", "2")
    assert out.code == 0 and out.stderr == ""
    assert "2 packets transmitted, 0 received, 100.00% packets loss\n" in out.stdout
    assert out.stdout.endswith("Cmd executed successfully!\n")


@pytest.mark.parametrize("address", ["10.20.2.10", "192.168.2.199", "192.40.3.199", "192.40.4.199", "192.48.2.199"])
def test_hccs_ping_refuses_addresses_that_no_super_pod_has(a3, kernel, address):
    assert hccn_run(a3, "-i", "0", "-hccs_ping", "-g", "address", address).code == 6


def test_every_vnic_address_of_a_super_pod_is_accepted(a3, kernel):
    for phy_id in range(16):
        address = states.vnic_address("a3", 47, phy_id)
        assert hccn_run(a3, "-i", "0", "-hccs_ping", "-g", "address", address).code == 0


def test_tls_can_be_switched_and_the_file_follows(a2, kernel):
    assert hccn_run(a2, "-i", "5", "-tls", "-s", "enable", "1") == common.Out("Cmd executed successfully!\n", "", 0)
    assert hccn_run(a2, "-i", "5", "-tls", "-g").stdout.startswith("dev_id:5, tls switch[1](")
    assert hccn.read_conf(a2.hccn_conf)[5]["tls_enable"] == "1"
    assert hccn_run(a2, "-i", "4", "-tls", "-g").stdout.startswith("dev_id:4, tls switch[0](")


def test_conf_that_is_a_folder_refuses_a_set(a2, kernel):
    os.unlink(a2.hccn_conf)
    os.mkdir(a2.hccn_conf)
    assert hccn_run(a2, "-i", "5", "-tls", "-s", "enable", "1").code == 29


def test_conf_of_a_node_reads_back(a3):
    conf = hccn.read_conf(a3.hccn_conf)
    assert sorted(conf) == list(range(16))
    assert conf[3]["address"] == "10.20.1.13" and conf[3]["arp"] == "-i eth3 -s 10.20.1.12 02:1e:85:01:02:00"


def test_busy_until_a_time_or_for_ever():
    assert not hccn.is_busy({"hccn": {"busy_until": None}})
    assert hccn.is_busy({"hccn": {"busy_until": 100.0}}, now=99) and not hccn.is_busy({"hccn": {"busy_until": 100.0}}, now=101)
    assert hccn.is_busy({"hccn": {"busy_until": "forever"}})


def test_addresses_are_unique_over_nodes():
    addresses = {states.roce_address(index, phy_id) for index in range(32) for phy_id in range(16)}
    assert len(addresses) == 32 * 16 and states.GATEWAY not in addresses


def test_iputils_output_is_read_by_sequence_number():
    text = ("PING 10.20.2.10 (10.20.2.10) 56(84) bytes of data.\n"
            "64 bytes from 10.20.2.10: icmp_seq=1 ttl=64 time=0.481 ms\n"
            "From 10.20.1.10 icmp_seq=3 Destination Host Unreachable\n\n--- 10.20.2.10 ping statistics ---\n")
    assert fabric.parse_ping(text, 3) == [0.481, "timeout", "unreachable"]
    assert fabric.parse_ping("", 2) == ["timeout", "timeout"]


# --- the tools as programs ---------------------------------------------------------------------------------

def program(paths, name, *argv, **environment):
    env = {"PATH": os.environ["PATH"], "ASCEND_LAB_ROOT": paths.root,
           "LD_LIBRARY_PATH": "/nonexistent:" + paths.driver + "/lib64"}
    env.update(environment)
    tool = {"npu-smi": paths.at("/usr/local/bin/npu-smi"), "hccn_tool": paths.driver + "/tools/hccn_tool"}[name]
    return subprocess.run([tool] + list(argv), env={key: value for key, value in env.items() if value is not None},
                          capture_output=True, text=True, check=False, timeout=30)


@pytest.mark.parametrize("path", [None, "", "/usr/lib"])
def test_without_the_library_path_the_loader_refuses(a2, path):
    done = program(a2, "npu-smi", "info", LD_LIBRARY_PATH=path)
    assert (done.returncode, done.stdout) == (127, "")
    assert done.stderr == ("npu-smi: error while loading shared libraries: libdcmi.so: cannot open shared object file: "
                           "No such file or directory\n")
    assert program(a2, "hccn_tool", "-i", "0", "-ip", "-g", LD_LIBRARY_PATH=path).returncode == 127


@pytest.mark.parametrize("folder", ["/lib64", "/lib64/driver"])
def test_either_library_folder_will_do(a2, folder):
    assert program(a2, "npu-smi", "-v", LD_LIBRARY_PATH=a2.driver + folder).stdout == "npu-smi version: 25.5.1\n"


def test_a_tool_is_one_file_that_works_where_nothing_else_is_mounted(a2, tmp_path):
    """As in a serving container: tool files, driver libraries, hccn.conf, some devices; no state, no namespaces."""
    inside = tmp_path / "container"
    other = states.Paths(str(inside))
    for path in ("/usr/local/bin/npu-smi", "/usr/local/Ascend/driver", "/etc/hccn.conf"):
        os.makedirs(os.path.dirname(other.at(path)), exist_ok=True)
        subprocess.run(["cp", "-a", a2.at(path), other.at(path)], check=True)
    os.makedirs(other.at("/dev"))
    os.makedirs(other.at("/run"))
    for name in ("davinci_manager", "davinci0", "davinci1"):
        pathlib.Path(other.at("/dev/" + name)).touch()
    node.write_if_changed(other.driver + "/tools/hccn_tool", node.archive(str(EMULATOR), "hccn", "/nonexistent"), 0o755)
    node.write_if_changed(other.at("/usr/local/bin/npu-smi"), node.archive(str(EMULATOR), "npu_smi", "/nonexistent"), 0o755)
    assert "Total Count                    : 2\n" in program(other, "npu-smi", "info", "-l").stdout
    info = program(other, "npu-smi", "info").stdout
    assert "[WARNING]" not in info and info.count("910B3") == 2
    if not os.path.exists("/run/netns/npu1"):
        done = program(other, "hccn_tool", "-i", "1", "-ip", "-g", ASCEND_LAB_AS_ROOT="1")
        assert done.stdout == "ipaddr:10.20.1.11\nnetmask:255.255.0.0\n"


def test_hccn_tool_needs_root(a2, monkeypatch):
    monkeypatch.delenv("ASCEND_LAB_AS_ROOT", raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert not common.is_root()
    assert hccn.refusal_out(hccn.Refusal("permission")) == common.Out(
        "", "permission denied: pls check this cmd run permission.\n", 12)


def test_a_second_call_while_one_runs_is_told_so(a2):
    with states.changing(a2) as stored:
        stored["output"] = [{"tool": "hccn_tool", "verb": "-tls", "kind": "hang", "seconds": 30}]
    environment = {"PATH": os.environ["PATH"], "ASCEND_LAB_ROOT": a2.root, "ASCEND_LAB_AS_ROOT": "1",
                   "LD_LIBRARY_PATH": a2.driver + "/lib64"}
    with subprocess.Popen([a2.driver + "/tools/hccn_tool", "-i", "0", "-tls", "-g"], env=environment) as first:
        try:
            deadline = time.monotonic() + 20
            while not is_locked(a2.lock):
                assert time.monotonic() < deadline and first.poll() is None, "the first call never took the lock"
                time.sleep(0.05)
            done = program(a2, "hccn_tool", "-i", "0", "-process", "-g", ASCEND_LAB_AS_ROOT="1")
        finally:
            first.kill()
    assert (done.returncode, done.stdout, done.stderr) == (11, BUSY, "")
    done = program(a2, "hccn_tool", "-i", "0", "-process", "-g", ASCEND_LAB_AS_ROOT="1")
    assert (done.returncode, done.stdout) == (0, "device hccp process: not exist\n")


def is_locked(path):
    """True while somebody else holds any lock on the file."""
    with open(path, "a", encoding="utf-8") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_help_lists_every_verb(a2):
    out = hccn_run(a2, "-h")
    assert out.code == 0
    for verb in hccn.VERBS:
        assert "hccn_tool -i devid %s\n" % verb in out.stdout
    assert hccn_text.help_of("-hccs_ping") in out.stdout
