# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The networks of the lab: service (eth0 of every node), management (mgmt0) and the wire that joins the nodes' RoCE sides (roce0)."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

from lablib import shape
from lablib.host import Engine
from lablib.places import RUN
from lablib.say import LabError, say

SERVICE = "ascend-vllm-lab"
MANAGEMENT = "ascend-vllm-lab-management"
ROCE = "ascend-vllm-lab-roce"
_BRIDGES = {SERVICE: f"{shape.BRIDGE_PREFIX}service", MANAGEMENT: f"{shape.BRIDGE_PREFIX}mgmt", ROCE: f"{shape.BRIDGE_PREFIX}roce"}
#: What a node calls its interfaces, and the network each belongs to.
#: The kernel keeps one table of neighbours for all network namespaces together; a large lab does not fit into its default of 1024.
_NEIGHBOURS = Path("/proc/sys/net/ipv4/neigh/default")
_NEIGHBOURS_BEFORE = RUN / "neighbours.json"
INTERFACES = {"eth0": shape.SERVICE_NETWORK, "mgmt0": shape.MANAGEMENT_NETWORK, "roce0": shape.ROCE_NETWORK}


def neighbours(lab: shape.Shape) -> int:
    """How many entries the table of neighbours may get: each node and each NPU, two addresses of each peer (as preflight_mesh=rails pings)."""
    return lab.size * lab.size * 2 * (1 + lab.npus)


def make_room(lab: shape.Shape) -> None:
    """Raises the limits of the table of neighbours where the lab does not fit; `lab down` sets them back."""
    wanted, files = neighbours(lab), [_NEIGHBOURS / "gc_thresh2", _NEIGHBOURS / "gc_thresh3"]
    before = {str(path): int(path.read_text()) for path in files}
    if before[str(files[1])] >= wanted:
        return
    _NEIGHBOURS_BEFORE.write_text(json.dumps(before))
    try:
        for path in files:
            path.write_text(f"{wanted}\n")
    except OSError as error:
        raise LabError(f"{lab} needs net.ipv4.neigh.default.gc_thresh3={wanted}, and it cannot be set from {before[str(files[1])]}: {error}") from error
    say(f"net.ipv4.neigh.default.gc_thresh3 is {wanted} while the lab is up (it was {before[str(files[1])]})")


def _give_back() -> None:
    try:
        before = json.loads(_NEIGHBOURS_BEFORE.read_text())
    except (OSError, ValueError):
        return
    for path, value in before.items():
        Path(path).write_text(f"{value}\n")


def create(engine: Engine) -> None:
    """Creates the networks. The RoCE one is a plain bridge: what crosses it are the frames of the NPUs.

    The management one is internal: the nodes' default route stays on the service network.
    """
    present = engine.labelled("network")
    for name, subnet, options in (
        (SERVICE, shape.SERVICE_NETWORK, ["--gateway", shape.GATEWAY]),
        (MANAGEMENT, shape.MANAGEMENT_NETWORK, ["--internal"]),
        (ROCE, shape.ROCE_NETWORK, ["--opt", "com.docker.network.bridge.inhibit_ipv4=true"]),
    ):
        if name not in present:
            bridge = f"com.docker.network.bridge.name={_BRIDGES[name]}"
            engine.out("network", "create", "--label", shape.LABEL, "--subnet", str(subnet), "--opt", bridge, *options, name)
    if engine.ours:
        _firewall("-I")


def remove(engine: Engine) -> None:
    _give_back()
    for name in engine.labelled("network"):
        engine.call("network", "rm", name, check=False)
    if engine.ours:
        _firewall("-D")


def _firewall(verb: str) -> None:
    """Lets frames cross the lab's bridges on a machine whose FORWARD policy drops (an earlier engine may have left it so).

    Our own engine writes no firewall rules, and a foreign one writes these itself.
    """
    if not shutil.which("iptables"):
        return
    for bridge in _BRIDGES.values():
        rule = ["FORWARD", "-i", bridge, "-o", bridge, "-m", "comment", "--comment", shape.LABEL, "-j", "ACCEPT"]
        there = subprocess.run(["iptables", "-C", *rule], capture_output=True, check=False).returncode == 0
        if there != (verb == "-I"):
            subprocess.run(["iptables", verb, *rule], capture_output=True, check=False)
