# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The networks of the lab: service (eth0 of every node), management (mgmt0) and the wire that joins the nodes' RoCE sides (roce0)."""

from __future__ import annotations

import shutil
import subprocess

from lablib import shape
from lablib.host import Engine

SERVICE = "ascend-vllm-lab"
MANAGEMENT = "ascend-vllm-lab-management"
ROCE = "ascend-vllm-lab-roce"
_BRIDGES = {SERVICE: f"{shape.BRIDGE_PREFIX}service", MANAGEMENT: f"{shape.BRIDGE_PREFIX}mgmt", ROCE: f"{shape.BRIDGE_PREFIX}roce"}
#: What a node calls its interfaces, and the network each belongs to.
INTERFACES = {"eth0": shape.SERVICE_NETWORK, "mgmt0": shape.MANAGEMENT_NETWORK, "roce0": shape.ROCE_NETWORK}


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
