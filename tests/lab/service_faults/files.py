# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults of files: a mount source, an interpreter or a program that is not there, or is something else."""

from __future__ import annotations

import base64
import glob
import json
import os
import subprocess
from pathlib import Path

from service_faults.base import Fault, FaultError

ASIDE = "/var/lib/ascend-lab/aside"
ROOTINFO = "/etc/hccl_rootinfo.json"


def move_aside(paths: list[str], saved: dict, folder: str) -> None:
    """Moves each path into a folder, remembering where it was in saved["moved"]: [[path, place]]. Refuses what cannot be moved."""
    for path in paths:
        if not os.path.isabs(path) or os.path.normpath(path) != path or path.count("/") < 2:
            raise FaultError(f"path={path}: an absolute path below a top folder, without a slash at its end")
        if not os.path.lexists(path):
            raise FaultError(f"path={path}: it is not there")
        if os.path.ismount(path):
            raise FaultError(f"path={path}: something is mounted there, it cannot be moved")
    os.makedirs(folder, exist_ok=True)
    saved.setdefault("moved", [])
    for path in paths:
        place = os.path.join(folder, str(len(saved["moved"])))
        # mv copies where a rename cannot be (a folder of the image below an overlay), with owner, mode and times.
        _mv(path, place)
        saved["moved"].append([path, place])


def put_back(saved: dict) -> None:
    """Undoes move_aside, whatever has come to stand there meanwhile."""
    for path, place in reversed(saved.get("moved", [])):
        if os.path.lexists(place):
            if os.path.lexists(path):
                subprocess.run(["rm", "-rf", "--one-file-system", path], check=True)
            _mv(place, path)


def _mv(source: str, target: str) -> None:
    times = os.lstat(os.path.dirname(source)), os.lstat(os.path.dirname(target))
    done = subprocess.run(["mv", "--no-target-directory", source, target], capture_output=True, text=True, check=False)
    if done.returncode:
        raise FaultError(done.stderr.strip())
    # The folders too look as they did.
    for path, info in zip((os.path.dirname(source), os.path.dirname(target)), times):
        os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))


def _folder(name: str) -> str:
    return os.path.join(ASIDE, name)


def _missing(values: dict, saved: dict) -> None:
    move_aside([values["path"]], saved, _folder("mount-missing"))


def _directory(values: dict, saved: dict) -> None:
    if os.path.isdir(values["path"]):
        raise FaultError(f"path={values['path']}: it is a folder already")
    move_aside([values["path"]], saved, _folder("mount-directory"))
    os.mkdir(values["path"])


def _hide(name: str, patterns: list[str]):
    def apply(values: dict, saved: dict) -> None:
        paths = sorted({path for pattern in patterns for path in glob.glob(pattern)})
        if not paths:
            raise FaultError(f"{name}: none of {', '.join(patterns)} is there")
        move_aside(paths, saved, _folder(name))

    return apply


def _back(values: dict, saved: dict) -> None:
    put_back(saved)


def rootinfo(npus: int) -> str:
    """A rank table of another cluster: addresses of documentation ranges that no NPU of the lab has."""
    devices = [{"device_id": str(npu), "device_ip": f"192.0.2.{10 + npu}", "rank_id": str(npu)} for npu in range(npus)]
    table = {"version": "1.0", "status": "completed", "server_count": "1", "server_list": [{"server_id": "192.0.2.1", "device": devices}]}
    return json.dumps(table, indent=2) + "\n"


def _stale(values: dict, saved: dict) -> None:
    path = Path(ROOTINFO)
    saved["previous"] = base64.b64encode(path.read_bytes()).decode() if path.exists() else None
    path.write_text(rootinfo(len(glob.glob("/dev/davinci[0-9]*"))), encoding="utf-8")


def _not_stale(values: dict, saved: dict) -> None:
    if not saved:
        return
    if saved["previous"] is None:
        Path(ROOTINFO).unlink(missing_ok=True)
    else:
        Path(ROOTINFO).write_bytes(base64.b64decode(saved["previous"]))


_PATH = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin"]
FAULTS = [
    Fault("mount-missing", "a mount source is not there", _missing, _back, {"path": ("/usr/local/dcmi", "file or folder")}),
    Fault("mount-directory", "a file is an empty folder (what Docker makes of a missing mount source)", _directory, _back,
          {"path": ("/usr/local/Ascend/driver/version.info", "file")}),
    Fault("rsync-missing", "rsync is not installed", _hide("rsync", [f"{folder}/rsync" for folder in _PATH]), _back),
    Fault("requests-missing", "Python's requests cannot be imported", _hide("requests", ["/usr/lib/python3*/dist-packages/requests"]), _back),
    Fault("python-missing", "no python3 in PATH", _hide("python", [f"{folder}/python3*" for folder in _PATH]), _back),
    Fault("rootinfo-stale", f"{ROOTINFO} of another cluster", _stale, _not_stale),
]  # fmt: skip
