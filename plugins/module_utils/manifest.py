# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A directory of model weights: what is there, whether it is all that was asked for, and the proof of it.

Beside the weights lie, hidden from vLLM by their dot:

- MARKER, the manifest: path, size, SHA-256 and time of every file. Written last and in one step, so its presence means that
  every file was verified. Reading compares sizes and times only and hashes nothing.
- PARTIAL, the progress of a verification: what is hashed so far, so that one that was cut short goes on.
- RECORDED, a manifest that no longer holds because a file's content is not what it says; it still says what is wanted.
- BAD, a folder with files that the hub gives otherwise, moved out of the client's way.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import stat
import tempfile
import time

from ansible_collections.ascend.vllm.plugins.module_utils import model_files

MARKER = ".ascend-vllm-weights.json"
PARTIAL = ".ascend-vllm-weights.partial.json"
RECORDED = ".ascend-vllm-weights.recorded.json"
BAD = ".ascend-vllm-bad"
#: Of the manifest. Schema 1 had no hashes: such a directory counts as not yet verified.
SCHEMA = 2
#: Files up to this size (bytes) are compared by content where no manifest has their hashes: config, index, tokenizer.
SMALL = 1 << 20
#: Kinds of sources that list their own files with their hashes.
HUB_KINDS = ("modelscope", "huggingface")
#: The kind of files that are no model: an image in parts.
ARCHIVE = "archive"
#: Kinds of sources that files are copied from; what is wanted is said by a list beside the files, or by what was recorded.
COPIED_KINDS = ("controller", "rsync")
_SHA256 = re.compile(r"^[0-9a-f]{64}$")


class WriteError(Exception):
    """A file beside the weights could not be written; the text names it and the reason."""


# what is on the disk

def why(error):
    """Return the reason of an OSError in words."""
    return error.strerror or str(error)


def scan(root):
    """Return C((found, problems)): path -> C((size in bytes, mtime in ns)) of the regular files, path -> text of folders that cannot be read.

    Names that start with a dot are not weights. A link counts as the file it leads to; links to folders are not followed.
    Raises C(OSError) when the directory itself cannot be read.
    """
    found, problems, folders = {}, {}, [""]
    while folders:
        folder = folders.pop()
        try:
            with os.scandir(os.path.join(root, folder) if folder else root) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    path = folder + "/" + entry.name if folder else entry.name
                    try:
                        if entry.is_dir(follow_symlinks=False):
                            folders.append(path)
                            continue
                        seen = entry.stat()
                    except OSError:
                        # A link to nothing, or gone since: the same as not there.
                        continue
                    if stat.S_ISREG(seen.st_mode):
                        found[path] = (seen.st_size, seen.st_mtime_ns)
        except OSError as error:
            if not folder:
                raise
            problems[folder] = "cannot be read: %s" % why(error)
    return found, problems


def what_is_there(root, path):
    """Return what is found where a regular file is wanted, as the middle of a sentence."""
    place = os.path.join(root, path)
    try:
        seen = os.lstat(place)
        if stat.S_ISLNK(seen.st_mode):
            try:
                seen = os.stat(place)
            except FileNotFoundError:
                return "is missing: it is a link to %s, which is not there" % os.readlink(place)
    except (FileNotFoundError, NotADirectoryError):
        return "is missing"
    except OSError as error:
        return "cannot be read: %s" % why(error)
    return "is a directory" if stat.S_ISDIR(seen.st_mode) else "is no regular file"


def hidden(path):
    """Return whether a path is no part of the weights because a name in it starts with a dot."""
    return any(part.startswith(".") for part in path.split("/"))


# the files beside the weights

def sound(entry, hashed):
    """Return whether an entry of a manifest has what it must have."""
    if not isinstance(entry, dict) or not isinstance(entry.get("path"), str) or not isinstance(entry.get("size"), int):
        return False
    return not hashed or (isinstance(entry.get("mtime_ns"), int) and bool(_SHA256.match(str(entry.get("sha256")))))


def read_manifest(path):
    """Return a manifest (schema 1 or 2), or None where there is none or it is not sound."""
    try:
        with open(path, encoding="utf-8") as stream:
            content = json.load(stream)
    except (OSError, ValueError, RecursionError):
        return None
    files = content.get("files") if isinstance(content, dict) else None
    if not isinstance(files, list) or not files:
        return None
    hashed = content.get("schema") == SCHEMA
    return content if all(sound(entry, hashed) for entry in files) else None


def read_marker(root):
    """Return the content of the manifest beside the weights, or None."""
    return read_manifest(os.path.join(root, MARKER))


