# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One archive of what a node has to say about its units: logs, NPUs, their network, the system. Reads only, and writes in one folder.

Whatever cannot be had is an entry of MANIFEST.json with its reason and keeps nothing else from being taken. Of what is too large
the newest is kept. Every byte goes through C(redact) before it is written anywhere.
"""

from __future__ import annotations

import collections
import errno
import io
import json
import os
import shutil
import stat
import sys
import tarfile
import time

from . import driver_files, hccn, npu_smi, redact, tools
from .docker_engine import DockerEngine

MANIFEST = "MANIFEST.json"
SCHEMA = 1
#: Of what is left for logs, the part that the containers' logs may take before CANN's own are taken; what they do not use goes to those.
CONTAINERS_PART = 0.6
#: Names that MANIFEST.json lists at most of one kind; of more it says how many.
LISTED = 500
#: Bytes of a folder's free space that stay free, and of the archive's own overhead.
KEPT_FREE = 64 << 20
#: With room for less than this nothing is begun.
LEAST = 1 << 20
_PIECE = 1 << 16

#: What each NPU's network port is asked, one call at a time.
HCCN_QUESTIONS = (("-ip", "-g"), ("-link", "-g"), ("-net_health", "-g"), ("-tls", "-g"), ("-link_stat", "-g"), ("-lldp", "-g"))
#: file: commands of which the first that gives an answer is taken. C({lines}) is how many lines are wanted.
SYSTEM = (
    ("system/kernel.txt", (("journalctl", "-k", "-n", "{lines}", "--no-pager", "-o", "short-iso"), ("dmesg", "-T"), ("dmesg",))),
    # A file system whose server is gone hangs df; the local ones are known all the same.
    ("system/df.txt", (("df", "-hT"), ("df", "-hTl"))),
    ("system/free.txt", (("free", "-m"),)),
    ("system/ip_addr.txt", (("ip", "addr"),)),
    ("system/ss.txt", (("ss", "-ltn"),)),
    ("system/units.txt", (("systemctl", "status", "--no-pager", "--full", "--lines", "200", "ascend-vllm-*.service"),)),
)
KERNEL_LINES = 5000
SYSTEM_DIRS = ("/usr/sbin", "/sbin", "/bin")
#: Bytes of one tool's answer.
TOOL_BYTES = 16 << 20


class Tail:
    """The newest C(limit) bytes of lines that are written one after the other, on disk in pieces, the oldest of which is dropped."""

    def __init__(self, folder, limit):
        self.limit = max(0, limit)
        self.written = 0
        self._folder = folder
        self._pieces = collections.deque()
        self._stream = None

    def write(self, line):
        """Take one line."""
        data = (line + "\n").encode("utf-8", "replace")
        self.written += len(data)
        if self._stream is None or self._pieces[-1][1] + len(data) > max(self.limit // 4, _PIECE):
            self._next()
        self._stream.write(data)
        self._pieces[-1][1] += len(data)

    def _next(self):
        if self._stream:
            self._stream.close()
        path = os.path.join(self._folder, "piece-%d-%d" % (id(self), self.written))
        self._stream = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
        self._pieces.append([path, 0])
        while len(self._pieces) > 1 and sum(size for dummy, size in self._pieces) - self._pieces[0][1] >= self.limit:
            os.unlink(self._pieces.popleft()[0])

    def close(self):
        """Return C((size, stream)): how many bytes are kept, whole lines only, and where they are read from."""
        if self._stream:
            self._stream.close()
        path = os.path.join(self._folder, "kept-%d" % id(self))
        left = sum(size for dummy, size in self._pieces) - self.limit
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as kept:
            for piece, dummy in self._pieces:
                with open(piece, "rb") as stream:
                    for line in stream:
                        # The rest of a line whose beginning is cut off may be half a secret's name: no half lines.
                        if left > 0:
                            left -= len(line)
                        else:
                            kept.write(line)
                os.unlink(piece)
        self._pieces.clear()
        stream = open(path, "rb")
        os.unlink(path)
        return os.fstat(stream.fileno()).st_size, stream

    def discard(self):
        """Forget everything."""
        self.close()[1].close()


class Bundle:
    """The archive while it is written: what is in it, what was cut, what is not there.

    max_bytes: of all files together, before compression. max_source_bytes: of one file. deadline: time (monotonic) after which
    nothing more is asked.
    """

    def __init__(self, folder, redactor, max_bytes, max_source_bytes, deadline, clock=time.monotonic):
        self.folder = folder
        self.redactor = redactor
        self.max_bytes = max_bytes
        self.max_source_bytes = max_source_bytes
        self.left = max_bytes
        self.entries = []
        self._names = {MANIFEST}
        self.path = os.path.join(folder, "bundle.tar.gz")
        self._deadline = deadline
        self._clock = clock
        self._stream = os.fdopen(os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
        self._tar = tarfile.open(mode="w:gz", fileobj=self._stream, compresslevel=6, format=tarfile.GNU_FORMAT)

    def time_left(self):
        """Return the seconds that are left."""
        return max(0.0, self._deadline - self._clock())

    def limit(self, share=None):
        """Return how many bytes the next file may have."""
        return max(0, min(self.max_source_bytes, self.left, self.left if share is None else share))

    def missing(self, name, source, why):
        """Say that something is not there."""
        self.entries.append({"file": self.redactor.line(name), "source": self.redactor.line(source), "bytes": 0, "cut": None,
                             "error": tools.clip(self.redactor.line(why))})

    def add_text(self, name, source, text, error=None, cut=None):
        """Add a text; of one that is too long the end is kept."""
        limit = self.limit()
        tail = Tail(self.folder, limit)
        for line in self.redactor.text(text, cut_before=bool(cut)).splitlines():
            tail.write(line)
        return self.add_tail(name, source, tail, error=error, cut=cut)

    def add_json(self, name, source, value):
        """Add decoded JSON, whose secrets are removed by their names so that it stays JSON."""
        tail = Tail(self.folder, self.limit())
        for line in json.dumps(self.redactor.value(value), indent=2, sort_keys=True).splitlines():
            tail.write(line)
        return self.add_tail(name, source, tail)

    def add_tail(self, name, source, tail, error=None, cut=None, mtime=None):
        """Add what a C(Tail) kept; return how many bytes that is."""
        size, stream = tail.close()
        with stream:
            if tail.written > size:
                cut = "the newest %d of %d bytes%s" % (size, tail.written, "; %s" % cut if cut else "")
            info = tarfile.TarInfo(self._name(name))
            info.size, info.mode, info.mtime = size, 0o600, int(time.time() if mtime is None else mtime)
            self._tar.addfile(info, stream)
        self.left -= size
        self.entries.append({"file": info.name, "source": self.redactor.line(source), "bytes": size, "cut": cut,
                             "error": tools.clip(self.redactor.line(error)) if error else None})
        return size

    def _name(self, name):
        """Return a name that no other file of the archive has and that leads nowhere else."""
        parts = [part for part in self.redactor.line(name).replace("\\", "_").split("/") if part not in ("", ".", "..")]
        wanted = "/".join("".join(char if char.isprintable() else "_" for char in part) for part in parts) or "unnamed"
        wanted = wanted.encode("utf-8", "replace").decode("utf-8")[:200]
        number, found = 1, wanted
        while found in self._names:
            number += 1
            found = "%s.%d" % (wanted, number)
        self._names.add(found)
        return found

    def finish(self, about):
        """Write MANIFEST.json and close the archive; return the manifest. C(about): what it says besides."""
        manifest = dict(about, schema=SCHEMA, limits={"bytes": self.max_bytes, "source_bytes": self.max_source_bytes},
                        secrets_removed=self.redactor.count, secrets_too_short=self.redactor.short, entries=self.entries)
        data = (json.dumps(manifest, indent=2, sort_keys=True) + "\n").encode("utf-8")
        info = tarfile.TarInfo(MANIFEST)
        info.size, info.mode, info.mtime = len(data), 0o600, int(time.time())
        self._tar.addfile(info, io.BytesIO(data))
        self.close()
        return manifest

    def close(self):
        """Close the archive."""
        self._tar.close()
        self._stream.close()


# secrets that are on the node

def secret_files(folder):
    """Return the contents of the files below a folder (two levels) whose names say that they hold a secret; links are not followed."""
    found = []
    for root, folders, names in os.walk(folder):
        if root[len(folder):].count("/") >= 2:
            del folders[:]
        for name in sorted(names):
            if any(word in name.lower() for word in ("key", "token", "secret", "passw", "auth")):
                data = read_own(os.path.join(root, name), 1 << 16)
                if data:
                    found.append(data.decode("utf-8", "replace"))
    return found


def open_own(path):
    """Return a descriptor of a regular file that is no link. Raises C(OSError)."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError("not a file")
    return descriptor


