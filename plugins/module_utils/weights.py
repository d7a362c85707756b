# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Verify a directory of model weights: hash what is not known yet, compare it with what is wanted, look inside the model.

What lies beside the weights (the manifest, the progress, what was moved aside) is described in manifest.py.
"""

from __future__ import annotations

import collections
import hashlib
import os
import re
import stat
import threading
import time

from ansible_collections.ascend.vllm.plugins.module_utils import model_files
from ansible_collections.ascend.vllm.plugins.module_utils.manifest import (
    ARCHIVE,
    BAD,
    COPIED_KINDS,
    HUB_KINDS,
    MARKER,
    PARTIAL,
    RECORDED,
    SCHEMA,
    WriteError,
    covers,
    hidden,
    manifest_of,
    read_manifest,
    read_partial,
    read_verified,
    remove,
    scan,
    state,
    sync_folder,
    what_is_there,
    why,
    write_manifest,
    write_partial,
)

#: Lists of hashes that people put beside weights, as C(sha256sum) writes them.
SUMS = ("SHA256SUMS", "SHA256SUMS.txt", "sha256sums.txt", "sha256sum.txt")
#: Read at once (bytes): large enough that a thread spends its time hashing and reading, outside Python's lock.
BLOCK = 1 << 22
#: More threads than this do not read faster from a file server or a disk.
MAX_THREADS = 16
#: Seconds between two writes of the progress.
SAVE_EVERY_S = 2.0
#: A full verification that was cut short goes on with what was hashed since it began, for this long (seconds).
FULL_GOES_ON_S = 86400
#: The hub's list is asked again after this time (seconds), or a verification in slices would ask it every time.
LISTED_FOR_S = 3600
_SUM_LINE = re.compile(r"^([0-9a-fA-F]{64}) [ *](.+)$|^SHA256 \((.+)\) = ([0-9a-fA-F]{64})$")


class HubError(Exception):
    """Nobody could say which files are wanted; the text says why and never contains a token."""


# which files are wanted

def _expected(entries):
    """Return a file list as path -> C({path, size|None, sha256|None, git_oid|None}); raise C(ValueError) for a path that leads out of the directory."""
    listed = {}
    for entry in entries:
        path = str(entry["path"])
        while path.startswith("./"):
            path = path[2:]
        if not path or os.path.isabs(path) or ".." in path.split("/") or "\0" in path:
            raise ValueError("it names the file %r, which is not below the directory" % path)
        if not hidden(path):
            listed[path] = {"path": path, "size": entry.get("size"), "sha256": str(entry.get("sha256") or "").lower() or None,
                            "git_oid": entry.get("git_oid") or None}
    return listed


def read_sums(path):
    """Return the files of a list as C(sha256sum) writes it, or of a manifest; raise C(ValueError) with a text for anything else."""
    manifest = read_manifest(path)
    if manifest and manifest.get("schema") == SCHEMA:
        return _expected(manifest["files"])
    entries = []
    try:
        with open(path, encoding="utf-8") as stream:
            for number, line in enumerate(stream, 1):
                match = _SUM_LINE.match(line.rstrip("\r\n"))
                if match:
                    entries.append({"path": match.group(2) or match.group(3), "sha256": match.group(1) or match.group(4)})
                elif line.strip() and not line.startswith("#"):
                    raise ValueError("line %d of %s is no line of sha256sum" % (number, path))
    except OSError as error:
        raise ValueError("%s cannot be read: %s" % (path, why(error))) from error
    except UnicodeDecodeError as error:
        raise ValueError("%s is no text: %s" % (path, error)) from error
    if not entries:
        raise ValueError("%s lists no file" % path)
    return _expected(entries)


def _beside(root, wanted):
    """Return C((expected files or None, where they come from)) of what lies beside the weights: hash lists, an earlier manifest.

    Without a hub the site's own list comes first: who replaces the weights replaces it too.
    """
    sums = [name for name in SUMS if os.path.isfile(os.path.join(root, name))][:1]
    kept = [name for name in (MARKER, RECORDED) if read_verified(root, name, wanted)][:1]
    for name in kept + sums if wanted["kind"] in HUB_KINDS else sums + kept:
        return read_sums(os.path.join(root, name)), name
    return None, "nobody"


def expected_files(root, wanted, ask, full, unchanged, expected_file, partial):
    """Return C((path -> expected or None, where the list comes from)).

    In this order: the file the caller names; for a directory whose sizes and times are those of its manifest (C(unchanged)) that
    manifest, so that a full verification compares with what was verified and not with what a hub has got since; the hub; what lies
    beside the weights. None: nobody knows, and what is there is recorded. Raises HubError when a hub should know and does not answer.
    """
    try:
        if expected_file:
            return read_sums(expected_file), expected_file
        if full and unchanged:
            return read_sums(os.path.join(root, MARKER)), MARKER
        if wanted["kind"] not in HUB_KINDS or ask is None:
            return _beside(root, wanted)
        source = {key: wanted.get(key) for key in ("kind", "id", "revision", "endpoint")}
        listed = partial["listed"]
        if listed and listed.get("source") == source and 0 <= time.time() - listed.get("at", 0) < LISTED_FOR_S:
            return _expected(listed["files"]), "the hub"
        try:
            files = ask()
        except HubError:
            known, where = _beside(root, wanted)
            if known is None:
                raise
            return known, where
        known = _expected(files)
        partial["listed"] = {"source": source, "at": time.time(), "files": list(known.values())}
        return known, "the hub"
    except (ValueError, KeyError, TypeError) as error:
        raise HubError("the list of files cannot be used: %s" % error) from error


# hashing

def hash_file(path, git=False):
    """Return C({size, mtime_ns, sha256[, git_oid]}) of a file, read once.

    C(git_oid) is the id of the git blob: SHA-1 over C("blob <size>\\0") and the content. Raises C(OSError), and C(ValueError)
    with a text when the file changed while it was read. The pages stay in the page cache: the server loads these files next.
    """
    buffer = memoryview(bytearray(BLOCK))
    # O_NONBLOCK: what became a pipe since it was listed must not hang.
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with os.fdopen(handle, "rb", buffering=0) as stream:
        before = os.fstat(stream.fileno())
        if not stat.S_ISREG(before.st_mode):
            raise ValueError("is no regular file")
        if before.st_size and hasattr(os, "posix_fadvise"):
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
        sha256, sha1 = hashlib.sha256(), hashlib.sha1(b"blob %d\0" % before.st_size) if git else None
        size = 0
        while True:
            count = stream.readinto(buffer)
            if not count:
                break
            size += count
            sha256.update(buffer[:count])
            if sha1:
                sha1.update(buffer[:count])
        after = os.stat(path)
    if size != before.st_size or any(getattr(before, key) != getattr(after, key) for key in ("st_ino", "st_size", "st_mtime_ns")):
        raise ValueError("changed while it was read: wanted a file that nobody writes to")
    entry = {"size": size, "mtime_ns": before.st_mtime_ns, "sha256": sha256.hexdigest()}
    return dict(entry, git_oid=sha1.hexdigest()) if sha1 else entry


class Hashing:
    """Hash files in parallel threads, for a limited time.

    C(files): C([(path, size, git)]). C(rate): bytes per second and thread of an earlier call, or None. A file that was begun is
    finished, or nothing would ever be gained of files that take longer than the time given; so a thread begins one file in any
    case, and then only files that by the rate so far end in time.
    """

    def __init__(self, root, files, threads, budget_s=None, rate=None):
        self.root = root
        self.rate = rate
        self.entries = {}
        self.errors = {}
        self.hashed_bytes = 0
        # Large files first: none of them is left for one thread at the end.
        self._left = collections.deque(sorted(files, key=lambda item: (-item[1], item[0])))
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._busy = 0.0
        self._began = time.monotonic()
        self._deadline = None if budget_s is None else self._began + budget_s
        self._running = max(1, min(threads, len(self._left)))
        self._crash = None

    def run(self, progress):
        """Hash; C(progress) is called every few seconds from this thread with the entries so far."""
        if not self._left:
            return
        for dummy in range(self._running):
            # A daemon: a module that is stopped does not wait for a file of gigabytes.
            threading.Thread(target=self._work, daemon=True).start()
        while not self._ended.wait(SAVE_EVERY_S):
            with self._lock:
                entries = dict(self.entries)
            progress(entries)
        if self._crash is not None:
            raise self._crash

    def _take(self, first):
        """Return the next file for a thread, or None."""
        with self._lock:
            if self._deadline is None or first:
                return self._left.popleft() if self._left else None
            room = self._deadline - time.monotonic()
            if room <= 0 or not self.rate:
                return None
            for number, item in enumerate(self._left):
                if item[1] <= room * self.rate:
                    del self._left[number]
                    return item
            return None

    def _work(self):
        """Hash one file after the other."""
        first = True
        try:
            item = self._take(first)
            while item is not None:
                self._hash(*item)
                first = False
                item = self._take(first)
        except Exception as error:  # pylint: disable=broad-except
            # Whatever it is, it belongs into the thread that called, not on stderr.
            self._crash = error
        finally:
            with self._lock:
                self._running -= 1
                if self._running == 0:
                    self._ended.set()

    def _hash(self, path, size, git):
        """Hash one file and keep the result."""
        began = time.monotonic()
        entry, problem = None, None
        try:
            entry = dict(hash_file(os.path.join(self.root, path), git), path=path)
        except FileNotFoundError:
            problem = "is missing: it was there a moment ago, wanted a file of %d bytes" % size
        except OSError as error:
            problem = "cannot be read: %s" % why(error)
        except ValueError as error:
            problem = str(error)
        with self._lock:
            self._busy += time.monotonic() - began
            if problem:
                self.errors[path] = problem
                return
            self.entries[path] = entry
            self.hashed_bytes += entry["size"]
            if self._busy > 0 and self.hashed_bytes:
                self.rate = self.hashed_bytes / self._busy


def default_threads():
    """Return how many threads hash: the processors this process may use, up to MAX_THREADS."""
    return min(MAX_THREADS, len(os.sched_getaffinity(0)))


# the verification

def wrong_content(expected, entry):
    """Return how a hash differs from the wanted one, or None."""
    if expected["sha256"]:
        return None if entry["sha256"] == expected["sha256"] else "has sha256 %s, wanted %s" % (entry["sha256"], expected["sha256"])
    if expected["git_oid"]:
        found = entry.get("git_oid")
        return None if found == expected["git_oid"] else "has git blob id %s, wanted %s" % (found, expected["git_oid"])
    return None


def set_aside(root, path):
    """Move a wrong file below BAD, beside what was moved there before; return its new path below the directory."""
    target, number = BAD + "/" + path, 0
    while os.path.lexists(os.path.join(root, target)):
        number += 1
        target = "%s/%s.%d" % (BAD, path, number)
    os.makedirs(os.path.dirname(os.path.join(root, target)), exist_ok=True)
    os.rename(os.path.join(root, path), os.path.join(root, target))
    return target


class Verification:
    """One verification of a directory; see verify for its parameters and its result."""

    def __init__(self, root, wanted, full, dry):
        self.root, self.wanted, self.full, self.dry = root, wanted, full, dry
        self.manifest = read_verified(root, MARKER)
        self.partial = read_partial(root)
        if full and not (self.partial["full"] and 0 <= time.time() - self.partial["started_at"] < FULL_GOES_ON_S):
            self.partial.update(hashes={}, full=True, started_at=time.time())
        self.found, problems = scan(root)
        self.problems = dict(problems)
        # Path -> entry of every file whose content is known as it is now.
        self.known = {}
        self.wrong = []

    def choose(self, expected, hubless):
        """Fill known with what need not be hashed again; return the files to hash as C([(path, size, git)])."""
        recorded = {} if self.full or self.manifest is None else {entry["path"]: entry for entry in self.manifest["files"]}
        names = set(self.found if expected is None else expected)
        if hubless:
            # Nobody lists a whole model here: what is beside the files of the list gets its hash recorded.
            names |= set(self.found)
        left = []
        for path in sorted(names):
            want, seen = (expected or {}).get(path) or {"size": None, "sha256": None, "git_oid": None}, self.found.get(path)
            if seen is None:
                text = what_is_there(self.root, path)
                self._problem(path, text + (", wanted a file of %d bytes" % want["size"] if want["size"] is not None else ", wanted a file"),
                              wrong="is missing" not in text and "cannot be read" not in text)
            elif want["size"] is not None and seen[0] != want["size"]:
                self._problem(path, "has %d bytes, wanted %d" % (seen[0], want["size"]), wrong=True)
            else:
                git = bool(want["git_oid"] and not want["sha256"])
                entry = next((entry for entry in (self.partial["hashes"].get(path), recorded.get(path))
                              if covers(entry, seen) and (not git or entry.get("git_oid"))), None)
                if entry is None:
                    left.append((path, seen[0], git))
                else:
                    self.known[path] = entry
        return left

    def _problem(self, path, text, wrong=False):
        """Keep a difference; C(wrong): the file is there and is not the wanted one."""
        self.problems.setdefault(path, text)
        if wrong:
            self.wrong.append(path)

    def hash(self, left, threads, budget_s):
        """Hash what is left; return the Hashing. Raises WriteError before anything is hashed when progress cannot be kept."""
        work = Hashing(self.root, left, threads or default_threads(), budget_s, self.partial["rate"])
        if left:
            self.save({})
        work.run(lambda entries: self.save(entries, final=False))
        self.known.update(work.entries)
        for path, text in work.errors.items():
            self._problem(path, text)
        self.partial["rate"] = work.rate
        return work

    def save(self, entries, final=True):
        """Write the progress. Raises WriteError, unless more is to come: then the next write will say it."""
        self.partial["hashes"] = dict(self.known, **entries)
        try:
            write_partial(self.root, self.partial)
        except WriteError:
            if final:
                raise

    def compare(self, expected):
        """Compare contents with the wanted ones."""
        for path, entry in sorted(self.known.items()):
            text = wrong_content(expected[path], entry) if expected and path in expected else None
            if text:
                self._problem(path, text, wrong=True)

    def check_model(self, expected, hubless):
        """Look inside the model; problems of files that are named already are not repeated."""
        listed = None if expected is None or hubless else set(expected)
        for path, text in model_files.check(self.root, self.wanted.get("requirements"), listed):
            if path not in self.problems:
                self._problem(path, text)

    def is_false(self):
        """Return whether the manifest claims a content that a file with the same size and time does not have: reading would not see it."""
        return self.manifest is not None and any(
            covers(self.known.get(entry["path"]), (entry["size"], entry["mtime_ns"])) and self.known[entry["path"]]["sha256"] != entry["sha256"]
            for entry in self.manifest["files"])

    def retract(self):
        """Take the manifest back: it stays as what is wanted, but no longer says that it is so. A rename needs no room."""
        try:
            os.replace(os.path.join(self.root, MARKER), os.path.join(self.root, RECORDED))
        except OSError as error:
            raise WriteError("%s in %s: %s" % (MARKER, self.root, why(error))) from error
        sync_folder(self.root)

    def lines(self):
        """Return the differences as lines, one for each file."""
        return ["%s %s" % (path, text) for path, text in sorted(self.problems.items())]


def verify(root, wanted, ask=None, full=False, budget_s=None, discard=False, threads=0, expected_file=None, dry=False):
    """Verify every file of a weights directory, and write the manifest when all is well.

    C(ask): function () -> C([{path, size, sha256, git_oid}]) of the hub, raising HubError. C(full): hash everything, whatever the
    manifest and its times say. C(budget_s): seconds after which no more file is begun. C(discard): move wrong files that the list
    names below BAD. C(threads): 0 chooses. C(expected_file): a manifest or hash list that says what is wanted. C(dry): hash and
    write nothing.

    Returns C({done, changed, hashed_bytes, left_bytes, seconds, differences, discarded, extra, expected_from}). C(done): nothing is
    left to hash (of what can be hashed), so the differences are all. With done and without differences the manifest is there
    (unless dry, where C(left_bytes) says what would be hashed). Raises HubError, WriteError.
    """
    began = time.monotonic()
    before = state(root, wanted)
    hubless = wanted["kind"] not in HUB_KINDS
    result = {"done": True, "changed": False, "hashed_bytes": 0, "left_bytes": 0, "seconds": 0.0, "differences": before["differences"],
              "discarded": [], "extra": before["extra"], "expected_from": MARKER}
    if not before["exists"] or (before["verified"] and not full and not expected_file and not (hubless and before["extra"])):
        return result
    try:
        check = Verification(root, wanted, full, dry)
    except OSError:
        return result
    expected, result["expected_from"] = expected_files(root, wanted, ask, full, before["verified"], expected_file, check.partial)
    # Of a list for a directory without a hub nothing is known to be too much.
    left = check.choose(expected, hubless and not expected_file)
    if dry:
        result["left_bytes"] = sum(item[1] for item in left)
    else:
        work = check.hash(left, threads, budget_s)
        undone = [item for item in left if item[0] not in work.entries and item[0] not in work.errors]
        result.update(hashed_bytes=work.hashed_bytes, left_bytes=sum(item[1] for item in undone), done=not undone)
    check.compare(expected)
    if result["done"] and not (dry and left) and wanted["kind"] != ARCHIVE:
        check.check_model(expected, hubless and not expected_file)
    result["extra"] = [] if expected is None else sorted(set(check.found).difference(expected, check.known))
    result["differences"] = check.lines()
    if discard and (not hubless or expected_file or wanted["kind"] in COPIED_KINDS):
        result["discarded"] = sorted(set(check.wrong).intersection(expected or ()))
    _settle(check, result, before)
    result["seconds"] = round(time.monotonic() - began, 3)
    return result


def _settle(check, result, before):
    """Write what a verification found out: the manifest when all is well, else the progress; move what is to be moved."""
    root, wrong = check.root, set(check.wrong)
    whole = result["done"] and not result["differences"]
    if check.dry:
        result["changed"] = bool(result["discarded"]) or check.is_false() or (whole and (result["left_bytes"] > 0 or not before["verified"]))
        return
    if whole:
        content = manifest_of(check.wanted, check.known, check.manifest)
        old = dict(check.manifest or {}, verified_at=None)
        write_manifest(root, content)
        remove(root, PARTIAL, RECORDED)
        result["changed"] = old != dict(content, verified_at=None)
        return
    if check.is_false():
        # First of all: from here on nobody may take the directory for verified.
        check.retract()
        result["changed"] = True
    if result["differences"]:
        # The hub may have had an answer of an hour ago.
        check.partial["listed"] = None
    if result["done"]:
        # The next pass hashes wrong files again: they may have been put right with their old times.
        check.known = {path: entry for path, entry in check.known.items() if path not in wrong}
        check.partial["full"] = False
    problems = []
    for path in result["discarded"]:
        try:
            set_aside(root, path)
            result["changed"] = True
        except OSError as error:
            problems.append("%s cannot be moved below %s: %s" % (path, BAD, why(error)))
    result["discarded"] = [path for path in result["discarded"] if not any(line.startswith(path + " ") for line in problems)]
    result["differences"] += problems
    check.save({})
