# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Conditions that a recipe states as data: a mapping of subjects to tests, without any expression to evaluate.

``{nodes: {is: 1}, tensor_parallel_size: {gt: 4}}`` holds when every subject passes every one of its tests; the key ``any`` takes a
list of such mappings, one of which must hold. A subject that is not there has no value: only ``set: false`` is true of it.
"""

from __future__ import annotations

import re

from .messages import is_list, is_mapping, known_names

#: hccs: whether a device has a good HCCS address (checks of preflight only).
#: The subjects that are one word; ``env.NAME`` and ``flag.NAME[.KEY..]`` are the others.
SUBJECTS = (
    "release",
    "hardware",
    "role",
    "nodes",
    "npus",
    "data_parallel_size",
    "tensor_parallel_size",
    "expert_parallel_size",
    "hccs",
)
_MISSING = object()
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?")


class ConditionError(Exception):
    """A condition that is not written as described above."""


def holds(condition: object, facts: dict) -> bool:
    """Return whether a condition holds of ``facts`` (the one-word subjects, and ``env`` and ``flag`` as mappings)."""
    if not is_mapping(condition) or not condition:
        raise ConditionError(f"a condition is a mapping of subjects to tests, got {condition!r}")
    return all(_any(value, facts) if key == "any" else _subject(key, value, facts) for key, value in condition.items())


def _any(conditions: object, facts: dict) -> bool:
    """Return whether one of a list of conditions holds."""
    if not is_list(conditions):
        raise ConditionError(f"'any' takes a list of conditions, got {conditions!r}")
    # All of them, so that a wrong condition is found even when an earlier one holds.
    results = [holds(entry, facts) for entry in conditions]
    return any(results)


def _subject(name: str, tests: object, facts: dict) -> bool:
    """Return whether the value of one subject passes all of its tests."""
    value = _value(name, facts)
    if not is_mapping(tests) or not tests:
        raise ConditionError(f"{name} takes a mapping of tests, such as {{is: 1}}, got {tests!r}")
    results = [_test(name, test, wanted, value) for test, wanted in tests.items()]
    return all(results)


def _value(name: str, facts: dict):
    """Return the value of a subject, or ``_MISSING``."""
    kind, _dot, rest = name.partition(".")
    if kind == "env" and rest:
        return facts["env"].get(rest, _MISSING)
    if kind == "flag" and rest:
        value = facts["flag"]
        for key in rest.split("."):
            value = value.get(key, _MISSING) if is_mapping(value) else _MISSING
        return value
    if name not in SUBJECTS:
        raise ConditionError(f"unknown subject {name!r}, wanted {known_names(SUBJECTS)}, env.NAME or flag.NAME")
    return facts.get(name, _MISSING)


def _test(name: str, test: str, wanted: object, value: object) -> bool:
    """Return whether a value passes one test."""
    if test == "set":
        return (value is not _MISSING) == bool(wanted)
    if test not in ("is", "in", "lt", "le", "gt", "ge"):
        raise ConditionError(f"unknown test {test!r} of {name}, wanted one of is, in, lt, le, gt, ge, set")
    if value is _MISSING:
        return False
    if test == "is":
        return value == wanted
    if test == "in":
        return value in wanted
    left, right = _number(value), _number(wanted)
    if left is None or right is None:
        return False
    return {"lt": left < right, "le": left <= right, "gt": left > right, "ge": left >= right}[test]


def _number(value: object):
    """Return a value as a number if it is one or is written as one (values of the environment are text), else None."""
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, float)):
        return value
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        return float(value)
    return None