def read_own(path, limit):
    """Return the first C(limit) bytes of a regular file that is no link, or None."""
    try:
        with os.fdopen(open_own(path), "rb") as stream:
            return stream.read(limit)
    except OSError:
        return None


# tools and files

def shown(run):
    """Return what a call of a tool gave, as a person would see it in a terminal."""
    said = run.failure() or ("" if run.rc == 0 else "exit status %s" % run.rc)
    return "$ %s\n%s%s\n" % (run.command, run.text + "\n" if run.text else "", "[%s]\n" % said if said else "")


def take_npu_smi(bundle, npu_smi_path, timeout):
    """Take what npu-smi says: the table, the mapping, and the health of every chip that is not well."""
    home = os.path.join(driver_files.install_home(driver_files.read_install_info()), "driver")
    found = tools.find_tool("npu-smi", npu_smi_path, home)
    if not found["path"]:
        bundle.missing("npu/npu-smi.txt", "npu-smi info", tools.not_found_message("npu-smi", found, "npu_smi_path"))
        return
    ask = tools.PatientRunner(timeout, 0, tools.tool_environment(home))
    run = ask([found["path"], "info"])
    runs = [run, ask([found["path"], "info", "-m"])]
    for npu in npu_smi.parse_info(run.out)["npus"] if run.rc == 0 else []:
        if npu["health"] != "OK" and npu["chip_id"] is not None and bundle.time_left():
            runs.append(ask([found["path"], "info", "-t", "health", "-i", str(npu["npu_id"]), "-c", str(npu["chip_id"])]))
    failed = [entry.failure() for entry in runs if entry.failure()]
    if run.rc:
        failed.append("%s: exit %d: %s" % (run.command, run.rc, tools.clip(run.text)))
    bundle.add_text("npu/npu-smi.txt", "npu-smi info", "\n".join(shown(entry) for entry in runs), error="; ".join(failed) or None)


