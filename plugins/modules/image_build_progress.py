#!/usr/bin/python
# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build an image in the background, or watch such a build for a few seconds."""

from __future__ import annotations

DOCUMENTATION = r"""
module: image_build_progress
short_description: Build an image in the background, and watch the build for a few seconds
description:
  - With O(begin=true) starts a process that has the Docker engine build the image and that goes on when the controller is gone. Where one
    builds the same image already, it is joined.
  - Then looks every half second how far the build is, until it has ended, for up to O(slice_s) seconds.
  - Stages of the build that have the label C(ascend.vllm.stage) with the argument C(STAGE) as its value are removed once it has ended, however it did.
  - A build is a loop of such slices, see P(ascend.vllm.image_build#module).
version_added: 0.1.0
author:
  - ascend.vllm contributors (@ascend-vllm)
options:
  begin:
    description: Whether a build is begun, if none goes on.
    type: bool
    default: false
  stop:
    description: Whether the build that goes on is ended instead of being watched.
    type: bool
    default: false
  slice_s:
    description: Seconds to watch at most.
    type: float
    default: 5.0
extends_documentation_fragment:
  - ascend.vllm.build_options
  - ascend.vllm.engine_socket
"""

EXAMPLES = r"""
- name: Begin a build, and watch it for five seconds
  ascend.vllm.image_build_progress:
    name: ascend-vllm-client/lm_eval:0123456789ab
    dir: /var/lib/ascend-vllm/build/lm_eval
    begin: true
"""

RETURN = r"""
running:
  description: Whether the build goes on.
  returned: success
  type: bool
done:
  description: Whether the image is there.
  returned: success
  type: bool
error:
  description: Why it is not, or null.
  returned: success
  type: str
step:
  description: The step of the Dockerfile that it is at.
  returned: success
  type: str
said:
  description: Its last lines.
  returned: success
  type: list
  elements: str
events:
  description: How often the engine has said something. While this grows, the build goes on.
  returned: success
  type: int
"""

import os
import shutil

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.service import fork_process
from ansible_collections.ascend.vllm.plugins.module_utils import image_builds
from ansible_collections.ascend.vllm.plugins.module_utils.client_engine import ClientEngine

#: Lines that are returned while the build goes on.
SHOWN = 5


def obstacle(engine, given):
    """Return C((found, wanted, remedy)) of what would make the build fail, or None."""
    for folder in [given["dir"]] + sorted(given["folders"].values()):
        if not os.path.isdir(folder):
            return "no folder %s" % folder, "a folder with the files of the build", "put them there, or correct its path"
    root = (engine.info() or {}).get("DockerRootDir") or "/var/lib/docker"
    # An engine elsewhere has its own disk, of which nothing is known here.
    free = shutil.disk_usage(root).free >> 20 if os.path.isdir(root) else given["need_mb"]
    if free < given["need_mb"]:
        return ("%d MB free at %s" % (free, root), "%d MB to build the image" % given["need_mb"],
                "make room there, or give the image as an archive (eval_client_archives) or a name to pull (eval_client_images)")
    return None


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec=dict(
            image_builds.SPEC,
            begin={"type": "bool", "default": False},
            stop={"type": "bool", "default": False},
            slice_s={"type": "float", "default": 5.0},
        ),
        mutually_exclusive=[("begin", "stop")],
        supports_check_mode=True,
    )
    given = module.params
    if module.check_mode:
        module.exit_json(changed=given["begin"], running=False, done=False, error=None, step="", said=[], events=0)
    job, engine, changed = image_builds.job(given["name"]), ClientEngine(given["docker_socket"]), False
    stays = None
    if given["stop"]:
        job.stop()
        # The engine gives the build up when its client is gone, which may take it a moment.
        job.watch(given["slice_s"])
        stays = image_builds.clear(engine, given["name"])
    if given["begin"] and not job.look()[1]:
        try:
            problem = obstacle(engine, given)
        except OSError as error:
            problem = str(error), "the answer of the Docker engine", "systemctl status docker"
        if problem:
            module.fail_json(msg="%s: found %s; wanted %s. Remedy: %s" % ((given["name"],) + problem))
        changed = job.start(fork_process, lambda: image_builds.carry_on(job, engine, given), image_builds.fresh(given["name"]))
    state, running = job.watch(given["slice_s"])
    state = state or dict(image_builds.fresh(given["name"]), error="nothing is known of a build here")
    if not running and not state["done"] and not state["error"]:
        state["error"] = "the process that built was ended"
    if stays:
        state["error"] = "%s (%s)" % (state["error"], stays)
    said = state["said"][-SHOWN:] if running else state["said"]
    module.exit_json(changed=changed, running=running, done=state["done"], error=state["error"], step=state["step"], said=said, events=state["events"])


if __name__ == "__main__":
    main()
