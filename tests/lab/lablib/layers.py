# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Image layers and manifests in the registry's own format, and pushing them over its HTTP API (Docker Image Manifest V2, schema 2)."""

from __future__ import annotations

import hashlib
import http.client
import json
import shutil
import subprocess
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

from lablib.say import LabError

_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_CONFIG = "application/vnd.docker.container.image.v1+json"
_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Layer:
    """One layer on disk. ``digest`` is of the compressed file, ``diff_id`` of the tar inside; ``size`` is in compressed bytes."""

    path: Path
    digest: str
    diff_id: str
    size: int

    @classmethod
    def load(cls, folder: Path) -> Layer:
        return cls(path=folder / "layer.tar.gz", **json.loads((folder / "layer.json").read_text()))


def tar_of(tree: Path) -> list[str]:
    """The command that writes a folder as a tar in which everything belongs to root."""
    return ["tar", "-C", str(tree), "--numeric-owner", "--owner=0", "--group=0", "--sort=name", "-cf", "-", "."]


def make_layer(folder: Path, tar_command: list[str]) -> None:
    """Runs a command that writes a tar to its stdout, into folder/layer.tar.gz, taking both digests on the way."""
    target = folder / "layer.tar.gz"
    diff_id, digest, size = hashlib.sha256(), hashlib.sha256(), 0
    tar = subprocess.Popen(tar_command, stdout=subprocess.PIPE)
    # Fastest compression, on all processors where pigz is there: the bytes travel through one machine's memory only.
    pigz = subprocess.Popen([shutil.which("pigz") or "gzip", "-1", "-n"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def feed():
        while chunk := tar.stdout.read(_CHUNK):
            diff_id.update(chunk)
            pigz.stdin.write(chunk)
        pigz.stdin.close()

    feeder = threading.Thread(target=feed)
    feeder.start()
    with target.open("wb") as out:
        while chunk := pigz.stdout.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
            out.write(chunk)
    feeder.join()
    if tar.wait() or pigz.wait():
        raise LabError(f"making an image layer failed: {' '.join(tar_command)} | gzip")
    layer = Layer(target, f"sha256:{digest.hexdigest()}", f"sha256:{diff_id.hexdigest()}", size)
    facts = {name: value for name, value in asdict(layer).items() if name != "path"}
    (folder / "layer.json").write_text(json.dumps(facts, indent=2) + "\n")


def image_config(layers: list[Layer], config: dict) -> bytes:
    """The image's configuration blob. No dates in it: equal inputs give an equal digest."""
    blob = {
        "architecture": "amd64",
        "os": "linux",
        "created": "1970-01-01T00:00:00Z",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
        "history": [{"created": "1970-01-01T00:00:00Z", "created_by": "ascend.vllm lab"} for dummy in layers],
    }
    return json.dumps(blob, sort_keys=True).encode()


def image_manifest(layers: list[Layer], config: bytes) -> bytes:
    blob = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST,
        "config": {"mediaType": _CONFIG, "size": len(config), "digest": _sha256(config)},
        "layers": [{"mediaType": _LAYER, "size": layer.size, "digest": layer.digest} for layer in layers],
    }
    return json.dumps(blob, sort_keys=True).encode()


def push(registry: str, repository: str, tag: str, layers: list[Layer], config: dict) -> bool:
    """Puts one image under one tag; returns False when the registry already had exactly that."""
    config_blob = image_config(layers, config)
    manifest = image_manifest(layers, config_blob)
    head = _request(registry, "HEAD", f"/v2/{repository}/manifests/{tag}", headers={"Accept": _MANIFEST})
    if head.getheader("Docker-Content-Digest") == _sha256(manifest):
        return False
    for layer in layers:
        with layer.path.open("rb") as body:
            _put_blob(registry, repository, layer.digest, body, layer.size)
    _put_blob(registry, repository, _sha256(config_blob), config_blob, len(config_blob))
    answer = _request(registry, "PUT", f"/v2/{repository}/manifests/{tag}", manifest, {"Content-Type": _MANIFEST})
    if answer.status != 201:
        raise LabError(f"the registry {registry} refused the manifest of {repository}:{tag}: HTTP {answer.status} {answer.body!r}")
    return True


def _put_blob(registry: str, repository: str, digest: str, body, size: int) -> None:
    if _request(registry, "HEAD", f"/v2/{repository}/blobs/{digest}").status == 200:
        return
    begun = _request(registry, "POST", f"/v2/{repository}/blobs/uploads/", b"")
    location = urlsplit(begun.getheader("Location") or "")
    path = f"{location.path}?{location.query}&digest={digest}" if location.query else f"{location.path}?digest={digest}"
    answer = _request(registry, "PUT", path, body, {"Content-Type": "application/octet-stream", "Content-Length": str(size)})
    if answer.status != 201:
        raise LabError(f"the registry {registry} refused a blob of {repository}: HTTP {answer.status} {answer.body!r}")


def _request(registry: str, method: str, path: str, body=None, headers=None) -> http.client.HTTPResponse:
    """One request, straight to the registry (http.client knows no proxy); the answer's body is kept in ``.body``."""
    connection = http.client.HTTPConnection(registry, timeout=120, blocksize=_CHUNK)
    try:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        answer.body = answer.read()
        return answer
    except OSError as error:
        raise LabError(f"the registry {registry} does not answer {method} {path}: {error}") from error
    finally:
        connection.close()


def _sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