def take_hccn(bundle, hccn_tool_path, devices, timeout, busy_retry_s):
    """Take what hccn_tool says of every NPU, one call at a time, in one file an NPU."""
    home = os.path.join(driver_files.install_home(driver_files.read_install_info()), "driver")
    wanted = driver_files.device_ids() if devices is None else devices
    if not wanted:
        bundle.missing("npu/hccn.txt", "hccn_tool", "no NPU on this node: there is no /dev/davinci<N>")
        return
    found = tools.find_tool("hccn_tool", hccn_tool_path, home)
    if not found["path"]:
        bundle.missing("npu/hccn.txt", "hccn_tool", tools.not_found_message("hccn_tool", found, "hccn_tool_path"))
        return
    ask = tools.PatientRunner(
        timeout, busy_retry_s, tools.tool_environment(home), is_busy=lambda run: hccn.is_busy(run.text, run.rc), kind=lambda argv: argv[3])
    for device in sorted(set(wanted)):
        runs = [ask([found["path"], "-i", str(device)] + list(question)) for question in HCCN_QUESTIONS if bundle.time_left()]
        failed = [run.failure() for run in runs if run.failure()]
        if len(runs) < len(HCCN_QUESTIONS):
            failed.append("the time limit is used up, not all was asked")
        bundle.add_text("npu/hccn-%d.txt" % device, "hccn_tool -i %d" % device, "\n".join(map(shown, runs)), error="; ".join(failed) or None)


