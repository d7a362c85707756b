#!/usr/bin/python
# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Send the new connections of a proxy to another one on its host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: proxy_handover
short_description: Send the new connections of a proxy to another one on its host
description:
  - New connections to O(port), from wherever, go to O(to) by an nftables table of the collection's own; connections that are there go on.
  - At C(127.83.0.1) this host reaches O(port) all the same.
  - Is undone by O(state=absent), and by itself after O(expire_s). Connections that were sent on go on after that, too.
  - Where nftables cannot be used nothing fails; RV(sent_on) is false then and RV(why_not) says why.
version_added: 0.1.0
author:
  - ascend.vllm contributors (@ascend-vllm)
options:
  port:
    description: Port whose new connections are sent on. Needed with C(state=present).
    type: int
  to:
    description: Port of this host that gets them. Needed with C(state=present).
    type: int
  expire_s:
    description: Seconds after which nobody is sent on any more.
    type: int
    default: 900
  state:
    description: V(present) sends on, V(absent) undoes it.
    type: str
    choices: [present, absent]
    default: present
attributes:
  check_mode:
    support: full
    description: Sends nobody on.
  diff_mode:
    support: none
    description: What is sent on is undone by the same run.
  platform:
    support: full
    platforms: linux
    description: Hosts with nft, for IPv4.
"""

EXAMPLES = r"""
- name: Send new connections to the other proxy
  ascend.vllm.proxy_handover:
    port: 1999
    to: 2000
    expire_s: 600

- name: Send nobody on any more
  ascend.vllm.proxy_handover:
    state: absent
"""

RETURN = r"""
sent_on:
  description: Whether new connections are sent on now.
  returned: success
  type: bool
why_not:
  description: Why nftables cannot be used, or null.
  returned: success
  type: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.ascend.vllm.plugins.module_utils import drain, handover


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "port": {"type": "int"},
            "to": {"type": "int"},
            "expire_s": {"type": "int", "default": 900},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
        required_if=[("state", "present", ("port", "to"))],
        supports_check_mode=True,
    )
    given = module.params
    result = {"changed": False, "sent_on": False, "why_not": None}
    try:
        if module.check_mode:
            result["sent_on"] = handover.is_there()
        elif given["state"] == "absent":
            handover.take_back()
        else:
            handover.send_on(given["port"], given["to"], given["expire_s"])
            result["sent_on"] = True
    except drain.DrainError as error:
        result["why_not"] = str(error)
        if given["state"] == "absent" and not isinstance(error, drain.NoNft):
            module.warn("new connections are sent to the other proxy until the time is over that was asked for: %s" % error)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
