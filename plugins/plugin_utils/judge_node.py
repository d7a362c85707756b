# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Judges one node apart from its NPUs: what Ansible and Docker need, files, disk, memory, ports and its interface."""

from __future__ import annotations

from ..module_utils.manifest import COPIED_KINDS
from . import mounts, proxies, versions
from .answers import LABEL, said
from .inputs import size_bytes
from .prerequisites import command
from .questions import copied_image, ports_of

#: Suffixes of vllm-ascend's image tags, by the chip they are built for (installation.md, Set up using Docker). None is A2.
TAG_SUFFIXES = {"a3": "-a3", "310p": "-310p", "950": "-950dt"}
#: A proper name of the image, whose tags follow that scheme.
OWN_IMAGE = "ascend/vllm-ascend:"
GIB = 1024**3
#: What node_info always answers and a rule takes for sound when it names nothing wrong.
ASKED = ("listening", "device_holders", "memory", "shm", "sysctls", "cpu_governors", "transparent_hugepage", "hugepages", "rootinfo")
#: What is null where a node has no such thing.
NULL = ("shm", "transparent_hugepage", "hugepages")


def judge_prerequisites(judge, answers, core: str) -> list:
    """Judge what the node said over a plain shell, before any module ran. ``core``: the controller's ansible-core, such as 2.19.1."""
    seen = answers.prerequisites
    if not seen or seen.get("unreachable"):
        return []
    found = [_python(judge, seen, core)]
    if found[0]["status"] != "pass":
        return found
    for check, what, there in (("python_requests", "requests", seen.get("requests")), ("rsync", "rsync", seen.get("rsync"))):
        found.append(judge.judged(check, None if there else "absent", "present" if there else f"absent{_for(seen, what)}", "present",
                                  command=command(seen, what)))
    return found


def _for(seen: dict, what: str) -> str:
    return f" for {seen['python']}" if what == "requests" and seen.get("python") else ""


def _python(judge, seen: dict, core: str) -> dict:
    floors = judge.limits("python_version")
    floor = floors.get(".".join(core.split(".")[:2])) or max(floors.values(), key=versions.key)
    wanted, install = f"Python {floor} or newer (ansible-core {core})", command(seen, "python3")
    if seen.get("error"):
        return judge.found("python_version", "not_understood", seen["error"], wanted)
    if not seen.get("python"):
        return judge.found("python_version", "absent", "no Python found", wanted, command=install)
    old = versions.older(seen.get("python_version"), floor)
    observed = f"{seen.get('python_version')} ({seen['python']})"
    if old is None:
        return judge.found("python_version", "not_understood", observed, wanted)
    return judge.judged("python_version", "too_old" if old else None, observed, wanted, command=install)


def judge_node(judge, host: str, host_plan: dict, groups: dict, answers) -> list:
    """Return the check results about one node that answered. ``host_plan`` may have the host's ``proxies``, too."""
    return [
        _answered(judge, answers.node),
        *_proxy(judge, host_plan, answers),
        *_engine(judge, answers),
        *_mounts(judge, host, host_plan, answers),
        *_network(judge, host, host_plan, answers.node),
        *(_ports(judge, host_plan, groups, answers) if "listening" in answers.node else []),
        *_artefacts(judge, host_plan, groups, answers),
        *_disks(judge, host_plan, groups, answers),
        *_memory(judge, host_plan, answers),
        *(_kernel(judge, answers.node) if host_plan["units"] else []),
    ]


def _answered(judge, node: dict) -> dict:
    """Say whether the node answered everything: what it did not answer is passed by no other check."""
    missing = [name for name in ASKED if name not in node or (node[name] is None and name not in NULL)]
    if missing:
        return judge.found("node_answers", "not_asked", f"no answer about {', '.join(missing)}", "an answer to every question")
    return judge.passed("node_answers", "answers")


def _engine(judge, answers) -> list:
    docker, wanted = answers.node.get("docker") or {}, f"API {judge.limits('docker_engine')['api']} or newer"
    install = command(answers.prerequisites, "docker")
    error = docker.get("error") or answers.artefacts.get("docker_error")
    if not docker.get("reachable") or error:
        return [judge.found("docker_engine", "silent", error or "no answer", "a Docker engine that answers", command=install)]
    old = versions.older(docker.get("api_version"), judge.limits("docker_engine")["api"])
    observed = f"{docker.get('version')}, API {docker.get('api_version')}"
    return [judge.judged("docker_engine", "api_old" if old or old is None else None, observed, wanted, command=install)]