def take_system(bundle, timeout, environ=None):
    """Take what the system's own tools say."""
    for name, commands in SYSTEM:
        tried = []
        for command in commands:
            found = tools.find_tool(command[0], environ=environ, extra_dirs=SYSTEM_DIRS)
            if not found["path"] or not bundle.time_left():
                tried.append("%s was not found" % command[0] if not found["path"] else "the time limit is used up")
                continue
            argv = [found["path"]] + [word.format(lines=KERNEL_LINES) for word in command[1:]]
            run = tools.run_tool(argv, min(timeout, bundle.time_left()), max_bytes=TOOL_BYTES)
            # systemctl status says by its exit status how the units are.
            answered = run.out.strip() not in ("", "-- No entries --") and not run.failure() and (run.rc == 0 or command[0] == "systemctl")
            if answered:
                lines = run.out.splitlines()
                text = "\n".join(lines[-KERNEL_LINES:]) + "\n"
                cut = "the last %d lines" % KERNEL_LINES if len(lines) > KERNEL_LINES else ("the first %d bytes" % TOOL_BYTES if run.truncated else None)
                bundle.add_text(name, " ".join(command).format(lines=KERNEL_LINES), text, cut=cut)
                break
            if command[0] == "systemctl" and run.rc is not None and not run.out.strip():
                tried.append("no unit ascend-vllm-*.service on this node" if not run.err.strip() else tools.clip(run.err))
            else:
                tried.append(run.failure() or "%s: exit %s: %s" % (run.command, run.rc, tools.clip(run.text) or "nothing"))
        else:
            bundle.missing(name, " ".join(commands[0]).format(lines=KERNEL_LINES), "; ".join(tried))


def take_files(bundle, paths):
    """Take small text files as they are."""
    for path in paths:
        said = driver_files.read_text(path)
        if said["error"] and not said["text"]:
            bundle.missing("files" + path, path, said["error"])
        else:
            bundle.add_text("files" + path, path, said["text"], error=said["error"])


def take_weights(bundle, folders, timeout):
    """Take names and sizes (bytes) of the files in the folders of weights; the folder may lie on a server that is gone."""
    script = (
        "import os, sys\n"
        "for root, folders, names in os.walk(sys.argv[1]):\n"
        "    folders.sort()\n"
        "    for name in sorted(names):\n"
        "        path = os.path.join(root, name)\n"
        "        print('%15d  %s' % (os.lstat(path).st_size, os.path.relpath(path, sys.argv[1]).encode('ascii', 'backslashreplace').decode()))\n"
        "os.listdir(sys.argv[1])\n"
    )
    for number, folder in enumerate(folders):
        name = "weights%s.txt" % ("" if len(folders) == 1 else "-%d" % number)
        # A process of its own: only such a one can be given up when the server of the files does not answer.
        run = tools.run_tool([sys.executable or "python3", "-c", script, folder], min(timeout, max(1.0, bundle.time_left())))
        error = None
        if run.failure():
            error = "%s: no answer within %g s" % (folder, run.timeout) if run.timed_out else "%s: %s" % (folder, run.error)
        elif run.rc != 0:
            error = "%s: %s" % (folder, (run.err.strip().splitlines() or ["exit %s" % run.rc])[-1])
        if run.out:
            bundle.add_text(name, folder, "%s\n%s" % (folder, run.out), error=error)
        else:
            bundle.missing(name, folder, error or "no file in it")


# containers

def take_engine(bundle, engine, units):
    """Take what the Docker engine knows of itself and of the units; return the names of those that are there."""
    there = []
    for unit in [None] + list(units):
        name, source = ("containers/%s.inspect.json" % unit, "docker inspect %s" % unit) if unit else ("docker/info.json", "docker info")
        try:
            found = engine.container(unit) if unit else engine.info()
        except OSError as error:
            bundle.missing(name, source, str(error))
            continue
        if found is None:
            bundle.missing(name, source, "there is no such container")
            continue
        bundle.add_json(name, source, found)
        if unit:
            there.append(unit)
    return there


