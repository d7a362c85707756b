# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults of the Docker engine: it is stopped, its disk is full, a stranger's container has an NPU."""

from __future__ import annotations

import os
import re
import subprocess

from service_faults.base import Fault, FaultError, run, wait_until, whole

DATA = "/var/lib/docker"
UNITS = ("docker.socket", "docker.service")
TMPFS = "ascend-lab-disk-full"
IMAGE = "stranger/notebook:latest"


def _answers() -> bool:
    return run("docker", "version", "--format", "{{.Server.Version}}", check=False).strip()[:1].isdigit()


def _stop(values: dict, saved: dict) -> None:
    units = [unit for unit in UNITS if run("systemctl", "is-active", unit, check=False).strip() == "active"]
    containers = run("docker", "ps", "--quiet", "--no-trunc").split() if "docker.service" in units else []
    saved.update(units=units, containers=containers)
    # Together: each would start the other again.
    run("systemctl", "stop", *UNITS)


def _start(values: dict, saved: dict) -> None:
    if not saved.get("units"):
        return
    # Without it systemd refuses the fourth start within a minute.
    run("systemctl", "reset-failed", *UNITS, check=False)
    run("systemctl", "start", *saved["units"])
    wait_until(_answers, "the Docker engine answers", timeout_s=60)
    running = set(run("docker", "ps", "--quiet", "--no-trunc").split())
    for container in saved["containers"]:
        if container not in running:
            run("docker", "start", container, check=False)


def _sshd() -> str:
    pid = run("systemctl", "show", "--property", "MainPID", "--value", "ssh.service").strip()
    if not pid.isdigit() or pid == "0":
        raise FaultError("ssh.service does not run")
    return pid


def is_mounted(mountinfo: str, source: str) -> bool:
    """Whether a mount with that source is in the text of a /proc/PID/mountinfo."""
    return any(line.partition(" - ")[2].split()[1:2] == [source] for line in mountinfo.splitlines())


def _full(pid: str) -> bool:
    with open(f"/proc/{pid}/mountinfo", encoding="utf-8") as handle:
        return is_mounted(handle.read(), TMPFS)


def _fill_disk(values: dict, saved: dict) -> None:
    """A small file system over the engine's folder, in the mount namespace of sshd: the sessions see it, the engine does not.

    So what the engine has stays what it is. (/usr/local/lib/ascend-lab/serve-ssh gives sshd that namespace.)
    """
    size, pid = whole(values, "free_mb", 1, 2000), _sshd()
    if os.readlink(f"/proc/{pid}/ns/mnt") == os.readlink("/proc/1/ns/mnt"):
        raise FaultError("sshd has no mount namespace of its own: the engine itself would see the full disk")
    saved["folder"] = DATA
    run("nsenter", "--mount", "--target", pid, "mount", "-t", "tmpfs", "-o", f"size={size}m,mode=710", TMPFS, DATA)


def _free_disk(values: dict, saved: dict) -> None:
    if saved and _full(_sshd()):
        run("nsenter", "--mount", "--target", _sshd(), "umount", "--lazy", DATA)


def _name(npu: int) -> str:
    return f"stranger-npu{npu}"


def _hold(values: dict, saved: dict) -> None:
    """A container of one program that sleeps; its image is made from the node's own files, so nothing is pulled."""
    npu = whole(values, "npu", 0, 63)
    if not os.path.exists(f"/dev/davinci{npu}"):
        raise FaultError(f"npu={npu}: there is no /dev/davinci{npu}")
    if not _answers():
        raise FaultError("the Docker engine does not answer")
    libraries = re.findall(r"(/\S+) \(0x", run("ldd", "/usr/bin/sleep"))
    saved.update(container=_name(npu), image=IMAGE)
    with subprocess.Popen(["tar", "-C", "/", "-chf", "-", "usr/bin/sleep", *(path.lstrip("/") for path in libraries)], stdout=subprocess.PIPE) as tar:
        done = subprocess.run(["docker", "import", "-", IMAGE], stdin=tar.stdout, capture_output=True, text=True, check=False)
    if done.returncode:
        raise FaultError(f"docker import: {done.stderr.strip()}")
    run("docker", "run", "--detach", "--name", _name(npu), "--network", "none", "--device", f"/dev/davinci{npu}", "--stop-signal", "KILL",
        IMAGE, "/usr/bin/sleep", "infinity")  # fmt: skip


def _release(values: dict, saved: dict) -> None:
    if not saved:
        return
    if not _answers():
        raise FaultError("the Docker engine does not answer: the container cannot be removed")
    run("docker", "rm", "--force", "--volumes", saved["container"], check=False)
    run("docker", "image", "rm", "--force", saved["image"], check=False)


FAULTS = [
    Fault("docker-stopped", "the Docker engine is stopped, and with it the containers that ran", _stop, _start),
    Fault("disk-full", "the file system of Docker's data folder has little room (as ssh sessions see it; the engine works on)", _fill_disk, _free_disk,
          {"free_mb": ("50", "MB that are free")}),
    Fault("container-holds-npu", "a stranger's running container has an NPU", _hold, _release, {"npu": ("3", "physical id")}),
]  # fmt: skip
