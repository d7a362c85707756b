# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Weights that rsync copies: from a folder of the controller, from a host over SSH, from an rsync daemon."""

from __future__ import annotations

import re

from ..module_utils import rsync

#: What the id of the kind rsync is: account, host and folder over SSH, or the address of a daemon's module.
OVER_SSH = re.compile(r"^(?P<user>[\w.-]+)@(?P<host>[\w.-]+|\[[0-9A-Fa-f:]+\]):(?P<path>/[^\s:]+)$")
OF_DAEMON = re.compile(r"^rsync://[^\s/]+/\S+$")


def rsync_source(weights: dict, key_file: str = "", known_hosts_file: str = "") -> dict:
    """Return how weights are copied: ``{argv, url, known_hosts}``.

    ``argv`` is what a call begins with, ``url`` the folder without a slash at its end, ``known_hosts`` the text of an OpenSSH
    known_hosts file with the one host. ``key_file`` is the path of a private key over SSH, of a password file for a daemon.
    """
    url = weights["id"].rstrip("/")
    found = {"argv": ["rsync"], "url": url, "known_hosts": ""}
    match = OVER_SSH.match(url) if weights["kind"] == "rsync" else None
    if match:
        host, port = match.group("host").strip("[]"), int(weights.get("port") or 22)
        found["argv"] += ["-e", rsync.shell(key_file, known_hosts_file, port)]
        found["known_hosts"] = f"{host if port == 22 else f'[{host}]:{port}'} {weights['host_key']}\n"
    elif weights["kind"] == "rsync" and key_file:
        found["argv"] += [f"--password-file={key_file}"]
    return found


def rsync_files(text: str) -> list:
    """Return the files of a listing of rsync as ``[{path, size in bytes}]``, by path; names that begin with a dot are no weights."""
    sizes = rsync.listed(text)
    return [{"path": path, "size": sizes[path]} for path in sorted(sizes) if not any(part.startswith(".") for part in path.split("/"))]
