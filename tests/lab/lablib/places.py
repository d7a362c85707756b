# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where things are: this checkout, and the lab's own directory.

``cache/`` holds what is expensive and named by a hash of its inputs; it survives `lab down`.
``run/`` holds one running lab; `lab down` removes it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import threading
from pathlib import Path
from typing import Callable, Iterable

LAB_SOURCE = Path(__file__).resolve().parents[1]
CHECKOUT = LAB_SOURCE.parents[1]
STATE = Path(os.environ.get("ASCEND_VLLM_LAB_DIR") or "/var/lib/ascend-vllm-lab")
CACHE = STATE / "cache"
RUN = STATE / "run"
LOGS = CACHE / "logs"


def emulator_dir() -> Path:
    """The folder mounted into every node as /opt/ascend-lab/emulator (another one while an emulator is being written)."""
    return Path(os.environ.get("ASCEND_VLLM_LAB_EMULATOR") or LAB_SOURCE / "emulator")


def content_key(*parts: str | Path) -> str:
    """A short hash of strings and of files or whole folders (relative names, x bits and bytes)."""
    digest = hashlib.sha256()

    def add(kind: str, data: bytes) -> None:
        digest.update(f"{kind}:{len(data)}:".encode() + data)

    for part in parts:
        if isinstance(part, str):
            add("text", part.encode())
            continue
        for path in _files(part):
            name = path.relative_to(part).as_posix() if path != part else path.name
            add("name", name.encode())
            add("x", b"1" if os.access(path, os.X_OK) else b"0")
            add("data", path.read_bytes())
    return digest.hexdigest()[:16]


def _files(path: Path) -> Iterable[Path]:
    if path.is_file():
        return [path]
    return sorted(p for p in path.rglob("*") if p.is_file() and "__pycache__" not in p.parts)


def cached(kind: str, key: str, make: Callable[[Path], None]) -> Path:
    """The folder cache/<kind>/<key>, made once by ``make(folder)``; older versions of that kind are dropped afterwards.

    The folder appears under its name only when it is whole: an interrupted build leaves a ``.part`` that the next one removes.
    """
    final = CACHE / kind / key
    if final.is_dir():
        return final
    part = final.with_name(key + ".part")
    remove_tree(part)
    part.mkdir(parents=True)
    make(part)
    for stale in final.parent.iterdir():
        if stale != part:
            remove_tree(stale)
    part.rename(final)
    return final


def is_cached(kind: str, key: str) -> bool:
    return (CACHE / kind / key).is_dir()


def remove_later(path: Path) -> None:
    """Removes a big folder beside other work; the process ends only when it is gone."""
    trash = CACHE / "trash"
    trash.mkdir(parents=True, exist_ok=True)
    path.rename(trash / f"{os.getpid()}-{path.name}")
    # The whole trash, because an interrupted removal may have left some.
    threading.Thread(target=subprocess.run, args=(["rm", "-rf", str(trash)],), kwargs={"check": False}).start()


def remove_tree(path: Path) -> None:
    """Removes a folder and what is in it; absent is fine."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.is_dir():
        shutil.rmtree(path)