def take_container_log(bundle, engine, unit, tail_lines, share):
    """Take the newest of a container's log; return how many bytes."""
    kept = Tail(bundle.folder, bundle.limit(share))
    splitters = collections.defaultdict(redact.Splitter)
    # A key of several lines is known in one stream, not between the lines of two; the engine may begin in the middle of one.
    streams = collections.defaultdict(lambda: redact.Lines(bundle.redactor, cut_before=True))
    error, lines, pieces = None, 0, 0

    def write(number, text, whole):
        for line in redact.clean(streams[number], text, whole):
            kept.write(line)

    try:
        for number, data in engine.stream_logs(unit, tail_lines):
            for text, whole in splitters[number].feed(data):
                lines += 1
                write(number, text, whole)
            pieces += 1
            # Not at each of a million lines.
            if pieces % 512 == 1 and not bundle.time_left():
                error = "the time limit is used up, the newest lines are missing"
                break
    except OSError as problem:
        error = str(problem)
    for number in sorted(splitters):
        for text, whole in splitters[number].end():
            write(number, text, whole)
        for line in streams[number].end():
            kept.write(line)
    cut = "the last %d lines" % tail_lines if lines >= tail_lines else None
    return bundle.add_tail("containers/%s.log" % unit, "docker logs %s" % unit, kept, error=error, cut=cut)


# CANN's own logs

def plog_files(folder):
    """Return C((files, problems)): C([(mtime, size, path below the folder)]), newest first, of the regular files; links are not followed."""
    found, problems = [], []
    for root, folders, names in os.walk(folder, onerror=lambda error: problems.append("%s: %s" % (error.filename, error.strerror or error))):
        folders.sort()
        for name in names:
            path = os.path.join(root, name)
            try:
                status = os.lstat(path)
            except OSError:
                continue
            if stat.S_ISREG(status.st_mode):
                found.append((status.st_mtime, status.st_size, os.path.relpath(path, folder)))
    return sorted(found, key=lambda entry: (-entry[0], entry[2])), problems


def take_file_tail(bundle, name, path, mtime, limit):
    """Take the newest C(limit) bytes of a log file if it is text; return how many bytes. Raises C(OSError), C(UnicodeDecodeError)."""
    kept = Tail(bundle.folder, limit)
    try:
        with os.fdopen(open_own(path), "rb") as stream:
            start = max(0, os.fstat(stream.fileno()).st_size - limit)
            stream.seek(start)
            dropped = start
            while start:
                # The rest of a line, which may begin in the middle of a secret.
                rest = stream.readline(_PIECE)
                dropped += len(rest)
                if not rest or rest.endswith(b"\n"):
                    break
            splitter, lines = redact.Splitter(strict=True), redact.Lines(bundle.redactor, cut_before=start > 0)
            while bundle.time_left():
                data = stream.read(_PIECE)
                for text, whole in splitter.feed(data) if data else splitter.end():
                    for line in redact.clean(lines, text, whole):
                        kept.write(line)
                if not data:
                    break
            for line in lines.end():
                kept.write(line)
            cut = "the first %d bytes are left out" % dropped if start else None
    except (OSError, UnicodeDecodeError):
        kept.discard()
        raise
    return bundle.add_tail(name, path, kept, cut=cut, mtime=mtime)


def take_plogs(bundle, unit, folder, share):
    """Take a unit's CANN logs, the newest first, as long as there is room."""
    files, problems = plog_files(folder)
    for problem in problems[:LISTED]:
        bundle.missing("plog/%s" % unit, folder, problem)
    if not files and not problems:
        bundle.missing("plog/%s" % unit, folder, "no file in it")
    share, left_out, left_out_bytes, binary = min(share, bundle.left), 0, 0, []
    for mtime, size, below in files:
        limit = bundle.limit(share)
        # Less than a page of a log tells nothing.
        if (size > limit and limit < 4096) or not bundle.time_left():
            left_out, left_out_bytes = left_out + 1, left_out_bytes + size
            continue
        name, path = "plog/%s/%s" % (unit, below), os.path.join(folder, below)
        try:
            share -= take_file_tail(bundle, name, path, mtime, limit)
        except UnicodeDecodeError:
            binary.append(below)
        except OSError as error:
            bundle.missing(name, path, error.strerror or str(error))
    for below in binary[:LISTED]:
        bundle.missing("plog/%s/%s" % (unit, below), os.path.join(folder, below), "left out: it is no text, so secrets could not be removed")
    if len(binary) > LISTED:
        bundle.missing("plog/%s" % unit, folder, "left out: %d more files that are no text" % (len(binary) - LISTED))
    if left_out:
        why = "the limit is reached" if bundle.time_left() else "the time limit is used up"
        bundle.entries.append({"file": "plog/%s" % unit, "source": folder, "bytes": 0, "error": None,
                               "cut": "%d older file(s) of %d bytes are left out: %s" % (left_out, left_out_bytes, why)})