def _proxy(judge, host_plan: dict, answers) -> list:
    """Name a proxy that runs where the plan has none: it would go on beside the plan's, and nobody would tell it which backends there are."""
    there = (answers.artefacts.get("containers") or {}).get(proxies.NAME) or {}
    if host_plan.get("proxies") or not there.get("running") or LABEL not in (there.get("labels") or {}):
        return []
    return [judge.found("proxy_place", "left", f"container {proxies.NAME} runs here", "no proxy of this inventory on this host", "vllm_proxy",
                        name=proxies.NAME)]


def _mounts(judge, host: str, host_plan: dict, answers) -> list:
    outcomes = {"pass": None, "fail": "missing", "unknown": "not_asked"}
    checks = [entry for unit in host_plan["units"] for entry in mounts.choose(unit, answers.node.get("paths") or {}, host)["checks"]]
    return [judge.judged("mount_source", outcomes[entry["status"]], entry["observed"], entry["expected"], entry["device"]) for entry in checks]


def _network(judge, host: str, host_plan: dict, node: dict) -> list:
    address, nic = host_plan["local_ip"], host_plan["nic_name"]
    owners = [entry for entry in node["interfaces"] if any(cidr.split("/")[0] == address for cidr in entry["addresses"] or [])]
    names = [entry["name"] for entry in owners]
    if nic not in names:
        has = ", ".join(names) if names else "no interface"
        others = ", ".join(entry["name"] for entry in node["interfaces"])
        there = "" if nic in others.split(", ") else f"; the node has {others}"
        return [judge.found("nic_owns_address", "other", f"{address} is on {has}{there}", f"{address} on {nic}", "vllm_nic_name", address=address, nic=nic)]
    up = next(entry["up"] for entry in owners if entry["name"] == nic)
    return [
        judge.passed("nic_owns_address", f"{address} on {nic}"),
        judge.judged("nic_up", None if up else "down", "up" if up else "down", "up", nic, nic=nic),
    ]


def _ports(judge, host_plan: dict, groups: dict, answers) -> list:
    left = {pid for entry in answers.left_containers(groups) for pid in entry["pids"] or []}
    ours, containers = answers.own_pids() - left, answers.own_containers()
    serving = any(entry.get("running") for entry in containers.values())
    found, asked = {}, set()
    owned = [(unit["name"], ports_of(unit, groups)) for unit in host_plan["units"]]
    owned += [(proxy["name"], proxies.listening(proxy)) for proxy in host_plan.get("proxies") or []]
    for name, owners in owned:
        asked |= set(owners)
        for taken in answers.node["listening"]:
            port, pid = taken["port"], taken.get("pid")
            # A listener whose process cannot be seen is taken for ours while our server runs.
            watch = taken.get("service") == f"ascend-vllm-{name}.service"
            if port not in owners or pid in ours or watch or (serving and pid is None):
                continue
            where = " of vllm_extra_env" if owners[port] == "HCCL_IF_BASE_PORT" else ""
            who = f"{taken.get('process') or 'a process'} (pid {pid or '?'}) listens on {port}"
            # Once a process, not once an address that it listens on.
            found[(port, pid)] = judge.found("port_free", "taken", who, f"port {port} free", owners[port], pid=pid or "?", variable=f"{owners[port]}{where}")
    if not found:
        return [judge.passed("port_free", f"{len(asked)} ports free or ours", f"{len(asked)} ports free")]
    return [found[key] for key in sorted(found, key=lambda key: (key[0], key[1] or 0))]


def _artefacts(judge, host_plan: dict, groups: dict, answers) -> list:
    artefacts, wanted = answers.artefacts, "whether image and model are here or at their source"
    if "images" not in artefacts:
        return [judge.found("artefacts", "not_asked", said(artefacts), wanted)]
    found = []
    silent = _unanswered(host_plan, groups, artefacts)
    if silent:
        found.append(judge.found("artefacts", "not_asked", f"no answer about {', '.join(silent)}", wanted))
    found += [_image(judge, reference, image, _instead(reference, host_plan["units"], groups)) for reference, image in (artefacts.get("images") or {}).items()]
    found += [_variant(judge, unit["image"], host_plan["hardware"]) for unit in _distinct_images(host_plan)]
    # Those of a head; what a copy lacks comes from the head, and is judged beside it.
    sources = {weights["dir"]: weights for weights in (groups[unit["group"]]["weights"] for unit in host_plan["units"] if unit["head"])}
    return found + [_model(judge, entry, sources[entry["dir"]]) for entry in artefacts.get("weights") or [] if entry["dir"] in sources]


