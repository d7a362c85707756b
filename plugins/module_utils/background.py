# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Work that goes on in a process of its own and writes down how far it is, so that whoever wants to know reads its file.

A module cannot say anything before it ends, and what it began ends with it. What takes long is begun once and looked at in short slices.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import time

#: Where the files and locks of jobs lie: gone when the node restarts, and the jobs with them.
FOLDER = "/run/ascend-vllm"
#: Seconds between two looks at a job, and between two writes of its file.
WRITE_S = 0.5


def follow(own, state, events, fold, missing, clock=time.monotonic):
    """Change a job's state by what an engine says until it has said all, and tell the job C(own) now and then.

    C(events()): begins it and yields what is said; C(fold(state, event)): takes it in; C(missing()): why there is no image in the end, or None. Where the
    engine is ended or restarted between two words its connection ends as it does after the last one. What goes wrong is C(state["error"]): nobody sees a
    traceback of this process.
    """
    told = clock()
    try:
        for event in events():
            fold(state, event)
            if clock() - told >= WRITE_S:
                own.tell(state)
                told = clock()
        state["error"] = state["error"] or missing()
        state["done"] = state["error"] is None
    except OSError as error:
        state["error"] = str(error)
    except Exception as error:  # pylint: disable=broad-except
        state["error"] = "it ended with %s: %s" % (type(error).__name__, error)


class Job:
    """One job. C(name): part of a file name, the same for whoever wants to join it. There is one process of a job at a time."""

    def __init__(self, name, folder=None):
        self.folder = folder or FOLDER
        self._name = name

    def _place(self, ending):
        return os.path.join(self.folder, "%s.%s" % (self._name, ending))

    def _lock(self, tries=1):
        """Return the open lock file that this process holds now, or None when the job has it."""
        stream = open(self._place("lock"), "a+", encoding="utf-8")
        for number in range(tries):
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return stream
            except OSError:
                # A reader holds it for a moment only.
                time.sleep(0.1 if number + 1 < tries else 0)
        stream.close()
        return None

    def tell(self, state):
        """Write a state (a dict) so that a reader has it whole or not at all."""
        with open(self._place("json.new"), "w", encoding="utf-8") as stream:
            json.dump(state, stream)
        os.replace(self._place("json.new"), self._place("json"))

    def start(self, fork, work, state):
        """Begin the job, unless it goes on already; returns whether it was begun.

        C(fork) returns 0 in a process that the caller's end does not end; there C(work()) runs, which calls tell(). C(state): what a reader
        finds until then.
        """
        os.makedirs(self.folder, mode=0o755, exist_ok=True)
        lock = self._lock(tries=5)
        if lock is None:
            return False
        self.tell(state)
        # Who stops it before it has said its own does not hit what has the number of the one before.
        lock.truncate(0)
        if fork() != 0:
            # The other process holds the lock by the same open file.
            lock.close()
            return True
        try:
            # Its own group: what it starts is ended with it.
            os.setpgid(0, 0)
            lock.write(str(os.getpid()))
            lock.flush()
            work()
        finally:
            # Whatever the caller would do at its end is not this process's to do.
            os._exit(0)
        return True

    def look(self):
        """Return (the state or None, whether the job goes on)."""
        # Asked in this order, a job that ends meanwhile is still seen as going on, and as ended the next time.
        lock = self._lock() if os.path.isdir(self.folder) else None
        running = lock is None and os.path.isdir(self.folder)
        if lock is not None:
            lock.close()
        try:
            with open(self._place("json"), encoding="utf-8") as stream:
                return json.load(stream), running
        except (OSError, ValueError):
            return None, running

    def ask(self):
        """Let the job know that somebody still wants it."""
        if os.path.exists(self._place("lock")):
            os.utime(self._place("lock"))

    def asked(self):
        """Return a mark that changes whenever somebody asks: a job that nobody wants any more may end itself."""
        return os.stat(self._place("lock")).st_mtime_ns

    def watch(self, seconds, clock=time.monotonic, pause=time.sleep):
        """Return what look() says after so many seconds, or as soon as the job has ended; the job knows that somebody wants it."""
        deadline = clock() + seconds
        while True:
            self.ask()
            found = self.look()
            if not found[1] or clock() >= deadline:
                return found
            pause(min(WRITE_S, max(0.0, deadline - clock())))

    def stop(self):
        """End the job that goes on, if there is one, and what it started."""
        lock = self._lock() if os.path.isdir(self.folder) else None
        if lock is not None:
            lock.close()
            return
        try:
            with open(self._place("lock"), encoding="utf-8") as stream:
                word = stream.read().strip()
        except OSError:
            return
        if word.isdigit():
            # It may just have ended.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(int(word), signal.SIGTERM)
