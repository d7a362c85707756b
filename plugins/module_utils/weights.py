# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A directory of model weights: what is there, and whether it is all that was asked for."""

from __future__ import annotations

import hashlib
import json
import os

#: Beside the weights: what was downloaded, from where, file by file. Written last, so its presence means "whole".
MARKER = ".ascend-vllm-weights.json"
#: Files up to this size (bytes) are compared by content: config, index, tokenizer. Shards are compared by size.
SMALL = 1 << 20


def list_files(root):
    """Return sorted C([{path, size}]) of the regular files below a directory.

    Names that start with a dot are not weights, nor is a link to nothing.
    """
    found = []
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in names:
            path = os.path.join(folder, name)
            if not name.startswith(".") and os.path.isfile(path):
                found.append({"path": os.path.relpath(path, root), "size": os.path.getsize(path)})
    return sorted(found, key=lambda entry: entry["path"])


def read_marker(root):
    """Return the marker's content, or None where there is none or it cannot be read."""
    try:
        with open(os.path.join(root, MARKER), encoding="utf-8") as stream:
            content = json.load(stream)
    except (OSError, ValueError):
        return None
    files = content.get("files") if isinstance(content, dict) else None
    sound = isinstance(files, list) and all(isinstance(entry, dict) and "path" in entry and "size" in entry for entry in files)
    return content if files and sound else None


def compare(expected, found):
    """Return the differences between two file lists as lines; empty when they agree (files beyond those expected do not count)."""
    sizes = {entry["path"]: entry["size"] for entry in found}
    lines = []
    for entry in expected:
        if any(part.startswith(".") for part in entry["path"].split("/")):
            continue
        size = sizes.get(entry["path"])
        if size is None:
            lines.append("%s is missing" % entry["path"])
        elif size != entry["size"]:
            lines.append("%s has %d bytes, wanted %d" % (entry["path"], size, entry["size"]))
    return lines


def local_differences(root, files):
    """Return what is missing from weights that the site put there itself: the configuration and the shards of the index."""
    names = {entry["path"] for entry in files}
    wanted = {"config.json"}
    try:
        with open(os.path.join(root, "model.safetensors.index.json"), encoding="utf-8") as stream:
            wanted |= {str(name) for name in json.load(stream)["weight_map"].values()}
    except OSError:
        wanted.add("model.safetensors")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return ["model.safetensors.index.json cannot be understood: %r" % error]
    return ["%s is missing" % name for name in sorted(wanted - names)]


def fingerprint(root, files):
    """Return a SHA-256 over names and sizes of all files and the content of the small ones, to compare nodes."""
    total = hashlib.sha256()
    for entry in files:
        total.update(("%s\0%d\0" % (entry["path"], entry["size"])).encode())
        if entry["size"] <= SMALL:
            with open(os.path.join(root, entry["path"]), "rb") as stream:
                total.update(hashlib.sha256(stream.read()).digest())
    return total.hexdigest()


def state(root, wanted):
    """Return what a weights directory holds.

    C(wanted) is C({kind, id, revision}). Result: C({exists, complete, files, bytes, fingerprint, differences}).
    C(complete) means: a marker of exactly the wanted model is there and every file it lists has its size; for the kind C(local),
    which nobody downloaded, that the configuration and every shard of the index are there.
    """
    result = {"exists": os.path.isdir(root), "complete": False, "files": 0, "bytes": 0, "fingerprint": None, "differences": []}
    if not result["exists"]:
        result["differences"] = ["%s is not a directory" % root]
        return result
    try:
        files = list_files(root)
        result.update(files=len(files), bytes=sum(entry["size"] for entry in files), fingerprint=fingerprint(root, files))
    except OSError as error:
        result["differences"] = ["%s cannot be read: %s" % (error.filename or root, error.strerror or error)]
        return result
    if wanted["kind"] == "local":
        result["differences"] = local_differences(root, files)
        result["complete"] = not result["differences"]
        return result
    marker = read_marker(root)
    if marker is None:
        result["differences"] = ["no marker %s: a download never finished here" % MARKER]
        return result
    result["differences"] = [
        "the marker says %s %s, wanted %s" % (key, marker.get(key), wanted[key])
        for key in ("kind", "id", "revision") if marker.get(key) != wanted[key]
    ] + compare(marker["files"], files)
    result["complete"] = not result["differences"]
    return result


def write_marker(root, wanted, files):
    """Write the marker in one step (a reader sees the old one or the new one, never half)."""
    path = os.path.join(root, MARKER)
    partial = path + ".partial"
    content = {key: wanted[key] for key in ("kind", "id", "revision")}
    content.update(schema=1, files=files)
    with open(partial, "w", encoding="utf-8") as stream:
        json.dump(content, stream, indent=1)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(partial, path)