def read_verified(root, name, wanted=None):
    """Return the manifest of schema 2 in a file beside the weights, of the wanted source if one is given; else None."""
    content = read_manifest(os.path.join(root, name))
    if content is None or content.get("schema") != SCHEMA:
        return None
    return content if wanted is None or not other_source(content, wanted) else None


def read_partial(root):
    """Return the progress of a verification: C({hashes: path -> entry, full, started_at, rate, listed}), empty where there is none."""
    nothing = {"hashes": {}, "full": False, "started_at": 0, "rate": None, "listed": None}
    try:
        with open(os.path.join(root, PARTIAL), encoding="utf-8") as stream:
            content = json.load(stream)
        hashes = {entry["path"]: entry for entry in content["files"] if sound(entry, True)}
        return dict(nothing, hashes=hashes, full=bool(content["full"]), started_at=float(content["started_at"]),
                    rate=float(content["rate"]) if content["rate"] else None, listed=content["listed"] if isinstance(content["listed"], dict) else None)
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return nothing


def _write(root, name, content):
    """Write a JSON file beside the weights in one step: a reader sees the old one or the new one, never half. Raises WriteError."""
    temporary = None
    try:
        # Two nodes may verify one shared directory: each needs a temporary file of its own.
        handle, temporary = tempfile.mkstemp(prefix=".ascend-vllm-weights.", suffix=".tmp", dir=root)
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            json.dump(content, stream, indent=1)
            stream.flush()
            os.fsync(stream.fileno())
            # Other nodes read it as nobody where the file server squashes root.
            os.fchmod(stream.fileno(), 0o644)
        os.replace(temporary, os.path.join(root, name))
        sync_folder(root)
    except OSError as error:
        if temporary:
            with contextlib.suppress(OSError):
                os.remove(temporary)
        raise WriteError("%s in %s: %s" % (name, root, why(error))) from error


def sync_folder(root):
    """Make a rename in a directory last, where the file system can (NFS may refuse to sync a directory)."""
    with contextlib.suppress(OSError):
        handle = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def remove(root, *names):
    """Remove files beside the weights, where they are."""
    for name in names:
        with contextlib.suppress(OSError):
            os.remove(os.path.join(root, name))


def write_partial(root, partial):
    """Write the progress of a verification. Raises WriteError."""
    content = {key: partial[key] for key in ("full", "started_at", "rate", "listed")}
    _write(root, PARTIAL, dict(content, schema=SCHEMA, files=[partial["hashes"][path] for path in sorted(partial["hashes"])]))


def manifest_of(wanted, entries, before=None):
    """Return the manifest of verified files. C(entries): path -> C({path, size, sha256, mtime_ns}).

    What C(before), a manifest of the same source, was verified for stays: two groups may want different things of one directory.
    """
    kept = {}
    if before and not other_source(before, wanted):
        kept = {key: value for key, value in (before.get("requirements") or {}).items() if value}
    kept.update({key: value for key, value in (wanted.get("requirements") or {}).items() if value})
    return {
        "schema": SCHEMA, "kind": wanted["kind"], "id": wanted["id"], "revision": wanted.get("revision"), "endpoint": wanted.get("endpoint"),
        "requirements": kept, "verified_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "files": [{key: entries[path][key] for key in ("path", "size", "sha256", "mtime_ns")} for path in sorted(entries)],
    }


def write_manifest(root, content):
    """Write the manifest: from here on the directory counts as verified. Raises WriteError, and the old one stays."""
    _write(root, MARKER, content)


def fingerprint(content):
    """Return a SHA-256 over path, size and hash of every file of a manifest: equal on nodes whose files have equal contents."""
    total = hashlib.sha256()
    for entry in sorted(content["files"], key=lambda entry: entry["path"]):
        total.update(("%s\0%d\0%s\n" % (entry["path"], entry["size"], entry["sha256"])).encode("utf-8", "surrogateescape"))
    return total.hexdigest()


def quick_fingerprint(root, found):
    """Return a SHA-256 over names and sizes of all files and the content of the small ones, for weights without a manifest."""
    total = hashlib.sha256()
    for path in sorted(found):
        total.update(("%s\0%d\0" % (path, found[path][0])).encode("utf-8", "surrogateescape"))
        if found[path][0] <= SMALL:
            with open(os.path.join(root, path), "rb") as stream:
                total.update(hashlib.sha256(stream.read()).digest())
    return total.hexdigest()


# what is wanted, and what differs

def other_source(content, wanted):
    """Return how the source of a manifest differs from the wanted one, as lines."""
    return ["the marker says %s %s, wanted %s" % (key, content.get(key), wanted.get(key))
            for key in ("kind", "id", "revision") if content.get(key) != wanted.get(key)]


