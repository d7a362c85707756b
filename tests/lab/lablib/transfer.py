# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The layer of the engine image that moves the KV cache from prefill to decode: NIXL, from a lock file of its own.

Apart from vLLM's, which takes minutes to build and this one seconds: neither is built again because of the other.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from lablib.layers import Layer, make_layer, tar_of
from lablib.places import LAB_SOURCE, LOGS, cached, content_key
from lablib.say import run_logged, step
from lablib.wheels import SITE, find_python

_LOCK = LAB_SOURCE / "engine" / "nixl.lock"
# Kernels that exchange experts between GPUs, and what belongs to them: half of the download, and nothing here can run it.
_UNUSED = ("nixl_ep*", "nixl_cu12.scripts")


def transfer_layer() -> Layer:
    """NIXL and the libraries that come with it."""
    return Layer.load(cached("layer-nixl", content_key(_LOCK, Path(__file__)), _make_transfer_layer))


def _make_transfer_layer(part: Path) -> None:
    tree = part / "tree"
    log = LOGS / "engine-nixl.log"
    log.unlink(missing_ok=True)
    command = [find_python(), "-m", "pip", "install", "--no-deps", "--only-binary=:all:", "--require-hashes", "--disable-pip-version-check",
               "--root-user-action=ignore", "--quiet", "--target", str(tree / SITE), "--requirement", str(_LOCK)]  # fmt: skip
    with step("engine image: pip install of NIXL (69 MB to download)"):
        run_logged(command, log)
    for pattern in _UNUSED:
        for path in (tree / SITE).glob(pattern):
            shutil.rmtree(path)
    with step("engine image: layer 3, NIXL"):
        make_layer(part, tar_of(tree))
    shutil.rmtree(tree)
