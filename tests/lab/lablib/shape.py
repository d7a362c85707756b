# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is in the lab and where: names, addresses and sizes. Pure, no side effects.

The node names and addresses are those of the inventories this collection ships, so that the same inventory drives the lab.
The network is TEST-NET-2 (RFC 5737): documentation addresses never meet a real network.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

SERVICE_NETWORK = IPv4Network("198.51.100.0/24")
GATEWAY = "198.51.100.1"
SERVICES_ADDRESS = "198.51.100.2"
REGISTRY = f"{SERVICES_ADDRESS}:5000"
#: The same images behind a login, for what a site with a private registry does.
PRIVATE_REGISTRY = f"{SERVICES_ADDRESS}:5001"
PRIVATE_LOGIN = ("lab", "lab-secret-of-the-registry")
HUB = f"{SERVICES_ADDRESS}:8090"
# A node is still reached here when its service NIC is down. Same last byte as the service address. Of the block for benchmarks
# (RFC 2544), because the documentation blocks are also what a closed site may have given its own mirror.
MANAGEMENT_NETWORK = IPv4Network("198.18.113.0/24")
# Docker wants a subnet for every bridge. The nodes drop these addresses at boot: the NPUs bring their own.
ROCE_NETWORK = IPv4Network("198.18.77.0/24")

MODEL_ID = "vllm-ascend/DeepSeek-R1-W8A8"
ENGINE_REPOSITORY = "ascend/vllm-ascend"
#: Python and pip, what the images of evaluation clients are built upon; `lab client` has it in the registry.
PYTHON_IMAGE = "library/python:3.11"
#: Bridges of the lab on this machine are called so.
BRIDGE_PREFIX = "avl-"
LABEL = "org.ascend-vllm.lab"


@dataclass(frozen=True)
class Generation:
    """One hardware generation: NPUs (dies) a node, the first node's last address byte, and how many nodes by default."""

    npus: int
    first_address: int
    default_nodes: int


GENERATIONS = {
    "a2": Generation(npus=8, first_address=11, default_nodes=2),
    "a3": Generation(npus=16, first_address=31, default_nodes=1),
}
MAX_NODES = 16
MAX_LIGHT_NODES = 32


def contains(network: IPv4Network, address: str) -> bool:
    return IPv4Address(address) in network


@dataclass(frozen=True)
class Node:
    """One emulated node; ``name`` is host name, container name and inventory name alike."""

    name: str
    index: int
    address: str

    @property
    def management_name(self) -> str:
        """The host name under which ssh reaches the node over the management network."""
        return f"{self.name}-mgmt"

    @property
    def management_address(self) -> str:
        return str(MANAGEMENT_NETWORK[int(self.address.rsplit(".", 1)[1])])


@dataclass(frozen=True)
class Shape:
    """What a lab is made of. Two labs of equal shape are interchangeable.

    A light lab's nodes have sshd, Python and the emulated NPUs only, and there is neither registry nor hub.
    """

    generation: str
    size: int
    light: bool = False

    def __post_init__(self):
        if self.generation not in GENERATIONS:
            raise ValueError(f"unknown generation {self.generation!r}: known are {', '.join(sorted(GENERATIONS))}")
        most = MAX_LIGHT_NODES if self.light else MAX_NODES
        if not 1 <= self.size <= most:
            raise ValueError(f"a {'light ' if self.light else ''}lab has 1 to {most} nodes, not {self.size}")

    def __str__(self):
        return f"{self.size} {'light ' if self.light else ''}{self.generation} node{'s' if self.size > 1 else ''}"

    @property
    def npus(self) -> int:
        return GENERATIONS[self.generation].npus

    @property
    def nodes(self) -> list[Node]:
        first = GENERATIONS[self.generation].first_address
        return [
            Node(name=f"{self.generation}-node{index}", index=index, address=str(SERVICE_NETWORK[first + index]))
            for index in range(self.size)
        ]
