# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads what a node said over a plain shell, before any module of Ansible can run there."""

from __future__ import annotations

from .messages import is_mapping

BEGIN, END = "ascend-vllm-prerequisites-begin", "ascend-vllm-prerequisites-end"
WORDS = ("python", "python_version", "rsync", "docker", "package_manager")
#: How a package is installed, by the package manager that the node has; None is a node with none that is known.
INSTALL = {
    "apt": "apt-get install {name}",
    "dnf": "dnf install {name}",
    "yum": "yum install {name}",
    "zypper": "zypper install {name}",
    None: "install {name} with the package manager of the distribution",
}
#: What preflight needs on a node -> package: by Debian's name, and by the name on openEuler, Kylin and other systems with RPM packages.
PACKAGES = {
    "python3": ("python3", "python3"),
    "requests": ("python3-requests", "python3-requests"),
    "rsync": ("rsync", "rsync"),
    "docker": ("docker.io", "docker"),
}


def parse(result: object, heard=None) -> dict:
    """Return ``{python, python_version, requests, rsync, docker, package_manager, asked, clock_ahead_s}``; a thing that is absent is None.

    A node that was not reached, or where root was refused, gives ``{unreachable: True, msg}``; an answer without the script's own
    lines (a login script that prints and ends, for instance) gives ``{error}``. ``heard``: the controller's time, seconds since 1970, when all
    nodes had answered. A node's clock is off by no less than what neither the time it was asked nor the time it was heard explains.
    """
    if not is_mapping(result):
        return {"unreachable": True, "msg": "no answer"}
    text = str(result.get("stdout") or "").replace("\r", "")
    if BEGIN not in text or END not in text:
        said = " ".join(str(result.get("msg") or "").split() + str(result.get("stderr") or "").split() + text.split())[:300]
        if result.get("unreachable") or result.get("rc") != 0:
            return {"unreachable": True, "msg": said or "no answer"}
        return {"error": said or "nothing printed"}
    pairs = dict(line.split("=", 1) for line in text.partition(BEGIN)[2].partition(END)[0].splitlines() if "=" in line)
    found: dict = {word: pairs.get(word) or None for word in WORDS}
    found["requests"] = pairs.get("requests") == "yes"
    asked, time = _number(pairs.get("asked")), _number(pairs.get("time"))
    found["asked"] = asked
    found["clock_ahead_s"] = _ahead(time, asked, asked if heard is None else float(heard)) if asked is not None and time is not None else None
    return found


def _ahead(time: float, asked: float, heard: float) -> float:
    """Return by how many seconds a clock is ahead (negative: behind): it said ``time`` at some moment between two of the controller's."""
    return round(time - heard if time > heard else min(time - asked, 0.0), 3)


def package(found: dict, what: str) -> str:
    """Return the name of a package on a node."""
    debian, rpm = PACKAGES[what]
    return rpm if found.get("package_manager") in ("dnf", "yum", "zypper") else debian


def command(found: dict, what: str) -> str:
    """Return the distribution's command that installs something."""
    return INSTALL.get(found.get("package_manager"), INSTALL[None]).format(name=package(found, what))


def missing(found: dict) -> list:
    """Return the packages that a node lacks, Python first: modules need it to install the others."""
    there = {"python3": found.get("python"), "requests": found.get("requests"), "rsync": found.get("rsync"), "docker": found.get("docker")}
    return [package(found, what) for what, value in there.items() if not value]


def _number(text):
    try:
        return float(text)
    except (TypeError, ValueError):
        return None
