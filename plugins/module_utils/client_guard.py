# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs one client inside a container: gives it its secrets, keeps its log, ends it at its limit, and writes down how far it is.

This file is a program of its own: its text is what C(python3 -c) runs in the client's or the serving container, so it imports the standard
library only (Python 3.8) and nothing of Ansible. It goes on when the controller is gone. What it writes below the folder of the results:

- C(.client/state.json): C({run_id, settings, pid, started, beat, up, limit_s, seconds, rc, timed_out, error, tail, collected}); times in seconds
  since 1970-01-01 UTC, C(rc) null while the client runs, C(tail) its last lines. C(beat) is renewed every second; C(up) is the same moment by the
  monotonic clock, which the node and its containers share and nobody sets.
- C(.client/log): all that the client printed, both streams, up to LONGEST_LOG bytes.
"""

from __future__ import annotations

import collections
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

FOLDER = ".client"
STATE = os.path.join(FOLDER, "state.json")
LOG = os.path.join(FOLDER, "log")
#: In the environment of the client and of all that it starts: nothing else has it, so this is how its processes are found again.
MARK = "ASCEND_VLLM_CLIENT"
PROXIES = ("http_proxy", "https_proxy", "no_proxy", "all_proxy", "ftp_proxy")
#: Lines and characters of a line that are kept in the state.
TAIL_LINES = 200
TAIL_WIDTH = 2000
LONGEST_LOG = 200 << 20
#: Seconds between two writes of the state, and between SIGTERM and SIGKILL.
BEAT_S = 1.0
GRACE_S = 10.0
_ENDS = re.compile(br"[\r\n]+")


def write_state(folder, state):
    """Write the state so that a reader has it whole or not at all."""
    path = os.path.join(folder, STATE)
    with open(path + ".new", "w", encoding="utf-8") as stream:
        json.dump(state, stream)
    os.replace(path + ".new", path)


def decoded(data):
    """Return the state in the bytes of its file, or None."""
    try:
        state = json.loads(data.decode("utf-8", "replace"))
    except ValueError:
        return None
    return state if isinstance(state, dict) else None


def read_state(folder):
    """Return the state below a folder, or None. A link in its place is not followed: the client may have put it there."""
    try:
        handle = os.open(os.path.join(folder, STATE), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    with os.fdopen(handle, "rb") as stream:
        try:
            return decoded(stream.read(8 << 20))
        except OSError:
            return None


def prepare(folder, min_free_mb=0, owner=None):
    """Make an empty folder for the results of a run; returns None, or C([found, wanted, remedy]).

    What an earlier client left there is removed; a folder with anything else in it is refused. C(owner): C([uid, gid]) that may write to it.
    """
    there = os.path.lexists(folder)
    if there and (os.path.islink(folder) or not os.path.isdir(folder)):
        return [folder + " is a link or a file", "a folder", "remove it, or choose another folder"]
    own = os.path.join(folder, FOLDER)
    if there and os.listdir(folder) and (os.path.islink(own) or not os.path.isdir(own)):
        return [folder + " holds files that no client of this collection wrote", "an empty folder, or none", "choose another folder"]
    try:
        os.makedirs(folder, mode=0o755, exist_ok=True)
        for entry in os.scandir(folder):
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path)
            else:
                os.remove(entry.path)
        os.mkdir(own, 0o700)
        if owner:
            for path in (own, folder):
                os.chown(path, owner[0], owner[1])
        os.chmod(folder, 0o700)
        free = shutil.disk_usage(folder).free >> 20
    except OSError as error:
        return ["%s: %s" % (folder, error.strerror or error), "a folder that can be written to", "make room, or give rights to it"]
    if free < min_free_mb:
        return ["%d MB free at %s" % (free, folder), "%d MB for the client's results" % min_free_mb, "make room there"]
    return None


def marked(run_id, proc="/proc"):
    """Return the ids of all processes that belong to a run, this one left out."""
    wanted, found = ("%s=%s" % (MARK, run_id)).encode("utf-8"), []
    for name in os.listdir(proc):
        if name.isdigit() and int(name) != os.getpid():
            try:
                with open(os.path.join(proc, name, "environ"), "rb") as stream:
                    if wanted in stream.read().split(b"\0"):
                        found.append(int(name))
            except OSError:
                continue
    return found


def end(run_id, grace_s=GRACE_S):
    """End all processes of a run, and only those; returns how many there were."""
    first = marked(run_id)
    deadline = time.monotonic() + grace_s
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in marked(run_id):
            try:
                os.kill(pid, number)
            except OSError:
                continue
        while number == signal.SIGTERM and marked(run_id) and time.monotonic() < deadline:
            time.sleep(0.2)
    return len(first)


class Tail:
    """The last lines of a stream; progress bars, which end with a carriage return, count as lines."""

    def __init__(self):
        self._lines, self._rest, self._lock = collections.deque(maxlen=TAIL_LINES), b"", threading.Lock()

    def feed(self, data):
        """Take some bytes."""
        with self._lock:
            parts = _ENDS.split(self._rest + data)
            self._rest = parts.pop()[-65536:]
            self._lines.extend(part for part in parts if part.strip())

    def lines(self):
        """Return the lines, that which has no end yet included."""
        with self._lock:
            kept = list(self._lines) + ([self._rest] if self._rest.strip() else [])
        return [line.decode("utf-8", "replace")[:TAIL_WIDTH] for line in kept[-TAIL_LINES:]]


def pump(source, path, tail):
    """Write what the client prints to its log until it ends. A log that cannot be written does not stop the client."""
    written, log = 0, None
    try:
        log = open(path, "wb", buffering=0)
    except OSError:
        tail.feed(b"the log cannot be written\n")
    while True:
        data = os.read(source.fileno(), 65536)
        if not data:
            break
        tail.feed(data)
        if log is not None and written < LONGEST_LOG:
            try:
                written += log.write(data) or 0
            except OSError as error:
                tail.feed(("the log cannot be written any more: %s\n" % error).encode("utf-8"))
                log.close()
                log = None
    if log is not None:
        log.close()


def environment(run_id, secrets):
    """Return the client's environment; C(secrets): name -> file whose text is the value. Raises C(OSError)."""
    env = dict(os.environ, **{MARK: run_id})
    for name in PROXIES:
        env.pop(name, None)
        env.pop(name.upper(), None)
    env.setdefault("PYTHONUNBUFFERED", "1")
    for name, path in secrets.items():
        with open(path, encoding="utf-8") as stream:
            env[name] = stream.read().strip()
    return env


