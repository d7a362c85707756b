# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check results, and the wording that all of them share."""

from __future__ import annotations

import difflib

#: A check of the whole run belongs to no node; it is shown under this name.
CONTROLLER = "localhost"


def check(
    host: str, name: str, device: str, observed: object, expected: str, remedy: str, status: str = "fail"
) -> dict:
    """Return one check result: what was looked at, what was found, what was wanted and what to do."""
    return {
        "host": str(host),
        "check": name,
        "device": device,
        "status": status,
        "observed": str(observed),
        "expected": expected,
        "remedy": remedy,
    }


def failed(checks: list) -> bool:
    """Return whether any of the checks stops the run: what was not understood stops it like a failure."""
    return any(entry["status"] in ("fail", "unknown") for entry in checks)


def nearest(name: object, known) -> str:
    """Return the known name most like the given one, or an empty string if none is like it."""
    names = [str(entry) for entry in known]
    by_folded = {entry.casefold(): entry for entry in names}
    found = difflib.get_close_matches(str(name).casefold(), list(by_folded), n=1, cutoff=0.6)
    return by_folded[found[0]] if found else ""


def known_names(known) -> str:
    """Return ``one of a2, a3``, or that there is none."""
    names = [str(entry) for entry in known]
    return f"one of {', '.join(names)}" if names else "nothing: none is known"


def did_you_mean(name: object, known) -> str:
    """Return ``did you mean 'a2'? `` with its trailing space, or an empty string."""
    found = nearest(name, known)
    return f"did you mean {found!r}? " if found else ""


def shown(value: object, limit: int = 80) -> str:
    """Return a value as a person reads it in a message: quoted when it is text, shortened when it is long, with its type."""
    if value is None:
        return "nothing"
    text = repr(plain(value))
    if len(text) > limit:
        text = text[: limit - 3] + "..."
    return f"{text} ({type_name(value)})"


def type_name(value: object) -> str:
    """Return the name of a value's type as a YAML author would say it."""
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int):
        return "an integer"
    if isinstance(value, float):
        return "a decimal number"
    if isinstance(value, str):
        return "a text"
    if is_mapping(value):
        return "a mapping"
    if is_list(value):
        return "a list"
    return type(value).__name__


def is_mapping(value: object) -> bool:
    """Return whether a value is a mapping; Ansible hands over lazy ones that are no plain dict."""
    return hasattr(value, "keys") and hasattr(value, "__getitem__")


def is_list(value: object) -> bool:
    """Return whether a value is a list or tuple, Ansible's lazy ones included, but no text."""
    return isinstance(value, (list, tuple))


def plain(value: object):
    """Return a deep copy made of plain Python types, so that results carry no tags and no lazy containers."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    if is_mapping(value):
        return {plain(key): plain(value[key]) for key in value.keys()}
    if is_list(value):
        return [plain(entry) for entry in value]
    return str(value)
