# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The emulated hardware's own memory: one JSON file, /var/lib/ascend-lab/state.json.

It holds only what no kernel holds (health, power, memory in use, versions, TLS switch, LLDP neighbour ...).
Links, addresses, routes and MTU are never stored here: they are read from the NPU's network namespace.

Where the default values come from: bus ids, board ids and idle memory are those of published captures of an
8 x 910B3 A2 host and an 8 x 2 die A3 host; temperatures and power are in the range of those captures.

Inside a serving container this file is absent (it is not among the mounts of a real deployment). The copy
beside the driver's libraries, which are mounted, then answers; see SHARED_COPY.
"""
from __future__ import annotations

import contextlib
import copy
import fcntl
import json
import os

SCHEMA = 1

# One packet a second is what hccn_tool -ping is taken to send: three packets take about two seconds.
# state["hccn"]["packet_interval_s"] overrides it on a node, and the lab's own file (Paths.packet_interval) both.
PACKET_INTERVAL_S = 1.0

# MB of HBM that a process is taken to hold of each NPU it has open (made up: a serving process fills most of an NPU).
PROCESS_MB = 56630

ROCE_PREFIX = 16
ROCE_NETWORK = "10.20"          # every NPU of every node: 10.20.<node + 1>.<10 + phy id>/16
ROCE_NETMASK = "255.255.0.0"
GATEWAY = "10.20.0.1"
SERVER_INDEX_BASE = 40          # a super pod of 384 dies has servers 0..47; captures show server 40
SUPERPOD_SERVERS = 48

A2_BUS = ("C1", "01", "C2", "02", "81", "41", "82", "42")
A3_BUS = ("9D", "9F", "99", "9B", "95", "97", "91", "93", "8D", "8F", "89", "8B", "85", "87", "81", "83")


class Paths:
    """Every path the emulator touches, under an optional root (tests use a temporary one)."""

    def __init__(self, root=None):
        self.root = root if root is not None else os.environ.get("ASCEND_LAB_ROOT", "")

    def at(self, path):
        return self.root + path

    @property
    def node(self):
        return self.at("/etc/ascend-lab/node.json")

    @property
    def state(self):
        return self.at("/var/lib/ascend-lab/state.json")

    @property
    def process_drops(self):
        return self.at("/var/lib/ascend-lab/processes.d")

    @property
    def packet_interval(self):
        return self.at("/etc/ascend-lab/packet-interval")

    @property
    def proc(self):
        return self.at("/proc")

    @property
    def hccn_conf(self):
        return self.at("/etc/hccn.conf")

    @property
    def install_info(self):
        return self.at("/etc/ascend_install.info")

    @property
    def driver(self):
        return self.at("/usr/local/Ascend/driver")

    @property
    def shared_copy(self):
        return self.at("/usr/local/Ascend/driver/lib64/driver/ascend-lab-state.json")

    @property
    def lock(self):
        return self.at("/run/ascend-lab-hccn_tool.lock")

    def davinci(self, phy_id):
        return self.at("/dev/davinci%d" % phy_id)

    @property
    def manager(self):
        return self.at("/dev/davinci_manager")


def roce_address(node_index, phy_id):
    """RoCE address of one NPU; unique over all nodes of a lab (node_index 0..253)."""
    return "%s.%d.%d" % (ROCE_NETWORK, node_index + 1, 10 + phy_id)


def roce_mac(node_index, phy_id, kind=0):
    """A locally administered MAC, stable over boots. kind 0: RoCE, 1: vNIC."""
    return "02:1e:85:%02x:%02x:%02x" % (node_index + 1, phy_id, kind)


def vnic_address(generation, server_index, phy_id):
    """vNIC address of one die.

    A3 in a super pod: 192.<server index>.<2 + die>.<199 - device>, the form from which hccn_tool computes the
    SDID (source-derived; it refuses any other). Otherwise 192.168.2.<199 - device>, as in captures.
    """
    if generation == "a3":
        return "192.%d.%d.%d" % (server_index, 2 + phy_id % 2, 199 - phy_id)
    return "192.168.2.%d" % (199 - phy_id)


def sdid(server_index, phy_id):
    """Super device id: server << 22 | chip << 18 | die << 16 | device."""
    return server_index << 22 | (phy_id // 2) << 18 | (phy_id % 2) << 16 | phy_id


def default_npu(generation, phy_id):
    """One NPU (A2) or die (A3) of a healthy idle node."""
    npu = {
        "phy_id": phy_id, "logic_id": phy_id, "npu_id": phy_id, "chip_id": 0,
        "name": "910B3", "bus_id": "0000:%02X:00.0" % (0xA1 + phy_id),
        "health": "OK", "error_codes": [], "error_information": "NA",
        "power_w": "%.1f" % (92.0 + 1.3 * ((phy_id * 3) % 8)), "temperature_c": 42 + phy_id % 5,
        "aicore": 0, "memory_used_mb": 0, "memory_total_mb": 0,
        "hbm_used_mb": 3398 + 7 * (phy_id % 8), "hbm_total_mb": 65536,
        "hugepages_used": 0, "hugepages_total": 0,
    }
    if generation == "a3":
        first = phy_id % 2 == 0
        npu.update({
            "npu_id": phy_id // 2, "chip_id": phy_id % 2, "name": "Ascend910",
            "power_w": "%.1f" % (176.5 + 1.1 * (phy_id % 7)) if first else "-",
            "temperature_c": 34 + phy_id % 4, "hbm_used_mb": (3101 if first else 2887) + phy_id,
        })
        bus = A3_BUS
    else:
        bus = A2_BUS
    if phy_id < len(bus):
        npu["bus_id"] = "0000:%s:00.0" % bus[phy_id]
    return npu


def default_state(node):
    """A healthy node. node: the content of node.json (hostname, generation, node_index, npus, ...)."""
    generation, index = node["generation"], int(node["node_index"])
    version = node.get("driver_version", "25.5.1")
    devices = {}
    for phy_id in range(int(node["npus"])):
        devices[str(phy_id)] = {
            "tls": 0, "net_health": None, "netdetect": GATEWAY, "fec": "rs FEC mode",
            "speed_mbps": 200000, "link_up_count": 1, "link_changes": [],
            "lldp": {"ifname": "400GE1/%d/%d:%d" % (phy_id // 2 + 1, 5 + index, phy_id % 2 + 1)},
        }
    return {
        "schema": SCHEMA, "node": copy.deepcopy(node), "generation": generation, "hostname": node["hostname"],
        "node_index": index, "tool_version": version, "driver_version": version,
        "firmware_version": node.get("firmware_version", "7.8.0.6.201"),
        "driver_error": None, "device_gone": [],
        "npus": [default_npu(generation, phy_id) for phy_id in range(int(node["npus"]))],
        "processes": [],
        "superpod": {"id": int(node.get("superpod_id", 0)), "size": 384,
                     "server_index": int(node.get("server_index", (SERVER_INDEX_BASE + index) % SUPERPOD_SERVERS))},
        "hccn": {"packet_interval_s": PACKET_INTERVAL_S, "devices": devices, "busy_until": None},
        "output": [],
        "faults": {},
    }


def load(paths):
    """The effective state: stored values with the active faults laid over them. None when there is no state."""
    from ascend_emulator import faults  # imported late: faults itself works on the stored state
    stored = load_stored(paths)
    if stored is None:
        return None
    state = faults.overlaid(stored)
    state["hccn"]["packet_interval_s"] = packet_interval(paths, state["hccn"]["packet_interval_s"])
    return state


def packet_interval(paths, default):
    """Seconds between two packets of a ping: what the lab's file says, else the default."""
    try:
        with open(paths.packet_interval, encoding="utf-8") as handle:
            return float(handle.read())
    except (OSError, ValueError):
        return default


