# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs commands again and again, in turn, and tells the median of each: seconds, processor seconds, and the memory of all of its processes."""

from __future__ import annotations

import os
import pathlib
import statistics
import subprocess
import threading
import time


def tree(pid: int) -> list:
    """Return a process and all of its descendants."""
    found, todo = [], [pid]
    while todo:
        one = todo.pop()
        found.append(one)
        for task in pathlib.Path(f"/proc/{one}/task").glob("*/children"):
            try:
                todo += [int(word) for word in task.read_text().split()]
            except OSError:
                continue
    return found


def memory_mb(pid: int) -> float:
    """Return the proportional set size of a process tree in MB: pages that forks share count once."""
    total = 0
    for one in tree(pid):
        try:
            lines = pathlib.Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024


def busy_seconds() -> float:
    """Return the processor seconds that this machine has spent so far, on whatever (proc_stat(5): all but idle and iowait)."""
    words = [int(word) for word in pathlib.Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return (sum(words) - words[3] - words[4]) / os.sysconf("SC_CLK_TCK")


class Sample:
    """One run of one command: ``seconds``, ``busy_seconds`` of the whole machine meanwhile, ``rc``, ``peak_mb`` (if asked for) and its output.

    Looking at the memory of many processes takes a good part of a processor: what is watched is not timed.
    """

    def __init__(self, argv, cwd=None, env=None, watch=False):
        start, busy = time.monotonic(), busy_seconds()
        process = subprocess.Popen(argv, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.peak_mb, done = 0.0, threading.Event()

        def look():
            while not done.wait(0.25):
                self.peak_mb = max(self.peak_mb, memory_mb(process.pid))

        watcher = threading.Thread(target=look)
        if watch:
            watcher.start()
        self.out = process.communicate()[0]
        self.seconds, self.busy_seconds = time.monotonic() - start, busy_seconds() - busy
        done.set()
        if watch:
            watcher.join()
        self.rc = process.returncode


def median(samples: list, key="seconds") -> float:
    """Return the median of one number of several samples."""
    return statistics.median(getattr(sample, key) for sample in samples)


def in_turn(commands: dict, times: int) -> dict:
    """Run each command ``times`` times, in turn, so that a slow moment of the machine meets all of them: ``{name: [Sample]}``.

    A command may have ``before``, a function that is called first and is not measured.
    """
    samples: dict = {name: [] for name in commands}
    for _count in range(times):
        for name, command in commands.items():
            command.get("before", lambda: None)()
            samples[name].append(Sample(**{key: value for key, value in command.items() if key != "before"}))
    return samples


def table(rows: list) -> str:
    """Return rows of cells as aligned lines, the first row being the header."""
    widths = [max(len(str(row[column])) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(str(cell).ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])
