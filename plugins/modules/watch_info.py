#!/usr/bin/python
# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask what a node has of the watch that brings its groups back."""

from __future__ import annotations

DOCUMENTATION = r"""
module: watch_info
short_description: What a node has of the watch that brings its groups back
description:
  - Says which services of the watch are installed, which code they run, and for each unit its container, what its watch wrote down
    and which key it has, in one round trip.
version_added: 0.1.0
author:
  - ascend.vllm contributors (@ascend-vllm)
options:
  units:
    description: Names of units, each with the name of its group.
    type: dict
    default: {}
  config_dir:
    description: Where each unit has a folder with its key.
    type: path
    default: /etc/ascend-vllm
  state_dir:
    description: Where each unit has a folder with its state file.
    type: path
    default: /var/lib/ascend-vllm
  code_dir:
    description: Where the code of the watch is.
    type: path
    default: /usr/local/lib/ascend-vllm
  systemd_dir:
    description: Where the services are.
    type: path
    default: /etc/systemd/system
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
- name: Ask what there is of the watch
  ascend.vllm.watch_info:
    units: {vllm-rank0: vllm}
  register: watch
"""

RETURN = r"""
units:
  description:
    - One entry a unit. C(container) has C(kind) (V(running), V(stopped), V(absent), V(foreign), which is one without the group's label, or
      V(unknown), where the engine does not answer), C(id), C(started_at) and C(detail).
    - C(state) is what its watch wrote down, or null. It has C(generation), C(phase) (V(waiting), V(starting), V(serving), V(stopping) or
      V(given_up)), C(reason) (why the last start ended), C(started), C(container_id) and C(started_at), on the head also C(starts) and
      C(waits_for).
    - C(adopted) is whether the container runs and the state means this run of it. C(key) is a SHA-256 of its key, or null.
  returned: success
  type: dict
  sample: {"vllm-rank0": {"container": {"kind": "running", "id": "0f4c", "started_at": "2026-01-31T23:59:59Z", "detail": ""},
    "state": {"generation": 1764000000, "phase": "serving", "reason": "", "started": true, "container_id": "0f4c",
    "started_at": "2026-01-31T23:59:59Z"}, "adopted": true, "key": "5e88"}}
services:
  description: Names of the units of which a service is installed.
  returned: success
  type: list
  elements: str
code:
  description: SHA-1 of each file of the code, by name.
  returned: success
  type: dict
python:
  description: The Python that ran this module.
  returned: success
  type: str
"""

import hashlib
import os
import re
import sys

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.ascend.vllm.plugins.module_utils.docker_engine import DEFAULT_SOCKET, DockerEngine
from ansible_collections.ascend.vllm.plugins.module_utils.group_watch import look, read_json, same_run


def _names(folder):
    """Return the sorted names in a folder, none where it is not there."""
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def _hash(path, algorithm):
    """Return the hash of a file, or None where it cannot be read."""
    try:
        with open(path, "rb") as stream:
            return hashlib.new(algorithm, stream.read()).hexdigest()
    except OSError:
        return None


def unit_info(engine, name, group, params):
    """Return what there is of one unit."""
    seen = look(engine, name, group)
    state = read_json(os.path.join(params["state_dir"], name, "state.json"))
    return {"container": dict(seen._asdict()), "state": state, "adopted": same_run(state, seen),
            "key": _hash(os.path.join(params["config_dir"], name, "watch.key"), "sha256")}


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "units": {"type": "dict", "default": {}},
            "config_dir": {"type": "path", "default": "/etc/ascend-vllm"},
            "state_dir": {"type": "path", "default": "/var/lib/ascend-vllm"},
            "code_dir": {"type": "path", "default": "/usr/local/lib/ascend-vllm"},
            "systemd_dir": {"type": "path", "default": "/etc/systemd/system"},
            "docker_socket": {"type": "path", "default": DEFAULT_SOCKET},
        },
        supports_check_mode=True,
    )
    params = module.params
    engine = DockerEngine(params["docker_socket"])
    services = [re.match(r"^ascend-vllm-(.+)\.service$", name) for name in _names(params["systemd_dir"])]
    code = os.path.join(params["code_dir"], "ansible_collections", "ascend", "vllm", "plugins", "module_utils")
    module.exit_json(
        changed=False,
        units={name: unit_info(engine, name, group, params) for name, group in params["units"].items()},
        services=[match.group(1) for match in services if match],
        code={name: _hash(os.path.join(code, name), "sha1") for name in _names(code) if name.endswith(".py")},
        python=sys.executable,
    )


if __name__ == "__main__":
    main()