def load_stored(paths):
    for path in (paths.state, paths.shared_copy):
        try:
            with open(path, encoding="utf-8") as handle:
                return json.load(handle)
        except FileNotFoundError:
            continue
    return None


def in_container(paths):
    """True where only the driver's folders are mounted: a serving container, not the node itself."""
    return not os.path.exists(paths.state)


def write_atomically(path, text, mode=0o644):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    temporary = "%s.%d.new" % (path, os.getpid())
    with open(temporary, "w", encoding="utf-8") as handle:
        handle.write(text)
    os.chmod(temporary, mode)
    os.replace(temporary, path)


def save(paths, stored):
    text = json.dumps(stored, indent=1, sort_keys=True) + "\n"
    write_atomically(paths.state, text)
    if os.path.isdir(os.path.dirname(paths.shared_copy)):
        write_atomically(paths.shared_copy, text)


@contextlib.contextmanager
def changing(paths):
    """Read, change and save the stored state; two changers wait for each other, readers never wait."""
    os.makedirs(os.path.dirname(paths.state), exist_ok=True)
    with open(paths.state + ".lock", "a", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        stored = load_stored(paths)
        if stored is None:
            raise SystemExit("no %s: run ascend-lab-node first" % paths.state)
        try:
            yield stored
        finally:  # also after an error: what was undone before it stays undone
            save(paths, stored)


def processes(paths, state):
    """Processes on NPUs: those in the state, those dropped as JSON lists into processes.d, those that have a device open.

    What the first two say of a process goes before what is found. The folder is the hook for whatever wants to report
    processes by itself (one file per reporter, a list of {"phy_id", "pid", "name", "memory_mb"}); an unreadable file is
    left out.
    """
    found = list(state["processes"])
    with contextlib.suppress(FileNotFoundError):
        for name in sorted(os.listdir(paths.process_drops)):
            if name.endswith(".json"):
                with contextlib.suppress(OSError, ValueError):
                    with open(os.path.join(paths.process_drops, name), encoding="utf-8") as handle:
                        found.extend(json.load(handle))
    told = {(process["phy_id"], process["pid"]) for process in found}
    return found + [process for process in holders(paths) if (process["phy_id"], process["pid"]) not in told]


def holders(paths):
    """Processes that have /dev/davinciN open, as the real driver accounts for them: one entry per process and NPU.

    Processes of containers too: their pids are those of this pid namespace, and the links read as in the container.
    """
    found = []
    for entry in sorted((entry for entry in _listed(paths.proc) if entry.isdigit()), key=int):
        folder = os.path.join(paths.proc, entry)
        opened = set()
        for number in _listed(folder + "/fd"):
            with contextlib.suppress(OSError):
                target = os.readlink("%s/fd/%s" % (folder, number))
                if target.startswith("/dev/davinci") and target[12:].isdigit():
                    opened.add(int(target[12:]))
        if opened:
            with contextlib.suppress(OSError):
                with open(folder + "/comm", encoding="utf-8", errors="replace") as handle:
                    name = handle.read().strip()
                found.extend({"phy_id": phy_id, "pid": int(entry), "name": name, "memory_mb": PROCESS_MB}
                             for phy_id in sorted(opened))
    return found


def _listed(folder):
    """Names in a folder; none where it is gone or not ours to read."""
    try:
        return os.listdir(folder)
    except OSError:
        return []
