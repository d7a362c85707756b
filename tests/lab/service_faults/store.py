# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Setting and clearing, and the record of what is set: one JSON file, so that any process can clear what another has set."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os

from service_faults.base import Fault, FaultError

FILE = "/var/lib/ascend-lab/service-faults.json"


def load(path: str = FILE) -> dict:
    """{name: {"values", "saved"}} in the order in which they were set."""
    try:
        with open(path, encoding="utf-8") as handle:
            return json.load(handle)
    except FileNotFoundError:
        return {}


def _save(path: str, active: dict) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path + ".new", "w", encoding="utf-8") as handle:
        json.dump(active, handle, indent=1)
    os.replace(path + ".new", path)


@contextlib.contextmanager
def changing(path: str = FILE):
    """The record, saved at the end whatever happens; two changers wait for each other."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path + ".lock", "a", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        active = load(path)
        try:
            yield active
        finally:
            _save(path, active)


def known(faults: dict[str, Fault], name: str) -> Fault:
    if name not in faults:
        raise FaultError(f"no fault {name}; there are: {', '.join(sorted(faults))}")
    return faults[name]


def set_fault(faults: dict[str, Fault], active: dict, name: str, given: dict[str, str]) -> dict:
    """Sets a fault and records it; one that is set already is replaced. Returns the values used."""
    fault = known(faults, name)
    values = fault.checked(given)
    for other, entry in active.items():
        if other != name and "path" in values and overlap(values["path"], entry["values"].get("path")):
            raise FaultError(f"{other} is active and changes {entry['values']['path']}: clear it first")
    clear_fault(faults, active, name)
    saved: dict = {}
    try:
        fault.apply(values, saved)
    except BaseException:
        # What was changed before the error is put back.
        fault.undo(values, saved)
        raise
    active[name] = {"values": values, "saved": saved}
    return values


def overlap(one: str, other: str | None) -> bool:
    """Whether one path is the other or lies within it."""
    return other is not None and os.path.commonpath([one, other]) in (one, other)


def clear_fault(faults: dict[str, Fault], active: dict, name: str) -> bool:
    """Undoes a fault; one that is not active is fine (False). It stays recorded until its undoing has succeeded."""
    fault = known(faults, name)
    if name not in active:
        return False
    fault.undo(active[name]["values"], active[name]["saved"])
    del active[name]
    return True
