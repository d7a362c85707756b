#!/usr/bin/python
# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fetch verified weights from other nodes, for a limited time."""

from __future__ import annotations

DOCUMENTATION = r"""
module: weights_pull
short_description: Fetch verified weights from other nodes, for a limited time
description:
  - Runs on a node that has its own copy of the weights. Asks the node before it, by rsync over SSH, for the files of the head's manifest,
    proves the SHA-256 of each, and only then puts it where the next node sees it. The directory is marked complete last.
  - A node that is gone, refuses, stands still or has a wrong content is left for the next one in O(upstreams).
  - What is here and right is hashed rather than fetched; what is here and wrong is moved below C(.ascend-vllm-bad).
  - Call it again while RV(done) is false, with RV(gave_up) and RV(watch) of the call before; M(ascend.vllm.weights_fan_out) does.
version_added: 0.1.0
author:
  - ascend.vllm contributors (@ascend-vllm)
options:
  weights:
    description: The weights, as for M(ascend.vllm.weights_dir).
    type: dict
    required: true
  fingerprint:
    description: What M(ascend.vllm.weights_dir) returns as C(fingerprint) on the head; no other list of files is accepted.
    type: str
    required: true
  upstreams:
    description: The nodes to ask, each with C(name), C(address), C(port) and C(user); the nearest first, the head last.
    type: list
    elements: dict
    required: true
  key_file:
    description: Path on the node of the private key that the others accept.
    type: path
    required: true
  known_hosts_file:
    description: Path on the node of a file with the host keys of the others; no other host is talked to.
    type: path
    required: true
  streams:
    description: Transfers at a time.
    type: int
    default: 4
  bandwidth_limit:
    description: Bytes per second that this node may receive, V(0) for no limit.
    type: int
    default: 0
  budget_s:
    description: About how long a call takes, in seconds. A transfer under way is ended and goes on in the next call.
    type: float
    default: 20.0
  stall_s:
    description: Seconds after which a node that gets nothing new itself is left for the next one.
    type: float
    default: 60.0
  gave_up:
    description: Nodes that are not asked any more, with the reason.
    type: dict
    default: {}
  watch:
    description: What was seen of a node that has nothing new.
    type: dict
attributes:
  check_mode:
    support: full
    description: In check mode nothing is fetched.
  diff_mode:
    support: none
    description: Files are not shown as a difference.
  platform:
    support: full
    platforms: posix
    description: Nodes with rsync and an SSH client.
"""

EXAMPLES = r"""
- name: Fetch for twenty seconds
  ascend.vllm.weights_pull:
    weights: "{{ group.weights }}"
    fingerprint: "{{ head.fingerprint }}"
    upstreams:
      - {name: node1, address: 198.51.100.12, port: 22, user: root}
      - {name: node0, address: 198.51.100.11, port: 22, user: root}
    key_file: /run/ascend-vllm/copy/key
    known_hosts_file: /run/ascend-vllm/copy/known_hosts
"""

RETURN = r"""
done:
  description: Whether nothing is left to do.
  returned: success
  type: bool
phase:
  description: What the call did last, as a word for the progress.
  returned: success
  type: str
total_bytes:
  description: Bytes of all files.
  returned: success
  type: int
left_bytes:
  description: Bytes of the files that are not here and proved.
  returned: success
  type: int
fetched_bytes:
  description: Bytes of the files that this call fetched.
  returned: success
  type: int
gave_up:
  description: Nodes that are not asked any more, with the reason.
  returned: success
  type: dict
watch:
  description: What was seen of a node that has nothing new.
  returned: success
  type: dict
differences:
  description: What keeps the directory from being complete when all is done.
  returned: success
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.parsing.convert_bool import boolean
from ansible_collections.ascend.vllm.plugins.module_utils import manifest, relay, tools, weights


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "weights": {"type": "dict", "required": True},
            "fingerprint": {"type": "str", "required": True},
            "upstreams": {"type": "list", "elements": "dict", "required": True},
            # Paths are no secrets.
            "key_file": {"type": "path", "required": True, "no_log": False},
            "known_hosts_file": {"type": "path", "required": True},
            "streams": {"type": "int", "default": 4},
            "bandwidth_limit": {"type": "int", "default": 0},
            "budget_s": {"type": "float", "default": 20.0},
            "stall_s": {"type": "float", "default": 60.0},
            "gave_up": {"type": "dict", "default": {}},
            "watch": {"type": "dict"},
        },
        supports_check_mode=True,
    )
    given = module.params
    absent = [name for name in ("rsync", "ssh") if not tools.find_tool(name)["path"]]
    if absent:
        module.fail_json(msg="%s is not installed here. Remedy: install it; ascend.vllm.prerequisites does." % " and ".join(absent))
    wanted = dict(given["weights"])
    requirements = dict(wanted.get("requirements") or {})
    wanted["requirements"] = dict(requirements, mtp=boolean(requirements.get("mtp") or False, strict=False))
    work = relay.Relay(wanted, given["upstreams"], given["fingerprint"], given["key_file"], given["known_hosts_file"], given["gave_up"])
    try:
        result = relay.step(work, given["streams"], given["bandwidth_limit"], given["budget_s"], given["watch"], given["stall_s"], module.check_mode)
    except relay.RelayError as error:
        module.fail_json(msg="%s: %s" % (wanted["dir"], error), gave_up=work.gave_up)
    except (manifest.WriteError, weights.HubError, OSError) as error:
        module.fail_json(msg="cannot write the weights to %s: %s. Remedy: make room and let root write there." % (wanted["dir"], error), gave_up=work.gave_up)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
