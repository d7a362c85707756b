# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the kernel of a node says of memory, shared memory and the settings that tutorials ask for.

Everything reads and nothing raises for a thing that is not there: kernels differ in what they have (no cpufreq in a
virtual machine, no huge pages in a small kernel), and a setting that is missing is an answer. The roots (/proc, /sys)
are parameters, so that tests can hand in folders of their own.
"""

from __future__ import annotations

import glob
import os
import re


def _read(path, limit=65536):
    """The file's text without white space at its ends (at most limit characters), or None when it cannot be read."""
    try:
        with open(path, "r", encoding="utf-8", errors="replace") as handle:
            return handle.read(limit).strip()
    except (OSError, ValueError):
        return None


def parse_meminfo(text):
    """/proc/meminfo: {name: int}, in the unit printed (kB for sizes, pages for HugePages_*)."""
    found = {}
    for line in text.splitlines():
        match = re.match(r"^(\S+):\s+(\d+)(?:\s|$)", line)
        if match:
            found[match.group(1)] = int(match.group(2))
    return found


def memory(proc="/proc"):
    """{total_bytes, available_bytes} of the node; a value that the kernel does not tell is None."""
    # The kernel's kB are 1024 bytes.
    info = parse_meminfo(_read(os.path.join(proc, "meminfo")) or "")
    return dict(
        (key, info[name] * 1024 if name in info else None)
        for key, name in (("total_bytes", "MemTotal"), ("available_bytes", "MemAvailable"))
    )


def hugepages(proc="/proc"):
    """{total, free (pages), size_kb} of the default huge page size, or None in a kernel without huge pages."""
    info = parse_meminfo(_read(os.path.join(proc, "meminfo")) or "")
    if "HugePages_Total" not in info:
        return None
    return {"total": info["HugePages_Total"], "free": info.get("HugePages_Free"), "size_kb": info.get("Hugepagesize")}


def shm(path="/dev/shm", proc="/proc"):
    """{total_bytes, free_bytes} of the tmpfs mounted on path, or None when none is."""
    kind = None
    for line in (_read(os.path.join(proc, "self", "mounts"), 16 * 1024 * 1024) or "").splitlines():
        words = line.split()
        # A mount on the same place hides those before it.
        if len(words) > 2 and words[1] == path:
            kind = words[2]
    if kind != "tmpfs":
        return None
    try:
        usage = os.statvfs(path)
    except OSError:
        return None
    return {"total_bytes": usage.f_blocks * usage.f_frsize, "free_bytes": usage.f_bavail * usage.f_frsize}


def sysctl(name, proc="/proc"):
    """The value of one kernel setting as text, the white space between several numbers being one space; None when there
    is no such setting or it cannot be read. As in sysctl(8) a slash in the name stands for a dot in a part of it."""
    parts = [part.replace("/", ".") for part in name.split(".")]
    if any(part in ("", ".", "..") or "\0" in part for part in parts):
        return None
    text = _read(os.path.join(proc, "sys", *parts))
    return None if text is None else " ".join(text.split())


def cpu_governors(sys_root="/sys"):
    """The distinct frequency governors of all CPUs, sorted; [] without cpufreq."""
    pattern = os.path.join(glob.escape(sys_root), "devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor")
    return sorted(set(text for text in (_read(path) for path in glob.glob(pattern)) if text))


def transparent_hugepage(sys_root="/sys"):
    """The mode in force (always, madvise, never), which the kernel puts in brackets; None when it tells none."""
    text = _read(os.path.join(sys_root, "kernel/mm/transparent_hugepage/enabled"))
    match = re.search(r"\[(\w+)\]", text or "")
    return match.group(1) if match else None
