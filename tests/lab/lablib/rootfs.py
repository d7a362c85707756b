# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The two root file systems, from one debootstrap: a small Debian with Python (below the engine image), and the node on top of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

from lablib import shape
from lablib.places import LAB_SOURCE, LOGS, cached, content_key
from lablib.say import run_logged, step

SUITE = "bookworm"
_NODE_SOURCE = LAB_SOURCE / "node"
# What a Debian carries that no program of the lab reads.
_DEAD_WEIGHT = ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info", "var/cache/apt", "var/lib/apt/lists", "var/cache/debconf")
_APT = ["apt-get", "-q", "-o", "Acquire::Check-Valid-Until=false"]


def base_packages() -> list[str]:
    return _package_list("base-packages.txt")


def node_packages() -> list[str]:
    return _package_list("node-packages.txt")


def _package_list(name: str) -> list[str]:
    lines = (line.split("#")[0].strip() for line in (_NODE_SOURCE / name).read_text().splitlines())
    return [line for line in lines if line]


def mirror() -> str:
    """The Debian mirror this machine itself uses, or Debian's own."""
    for path in [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]:
        if path.suffix not in (".list", ".sources") or not path.is_file():
            continue
        for word in path.read_text(errors="replace").split():
            if word.startswith(("http://", "https://")) and word.rstrip("/").endswith("/debian"):
                return word.rstrip("/")
    return "http://deb.debian.org/debian"


def key() -> str:
    return content_key(SUITE, _NODE_SOURCE, Path(__file__), shape.REGISTRY)


def build() -> Path:
    """The folder with ``base.tar`` and ``node.tar``, built once."""
    return cached("rootfs", key(), _make)


def _make(folder: Path) -> None:
    log = LOGS / "rootfs.log"
    log.unlink(missing_ok=True)
    base = folder / "base"
    with step(f"root file system: debootstrap {SUITE}"):
        command = ["debootstrap", "--variant=minbase", f"--include={','.join(base_packages())}", SUITE, str(base), mirror()]
        run_logged(command, log)
    node = folder / "node"
    with step(f"root file system: the node's {len(node_packages())} packages"):
        subprocess.run(["cp", "-a", str(base), str(node)], check=True)
        _install(node, node_packages(), log)
        _furnish(node)
    for tree in (base, node):
        for dead in _DEAD_WEIGHT:
            shutil.rmtree(tree / dead, ignore_errors=True)
        # apt wants the last three at its next run.
        for wanted in ("var/cache/apt/archives/partial", "var/lib/apt/lists/partial", "var/cache/debconf"):
            (tree / wanted).mkdir(parents=True, exist_ok=True)
        run_logged(["tar", "-C", str(tree), "--numeric-owner", "--sort=name", "-cf", f"{tree}.tar", "."], log)
        shutil.rmtree(tree)


def _install(tree: Path, packages: list[str], log: Path) -> None:
    """apt-get inside the tree. Services must not start there, and the tree needs this machine's resolver for the time."""
    policy = tree / "usr/sbin/policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    resolver = tree / "etc/resolv.conf"
    shutil.copy("/etc/resolv.conf", resolver)
    env = {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    chroot = ["chroot", str(tree)]
    subprocess.run(["mount", "-t", "proc", "proc", str(tree / "proc")], check=True)
    try:
        run_logged([*chroot, *_APT, "install", "-y", "--no-install-recommends", *packages], log, env)
    finally:
        subprocess.run(["umount", str(tree / "proc")], check=True)
    policy.unlink()
    resolver.write_text("")


def _furnish(tree: Path) -> None:
    """Everything of the node that is not a package: the files under node/files, the user ``ops``, the units that start."""
    shutil.copytree(_NODE_SOURCE / "files", tree, dirs_exist_ok=True, symlinks=True)
    for path in (_NODE_SOURCE / "files").rglob("*"):
        os.chown(tree / path.relative_to(_NODE_SOURCE / "files"), 0, 0)
    (tree / "etc/sudoers.d/ops").chmod(0o440)
    daemon = {"insecure-registries": [shape.REGISTRY, shape.PRIVATE_REGISTRY], "log-driver": "json-file", "storage-driver": "overlay2"}
    (tree / "etc/docker").mkdir(exist_ok=True)
    (tree / "etc/docker/daemon.json").write_text(json.dumps(daemon, indent=2) + "\n")
    # The emulator's own interpreter: a fault may take the node's away. A hard link finds the same library.
    os.link(next((tree / "usr/bin").glob("python3.[0-9]*")).resolve(), tree / "usr/local/lib/ascend-lab/python3")
    for key in (tree / "etc/ssh").glob("ssh_host_*"):
        key.unlink()
    for useless in ("etc/machine-id", "etc/hostname"):
        (tree / useless).write_text("")
    log = LOGS / "rootfs.log"
    run_logged(["chroot", str(tree), "useradd", "--create-home", "--shell", "/bin/bash", "ops"], log)
    run_logged(["chroot", str(tree), "systemctl", "enable", "ascend-lab-node.service", "docker.service", "ssh.service"], log)
    run_logged(["chroot", str(tree), "systemctl", "set-default", "multi-user.target"], log)
    # Units that make no sense in a container, or that would only make a boot longer.
    useless_units = ["getty.target", "systemd-logind.service", "apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer",
                     "e2scrub_reap.service", "fstrim.timer", "docker-registry.service", "systemd-timesyncd.service", "systemd-firstboot.service"]  # fmt: skip
    run_logged(["chroot", str(tree), "systemctl", "mask", *useless_units], log)