def _unanswered(host_plan: dict, groups: dict, artefacts: dict) -> list:
    """Return what artefact_info was asked and says nothing about. An engine that does not answer is named for its own silence."""
    units = host_plan["units"]
    seen = {entry["dir"] for entry in artefacts.get("weights") or []}
    missing = [unit["image"] for unit in _distinct_images(host_plan) if unit["image"] not in (artefacts["images"] or {})]
    if "device_containers" not in artefacts:
        missing.append("the containers that have NPUs")
    weights = [groups[unit["group"]]["weights"]["dir"] for unit in units if unit["head"]]
    return ([] if artefacts.get("docker_error") else missing) + [path for path in dict.fromkeys(weights) if path not in seen]


def _instead(reference: str, units: list, groups: dict) -> str:
    """Return where a host gets an image from that it pulls from no registry, or an empty text."""
    for unit in units:
        group = groups[unit["group"]]
        if unit["image"] == reference and copied_image(unit, groups):
            return f"not here yet: copied from {group['head']}"
        if unit["image"] == reference and group.get("image_archive"):
            return f"in {group['image_archive']}"
    return ""


def _image(judge, reference: str, image: dict, instead: str) -> dict:
    registry, failed = image.get("registry") or {}, [entry for entry in image.get("failed") or [] if isinstance(entry, dict)]
    why = "; ".join(str(entry.get("error")) for entry in failed)
    if image.get("present"):
        return judge.passed("image_exists", "present", reference, reference)
    if registry.get("exists") and failed:
        return judge.found("image_exists", "next_source", f"{why}; found as {image.get('source')}", "the first source has it", reference)
    if registry.get("exists"):
        return judge.passed("image_exists", "in the registry", reference, reference)
    if instead:
        return judge.passed("image_exists", instead, reference, reference)
    if registry.get("exists") is False and all(entry.get("exists") is False for entry in failed):
        return judge.found("image_exists", "absent", f"not in the registry ({registry.get('url')})", reference, reference)
    return judge.found("image_exists", "not_reached", why or registry.get("error") or "no usable answer", f"a registry that has {reference}", reference)


def _distinct_images(host_plan: dict) -> list:
    return list({unit["image"]: unit for unit in host_plan["units"]}.values())


def _variant(judge, reference: str, hardware: str) -> dict:
    """Judge by the tag for which chip an image is built."""
    tag = reference.rpartition("/")[2].partition("@")[0].partition(":")[2]
    chips = [chip for chip, suffix in TAG_SUFFIXES.items() if tag.endswith(suffix) or f"{suffix}-" in tag]
    words = {"hardware": hardware}
    if OWN_IMAGE not in reference and not chips:
        return judge.found("image_variant", "not_told", reference, f"an image for {hardware}", reference, **words)
    built = chips[0] if chips else "a2"
    return judge.judged("image_variant", None if built == hardware else "other_chip", f"built for {built}", f"built for {hardware}", reference, **words)


def _model(judge, entry: dict, source: dict) -> dict:
    hub = entry.get("hub") or {}
    if entry["complete"] or hub.get("exists"):
        return judge.passed("model_exists", "complete" if entry["complete"] else "on the hub", "weights", entry["dir"])
    if source.get("kind") in COPIED_KINDS:
        # Who may copy it has its key only while it is copied.
        return judge.passed("model_exists", f"not here yet: copied from {source['id']}, which is asked then", "weights", entry["dir"])
    if not hub:
        return judge.found("model_exists", "incomplete", "; ".join((entry["differences"] or [])[:3]), "the whole model in its directory", entry["dir"])
    return judge.found("model_exists", "not_reached", hub.get("error") or "no usable answer", "the model on the hub", entry["dir"])


