#!/usr/bin/python
# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep new requests away from a group's APIs and watch the others end, for a few seconds."""

from __future__ import annotations

DOCUMENTATION = r"""
module: drain_progress
short_description: Keep new requests away from the APIs of a node and watch the others end, for a few seconds
description:
  - Runs on the head of a group, or on each node of a prefill or decode group. New connections to the APIs' ports are rejected by an nftables table
    of the collection's own, except those of the node itself; connections that are there go on.
  - Returns when no request was computed or waited for three seconds, with O(alone) also as soon as there is none and nobody is connected any more, or
    when O(slice_s) is over. M(ascend.vllm.serve_drain) calls it again and again.
  - What is rejected is let in again by O(state=absent), and by itself after O(expire_s).
version_added: 0.1.0
author:
  - ascend.vllm contributors (@ascend-vllm)
options:
  ports:
    description: Ports of the APIs.
    type: list
    elements: int
    required: true
  state:
    description: V(present) keeps new connections away and watches, V(absent) lets them in again.
    type: str
    choices: [present, absent]
    default: present
  urls:
    description: Base URLs of the APIs, to watch their requests, which are added up. Nothing is watched without any.
    type: list
    elements: str
    default: []
  alone:
    description: Whether requests come over connections from other nodes only, which are kept away. Not so behind a proxy that may run on this node.
    type: bool
    default: false
  slice_s:
    description: How long to watch, in seconds. When no request is left or no answer comes by then, a little longer, until that is sure.
    type: float
    default: 5.0
  expire_s:
    description: Seconds after which new connections are let in again by themselves.
    type: int
    default: 900
extends_documentation_fragment:
  - ascend.vllm.api_access
attributes:
  check_mode:
    support: full
    description: Keeps nothing away and watches nothing.
  diff_mode:
    support: none
    description: What is kept away is let in again by the same run.
  platform:
    support: full
    platforms: linux
    description: Nodes with nft.
"""

EXAMPLES = r"""
- name: Keep new requests away and watch for five seconds
  ascend.vllm.drain_progress:
    ports: [8000]
    urls: [http://198.51.100.11:8000]
"""

RETURN = r"""
kept_away:
  description: Whether new connections are rejected now.
  returned: success
  type: bool
why_not:
  description: Why they are not, or null.
  returned: success
  type: str
requests:
  description:
    - C(running) and C(waiting) as the APIs counted them last, empty where no answer came in time, which a busy API may not give.
    - Null where nobody listened, or the metrics did not say it, three times in a row.
  returned: success
  type: dict
drained:
  description: Whether no request was there for three seconds, or none and nobody connected.
  returned: success
  type: bool
tokens:
  description: Tokens that the APIs have computed since they started; when it stands still, nothing is computed any more. Null where it did not say.
  returned: success
  type: int
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.ascend.vllm.plugins.module_utils import drain, host, quiet
from ansible_collections.ascend.vllm.plugins.module_utils.serve_api import Api, Several

#: The kernel's list may lack an entry while others come and go: so often it has to be empty in a row.
LOOKS = 3


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "ports": {"type": "list", "elements": "int", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "urls": {"type": "list", "elements": "str", "default": []},
            "api_key": {"type": "str", "no_log": True},
            "ca_file": {"type": "path"},
            "alone": {"type": "bool", "default": False},
            "slice_s": {"type": "float", "default": 5.0},
            "expire_s": {"type": "int", "default": 900},
        },
        supports_check_mode=True,
    )
    given = module.params
    result = {"changed": False, "kept_away": False, "why_not": None, "requests": None, "tokens": None, "drained": False}
    try:
        if module.check_mode:
            result["kept_away"] = set(given["ports"]) <= set(drain.kept_away())
        elif given["state"] == "absent":
            for port in given["ports"]:
                drain.let_in(port)
        else:
            for port in given["ports"]:
                drain.keep_away(port, given["expire_s"])
            result["kept_away"] = True
    except drain.DrainError as error:
        result["why_not"] = str(error)
        if given["state"] == "absent" and not isinstance(error, drain.NoNft):
            module.warn("new connections to port %s are let in again only when the time is over that was asked for: %s"
                        % (", ".join(map(str, given["ports"])), error))
    if given["urls"] and given["state"] == "present" and not module.check_mode:
        apis = Several([Api(url, given["api_key"], given["ca_file"]) for url in given["urls"]])
        sure = given["alone"] and result["kept_away"]
        result["requests"], result["tokens"], result["drained"] = quiet.watch(
            apis, given["slice_s"], alone=lambda: sure and all(host.connections(given["ports"]) == 0 for dummy in range(LOOKS)))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
