# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Progress on the terminal: every line carries the seconds since the command began, and long steps say that they live."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

_START = time.monotonic()
_HEARTBEAT_S = 10.0


class LabError(Exception):
    """Something the person at the terminal has to know, in one line."""


def say(text: str) -> None:
    """Prints one progress line."""
    sys.stdout.write(f"[{time.monotonic() - _START:6.1f}s] {text}\n")
    sys.stdout.flush()


@contextmanager
def step(label: str):
    """Says what begins, every ten seconds that it still runs, and how long it took."""
    began = time.monotonic()
    done = threading.Event()

    def beat():
        while not done.wait(_HEARTBEAT_S):
            say(f"{label}: still at it after {time.monotonic() - began:.0f} s")

    say(f"{label} ...")
    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
    say(f"{label}: done in {time.monotonic() - began:.1f} s")


def run_logged(command: list[str], log: Path, env: dict[str, str] | None = None) -> None:
    """Runs a long command with its output in a file; an error shows the end of that file and names it.

    A command may print warnings by the hundred, and a reader wants one line of progress: so the output goes to a file.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as out:
        out.write(f"+ {' '.join(command)}\n".encode())
        out.flush()
        code = subprocess.run(
            command, stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env={**os.environ, **(env or {})}, check=False
        ).returncode
    if code:
        tail = log.read_text(errors="replace").splitlines()[-15:]
        sys.stderr.write("\n".join(tail) + "\n")
        raise LabError(f"`{command[0]}` ended with exit status {code}; its whole output is in {log}")
