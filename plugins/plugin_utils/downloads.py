# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a download client's last words mean."""

from __future__ import annotations

import re

#: What the clients of ModelScope and Hugging Face print, and what to do about it: the first that matches counts.
CAUSES = (
    (r"No space left on device|Errno 28|disk quota exceeded", "the disk is full", "make room; what is whole is kept, and the next run goes on from there"),
    (r"\b401\b|[Uu]nauthorized|\b403\b|[Ff]orbidden|gated", "the hub refuses", "give a token that may read the model: vllm_weights_token_file"),
    (r"\b404\b|[Nn]ot [Ff]ound|does ?n.t exist|not exist", "the hub has no such model, revision or file", "correct id and revision in vllm_weights_source"),
    (r"\b429\b|[Tt]oo [Mm]any [Rr]equests|rate limit", "the hub wants fewer requests",
     "wait some minutes and run again, or use a mirror: endpoint in vllm_weights_source"),
    (r"Permission denied|Errno 13|Read-only file system|Errno 30", "the directory cannot be written to",
     "let root write there from this node; on NFS: no_root_squash, or a directory that the anonymous user owns"),
    (r"Name or service not known|Temporary failure in name resolution|Connection refused|No route to host|timed out|Max retries|ProxyError",
     "the hub cannot be reached", "check endpoint in vllm_weights_source, DNS and the proxy of the node's Docker engine"),
    (r"\b5\d\d\b.*([Ee]rror|Gateway|Unavailable)", "the hub has an error of its own", "run again later, or use a mirror: endpoint in vllm_weights_source"),
)


def explain(log: list, exit_code) -> str:
    """Return why a client ended that way: the cause, its last line and what to do, as one text."""
    said = [line.strip() for line in log if line.strip()]
    for pattern, cause, remedy in CAUSES:
        line = next((line for line in reversed(said) if re.search(pattern, line)), None)
        if line:
            return f"{cause} ({line[:300]}). Remedy: {remedy}."
    last = said[-1][:300] if said else "nothing"
    return f"the client ended with {exit_code}, its last words: {last}. Remedy: run again; what is whole is kept, and only the rest is fetched."
