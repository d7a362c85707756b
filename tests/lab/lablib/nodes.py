# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The emulated nodes: containers with systemd, sshd and a Docker engine of their own."""

from __future__ import annotations

import json
import shlex
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lablib import access, network, shape
from lablib.host import Engine
from lablib.places import LAB_SOURCE, RUN, emulator_dir
from lablib.say import LabError, say

WEIGHTS = RUN / "weights"
# Not the node's own interpreter: a fault may have taken it away.
_PYTHON = "/usr/local/lib/ascend-lab/python3"
FAULT_COMMAND = (_PYTHON, "-B", "/opt/ascend-lab/emulator/ascend-lab-fault")
SERVICE_FAULT_COMMAND = ("env", "PYTHONPATH=/opt/ascend-lab/lib", _PYTHON, "-B", "-m", "service_faults")
SERVICE_FAULTS_DIR = LAB_SOURCE / "service_faults"

# Instead of --privileged, which fails where CAP_SYS_RESOURCE is out of reach (inside many virtual machines and containers).
_PRIVILEGES = [
    "--cap-add", "ALL", "--cap-drop", "SYS_RESOURCE",
    "--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined",
    "--device-cgroup-rule", "a *:* rwm",
]  # fmt: skip
_LIGHT_INIT = "/usr/local/lib/ascend-lab/light-init"
# What systemd as the first process wants.
_SYSTEMD = [
    "--tmpfs", "/run:exec,mode=755", "--tmpfs", "/run/lock", "--tmpfs", "/tmp:exec,mode=1777",
    "--cgroupns", "host", "-v", "/sys/fs/cgroup:/sys/fs/cgroup:rw", "--stop-signal", "SIGRTMIN+3", "-e", "container=docker",
]  # fmt: skip


def folder(node: shape.Node) -> Path:
    return RUN / "nodes" / node.name


def configure(lab: shape.Shape) -> None:
    """Writes what every node finds in /etc/ascend-lab, and the controller's side of the same keys."""
    public_key = access.make_key(access.KEY)
    host_keys = {}
    for node in lab.nodes:
        etc = folder(node) / "etc"
        host_keys[node.name] = access.make_key(etc / "ssh_host_ed25519_key")
        (etc / "authorized_keys").write_text(public_key + "\n")
        (etc / "interfaces").write_text("".join(f"{name} {_prefix(of)}\n" for name, of in network.INTERFACES.items()))
        (etc / "node.json").write_text(json.dumps(description(lab, node), indent=2) + "\n")
        (folder(node) / "docker").mkdir(exist_ok=True)
    WEIGHTS.mkdir(exist_ok=True)
    access.write_ssh(lab.nodes, host_keys)
    access.write_variables()
    access.write_inventories(lab)


def _prefix(of: shape.IPv4Network) -> str:
    """The first three bytes of a /24 network, as the beginning of an address."""
    return str(of.network_address).rsplit(".", 1)[0] + "."


def set_packet_interval(lab: shape.Shape, seconds: float) -> None:
    """The pace of the emulator's pings from now on. Seen in the nodes at once: the folder is mounted there."""
    for node in lab.nodes:
        (folder(node) / "etc" / "packet-interval").write_text(f"{seconds:g}\n")


def description(lab: shape.Shape, node: shape.Node) -> dict:
    """The contract with the emulator's set-up script: /etc/ascend-lab/node.json."""
    return {
        "hostname": node.name,
        "generation": lab.generation,
        "node_index": node.index,
        "nodes": lab.size,
        "npus": lab.npus,
        "roce_interface": "roce0",
        "service_address": node.address,
        "management_address": node.management_address,
    }


def start(engine: Engine, image: str, lab: shape.Shape) -> None:
    """Creates and starts every node."""
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda node: _start_one(engine, image, lab, node), lab.nodes))


