# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node needs to build the image of an evaluation client: an image with Python and pip, and an index of the packages of its lock file.

Nothing of it comes with `lab up`: `lab client TOOL` has it there, for the tests that build such an image.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from lablib import engine_image, layers, shape
from lablib.layers import Layer, make_layer, tar_of
from lablib.places import CHECKOUT, LOGS, RUN, cached, content_key
from lablib.say import LabError, run_logged, say, step
from lablib.wheels import SITE, TORCH_INDEX, find_python

LOCKS = CHECKOUT / "roles" / "eval_client" / "files"
#: Where the hub serves packages from; see services.py.
SERVED = RUN / "services" / "wheels"
_PIP = "pip==26.3"
_CONFIG = {"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"], "Cmd": ["python3"]}


def tools() -> list[str]:
    """The clients that have a lock file."""
    return sorted(path.stem for path in LOCKS.glob("*.lock"))


def provide(tool: str) -> None:
    """Has the packages of one client in the index, and the image to build upon in the registry."""
    if tool not in tools():
        raise LabError(f"no client {tool!r}: there are {', '.join(tools())}")
    SERVED.mkdir(parents=True, exist_ok=True)
    for wheel in _wheels(tool).glob("*.whl"):
        if not (SERVED / wheel.name).exists():
            os.link(wheel, SERVED / wheel.name)
    if layers.push(shape.REGISTRY, *shape.PYTHON_IMAGE.split(":"), [engine_image.base_layer(), _pip_layer()], _CONFIG):
        say(f"pushed {shape.REGISTRY}/{shape.PYTHON_IMAGE}")


def _wheels(tool: str) -> Path:
    lock = LOCKS / f"{tool}.lock"

    def make(folder: Path) -> None:
        log = LOGS / f"client-{tool}.log"
        log.unlink(missing_ok=True)
        # What is published as source only is made a wheel here: the image has no compiler.
        command = [find_python(), "-m", "pip", "wheel", "--no-deps", "--disable-pip-version-check", "--quiet", "--wheel-dir", str(folder), "-r", str(lock)]
        with step(f"packages of {tool}"):
            try:
                run_logged(command, log)
            except LabError:
                # As for the engine: PyPI itself has no CPU-only torch.
                if "No matching distribution found for torch" not in log.read_text(errors="replace"):
                    raise
                run_logged([*command, "--extra-index-url", TORCH_INDEX], log)

    return cached(f"client-{tool}", content_key(lock, Path(__file__)), make)


def _pip_layer() -> Layer:
    def make(part: Path) -> None:
        tree = part / "tree"
        subprocess.run([find_python(), "-m", "pip", "install", "--no-deps", "--quiet", "--disable-pip-version-check", "--root-user-action=ignore",
                        "--target", str(tree / SITE), _PIP], check=True)  # fmt: skip
        make_layer(part, tar_of(tree))
        shutil.rmtree(tree)

    return Layer.load(cached("layer-pip", content_key(_PIP, Path(__file__)), make))
