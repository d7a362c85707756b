# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The image every node runs from, in the host's engine."""

from __future__ import annotations

from lablib import rootfs, shape
from lablib.host import Engine
from lablib.say import step

_REPOSITORY = "ascend-vllm-lab/node"


def name_of_image() -> str:
    """The tag is the hash of everything that is in the image."""
    return f"{_REPOSITORY}:{rootfs.key()}"


def load(engine: Engine) -> str:
    """Imports the node's tree into the host's engine, once; returns the image's name."""
    name = name_of_image()
    if engine.call("image", "inspect", name, check=False).returncode == 0:
        return name
    tar = rootfs.build() / "node.tar"
    with step("node image: docker import"):
        engine.out("import", "--change", 'CMD ["/sbin/init"]', "--change", f"LABEL {shape.LABEL}=node", str(tar), name)
    for stale in engine.out("image", "ls", "--format", "{{.Repository}}:{{.Tag}}", _REPOSITORY).split():
        if stale != name:
            engine.call("image", "rm", "--force", stale, check=False)
    return name