def _disks(judge, host_plan: dict, groups: dict, answers) -> list:
    """Judge the room for what this node has still to fetch, and for running; what is there already has its room."""
    found = []
    limits = judge.limits("disk_image")
    disk = (answers.node.get("docker") or {}).get("disk") or {}
    for reference, image in (answers.artefacts.get("images") or {}).items():
        # Where it was not said whether the image is here, that is another check's finding.
        if image.get("present") is not False:
            continue
        packed = (image.get("registry") or {}).get("bytes")
        need = packed * (1 + limits["unpacked_ratio"]) if packed else limits["unknown_size_gb"] * GIB
        found.append(room(judge, "disk_image", disk, need * limits["margin"], reference))
    if disk and not found:
        # An image that is still to come needs more than that.
        found.append(room(judge, "disk_engine", disk, judge.limits("disk_engine")["free_mb"] * 1024**2, "containers and logs"))
    for entry in answers.artefacts.get("weights") or []:
        need = ((entry.get("hub") or {}).get("bytes") or 0) - (entry.get("bytes") or 0)
        if entry["complete"] or need <= 0:
            continue
        disk = (answers.node.get("disk") or {}).get(entry["dir"]) or {}
        found.append(room(judge, "disk_weights", disk, need * judge.limits("disk_weights")["margin"], entry["dir"]))
    return found


def room(judge, check: str, disk: dict, need: float, device: str) -> dict:
    """Return whether a disk, as node_info describes it, has room for ``need`` bytes."""
    path = disk.get("path") or "the disk"
    if disk.get("free_bytes") is None:
        return judge.found(check, "not_told", disk.get("error") or "no number", f"{_gb(need)} free", device, path=path)
    enough = disk["free_bytes"] >= need
    return judge.judged(check, None if enough else "full", f"{_gb(disk['free_bytes'])} free at {path}", f"{_gb(need)} free", device, path=path)


def _gb(count: float) -> str:
    """Return bytes as a person reads them."""
    return f"{count / GIB:.1f} GiB" if count >= GIB else f"{count / 1024**2:.0f} MiB"


def _memory(judge, host_plan: dict, answers) -> list:
    node, found = answers.node, []
    asked = sum(size_bytes(unit.get("shm_size")) for unit in host_plan["units"])
    total = (node.get("memory") or {}).get("total_bytes")
    if total:
        found.append(judge.judged("shared_memory", "too_large" if asked > total else None, f"{_gb(total)} of memory", f"{_gb(asked)} for vllm_shm_size",
                                  "vllm_shm_size"))
    if "shm" in node and not node["shm"]:
        found.append(judge.found("shared_memory", "no_tmpfs", "/dev/shm is no mounted tmpfs", "a tmpfs at /dev/shm", "/dev/shm"))
    return found


def _kernel(judge, node: dict) -> list:
    found = []
    for setting, wanted in judge.limits("kernel_settings").items():
        value = (node.get("sysctls") or {}).get(setting)
        if value is not None and value.isdigit() and int(value) > wanted:
            found.append(judge.found("kernel_settings", "differs", value, f"{setting} of at most {wanted}", setting, setting=setting, wanted=wanted))
    governors = [str(name) for name in node.get("cpu_governors") or [] if name != "performance"]
    if governors:
        found.append(judge.found("kernel_settings", "governor", ", ".join(governors), "the CPU governor performance", "scaling_governor"))
    if not found and node.get("sysctls") is not None and node.get("cpu_governors") is not None:
        found.append(judge.passed("kernel_settings", "as the tuning guide asks"))
    pages = []
    if node.get("transparent_hugepage") == "always":
        pages.append(judge.found("memory_pages", "always", "always", "madvise or never", "transparent_hugepage"))
    huge, total = node.get("hugepages") or {}, (node.get("memory") or {}).get("total_bytes") or 0
    idle = (huge.get("free") or 0) * (huge.get("size_kb") or 0) * 1024
    if total and idle > total * judge.limits("memory_pages")["hoarded_share"]:
        pages.append(judge.found("memory_pages", "hoarded", f"{_gb(idle)} of {_gb(total)} set aside and unused", "memory for the weights", "nr_hugepages"))
    if not pages and {"transparent_hugepage", "hugepages"} <= set(node) and node.get("memory") is not None:
        pages.append(judge.passed("memory_pages", str(node["transparent_hugepage"] or "not told")))
    return found + pages
