#!/usr/bin/python
# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Look at a directory of weights, and mark it complete once every file is there."""

from __future__ import annotations

DOCUMENTATION = r"""
module: weights_dir
short_description: Look at a directory of model weights, and mark it complete
description:
  - With O(state=read), says what the directory holds and whether it is complete.
  - With O(state=marked), asks the ModelScope hub for the model's file list, compares it with the directory, and writes
    the marker that later runs, and the launch, trust. A directory with a missing or short file is never marked.
version_added: 0.1.0
author:
  - ascend.vllm contributors (@ascend-vllm)
options:
  weights:
    description: The weights, with C(kind), C(id), C(revision), C(endpoint) and C(dir).
    type: dict
    required: true
  state:
    description: Read only, or mark the directory when it is whole.
    type: str
    choices: [read, marked]
    default: read
attributes:
  check_mode:
    support: full
    description: In check mode nothing is written.
  diff_mode:
    support: none
    description: The marker is not shown as a difference.
  platform:
    support: full
    platforms: posix
    description: Nodes that see the weights directory.
"""

EXAMPLES = r"""
- name: Look at the weights
  ascend.vllm.weights_dir:
    weights:
      kind: modelscope
      id: vllm-ascend/DeepSeek-R1-W8A8
      revision: master
      endpoint: https://www.modelscope.cn
      dir: /mnt/weights/DeepSeek-R1-W8A8
  register: weights
"""

RETURN = r"""
exists:
  description: Whether the directory is there.
  returned: success
  type: bool
complete:
  description: Whether a marker of exactly this model is there and every file it lists has its size.
  returned: success
  type: bool
files:
  description: Number of files.
  returned: success
  type: int
bytes:
  description: Their total size in bytes.
  returned: success
  type: int
fingerprint:
  description: SHA-256 over names and sizes of all files and the content of the small ones; equal on nodes that see the same weights.
  returned: success
  type: str
differences:
  description: What keeps the directory from being complete.
  returned: success
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.ascend.vllm.plugins.module_utils import plain_http, weights


def mark(module, wanted, before):
    """Compare with the hub's list and write the marker; fail naming every difference."""
    if wanted["kind"] != "modelscope":
        module.fail_json(
            msg="%s is not whole, and weights of kind %s come from no hub: %s. Remedy: put the missing files there."
            % (wanted["dir"], wanted["kind"], "; ".join(before["differences"][:20])), differences=before["differences"])
    listed = plain_http.modelscope_files(wanted["endpoint"], wanted["id"], wanted["revision"])
    if not listed["exists"]:
        module.fail_json(msg="cannot compare %s with the hub: %s. Remedy: check the endpoint in vllm_weights_source." % (wanted["dir"], listed["error"]))
    differences = weights.compare(listed["files"], weights.list_files(wanted["dir"]))
    if differences:
        module.fail_json(
            msg="%s is not whole and was not marked complete: %s. Remedy: run site.yml again; the client fetches only what is missing."
            % (wanted["dir"], "; ".join(differences[:20])), differences=differences)
    if not module.check_mode:
        try:
            weights.write_marker(wanted["dir"], wanted, listed["files"])
        except OSError as error:
            module.fail_json(msg="cannot write the marker in %s: %s. Remedy: make room and let root write there." % (wanted["dir"], error))
        return weights.state(wanted["dir"], wanted)
    return before


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "weights": {"type": "dict", "required": True},
            "state": {"type": "str", "choices": ["read", "marked"], "default": "read"},
        },
        supports_check_mode=True,
    )
    wanted = module.params["weights"]
    found = weights.state(wanted["dir"], wanted)
    changed = module.params["state"] == "marked" and not found["complete"]
    if changed:
        found = mark(module, wanted, found)
    module.exit_json(changed=changed, **found)


if __name__ == "__main__":
    main()
