#!/usr/bin/python
# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask what artefacts a node has, and whether the missing ones can be had."""

from __future__ import annotations

DOCUMENTATION = r"""
module: artefact_info
short_description: Which images, weights and containers a node has, and whether the missing ones exist at their source
description:
  - Asks the Docker engine of the node for images and containers, and the weights directory for its marker.
  - For an image that is not there, asks its registry over HTTP whether the tag or digest exists, with the proxies and
    insecure registries of the engine. For weights that are not there, asks their hub for the file list.
  - Never fails for an answer; what could not be found out is null with an error text beside it.
version_added: 0.1.0
author:
  - ascend.vllm contributors (@ascend-vllm)
options:
  images:
    description: Image references.
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
    description: Weights, each with C(kind), C(id), C(revision), C(endpoint), C(dir) and C(ask_hub), which is true if it is not stated.
    type: list
    elements: dict
    default: []
  containers:
    description: Names of containers to look for.
    type: list
    elements: str
    default: []
  group:
    description: >-
      Name of a group whose running ranks are looked for, too, whatever their names: ranks have other numbers when a group was started with other sizes.
    type: str
extends_documentation_fragment:
  - ascend.vllm.engine_socket
  - ascend.vllm.reads_only
attributes:
  platform:
    support: full
    platforms: posix
    description: Nodes with a Docker engine.
"""

EXAMPLES = r"""
- name: Ask for the image and the weights
  ascend.vllm.artefact_info:
    images: [quay.io/ascend/vllm-ascend:v0.13.0]
    weights:
      - kind: modelscope
        id: vllm-ascend/DeepSeek-R1-W8A8
        revision: master
        endpoint: https://www.modelscope.cn
        dir: /mnt/weights/DeepSeek-R1-W8A8
  register: artefacts
"""

RETURN = r"""
images:
  description:
    - One entry per reference; C(registry) is null where the image is present. C(env) are the variables set in the image,
      C(size) its size on the node in bytes.
    - In C(registry), C(bytes) is what a pull loads for this node's architecture (the compressed layers) and C(architectures)
      what an image for several architectures has; each is null where it is not known.
  returned: success
  type: dict
  sample: {"quay.io/ascend/vllm-ascend:v0.13.0": {"present": false, "id": null, "layers": [], "architecture": null,
    "env": [], "size": null, "registry": {"exists": true, "url": "https://quay.io/v2/ascend/vllm-ascend/manifests/v0.13.0",
    "error": null, "digest": null, "bytes": 6442450944, "architectures": ["amd64", "arm64"]}}}
weights:
  description: >-
    One entry per directory; C(hub) is null where the weights are complete or come from no hub, C(proxies) are those of the engine on the way to it.
  returned: success
  type: list
  elements: dict
containers:
  description: >-
    One entry per name, and per rank of O(group) that runs under another one, C(exists), C(running), C(pid), C(pids) (of all its processes, as the node
    numbers them) and C(labels).
  returned: success
  type: dict
device_containers:
  description:
    - The running containers that may use NPUs, sorted by name, with C(name), C(id), C(devices) (the C(/dev/davinci*) that it
      was given by name), C(privileged), C(labels) and C(pids) (of all its processes, as the node numbers them).
    - One that is privileged, has a device cgroup rule or mounts C(/dev) is listed too, with C(devices) empty when it was given
      none by name.
  returned: success
  type: list
  elements: dict
  sample: [{"name": "other", "id": "0f4c", "devices": ["/dev/davinci3"], "privileged": false, "labels": {}, "pids": [4711]}]
docker_error:
  description: Why the engine could not be asked, or null.
  returned: success
  type: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.ascend.vllm.plugins.module_utils import ask_artefacts
from ansible_collections.ascend.vllm.plugins.module_utils.docker_engine import DEFAULT_SOCKET


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "images": {"type": "list", "elements": "str", "default": []},
            "image_sources": {"type": "dict", "default": {}},
            "registry_logins": {"type": "dict", "default": {}, "no_log": True},
            "weights": {"type": "list", "elements": "dict", "default": []},
            "containers": {"type": "list", "elements": "str", "default": []},
            "group": {"type": "str"},
            "docker_socket": {"type": "path", "default": DEFAULT_SOCKET},
        },
        supports_check_mode=True,
    )
    module.exit_json(changed=False, **ask_artefacts.answer(**module.params))


if __name__ == "__main__":
    main()
