#!/usr/bin/python
# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make one archive of what a node has to say about its units."""

from __future__ import annotations

DOCUMENTATION = r"""
module: logs_bundle
short_description: Make one archive of a node's logs and states, without secrets
description:
  - Takes the Docker engine's C(info), C(inspect) and logs of the units, CANN's own logs, what C(npu-smi), C(hccn_tool), the kernel and the
    system say, and names and sizes of the weights, in one round trip.
  - Reads only, and writes nothing but the archive in a folder of its own, which the caller removes.
  - What cannot be had is an entry of C(MANIFEST.json) in the archive and never a failure. Of what is too large the newest is kept, and the
    manifest says what was cut.
  - Secrets are removed before anything is written, those that are known (O(secrets), and the key files below O(etc_dir)) and what looks like one,
    such as headers C(Authorization), variables C(*_TOKEN), C(*_KEY), C(*PASSWORD*), options C(--api-key), private keys and passwords in URLs.
    A log file of CANN that is no text is left out.
version_added: 0.1.0
author:
  - ascend.vllm contributors (@ascend-vllm)
options:
  folder:
    description:
      - Folder to make on the node for the archive. It must not exist, its parent must. Only its owner may look into it.
      - It is removed again when the module fails.
    type: path
    required: true
  units:
    description: Names of the units (containers) of this node.
    type: list
    elements: str
    default: []
  weights_dirs:
    description: Folders of weights, of which names and sizes of the files are taken.
    type: list
    elements: path
    default: []
  log_dir:
    description: Folder with a folder of CANN logs for each unit.
    type: path
    default: /var/log/ascend-vllm
  etc_dir:
    description: Folder below which files with secrets are, by which to know them in logs.
    type: path
    default: /etc/ascend-vllm
  secrets:
    description: Texts of secrets, each line of which must not be in the archive. A Docker C(config.json) stands for the logins in it.
    type: list
    elements: str
    default: []
  max_bytes:
    description: Bytes of the whole archive before compression. Less is taken where O(folder) has no room for it.
    type: int
    default: 200000000
  max_source_bytes:
    description: Bytes of one file in the archive.
    type: int
    default: 50000000
  tail_lines:
    description: Last lines of a container's log to read.
    type: int
    default: 250000
  timeout:
    description: Seconds after which one call of a tool is taken for hanging. After two timeouts in a row a tool is not called again.
    type: float
    default: 15
  time_limit:
    description: Seconds after which nothing more is asked and the archive is closed with what there is.
    type: float
    default: 300
  devices:
    description: Physical ids of the NPUs whose network ports are asked; all of this node if left out.
    type: list
    elements: int
  npu_smi_path:
    description: Path of C(npu-smi), searched for if left out.
    type: path
  hccn_tool_path:
    description: Path of C(hccn_tool), searched for if left out.
    type: path
extends_documentation_fragment:
  - ascend.vllm.engine_socket
attributes:
  check_mode:
    support: full
    description: Says what would be taken (RV(planned)) and makes nothing.
  diff_mode:
    support: none
    description: Nothing of the node is changed.
  platform:
    support: full
    platforms: posix
    description: Linux nodes with Ascend NPUs.
"""

EXAMPLES = r"""
- name: Make the archive of this node
  ascend.vllm.logs_bundle:
    folder: /var/tmp/ascend-vllm-logs-4f1c
    units: [vllm-rank0]
    secrets: ["{{ lookup('ansible.builtin.file', '/srv/secrets/api_key') }}"]
  register: made
"""

RETURN = r"""
archive:
  description: Path of the archive on the node, mode V(0600).
  returned: not in check mode
  type: str
  sample: /var/tmp/ascend-vllm-logs-4f1c/bundle.tar.gz
bytes:
  description: Its size, in bytes.
  returned: not in check mode
  type: int
files:
  description: How many files are in it.
  returned: not in check mode
  type: int
cut:
  description: How many sources were cut.
  returned: not in check mode
  type: int
errors:
  description: How many sources could not be had, or not as a whole.
  returned: not in check mode
  type: int
planned:
  description: What would be taken.
  returned: in check mode
  type: list
  elements: str
  sample: ["docker info", "docker inspect vllm-rank0", "docker logs vllm-rank0"]
"""

import os
import shutil

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.ascend.vllm.plugins.module_utils import log_bundle


def make(module, params):
    """Make the folder and the archive in it; return the module's result."""
    folder = params.pop("folder")
    try:
        os.mkdir(folder, 0o700)
    except OSError as error:
        module.fail_json(msg="The folder %s cannot be made: %s. Wanted: a new folder in a place with room. Remedy: choose another place." % (
            folder, error.strerror or error))
    try:
        archive, manifest = log_bundle.collect(folder=folder, **params)
        size = os.path.getsize(archive)
    except BaseException as error:
        shutil.rmtree(folder, ignore_errors=True)
        if not isinstance(error, OSError):
            raise
        module.fail_json(msg="The archive in %s cannot be written: %s. Remedy: free space there, or choose another place." % (
            folder, error.strerror or error))
    entries = manifest["entries"]
    return {
        "archive": archive,
        "bytes": size,
        "files": sum(1 for entry in entries if entry["bytes"]),
        "cut": sum(1 for entry in entries if entry["cut"]),
        "errors": sum(1 for entry in entries if entry["error"]),
    }


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "folder": {"type": "path", "required": True},
            "units": {"type": "list", "elements": "str", "default": []},
            "weights_dirs": {"type": "list", "elements": "path", "default": []},
            "log_dir": {"type": "path", "default": "/var/log/ascend-vllm"},
            "etc_dir": {"type": "path", "default": "/etc/ascend-vllm"},
            "secrets": {"type": "list", "elements": "str", "default": [], "no_log": True},
            "max_bytes": {"type": "int", "default": 200000000},
            "max_source_bytes": {"type": "int", "default": 50000000},
            "tail_lines": {"type": "int", "default": 250000},
            "timeout": {"type": "float", "default": 15},
            "time_limit": {"type": "float", "default": 300},
            "devices": {"type": "list", "elements": "int"},
            "npu_smi_path": {"type": "path"},
            "hccn_tool_path": {"type": "path"},
            "docker_socket": {"type": "path", "default": "/var/run/docker.sock"},
        },
        supports_check_mode=True,
    )
    params = dict(module.params)
    for name in ("max_bytes", "max_source_bytes", "tail_lines", "timeout", "time_limit"):
        if params[name] <= 0:
            module.fail_json(msg="%s must be more than 0, not %s." % (name, params[name]))
    if module.check_mode:
        module.exit_json(changed=False, planned=log_bundle.planned(params["units"], params["log_dir"], params["weights_dirs"]))
    module.exit_json(changed=False, **make(module, params))


if __name__ == "__main__":
    main()
