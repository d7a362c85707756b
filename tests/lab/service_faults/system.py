# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults of the operating system: clock, sysctl values, transparent huge pages."""

from __future__ import annotations

import ctypes
import glob
import os
import re

from service_faults.base import Fault, FaultError, run, whole

PRELOAD = "/etc/ld.so.preload"
FAKETIME = "/etc/faketimerc"
# libfaketime keeps a semaphore and a counter for each process it enters, and removes both at its end. A child of sshd in its sandbox is
# killed for trying. So sshd is given these two for all its children (FAKETIME_SHARED in node/files/usr/local/lib/ascend-lab/sshd-environment).
SHARED = "lab"
# Where the node's own values lie that are mounted over the kernel's (node/files/usr/local/lib/ascend-lab/prepare).
KERNEL = "/run/ascend-lab/kernel"
THP = "/sys/kernel/mm/transparent_hugepage/enabled"


def _skew(values: dict, saved: dict) -> None:
    """libfaketime in every process that starts from now on; those that run keep their clock."""
    seconds = whole(values, "seconds", -10**8, 10**8)
    library = sorted(glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1"))
    if not library:
        raise FaultError("this node has no libfaketime")
    for path in (PRELOAD, FAKETIME):
        if os.path.exists(path):
            raise FaultError(f"{path} is there already")
    saved["files"] = [PRELOAD, FAKETIME]
    _make_shared()
    with open(FAKETIME, "w", encoding="utf-8") as handle:
        handle.write(f"{seconds:+d}\n")
    # As a whole or not at all: every process that starts reads it.
    with open(PRELOAD + ".new", "w", encoding="utf-8") as handle:
        handle.write(library[0] + "\n")
    os.rename(PRELOAD + ".new", PRELOAD)


def _make_shared() -> None:
    semaphore = ctypes.CDLL(None, use_errno=True).sem_open
    semaphore.restype = ctypes.c_void_p
    if not semaphore(f"/faketime_sem_{SHARED}".encode(), os.O_CREAT, ctypes.c_uint(0o600), ctypes.c_uint(1)):
        raise FaultError(f"sem_open: {os.strerror(ctypes.get_errno())}")
    with open(f"/dev/shm/faketime_shm_{SHARED}", "wb") as handle:
        handle.write(bytes(8))


def _no_skew(values: dict, saved: dict) -> None:
    for path in saved.get("files", []):
        if os.path.exists(path):
            os.unlink(path)
    if saved:
        # libfaketime's own, which it leaves behind for processes that were killed.
        for path in [*glob.glob("/dev/shm/faketime_shm_*"), *glob.glob("/dev/shm/sem.faketime_sem_*")]:
            os.unlink(path)


def put_value(target: str, text: str, saved: dict) -> None:
    """Makes a file of /proc/sys or /sys read so: in the node's own copy where it has one, else by mounting one over it."""
    copy = KERNEL + target
    if os.path.exists(copy):
        with open(copy, encoding="utf-8") as handle:
            saved.update(copy=copy, previous=handle.read())
    else:
        os.makedirs(os.path.dirname(copy), exist_ok=True)
    with open(copy, "w", encoding="utf-8") as handle:
        handle.write(text)
    if "previous" not in saved:
        saved.update(copy=copy, mounted=target)
        run("mount", "--bind", copy, target)


def _value_back(values: dict, saved: dict) -> None:
    if "mounted" in saved:
        run("umount", saved["mounted"], check=False)
        if os.path.exists(saved["copy"]):
            os.unlink(saved["copy"])
    elif "previous" in saved and os.path.exists(saved["copy"]):
        with open(saved["copy"], "w", encoding="utf-8") as handle:
            handle.write(saved["previous"])


def sysctl_path(name: str) -> str:
    """vm.swappiness -> /proc/sys/vm/swappiness; a slash in the name stands for itself, as sysctl has it."""
    if not re.fullmatch(r"[A-Za-z0-9_./-]+", name) or ".." in name or name.startswith(("/", ".")):
        raise FaultError(f"name={name}: the name of a sysctl, such as vm.swappiness")
    return "/proc/sys/" + (name if "/" in name else name.replace(".", "/"))


def _sysctl(values: dict, saved: dict) -> None:
    path = sysctl_path(values["name"])
    if not os.path.isfile(path):
        raise FaultError(f"name={values['name']}: this kernel has no {path}")
    put_value(path, values["value"] + "\n", saved)


def thp_text(value: str) -> str:
    """The choices as the kernel shows them, the one that is on in brackets."""
    choices = ("always", "madvise", "never")
    if value not in choices:
        raise FaultError(f"value={value}: one of {', '.join(choices)}")
    return " ".join(f"[{choice}]" if choice == value else choice for choice in choices) + "\n"


def _thp(values: dict, saved: dict) -> None:
    put_value(THP, thp_text(values["value"]), saved)


FAULTS = [
    Fault("clock-skew", "the clock is wrong, for every process that starts from now on", _skew, _no_skew,
          {"seconds": ("120", "so far ahead; behind if negative")}),
    Fault("sysctl", "a kernel setting has another value", _sysctl, _value_back, {"name": ("vm.swappiness", "sysctl"), "value": ("60", "as it reads")}),
    Fault("thp", "transparent huge pages are set otherwise", _thp, _value_back, {"value": ("always", "always, madvise or never")}),
]  # fmt: skip
