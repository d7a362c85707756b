# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's registry (Debian's docker-registry), the same behind a login, and its hub (hub.py), all at one address."""

from __future__ import annotations

import http.client
import json
import time
from pathlib import Path

from lablib import network, shape
from lablib.host import Engine
from lablib.places import LAB_SOURCE, RUN
from lablib.say import LabError

REGISTRY_CONTAINER = "lab-services"
PRIVATE_CONTAINER = "lab-private-registry"
HUB_CONTAINER = "lab-hub"
#: In the order in which they are started: the others live in the network of the first.
CONTAINERS = (REGISTRY_CONTAINER, PRIVATE_CONTAINER, HUB_CONTAINER)
_REGISTRY_CONFIG = {
    "version": 0.1,
    "log": {"level": "info"},
    "storage": {"filesystem": {"rootdirectory": "/var/lib/registry"}, "delete": {"enabled": True}},
    "http": {"addr": ":5000"},
}
#: Debian's registry takes bcrypt only: `htpasswd -nbB` of shape.PRIVATE_LOGIN.
_HTPASSWD = "lab:$2b$05$LabLabLabLabLabLabLabeuCOTTCc2g.bHDdLw.kDrXFJtUELMwH."


def start(engine: Engine, image: str, registry_storage: Path, model: Path) -> None:
    """Starts the containers; all live in the registry's network namespace, so that they have one address."""
    folder = RUN / "services"
    folder.mkdir(parents=True, exist_ok=True)
    # JSON is YAML.
    (folder / "registry.yml").write_text(json.dumps(_REGISTRY_CONFIG, indent=2))
    private = {**_REGISTRY_CONFIG, "http": {"addr": f":{shape.PRIVATE_REGISTRY.split(':')[1]}"},
               "auth": {"htpasswd": {"realm": "lab", "path": "/etc/lab-htpasswd"}}}
    (folder / "private.yml").write_text(json.dumps(private, indent=2))
    (folder / "htpasswd").write_text(_HTPASSWD + "\n")
    common = ["--detach", "--label", shape.LABEL, "--restart", "no"]
    engine.out(
        "run", *common, "--name", REGISTRY_CONTAINER, "--hostname", REGISTRY_CONTAINER, "--network", network.SERVICE, "--ip", shape.SERVICES_ADDRESS,
        "-v", f"{registry_storage}:/var/lib/registry", "-v", f"{folder}/registry.yml:/etc/lab-registry.yml:ro",
        "-e", "OTEL_TRACES_EXPORTER=none", "--stop-signal", "SIGTERM", image, "docker-registry", "serve", "/etc/lab-registry.yml",
    )  # fmt: skip
    engine.out(
        "run", *common, "--name", PRIVATE_CONTAINER, "--network", f"container:{REGISTRY_CONTAINER}", "--stop-signal", "SIGTERM",
        "-v", f"{registry_storage}:/var/lib/registry:ro", "-v", f"{folder}/private.yml:/etc/lab-registry.yml:ro",
        "-v", f"{folder}/htpasswd:/etc/lab-htpasswd:ro", "-e", "OTEL_TRACES_EXPORTER=none",
        image, "docker-registry", "serve", "/etc/lab-registry.yml",
    )  # fmt: skip
    engine.out(
        "run", *common, "--name", HUB_CONTAINER, "--network", f"container:{REGISTRY_CONTAINER}", "--stop-signal", "SIGINT",
        "-v", f"{LAB_SOURCE}/hub.py:/opt/hub.py:ro", "-v", f"{model}:/srv/model:ro", "-v", f"{folder}:/var/log/hub",
        image, "python3", "/opt/hub.py", "--port", shape.HUB.split(":")[1], "--access-log", "/var/log/hub/hub-access.jsonl",
        "--model", f"{shape.MODEL_ID}=/srv/model", "--packages", "/var/log/hub/wheels",
    )  # fmt: skip


def wait(timeout_s: float = 30.0) -> None:
    """Waits until registry and hub answer."""
    deadline = time.monotonic() + timeout_s
    while True:
        silent = silent_services()
        if not silent:
            return
        if time.monotonic() > deadline:
            raise LabError(f"no answer after {timeout_s:.0f} s from the lab's {' and '.join(silent)}")
        time.sleep(0.1)


_PROBES = (
    ("registry", shape.REGISTRY, "/v2/", 200),
    ("private registry", shape.PRIVATE_REGISTRY, "/v2/", 401),
    ("hub", shape.HUB, f"/api/v1/models/{shape.MODEL_ID}/repo/files?Revision=master&Recursive=True", 200),
)


def silent_services() -> list[str]:
    """Names of the services that do not answer now."""
    return [name for name, address, path, status in _PROBES if get_status(address, path) != status]


def get_status(address: str, path: str) -> int | None:
    """The HTTP status of one GET, straight to the address (never through a proxy), or None without an answer."""
    connection = http.client.HTTPConnection(address, timeout=3)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except OSError:
        return None
    finally:
        connection.close()
