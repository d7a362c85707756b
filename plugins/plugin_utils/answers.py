# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the nodes answered, as the judges read it.

An answer is the result of one module, an empty mapping if the module was not run. Whose container and process something is, is
decided here once: a container with the collection's label belongs to a deployment of ours, and so does every process in it, unless
its purpose is that of a client: the engine of a benchmark holds NPUs and serves nobody.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ..module_utils.docker_engine import GROUP as LABEL
from ..module_utils.docker_engine import PURPOSE
from .messages import plain

#: Field of Answers -> the fact of a host that holds it, and the key in there.
FACTS = {
    "prerequisites": ("prerequisites_found",),
    "node": ("driver_check_said", "node"),
    "npu": ("driver_check_said", "npu"),
    "artefacts": ("driver_check_said", "artefacts"),
    "hccn": ("driver_check_said", "hccn"),
    "reach": ("driver_check_reach",),
    "mesh": ("hccn_verify_mesh",),
}
#: The lists of answers that the judges go through, and what they read of every entry. What tells an entry from the others is its
#: first word: an entry without it is left out, and anything else that it lacks is None.
ENTRIES = {
    "node": {
        "interfaces": ("name", "up", "mtu", "addresses"),
        "listening": ("port", "pid", "process"),
        "device_holders": ("path", "pid", "process"),
    },
    "npu": {
        "npus": ("npu_id", "chip_id", "phy_id", "health", "hbm_used_mb", "hbm_total_mb", "processes"),
        "stray_processes": ("pid", "npu_id", "name", "memory_mb"),
        "health_details": ("npu_id", "chip_id", "error_code", "error_information"),
    },
    "artefacts": {
        "weights": ("dir", "complete", "differences", "hub", "bytes"),
        "device_containers": ("name", "id", "devices", "labels", "pids"),
    },
    "reach": {"reached": ("host", "address", "port", "status", "connected")},
    "hccn": {"devices": ("phy_id", "ip", "netmask", "gateway", "link", "net_health", "tls", "lldp", "vnic", "errors")},
    "mesh": {"results": ("phy_id", "address", "status", "sent", "received", "text")},
}


def outside_superpods(npu: dict) -> bool:
    """Return whether npu_info says of an A3 that it is in no super pod (npu_smi.parse_spod_info)."""
    superpod = npu.get("superpod")
    return bool(superpod) and superpod.get("id") is None


def joined(hccn: dict, npu: dict) -> list:
    """Return the devices of hccn_info by physical id; without virtual NIC where HCCS ends with the node, whatever the virtual NIC says."""
    found = sorted(hccn.get("devices") or [], key=lambda entry: entry["phy_id"])
    return [{**entry, "vnic": None} for entry in found] if outside_superpods(npu) else found


@dataclass
class Answers:
    """The answers of one host."""

    prerequisites: dict = field(default_factory=dict)
    node: dict = field(default_factory=dict)
    npu: dict = field(default_factory=dict)
    artefacts: dict = field(default_factory=dict)
    reach: dict = field(default_factory=dict)
    hccn: dict = field(default_factory=dict)
    mesh: dict = field(default_factory=dict)

    @property
    def alive(self) -> bool:
        """Return whether the node answered a module at all."""
        return "interfaces" in self.node

    @property
    def tool_works(self) -> bool:
        """Return whether npu-smi listed NPUs: without a driver that works nothing else about the NPUs means anything."""
        return "npus" in self.npu

    @property
    def outside_superpods(self) -> bool:
        """Return whether this A3 says that it is in no super pod."""
        return outside_superpods(self.npu)

    def devices(self) -> list:
        """Return the network ports of the NPUs that were asked, by physical id, as joined."""
        return joined(self.hccn, self.npu)

    def own_containers(self) -> dict:
        """Return ``{name: {running, pids}}`` of the containers that belong to a deployment of this collection."""
        named = {name: entry for name, entry in (self.artefacts.get("containers") or {}).items() if entry.get("exists")}
        labelled = {
            entry["name"]: {**entry, "running": True}
            for entry in self.artefacts.get("device_containers") or []
            if is_ours(entry)
        }
        return {**named, **labelled}

    def left_containers(self, groups) -> list:
        """Return the running containers with NPUs of a deployment of this collection whose group is none of ``groups``: it was renamed or taken out."""
        return [entry for entry in self.artefacts.get("device_containers") or [] if is_ours(entry) and entry["labels"][LABEL] not in groups]

    def own_pids(self) -> set:
        """Return the ids of all processes in own containers, as the node numbers them."""
        return {pid for entry in self.own_containers().values() for pid in entry.get("pids") or []}


def is_ours(container: dict) -> bool:
    """Return whether a container is one of a deployment of this collection, and no client's."""
    labels = container.get("labels") or {}
    return LABEL in labels and labels.get(PURPOSE) != "client"


def read(hostvars, host: str) -> Answers:
    """Return the answers of one host from its facts, which are read lazily."""
    values = hostvars[host]
    facts = {fact: plain(values[fact]) for fact in dict.fromkeys(place[0] for place in FACTS.values()) if fact in values}
    found = {name: _at(facts, *place) for name, place in FACTS.items()}
    if found["node"] is None:
        # A node that could not be asked at all says why in place of all answers.
        found["node"] = facts.get("driver_check_said")
    return Answers(**{name: whole(name, value) for name, value in found.items() if isinstance(value, dict)})


def _at(facts: dict, fact: str, key: str = ""):
    """Return a fact, or what it holds under a key; None where there is none."""
    value = facts.get(fact)
    return value.get(key) if key and isinstance(value, dict) else None if key else value


def whole(name: str, answer: dict) -> dict:
    """Return an answer whose lists hold nothing but entries with all of their words; a list that is none counts as not answered."""
    found = dict(answer)
    for key, words in ENTRIES.get(name, {}).items():
        if key not in found:
            continue
        if not isinstance(found[key], list):
            del found[key]
            continue
        entries = [entry for entry in found[key] if isinstance(entry, dict) and entry.get(words[0]) is not None]
        found[key] = [{**dict.fromkeys(words), **entry} for entry in entries]
    for entry in found.get("interfaces") or []:
        entry["addresses"] = [cidr for cidr in entry["addresses"] or [] if cidr]
    for key in ("images", "containers"):
        if name == "artefacts" and isinstance(found.get(key), dict):
            found[key] = {label: entry for label, entry in found[key].items() if isinstance(entry, dict)}
    return found


def said(result: dict) -> str:
    """Return the message of a module that did not do its work, as a part of one line."""
    return " ".join(str((result or {}).get("msg") or "no answer").split())[:300]


def is_mute(device: dict) -> bool:
    """Return whether a network port answered none of the questions that tell its state."""
    return set(device.get("errors") or {}) >= {"link", "ip", "net_health"}
