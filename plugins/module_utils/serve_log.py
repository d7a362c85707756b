# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the log of a vLLM server says: how far its start has come, its first traceback, and the lines that may say what went wrong.

The shapes of the lines are those of vLLM 0.7 to 0.32: processes in parentheses, level, date, time and place, then the text:
C((EngineCore_DP0 pid=72) ERROR 11-23 20:26:09 [core.py:866] ValueError: boom).
"""

from __future__ import annotations

import re

#: The phases of a start in their order. C(starting) is what comes before the first line of another one.
PHASES = ("starting", "loading", "compiling", "waiting", "ready")
#: A line of the log to the phase it is about; the groups are the step in it. Shards and graphs as tqdm prints them.
STAGES = (
    ("loading", re.compile(r"[Ll]oading [\w .-]*shards:\s+\d+% Completed \| (\d+)/(\d+)")),
    ("ready", re.compile(r"Application startup complete")),
    ("waiting", re.compile(r"Waiting for (\d+) local, (\d+) remote core engine proc")),
    # An engine is done here; the API comes up when all of them are.
    ("waiting", re.compile(r"init engine \(profile, create kv cache, warmup model\) took")),
    ("compiling", re.compile(r"Capturing [\w ]*graphs[^:]*:\s+\d+%.*?\| (\d+)/(\d+)")),
    ("compiling", re.compile(r"[Gg]raph captur|Capturing")),
    # Not any "compil": the line that prints the whole configuration holds compilation_config.
    ("compiling", re.compile(r"Compiling|torch\.compile (?:takes|took)|Starting torch\.compile|Dynamo bytecode")),
    ("loading", re.compile(r"Loading (?:model )?weights took|Model loading took|Starting to load model|Loading draft(?:er)? model")),
)

#: The processes that a line comes from, with one space behind each, so that the indentation of a traceback stays.
_PROCESS = re.compile(r"^(?:\([^()]*\bpid=[^()]*\) ?)+|^\[rank\d+\]: ?")
#: Level, date, time and place, old and new: C(ERROR 03-11 14:48:04 engine.py:387] ), C(ERROR 11-23 20:26:09 [core.py:866] ).
_RECORD = re.compile(r"^(DEBUG|INFO|WARNING|ERROR|CRITICAL) \d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)?(?: \[?[\w./-]+:\d+\])? ?")
#: What uvicorn says that it does.
_QUIET = re.compile(r"^(?:INFO|DEBUG):\s")
_FRAME = re.compile(r'^\s+File "[^"]*", line \d+')
_MARKS = re.compile(r"^[\s^~]+$")
_BAR = re.compile(r"\d+%(?:\||.*\|\s*\d+/\d+)")
#: Terminal codes and other characters that a screen acts upon.
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f\u2028\u2029]")
#: So many lines behind its first one a traceback may reach: those of other processes lie between its own.
SPAN = 600
#: Characters of a line that are kept.
WIDTH = 800


def clean(line):
    """Return a line without colours and control characters, no longer than C(WIDTH). Bytes need not be UTF-8."""
    if isinstance(line, bytes):
        line = line.decode("utf-8", "replace")
    return _CONTROL.sub("", line[:2 * WIDTH])[:WIDTH]


def split(line):
    """Return (processes, level, text) of a clean line; empty where it has none."""
    found = _PROCESS.match(line)
    process, rest = (found.group(0), line[found.end():]) if found else ("", line)
    found = _RECORD.match(rest)
    return (process, found.group(1), rest[found.end():]) if found else (process, "", rest)


def stage(lines):
    """Return C({phase, step}) of the last line that is about a phase, or None. step: C(81/163), or an empty string.

    The step of C(waiting) is how many engines are waited for, as C(2 local, 2 remote).
    """
    for line in reversed(lines):
        for phase, pattern in STAGES:
            found = pattern.search(line)
            if found:
                numbers = found.groups()
                step = "%s local, %s remote" % numbers if numbers and phase == "waiting" else "/".join(numbers)
                return {"phase": phase, "step": step}
    return None


def first_traceback(lines):
    """Return the positions of the first Python traceback among clean lines: its own process's lines up to the exception."""
    for start, line in enumerate(lines):
        process, dummy, text = split(line)
        if text.startswith("Traceback (most recent call last)"):
            return _traceback_from(lines, start, process)
    return []


def _traceback_from(lines, start, process):
    found, ended = [start], 0
    for number in range(start + 1, min(len(lines), start + SPAN)):
        other, dummy, text = split(lines[number])
        if other != process:
            continue
        if ended:
            # What an exception says may go on, indented or behind a colon.
            more = text.startswith((" ", "\t")) or lines[found[-1]].rstrip().endswith(":")
            if not text.strip() or not more or ended > 5:
                break
        if ended or text.strip() and not text.startswith((" ", "\t")):
            ended += 1
        found.append(number)
    return found


def telling(lines, most):
    """Return the lines, at most C(most) bytes of them, that may say what went wrong, clean and in their order.

    Left out are what is only told (INFO, DEBUG, progress bars), what another process of the server has said already, and of
    tracebacks behind the first one the frames. When that is still too much, the middle goes.
    """
    lines = [clean(line) for line in lines]
    first = set(first_traceback(lines))
    kept, seen, frames = [], set(), {}
    for number, line in enumerate(lines):
        process, level, text = split(line)
        if number not in first:
            source = frames.pop(process, False) and text.startswith("    ")
            if _FRAME.match(text):
                frames[process] = True
                continue
            if source or level in ("INFO", "DEBUG") or text in seen or not text.strip() or _QUIET.match(text) or _MARKS.match(text) or _BAR.search(text):
                continue
        seen.add(text)
        kept.append(line)
    return within(kept, most)


def within(lines, most):
    """Return the lines, or the first two thirds and the last third of C(most) bytes of them."""
    sizes = [len(line.encode("utf-8", "replace")) + 1 for line in lines]
    if sum(sizes) <= most:
        return lines
    head, room = 0, most * 2 // 3
    while head < len(lines) and sizes[head] <= room:
        room -= sizes[head]
        head += 1
    tail, room = len(lines), most // 3
    while tail > head and sizes[tail - 1] <= room:
        room -= sizes[tail - 1]
        tail -= 1
    return lines[:head] + lines[tail:]
