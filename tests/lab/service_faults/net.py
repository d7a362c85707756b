# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults of the service network: the NIC itself, its MTU, a firewall, a port that somebody else has."""

from __future__ import annotations

import ipaddress
import json
import os
import signal
import socket
import subprocess
import sys

from service_faults.base import Fault, FaultError, run, wait_until, whole

NODE = "/etc/ascend-lab/node.json"
TABLE = "ascend_lab_faults"
# Takes connections and ends them: whoever asks the port for something gets nothing.
_LISTENER = "import socket\ns = socket.socket(fileno=3)\nwhile True:\n    s.accept()[0].close()\n"


def service_nic(links: list[dict], address: str) -> str:
    """The interface that has the node's service address. links: what `ip -j addr` says."""
    for link in links:
        if any(entry.get("local") == address for entry in link.get("addr_info", [])):
            return link["ifname"]
    raise FaultError(f"no interface has the service address {address}")


def _nic() -> str:
    with open(NODE, encoding="utf-8") as handle:
        return service_nic(json.loads(run("ip", "-j", "-4", "addr", "show")), json.load(handle)["service_address"])


def _is_up(nic: str) -> bool:
    flags = json.loads(run("ip", "-j", "link", "show", "dev", nic))[0]["flags"]
    return "UP" in flags and "LOWER_UP" in flags


def _nic_down(values: dict, saved: dict) -> None:
    nic = _nic()
    # The kernel drops the routes of a NIC that goes down; those it makes itself it makes again.
    routes = [line for line in run("ip", "-4", "route", "show", "dev", nic).splitlines() if "proto kernel" not in line]
    saved.update(nic=nic, routes=routes)
    run("ip", "link", "set", nic, "down")


def _nic_up(values: dict, saved: dict) -> None:
    if not saved:
        return
    run("ip", "link", "set", saved["nic"], "up")
    wait_until(lambda: _is_up(saved["nic"]), f"{saved['nic']} is up")
    for route in saved["routes"]:
        run("ip", "route", "replace", *route.split(), "dev", saved["nic"])


def _mtu(values: dict, saved: dict) -> None:
    mtu, nic = whole(values, "mtu", 68, 9702), _nic()
    saved.update(nic=nic, mtu=json.loads(run("ip", "-j", "link", "show", "dev", nic))[0]["mtu"])
    run("ip", "link", "set", nic, "mtu", str(mtu))


def _mtu_back(values: dict, saved: dict) -> None:
    if saved:
        run("ip", "link", "set", saved["nic"], "mtu", str(saved["mtu"]))


def ruleset(port: int, peer: str) -> str:
    """An nftables script: a table of our own that drops incoming TCP to one port, from one peer or (empty) from all."""
    source = ""
    if peer:
        source = f"{'ip' if ipaddress.ip_address(peer).version == 4 else 'ip6'} saddr {peer} "
    return (
        f"table inet {TABLE} {{\n    chain input {{\n        type filter hook input priority -10; policy accept;\n"
        f"        {source}tcp dport {port} drop\n    }}\n}}\n"
    )


def _firewall(values: dict, saved: dict) -> None:
    try:
        script = ruleset(whole(values, "port", 1, 65535), values["peer"])
    except ValueError:
        raise FaultError(f"peer={values['peer']}: an IP address is needed") from None
    saved["table"] = TABLE
    run("nft", "-f", "-", stdin=script)


def _firewall_off(values: dict, saved: dict) -> None:
    if saved:
        run("nft", "delete", "table", "inet", TABLE, check=False)


def start_time(pid: int) -> int | None:
    """When a process began, in clock ticks since boot; None when there is none. With the pid it names one process for good."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as handle:
            return int(handle.read().rpartition(")")[2].split()[19])
    except OSError:
        return None


def _take_port(values: dict, saved: dict) -> None:
    port = whole(values, "port", 1, 65535)
    try:
        listener = socket.create_server((values["address"], port), family=socket.AF_INET, backlog=64)
    except OSError as error:
        raise FaultError(f"port {port} of {values['address']}: {error.strerror}") from None
    with listener:
        os.set_inheritable(listener.fileno(), True)
        process = subprocess.Popen(
            [sys.executable, "-IS", "-c", _LISTENER.replace("fileno=3", f"fileno={listener.fileno()}")], pass_fds=[listener.fileno()],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True, cwd="/",
        )  # fmt: skip
        saved.update(pid=process.pid, started=start_time(process.pid))
    # The kernel names the new process a moment after it began.
    wait_until(lambda: comm(process.pid) == os.path.basename(sys.executable)[:15], "the listener runs")


def comm(pid: int) -> str | None:
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8") as handle:
            return handle.read().strip()
    except OSError:
        return None


def _free_port(values: dict, saved: dict) -> None:
    if not saved or start_time(saved["pid"]) != saved["started"]:
        return  # that process is gone, and its number may be another's
    os.kill(saved["pid"], signal.SIGKILL)
    try:
        os.waitpid(saved["pid"], 0)
    except ChildProcessError:
        pass  # another process had started it: the first process of the node collects it
    wait_until(lambda: start_time(saved["pid"]) != saved["started"], "the listener has ended")


FAULTS = [
    Fault("nic-down", "the NIC of the service network is down (the node is still reached on its management address)", _nic_down, _nic_up),
    Fault("nic-mtu", "another MTU on the NIC of the service network", _mtu, _mtu_back, {"mtu": ("1400", "bytes")}),
    Fault("firewall-drop", "a firewall of this node drops TCP that comes in for one port: one way only", _firewall, _firewall_off,
          {"port": ("13389", "TCP port"), "peer": ("", "address of the node that is cut off; everybody if empty")}),
    Fault("port-taken", "another process, a python3, listens on a port", _take_port, _free_port,
          {"port": ("8000", "TCP port"), "address": ("0.0.0.0", "IPv4 address it listens on")}),
]  # fmt: skip
