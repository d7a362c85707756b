# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Order of Ascend version numbers: 24.1.rc3 is older than 24.1.0, and 25.0.rc1 is older than 25.0.rc1.1.

v0.23.0rc1, as vllm-ascend writes it, is 0.23.0.rc1.
"""

from __future__ import annotations

import re

_PART = re.compile(r"(rc|beta|alpha)\.?(\d+)|(\d+)", re.IGNORECASE)
_VERSION = re.compile(r"v?\d+(\.(\d+|(rc|beta|alpha|b|t)\.?\d+))*", re.IGNORECASE)
#: rc.3 is one word: rc3.
_DOTTED = re.compile(r"([a-z])\.(?=\d)", re.IGNORECASE)
_JOINED = re.compile(r"(?<=\d)(?=rc\d)", re.IGNORECASE)
#: A release candidate comes before the number in its place; a build (b999) says nothing about age.
_BEFORE = {"alpha": -3, "beta": -2, "rc": -1}


def key(text: object):
    """Return a sort key of a version such as ``25.3.rc1``, or None if it is none."""
    stated = _JOINED.sub(".", str(text or "").strip())
    if not _VERSION.fullmatch(stated):
        return None
    parts = []
    for word in _DOTTED.sub(r"\1", stated.lstrip("vV")).split("."):
        match = _PART.fullmatch(word)
        if match and match.group(3):
            parts.append((0, int(match.group(3))))
        elif match:
            parts.append((_BEFORE[match.group(1).lower()], int(match.group(2))))
    while parts and parts[-1] == (0, 0):
        parts.pop()
    return parts + [(0, 0)]


def older(one: object, other: object):
    """Return whether one version is older than another, or None if either is none."""
    left, right = key(one), key(other)
    if left is None or right is None:
        return None
    longest = max(len(left), len(right))
    return left + [(0, 0)] * (longest - len(left)) < right + [(0, 0)] * (longest - len(right))


def within(version: object, ranges: object):
    """Return whether a version is in one of the ranges ``[7.0.0,8.9.9],[..]``, both ends included; None if either is not understood.

    An end that stops short includes what begins with it: 7.5.99 is in a range up to 7.5.
    """
    pairs = re.findall(r"\[\s*([^\],]+?)\s*,\s*([^\],]+?)\s*\]", str(ranges or ""))
    if not pairs or key(version) is None:
        return None
    for low, high in pairs:
        below, above = older(version, low), older(high.rstrip("."), version)
        if below is None or above is None:
            return None
        if not below and (not above or str(version).startswith(high.rstrip(".") + ".")):
            return True
    return False
