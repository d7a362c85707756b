# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the last words of a download client or of a Docker engine mean."""

from __future__ import annotations

import re

from .findings import ROOT_MAY

#: What the clients of ModelScope and Hugging Face print, and what to do about it: the first that matches counts.
CAUSES = (
    (r"exec: \S+: not found", "the serving image has no client of this hub", "use the other hub, or an image that has it: vllm_weights_source, vllm_image"),
    (r"No space left on device|Errno 28|disk quota exceeded", "the disk is full", "make room; what is whole is kept, and the next run goes on from there"),
    (r"\b401\b|[Uu]nauthorized|\b403\b|[Ff]orbidden|gated", "the hub refuses", "give a token that may read the model: vllm_weights_token_file"),
    (r"\b404\b|[Nn]ot [Ff]ound|does ?n.t exist|not exist", "the hub has no such model, revision or file", "correct id and revision in vllm_weights_source"),
    (r"\b429\b|[Tt]oo [Mm]any [Rr]equests|rate limit", "the hub wants fewer requests",
     "wait some minutes and run again, or use a mirror: endpoint in vllm_weights_source"),
    (r"Permission denied|Errno 13|Read-only file system|Errno 30", "the directory cannot be written to",
     ROOT_MAY),
    (r"Name or service not known|Temporary failure in name resolution|Connection refused|No route to host|timed out|Max retries|ProxyError",
     "the hub cannot be reached", "check endpoint in vllm_weights_source, DNS and the proxy of the node's Docker engine"),
    (r"\b5\d\d\b.*([Ee]rror|Gateway|Unavailable)", "the hub has an error of its own", "run again later, or use a mirror: endpoint in vllm_weights_source"),
)


#: What a Docker engine says of a pull that failed.
OF_AN_ENGINE = (
    (r"[Nn]o space left on device|disk quota exceeded", "the disk is full",
     "make room where the engine keeps its images (docker info: Docker Root Dir); layers that are whole are kept"),
    (r"[Tt]oo ?[Mm]any ?[Rr]equests|\b429\b|rate limit", "the registry wants fewer requests",
     "wait and run again, use a mirror (vllm_image_registries) or a login (vllm_registry_auth_file)"),
    (r"\b401\b|[Uu]nauthorized|authentication required|no basic auth|\b403\b|[Ff]orbidden|denied", "the registry refuses",
     "give a login that may read the image: vllm_registry_auth_file"),
    (r"manifest unknown|[Nn]ot [Ff]ound|\b404\b", "the registry has no such image", "correct vllm_image or vllm_image_registries"),
    (r"no matching manifest|does not match the specified platform", "the image is not there for this architecture", "correct vllm_image"),
    (r"x509|certificate|server gave HTTP response to HTTPS", "the engine does not trust the registry",
     "put its certificate into /etc/docker/certs.d on this node, or name it in insecure-registries of the engine"),
    (r"no such host|[Cc]onnection refused|[Nn]o route to host|[Tt]imeout|timed out|connection reset|EOF|proxyconnect", "the registry cannot be reached",
     "check vllm_image_registries, DNS and the proxy of the node's Docker engine, then run again; layers that are whole are kept"),
    (r"docker\.sock", "the Docker engine does not answer", "systemctl status docker"),
)


def explain(log: list, exit_code, causes=CAUSES) -> str:
    """Return why a client ended that way: the cause, its last line and what to do, as one text."""
    said = [line.strip() for line in log if line.strip()]
    for pattern, cause, remedy in causes:
        line = next((line for line in reversed(said) if re.search(pattern, line)), None)
        if line:
            return f"{cause} ({line[:300]}). Remedy: {remedy}."
    last = said[-1][:300] if said else "nothing"
    ended = f"the client ended with {exit_code}, " if exit_code is not None else ""
    return f"{ended}its last words: {last}. Remedy: run again; what is whole is kept, and only the rest is fetched."
