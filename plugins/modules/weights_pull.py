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
  - Call it again while RV(done) is false, with RV(gave_up), RV(watch) and RV(full) of the call before; M(ascend.vllm.weights_fan_out) does.
version_added: 0.1.0
author:
  - ascend.vllm contributors (@ascend-vllm)
options:
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
extends_documentation_fragment:
  - ascend.vllm.weights_copy
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
full:
  description: Whether what is here is still being hashed because everything is to be.
  returned: success
  type: bool
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
        argument_spec=dict(
            relay.SPEC,
            budget_s={"type": "float", "default": 20.0},
            stall_s={"type": "float", "default": 60.0},
            gave_up={"type": "dict", "default": {}},
            watch={"type": "dict"},
        ),
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
        result = relay.step(work, given["streams"], given["bandwidth_limit"], given["budget_s"], given["watch"], given["stall_s"], given["full"],
                            module.check_mode)
    except relay.RelayError as error:
        module.fail_json(msg="%s: %s" % (wanted["dir"], error), gave_up=work.gave_up)
    except (manifest.WriteError, weights.HubError, OSError) as error:
        module.fail_json(msg="cannot write the weights to %s: %s. Remedy: make room and let root write there." % (wanted["dir"], error), gave_up=work.gave_up)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
