# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How far a client or the build of its image is, as one line for the person who waits, and why a build failed."""

from __future__ import annotations

from . import downloads
from .mesh import duration

#: Characters of a client's own line that are shown.
WIDTH = 110

#: What a build of a client image says when it fails: the first that matches counts.
OF_A_BUILD = (
    (r"[Nn]o space left on device|Errno 28|disk quota exceeded", "the disk is full",
     "make room where the engine keeps its images (docker info: Docker Root Dir), then run again"),
    (r"wanted Python", "the base image has another Python", "set eval_client_base_image to an image with this one, and with pip"),
    (r"No module named pip|python3: not found|No module named venv", "the base image has no Python with pip and venv",
     "set eval_client_base_image to an image that has them"),
    (r"ERROR: No matching distribution found for|ERROR: Could not find a version", "the package index or the folder of wheels lacks a package of the lock file",
     "set eval_client_index_url to an index that has it, put its wheel into the folder eval_client_find_links, or give the image (eval_client_archives)"),
    (r"THESE PACKAGES DO NOT MATCH THE HASHES", "a package is not the one of the lock file", "use an index that has the original: eval_client_index_url"),
    (r"CERTIFICATE_VERIFY_FAILED", "the certificate of the package index is not trusted", "name its host in eval_client_trusted_hosts"),
    (r"\b401\b|\b403\b|Unauthorized|Forbidden", "the package index refuses", "give a login in eval_client_index_url, or use another index"),
    (r"NewConnectionError|Connection refused|Name or service not known|name resolution|timed out|No route to host|ProxyError|Connection broken|Max retries",
     "the package index cannot be reached",
     "set eval_client_index_url to a mirror that this node reaches (and eval_client_proxies), or give wheels (eval_client_find_links) or the image"
     " (eval_client_archives)"),
    (r"pull access denied|manifest unknown|[Nn]ot [Ff]ound.*manifest|dial tcp|no such host", "the base image cannot be had", "set eval_client_base_image"),
    (r"docker\.sock", "the Docker engine does not answer", "systemctl status docker"),
)


def count(log: list, pattern) -> tuple | None:
    """Return ``(done, total)`` of the newest line that has them, or None. ``pattern``: compiled, with the groups done and total."""
    if not pattern.groupindex.keys() >= {"done", "total"}:
        return None
    for text in reversed(log):
        for match in reversed(list(pattern.finditer(text))):
            try:
                return int(match["done"]), int(match["total"])
            except (TypeError, ValueError):
                continue
    return None


def line(host: str, name: str, seconds: float, done: tuple | None, log: list, first: tuple | None, now: float) -> str:
    """Return the line. ``seconds`` since the client began; ``first``: ``(time, done)`` of the first count that was seen, for the time left."""
    begin = f"[{seconds:5.0f} s] {host}: {name}"
    if not done:
        said = [text.strip() for text in log if text.strip()]
        return f"{begin}: {said[-1][:WIDTH] if said else 'has said nothing yet'}"
    rate = (done[0] - first[1]) / (now - first[0]) if first and now > first[0] else 0
    left = f", about {duration((done[1] - done[0]) / rate)} left" if rate > 0 and done[1] > done[0] else ""
    return f"{begin}: {done[0]} of {done[1]}{left}"


def explain_build(said: list, error: str) -> str:
    """Return why a build failed: the cause, the line that says it and what to do. ``said``: its last lines, ``error``: the engine's word."""
    return downloads.explain([*said, error] if error else said, None, OF_A_BUILD)