def _start_one(engine: Engine, image: str, lab: shape.Shape, node: shape.Node) -> None:
    hosts = [option for other in lab.nodes for option in ("--add-host", f"{other.name}:{other.address}")]
    common = [
        "--name", node.name, "--hostname", node.name, "--label", f"{shape.LABEL}=node", "--restart", "no",
        "--network", network.SERVICE, "--ip", node.address, *hosts, *_PRIVILEGES,
        "-v", f"{folder(node)}/etc:/etc/ascend-lab:ro", "-v", f"{emulator_dir()}:/opt/ascend-lab/emulator:ro",
        "-v", f"{SERVICE_FAULTS_DIR}:/opt/ascend-lab/lib/service_faults:ro", "-v", f"{WEIGHTS}:/mnt/weights",
    ]  # fmt: skip
    # Otherwise a node's own firewall (its engine sets FORWARD to DROP) would judge the frames between its NPUs.
    bridge_filter = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
    bridge_sysctl = ["--sysctl", "net.bridge.bridge-nf-call-iptables=0"] if bridge_filter.exists() else []
    # A node's engine wants to forward, and cannot switch it on itself: /proc/sys is read-only in there.
    sysctls = ["--sysctl", "net.ipv4.ip_forward=1", *bridge_sysctl]
    if lab.light:
        own = ["--tmpfs", "/run:exec,mode=755", *bridge_sysctl, image, _LIGHT_INIT]
    else:
        own = [*_SYSTEMD, *sysctls, "-v", f"{folder(node)}/docker:/var/lib/docker", image]
    engine.out("create", *common, *own)
    engine.out("network", "connect", "--ip", node.management_address, network.MANAGEMENT, node.name)
    engine.out("network", "connect", network.ROCE, node.name)
    engine.out("start", node.name)


def wait(engine: Engine, lab: shape.Shape, timeout_s: float = 90.0) -> None:
    """Waits until every node has booted, takes an ssh session and has a Docker engine that answers."""
    deadline = time.monotonic() + timeout_s
    waiting = {node.name: node for node in lab.nodes}
    reasons: dict[str, str] = {}
    while waiting:
        with ThreadPoolExecutor() as pool:
            reasons = dict(zip(waiting, pool.map(lambda node: fault(engine, node, lab.light), waiting.values())))
        for name, reason in reasons.items():
            if reason is None:
                say(f"{name} ({waiting[name].address}): booted, ssh {'answers' if lab.light else 'and Docker engine answer'}")
                del waiting[name]
        if waiting and time.monotonic() > deadline:
            raise LabError("; ".join(f"{name}: {reasons[name]}" for name in waiting) + f" (after {timeout_s:.0f} s)")
        time.sleep(0.2)


_HEALTH = (
    "systemctl is-system-running; systemctl --failed --plain --no-legend | cut -d' ' -f1 | tr '\\n' ' '; echo; "
    "docker version --format '{{.Server.Version}}' 2>&1"
)


def fault(engine: Engine, node: shape.Node, light: bool = False) -> str | None:
    """What is wrong with a node, as seen over ssh by the user Ansible uses; None when it is fine."""
    container = engine.inspect(node.name)
    if not container or not container["State"]["Running"]:
        return "its container does not run"
    done = ssh(node, "sudo true" if light else f"sudo sh -c {shlex.quote(_HEALTH)}", timeout_s=15)
    if done is None:
        return "ssh takes longer than 15 s"
    if light:
        return f"ssh: {done.stderr.strip()}" if done.returncode else None
    lines = done.stdout.splitlines()
    if done.returncode or len(lines) < 3:
        return f"ssh: {done.stderr.strip() or done.stdout.strip()}"
    state, failed, docker = lines[0], lines[1].strip(), lines[2]
    if failed:
        return f"systemd is {state}, failed: {failed}"
    if state != "running":
        return f"systemd is {state}"
    return None if docker[:1].isdigit() else f"its Docker engine: {docker}"


def ssh(node: shape.Node, command: str, timeout_s: float) -> subprocess.CompletedProcess | None:
    """One command over ssh as the controller reaches the node; None when it takes too long."""
    # A session of its own: a shared one would outlive a reboot of the node.
    try:
        return subprocess.run(
            ["ssh", "-F", str(access.CONFIG), "-o", "ControlPath=none", "-o", "BatchMode=yes", "-o", "ConnectTimeout=5", node.name, command],
            capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False, timeout=timeout_s,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return None