# the whole

def room(folder, max_bytes):
    """Return C((max_bytes, why)): less than what was wanted, and why, where the folder has no room for it. Raises C(OSError)."""
    free = shutil.disk_usage(folder).free
    # Pieces, what was kept of them and the archive exist at the same time.
    fits = max(0, (free - KEPT_FREE) // 3)
    if fits >= max_bytes:
        return max_bytes, None
    if fits < LEAST:
        raise OSError(errno.ENOSPC, "only %d bytes are free there" % free)
    return fits, "%s has only %d bytes free" % (folder, free)


def planned(units, log_dir, weights_dirs):
    """Return what would be taken, one line each."""
    lines = ["docker info"]
    for unit in units:
        lines += ["docker inspect %s" % unit, "docker logs %s" % unit, "CANN logs in %s" % os.path.join(log_dir, unit)]
    lines += ["npu-smi info", "hccn_tool, %d questions an NPU" % len(HCCN_QUESTIONS)]
    lines += [" ".join(commands[0]).format(lines=KERNEL_LINES) for dummy, commands in SYSTEM]
    return lines + ["names and sizes in %s" % folder for folder in weights_dirs]


def collect(folder, units, log_dir, etc_dir, weights_dirs, secrets, max_bytes, max_source_bytes, tail_lines, timeout, time_limit, docker_socket,
            npu_smi_path=None, hccn_tool_path=None, devices=None, busy_retry_s=15.0, files=None):
    """Write the archive in C(folder), which is there, and return C((path, manifest)). Raises C(OSError) when the folder cannot be written to.

    files: small text files to take. The order is that of need: when time or room end, what tells least is what is missing.
    """
    redactor = redact.Redactor(list(secrets) + secret_files(etc_dir))
    limit, why = room(folder, max_bytes)
    bundle = Bundle(folder, redactor, limit, max_source_bytes, time.monotonic() + time_limit)
    started = time.time()
    try:
        if why:
            bundle.missing("bundle", folder, "less is taken than was asked for: %s" % why)
        engine = DockerEngine(docker_socket)
        there = take_engine(bundle, engine, units)
        take_system(bundle, timeout)
        # npu-smi waits longer for its driver than hccn_tool does.
        take_npu_smi(bundle, npu_smi_path, 2 * timeout)
        take_hccn(bundle, hccn_tool_path, devices, timeout, busy_retry_s)
        take_files(bundle, default_files() if files is None else files)
        take_weights(bundle, weights_dirs, timeout)
        share = int(bundle.left * CONTAINERS_PART)
        for count, unit in enumerate(there):
            share -= take_container_log(bundle, engine, unit, tail_lines, share // (len(there) - count))
        for count, unit in enumerate(units):
            take_plogs(bundle, unit, os.path.join(log_dir, unit), bundle.left // (len(units) - count))
        utc = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started))
        manifest = bundle.finish({"collected_at": utc, "units": list(units), "seconds": round(time.time() - started, 1)})
    finally:
        bundle.close()
    return bundle.path, manifest


def default_files():
    """Return the files of the driver that say what is installed and how the NPUs' network is set up."""
    home = driver_files.install_home(driver_files.read_install_info())
    return [driver_files.HCCN_CONF, driver_files.INSTALL_INFO, os.path.join(home, "driver", "version.info"), os.path.join(home, "firmware", "version.info")]
