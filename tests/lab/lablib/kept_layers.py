# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Layers of the engine image that a node has unpacked, kept for the nodes of later labs.

Unpacking 2 GB in 42,000 files takes a node the better part of a minute, whenever a lab is new. Where pulling is not what a test is about, the
nodes' engines find the layers unpacked, as those of a real node do that had an earlier release: the pull itself, its manifest, its
configuration and its names are still to be done. The files are hard links: an engine never writes into a layer that is committed.

The folders are those of Docker's overlay2 driver: ``image/overlay2/layerdb/sha256/CHAIN`` says which folder of ``overlay2/`` has the layer, whose
``link`` is its short name in ``overlay2/l``; ``image/overlay2/distribution`` says which download becomes which layer.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path
from typing import Iterable

_LAYERS = Path("image/overlay2/layerdb/sha256")
_KNOWN = Path("image/overlay2/distribution")


def chain_ids(diff_ids: Iterable[str]) -> list[str]:
    """The names of a stack of layers, bottom first, as OCI's image specification has them: each is of all that is below it too."""
    chain: list[str] = []
    for diff_id in diff_ids:
        chain.append("sha256:" + hashlib.sha256(f"{chain[-1]} {diff_id}".encode()).hexdigest() if chain else diff_id)
    return chain


def has(engine: Path, layers: dict[str, str]) -> bool:
    """Whether an engine's folder (/var/lib/docker) has all these layers. ``layers``: diff_id -> digest of its download, bottom first."""
    parts = _parts(engine, layers)
    return bool(parts) and all(os.path.lexists(engine / part) for part in parts)


def copy(source: Path, target: Path, layers: dict[str, str]) -> bool:
    """Copies layers from one engine's folder to another's, neither of which runs; False, and nothing copied, if one is not there."""
    if not has(source, layers):
        return False
    for part in _parts(source, layers):
        (target / part).parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "-a", "--link", "--no-target-directory", str(source / part), str(target / part)], check=True)
    return True


def _parts(engine: Path, layers: dict[str, str]) -> list[Path]:
    """The files and folders that are these layers, in an engine's folder; none if it does not know one of them."""
    parts = []
    for (diff_id, digest), chain in zip(layers.items(), chain_ids(layers)):
        entry = _LAYERS / _name(chain)
        try:
            unpacked = Path("overlay2") / (engine / entry / "cache-id").read_text()
            link = Path("overlay2/l") / (engine / unpacked / "link").read_text()
        except OSError:
            return []
        parts += [entry, unpacked, link, _KNOWN / "diffid-by-digest/sha256" / _name(digest), _KNOWN / "v2metadata-by-diffid/sha256" / _name(diff_id)]
    return parts


def _name(digest: str) -> str:
    return digest.partition(":")[2]