class Guard:
    """One run. C(given): C({run_id, settings, argv, results_dir, limit_s, secrets, lock})."""

    def __init__(self, given, beat_s=BEAT_S, grace_s=GRACE_S):
        self.given, self._beat_s, self._grace_s = given, beat_s, grace_s
        self._told, self._stop, self._tail, self._begun = 0.0, False, Tail(), time.monotonic()
        self._state = {"run_id": given["run_id"], "settings": given["settings"], "pid": None, "started": time.time(), "beat": time.time(),
                       "up": time.monotonic(), "limit_s": given["limit_s"], "seconds": 0.0, "rc": None, "timed_out": False, "error": None, "tail": [],
                       "collected": False}

    def _tell(self, **values):
        self._state.update(values, beat=time.time(), up=time.monotonic(), seconds=round(time.monotonic() - self._begun, 1), tail=self._tail.lines())
        try:
            write_state(self.given["results_dir"], self._state)
        except OSError as error:
            # The next write may succeed; if the last one does not, the exit status still says how it ended.
            self._tail.feed(("the state cannot be written: %s\n" % error).encode("utf-8"))
        self._told = time.monotonic()

    def _stopped(self, *dummy):
        self._stop = True

    def _end(self, process):
        """End the client: its group first, then whatever of it left the group."""
        for number, wait_s in ((signal.SIGTERM, self._grace_s), (signal.SIGKILL, 5.0)):
            try:
                os.killpg(process.pid, number)
            except OSError:
                pass
            try:
                process.wait(wait_s)
                break
            except subprocess.TimeoutExpired:
                continue
        end(self.given["run_id"], 1.0)

    def run(self):
        """Run the client to its end and return its exit status; 127 when it cannot be started, 124 when it was ended at its limit."""
        given = self.given
        try:
            env = environment(given["run_id"], given.get("secrets") or {})
            # No AnsibleModule here to run a command by.
            process = subprocess.Popen(  # pylint: disable=ansible-bad-function
                given["argv"], cwd=given["results_dir"], env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                start_new_session=True)
        except (OSError, ValueError) as error:
            self._tell(rc=127, error="the client cannot be started: %s" % error)
            return 127
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stopped)
        reader = threading.Thread(target=pump, args=(process.stdout, os.path.join(given["results_dir"], LOG), self._tail), daemon=True)
        reader.start()
        self._tell(pid=process.pid)
        timed_out = False
        while process.poll() is None and not self._stop and not timed_out:
            time.sleep(min(0.2, self._beat_s))
            timed_out = time.monotonic() - self._begun > given["limit_s"]
            if time.monotonic() - self._told >= self._beat_s:
                self._tell()
        timed_out = timed_out and process.poll() is None
        error = "it was ended from outside" if self._stop else None
        # What it left behind would hold its output open, and the ports and files of the next run.
        self._end(process)
        reader.join(5.0)
        status = process.returncode if process.returncode is not None else -9
        status = 124 if timed_out else status if status >= 0 else 128 - status
        self._tell(rc=status, timed_out=timed_out, error="it was ended after %g s, its limit" % given["limit_s"] if timed_out else error)
        return status


def locked(path, about):
    """Return an open file that this process holds while it lives and that says who it is, or None when another client has it."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    stream = os.fdopen(handle, "r+", encoding="utf-8")
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        stream.close()
        return None
    stream.truncate(0)
    json.dump(about, stream)
    stream.flush()
    return stream


def prepare_alone(given):
    """Return what prepare() returns; nothing is removed while another client has the lock, whose results these may be."""
    held = locked(given["lock"], {"run_id": given["run_id"], "results_dir": given["results_dir"]})
    if held is None:
        return ["another client that runs here", "none", "run again when it has ended: %s says which one it is" % given["lock"]]
    try:
        return prepare(given["results_dir"], given["min_free_mb"])
    finally:
        held.close()


def main(arguments):
    """C(prepare|run|end|collected) and what it needs as JSON. prepare prints its answer; the others say it by their exit status."""
    what, given = arguments[0], json.loads(arguments[1])
    if what == "prepare":
        sys.stdout.write(json.dumps(prepare_alone(given)) + "\n")
        return 0
    if what == "end":
        end(given["run_id"])
        return 0
    if what == "collected":
        state = read_state(given["results_dir"])
        if state and state.get("run_id") == given["run_id"]:
            write_state(given["results_dir"], dict(state, collected=True))
        return 0
    held = None
    if given.get("lock"):
        held = locked(given["lock"], {"run_id": given["run_id"], "results_dir": given["results_dir"]})
        if held is None:
            return 75
    try:
        return Guard(given).run()
    finally:
        if held is not None:
            held.close()


if __name__ == "__main__":
    # A program of its own, which no module ends.
    sys.exit(main(sys.argv[1:]))  # pylint: disable=ansible-bad-function
