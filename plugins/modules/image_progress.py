#!/usr/bin/python
# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pull an image in the background, or watch such a pull for a few seconds."""

from __future__ import annotations

DOCUMENTATION = r"""
module: image_progress
short_description: Pull an image in the background, and watch the pull for a few seconds
description:
  - With O(begin=true) starts a process that has the Docker engine pull the image and that goes on when the controller is gone. Where one
    pulls the same image already, it is joined.
  - Then looks every half second how far the pull is, until it has ended, for up to O(slice_s) seconds.
  - A pull is a loop of such slices, see P(ascend.vllm.image_fetch#module).
version_added: 0.1.0
author:
  - ascend.vllm contributors (@ascend-vllm)
options:
  name:
    description: Reference of the image.
    type: str
    required: true
  begin:
    description: Whether a pull is begun, if none goes on.
    type: bool
    default: false
  stop:
    description: Whether the pull that goes on is ended instead of being watched.
    type: bool
    default: false
  registry_logins:
    description: The C(auths) of a Docker C(config.json). They are written nowhere on the node.
    type: dict
    default: {}
  slice_s:
    description: Seconds to watch at most.
    type: float
    default: 5.0
extends_documentation_fragment:
  - ascend.vllm.engine_socket
attributes:
  check_mode:
    support: none
    description: A pull cannot be begun on trial.
  diff_mode:
    support: none
    description: There is no text to compare.
  platform:
    support: full
    platforms: posix
    description: Nodes with a Docker engine.
"""

EXAMPLES = r"""
- name: Begin a pull, and watch it for five seconds
  ascend.vllm.image_progress:
    name: quay.io/ascend/vllm-ascend:v0.13.0
    begin: true
"""

RETURN = r"""
running:
  description: Whether the pull goes on.
  returned: success
  type: bool
done:
  description: Whether the engine has the image.
  returned: success
  type: bool
error:
  description: Why it has not, or null.
  returned: success
  type: str
bytes:
  description: Bytes that have come of the layers, compressed as they are loaded.
  returned: success
  type: int
layers:
  description: Layers that the image has, as far as the engine has named them.
  returned: success
  type: int
layers_done:
  description: Those that are unpacked, or were there before.
  returned: success
  type: int
events:
  description: How often the engine has said something. While this grows, the pull goes on.
  returned: success
  type: int
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.service import fork_process
from ansible_collections.ascend.vllm.plugins.module_utils import pulls
from ansible_collections.ascend.vllm.plugins.module_utils.docker_engine import DEFAULT_SOCKET


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "begin": {"type": "bool", "default": False},
            "stop": {"type": "bool", "default": False},
            "registry_logins": {"type": "dict", "default": {}, "no_log": True},
            "slice_s": {"type": "float", "default": 5.0},
            "docker_socket": {"type": "path", "default": DEFAULT_SOCKET},
        },
        mutually_exclusive=[("begin", "stop")],
    )
    params = module.params
    if params["stop"]:
        pulls.stop(params["name"])
    changed = params["begin"] and pulls.start(params["name"], fork_process, params["registry_logins"], params["docker_socket"])
    module.exit_json(changed=bool(changed), **pulls.watch(params["name"], params["slice_s"]))


if __name__ == "__main__":
    main()
