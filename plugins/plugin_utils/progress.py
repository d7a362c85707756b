# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How far a long transfer or verification is, as one line for the person who waits."""

from __future__ import annotations

from .mesh import duration


def size(count: float) -> str:
    """Return bytes as a person reads them, in decimal units as disks and hubs state them."""
    for unit, divisor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= divisor:
            return f"{count / divisor:.1f} {unit}"
    return f"{count / 1e3:.0f} kB"


def line(host: str, what: str, seconds: float, done: int, total: int, started_with: int = 0) -> str:
    """Return the line. ``done`` and ``total`` in bytes (total 0: not known), ``started_with``: bytes that were there before, for the rate."""
    rate = (done - started_with) / seconds if seconds > 0 else 0
    of = f" of {size(total)}" if total else ""
    left = f", about {duration((total - done) / rate)} left" if total > done and rate > 0 else ""
    return f"[{seconds:5.0f} s] {host}: {what} {size(done)}{of}, {size(rate)}/s{left}"
