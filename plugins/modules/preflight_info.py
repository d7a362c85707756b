#!/usr/bin/python
# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask a node every question of preflight in one round trip."""

from __future__ import annotations

DOCUMENTATION = r"""
module: preflight_info
short_description: Ask a node every question of preflight in one round trip
description:
  - Gives together what M(ascend.vllm.npu_info), M(ascend.vllm.node_info), M(ascend.vllm.hccn_info) and M(ascend.vllm.artefact_info)
    give one by one, without asking for anything twice. The tools are called one after the other; registry, hub and Docker engine are
    asked meanwhile.
  - What could not be asked is a part of the result and does not keep the rest from being asked.
version_added: 0.1.0
author:
  - ascend.vllm contributors (@ascend-vllm)
options:
  paths:
    description: Files, folders and devices to describe.
    type: list
    elements: path
    default: []
  ports:
    description: TCP ports that must be free.
    type: list
    elements: int
    default: []
  disk_paths:
    description: Paths whose file systems are asked for free space. A path that does not exist yet stands for its nearest parent.
    type: list
    elements: path
    default: []
  sysctls:
    description: Kernel settings to read, such as V(vm.swappiness).
    type: list
    elements: str
    default: []
  local_ip:
    description: The address that serves; a free TCP port is looked for on it.
    type: str
  images:
    description: References of the images to look for.
    type: list
    elements: str
    default: []
  image_sources:
    description:
      - By image, the references under which it may be pulled, looked for in this order. The image's own reference where it is left out.
      - An empty list looks for the image nowhere.
    type: dict
    default: {}
  registry_logins:
    description: The C(auths) of a Docker C(config.json), for registries that want a login.
    type: dict
    default: {}
  weights:
    description: Weights to look for, each with C(kind), C(id), C(revision), C(endpoint), C(dir) and C(ask_hub).
    type: list
    elements: dict
    default: []
  containers:
    description: Names of containers to look for.
    type: list
    elements: str
    default: []
  devices:
    description: Physical ids of the NPUs whose network ports are asked; all of this node if left out.
    type: list
    elements: int
  timeout:
    description: Seconds after which one call of a tool is taken for hanging.
    type: float
    default: 15
extends_documentation_fragment:
  - ascend.vllm.reads_only
attributes:
  platform:
    support: full
    platforms: posix
    description: Linux nodes with Ascend NPUs.
"""

EXAMPLES = r"""
- name: Ask everything
  ascend.vllm.preflight_info:
    paths: [/etc/hccn.conf]
    ports: [8000, 13389]
    images: ["quay.io/ascend/vllm-ascend:v0.13.0"]
    local_ip: 192.0.2.11
  register: node
"""

RETURN = r"""
node:
  description: As M(ascend.vllm.node_info) returns it.
  returned: success
  type: dict
  sample: {"interfaces": [], "hardware": "a2", "npus": [0, 1, 2, 3, 4, 5, 6, 7]}
npu:
  description: As M(ascend.vllm.npu_info) returns it; C(msg) and no C(npus) where that module would fail.
  returned: success
  type: dict
  sample: {"npus": [], "driver_version": "25.5.1"}
hccn:
  description: As M(ascend.vllm.hccn_info) returns it; C(msg) and no C(devices) where that module would fail.
  returned: success
  type: dict
  sample: {"devices": [], "calls": 0}
artefacts:
  description: As M(ascend.vllm.artefact_info) returns it.
  returned: success
  type: dict
  sample: {"images": {}, "weights": [], "containers": {}, "device_containers": [], "docker_error": null}
"""

import concurrent.futures
import traceback

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.ascend.vllm.plugins.module_utils import ask_artefacts, ask_hccn, ask_node, ask_npu, tools


def ask(collector, **questions):
    """Return the answer of one collector, or C({msg, ..}) where it has none."""
    try:
        return collector.answer(**questions)
    except tools.NoAnswer as failure:
        return dict(failure.known, msg=failure.message)
    except Exception as error:  # pylint: disable=broad-except
        # A node that surprises one collector must not take the answers of the others with it.
        return {"msg": "%s: %s: %s" % (collector.__name__.rpartition(".")[2], type(error).__name__, error), "exception": traceback.format_exc()}


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "paths": {"type": "list", "elements": "path", "default": []},
            "ports": {"type": "list", "elements": "int", "default": []},
            "disk_paths": {"type": "list", "elements": "path", "default": []},
            "sysctls": {"type": "list", "elements": "str", "default": []},
            "local_ip": {"type": "str"},
            "images": {"type": "list", "elements": "str", "default": []},
            "image_sources": {"type": "dict", "default": {}},
            "registry_logins": {"type": "dict", "default": {}, "no_log": True},
            "weights": {"type": "list", "elements": "dict", "default": []},
            "containers": {"type": "list", "elements": "str", "default": []},
            "devices": {"type": "list", "elements": "int"},
            "timeout": {"type": "float", "default": 15},
        },
        supports_check_mode=True,
    )
    params = module.params
    timeout = params["timeout"]
    if timeout <= 0:
        module.fail_json(msg="timeout must be more than 0 seconds, not %g." % timeout)
    with concurrent.futures.ThreadPoolExecutor(max_workers=1) as aside:
        # It waits for others most of the time: registry, hub, engine.
        wanted = ("images", "image_sources", "registry_logins", "weights", "containers")
        artefacts = aside.submit(ask, ask_artefacts, **dict((key, params[key]) for key in wanted))
        # npu-smi waits longer for its driver than hccn_tool does.
        npu = ask(ask_npu, timeout=2 * timeout)
        known = npu.get("hardware") if npu.get("npus") and npu.get("hardware") != "unknown" else None
        node = ask(ask_node, hardware=known, timeout=timeout, **dict((key, params[key]) for key in ("paths", "ports", "disk_paths", "sysctls", "local_ip")))
        hccn = ask(ask_hccn, devices=params["devices"], timeout=timeout)
        module.exit_json(changed=False, node=node, npu=npu, hccn=hccn, artefacts=artefacts.result())


if __name__ == "__main__":
    main()
