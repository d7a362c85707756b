# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which of the possible files of a host are mounted into a unit, once the host has said which of them it has."""

from __future__ import annotations

from .messages import check, is_mapping


def choose(unit: dict, paths: dict, host: str = "") -> dict:
    """Return ``{mounts, checks}`` of a unit on one host.

    ``paths``: {path: {exists, type}} as node_info returns it. Of each candidate the first source that is there with the right type
    is mounted; an optional one that is not there is left out. Docker would turn a missing file into an empty directory.
    """
    by_target = {mount.split(":")[1]: mount for mount in unit["mounts"]}
    mounts, checks = [], []
    for target, mount in by_target.items():
        candidate = unit["mount_candidates"].get(target)
        if candidate is None:
            mounts.append(mount)
            continue
        source, found = _source(target, candidate, paths, host)
        checks += found
        if source:
            mounts.append(":".join([source, target, *mount.split(":")[2:]]))
    return {"mounts": mounts, "checks": checks}


def _source(target: str, candidate: dict, paths: dict, host: str) -> tuple[str | None, list]:
    """Return ``(source, checks)`` of one candidate; the check says what was found, also when it is right."""
    wanted = f"a {candidate['type']} at {' or '.join(candidate['sources'])}"
    seen = []
    for source in candidate["sources"]:
        answer = paths.get(source, paths.get(source.rstrip("/")))
        if not is_mapping(answer):
            remedy = "report this as a fault of the collection: the node was not asked for this path."
            return None, [check(host, "mount_source", target, f"{source} was not looked at", wanted, remedy, "unknown")]
        if answer.get("exists") and answer.get("type") == candidate["type"]:
            return source, [check(host, "mount_source", target, f"{source}, a {candidate['type']}", wanted, "", "pass")]
        seen.append(f"{source} is {'a ' + str(answer.get('type')) if answer.get('exists') else 'absent'}")
    observed = "; ".join(seen)
    if not candidate["required"] and all(entry.endswith(" is absent") for entry in seen):
        return None, [
            check(host, "mount_source", target, f"{observed}: left out", f"{wanted}, if the host has it", "", "pass")
        ]
    remedy = (
        "install the Ascend driver package, or link the file to where it is wanted; "
        "an empty directory in its place is what an earlier docker run left: remove it."
    )
    return None, [check(host, "mount_source", target, observed, wanted, remedy)]


def sources(unit: dict) -> list:
    """Return the paths to ask a node for before choose()."""
    return sorted({source for candidate in unit["mount_candidates"].values() for source in candidate["sources"]})