def unmet(content, wanted):
    """Return the requirements that a manifest was not verified for, as lines."""
    checked = content.get("requirements") or {}
    return ["the marker says %s %s, wanted %s" % (key, checked.get(key), value)
            for key, value in sorted((wanted.get("requirements") or {}).items()) if value and checked.get(key) != value]


def covers(entry, seen):
    """Return whether a hash still belongs to a file: same size and same time. C(seen): (size, mtime in ns)."""
    return entry is not None and (entry["size"], entry["mtime_ns"]) == tuple(seen)


def _stray_shards(root, names):
    """Return problems for safetensors files that are not among the verified ones and that no index knows, as lines."""
    strays = [name for name in names if "/" not in name and name.endswith(".safetensors")]
    if not strays:
        return []
    try:
        index, mapping = model_files.weight_map(root, os.listdir(root))
    except (OSError, ValueError):
        index, mapping = None, {}
    known = set(mapping.values())
    return ["%s is there, but neither %s nor the verified files know it: wanted no such file" % (name, index or "an index")
            for name in strays if name not in known]


def state(root, wanted):
    """Return what a weights directory holds, without hashing.

    C(wanted) is C({kind, id, revision, requirements}). Result: C({exists, complete, verified, files, bytes, fingerprint, differences,
    extra, to_hash_bytes}). C(verified): a manifest of exactly the wanted source and requirements is there, and every file has
    the size and the time it had when it was hashed. C(complete): the same; for the kind C(local), which nobody downloaded, it is
    enough, as long as there is no manifest, that the configuration and every file of the index are there. C(fingerprint) is None
    where there is nothing to compare. C(to_hash_bytes): what a verification would have to hash of the files that are there.
    """
    result = {"exists": os.path.isdir(root), "complete": False, "verified": False, "files": 0, "bytes": 0, "fingerprint": None,
              "differences": [], "extra": [], "to_hash_bytes": 0}
    if not result["exists"]:
        result["differences"] = ["%s is not a directory" % root]
        return result
    try:
        found, problems = scan(root)
    except OSError as error:
        result["differences"] = ["%s cannot be read: %s" % (error.filename or root, why(error))]
        return result
    result.update(files=len(found), bytes=sum(size for size, dummy in found.values()))
    differences = ["%s %s" % (path, text) for path, text in sorted(problems.items())]
    marker = read_marker(root)
    manifest = marker if marker and marker.get("schema") == SCHEMA else None
    known = {entry["path"]: entry for entry in manifest["files"]} if manifest else {}
    partial = read_partial(root)
    # While a full verification is under way only what it hashed itself counts.
    trusted = [partial["hashes"]] if partial["full"] else [partial["hashes"], known]
    result["to_hash_bytes"] = sum(seen[0] for path, seen in found.items() if not any(covers(hashes.get(path), seen) for hashes in trusted))
    if manifest is None and wanted["kind"] == "local":
        _look_at_local(root, found, differences, result)
        return result
    if marker is None:
        result["differences"] = differences + ["no marker %s: a download never finished here, or was never verified" % MARKER]
        return result
    differences += other_source(marker, wanted)
    if manifest is None:
        result["differences"] = differences + ["the marker %s is an old one without hashes: the files were never verified" % MARKER]
        return result
    differences += unmet(manifest, wanted)
    for path, entry in sorted(known.items()):
        seen = found.get(path)
        if seen is None:
            differences.append("%s %s, wanted a file of %d bytes" % (path, what_is_there(root, path), entry["size"]))
        elif seen[0] != entry["size"]:
            differences.append("%s has %d bytes, wanted %d" % (path, seen[0], entry["size"]))
        elif seen[1] != entry["mtime_ns"]:
            differences.append("%s was written to after it was verified: its time is %s, wanted %s" % (path, _utc(seen[1]), _utc(entry["mtime_ns"])))
    result["extra"] = sorted(set(found).difference(known))
    differences += _stray_shards(root, result["extra"])
    result.update(differences=differences, verified=not differences, complete=not differences)
    if not other_source(manifest, wanted):
        result["fingerprint"] = fingerprint(manifest)
    return result


def _utc(moment):
    """Return a time in ns since the epoch in words, to the nanosecond."""
    return "%s.%09d" % (time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(moment // 1000000000)), moment % 1000000000)


def _look_at_local(root, found, differences, result):
    """Fill in the result of state for weights that the site put there itself and that were not verified yet."""
    try:
        differences += ["%s %s" % problem for problem in model_files.local_problems(root)]
        result["fingerprint"] = quick_fingerprint(root, found)
    except OSError as error:
        differences.append("%s cannot be read: %s" % (error.filename or root, why(error)))
    result.update(differences=differences, complete=not differences)
