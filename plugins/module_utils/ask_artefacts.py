# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Questions about images, containers and weights: whether they are here, or exist where they come from."""

from __future__ import annotations

import platform
from urllib.parse import urlsplit

from . import manifest, plain_http
from .docker_engine import DEFAULT_SOCKET, GROUP, PURPOSE, DockerEngine, npu_access, processes_below


def image_entry(engine, reference, info, sources=None, logins=None):
    """Return what is known of one image; C(sources): references to look for in this order, the image's own without them."""
    found = engine.image(reference)
    if found:
        return {"present": True, "id": found["Id"], "layers": (found.get("RootFS") or {}).get("Layers") or [],
                "architecture": found.get("Architecture"), "env": (found.get("Config") or {}).get("Env") or [], "size": found.get("Size"),
                "registry": None, "source": None, "failed": []}
    result = {"present": False, "id": None, "layers": [], "architecture": None, "env": [], "size": None, "registry": None, "source": None, "failed": []}
    for source in [reference] if sources is None else sources:
        result["registry"] = plain_http.manifest_exists(source, info, machine=platform.machine(), logins=logins)
        if result["registry"]["exists"]:
            result["source"] = source
            break
        why = result["registry"]["error"] or "%s has no such image" % result["registry"]["url"]
        result["failed"].append({"source": source, "exists": result["registry"]["exists"], "error": why})
    return result


def container_entry(engine, name):
    """Return what is known of one container."""
    found = engine.container(name)
    if not found:
        return {"exists": False, "running": False, "pid": None, "pids": [], "labels": {}}
    pid = found["State"].get("Pid") or None
    return {"exists": True, "running": found["State"]["Running"], "pid": pid, "pids": processes_below(pid) if pid else [],
            "labels": found["Config"].get("Labels") or {}}


def device_containers(engine):
    """Return the running containers that may use NPUs, sorted by name."""
    result = []
    for identifier in engine.running():
        found = engine.container(identifier)
        # It may have ended since it was listed.
        access = npu_access(found) if found and found["State"]["Running"] else None
        if access:
            pid = found["State"].get("Pid")
            result.append(dict(access, name=(found.get("Name") or "").lstrip("/"), id=found.get("Id"), labels=found["Config"].get("Labels") or {},
                               pids=processes_below(pid) if pid else []))
    return sorted(result, key=lambda entry: (entry["name"], entry["id"]))


def weights_entry(wanted, info):
    """Return the state of one weights directory, the proxies on the way to its hub, and what the hub says where it is not complete.

    With C(ask_hub) false the hub is not asked.
    """
    entry = dict(manifest.state(wanted["dir"], wanted), dir=wanted["dir"], hub=None, proxies={})
    endpoint, ask = plain_http.HUBS.get(wanted["kind"], (None, None))
    if ask is None or not wanted.get("ask_hub", True):
        return entry
    endpoint = wanted.get("endpoint") or endpoint
    entry["proxies"] = plain_http.proxies_for(urlsplit(endpoint).netloc, info)
    if not entry["complete"]:
        said = ask(endpoint, wanted["id"], wanted.get("revision") or "master", proxies=entry["proxies"])
        entry["hub"] = {key: said[key] for key in ("exists", "url", "error", "bytes")}
    return entry


def answer(images=(), weights=(), containers=(), docker_socket=DEFAULT_SOCKET, image_sources=None, registry_logins=None, group=None):
    """Return what artefact_info returns; an engine that does not answer is a part of it."""
    sources = image_sources or {}
    engine = DockerEngine(docker_socket)
    result = {"images": {}, "weights": [], "containers": {}, "device_containers": [], "docker_error": None}
    info = {}
    try:
        info = engine.info() or {}
        result["images"] = {
            reference: image_entry(engine, reference, info, sources.get(reference), registry_logins) for reference in images}
        result["containers"] = {name: container_entry(engine, name) for name in containers}
        result["device_containers"] = device_containers(engine)
        for entry in result["device_containers"]:
            if group and entry["labels"].get(GROUP) == group and PURPOSE not in entry["labels"] and entry["name"] not in result["containers"]:
                result["containers"][entry["name"]] = container_entry(engine, entry["name"])
    except OSError as error:
        result["docker_error"] = str(error)
    result["weights"] = [weights_entry(wanted, info) for wanted in weights]
    return result
