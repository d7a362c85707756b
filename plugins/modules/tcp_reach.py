#!/usr/bin/python
# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: tcp_reach
short_description: Make real TCP connections between nodes, both ways
version_added: 0.1.0
author:
  - ascend.vllm contributors (@ascend-vllm)
description:
  - Run at the same moment on all nodes of a group. Each node listens on its ports for a short while and connects to the ports
    of all others, so that one task shows which node reaches which, in which direction.
  - A node listens on its own service address only. A port in use is not opened, and that is said.
  - Ends as soon as every port wanted has told and every peer has connected to every port opened, else after O(timeout).
    Refused connections are repeated until then, because a peer may start later.
  - Only who knows the token gets an answer. Nothing keeps listening after the module.
  - Never fails for a connection that does not come about.
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
  - ascend.vllm.reads_only
attributes:
  platform:
    support: full
    platforms: linux
options:
  host:
    description:
      - Name of this node in the inventory, without white space.
    type: str
    required: true
  local_ip:
    description:
      - IPv4 address of this node on the service network, on which it listens and from which it connects.
    type: str
    required: true
  token:
    description:
      - A random word that all nodes of one run share, without white space.
    type: str
    required: true
  listen:
    description:
      - The ports to listen on.
    type: list
    elements: dict
    default: []
    suboptions:
      port:
        description:
          - The port, 1 to 65535.
        type: int
        required: true
      name:
        description:
          - What the port is for; handed back in RV(opened).
        type: str
  peers:
    description:
      - The nodes to connect to. Each of them has to have this node among its own peers, with all ports of O(listen), or it is
        waited for in vain.
      - An entry with this node's own name is left out.
    type: list
    elements: dict
    default: []
    suboptions:
      host:
        description:
          - Name of the peer in the inventory.
        type: str
        required: true
      address:
        description:
          - Its IPv4 address on the service network.
        type: str
        required: true
      ports:
        description:
          - The ports to connect to.
        type: list
        elements: int
        required: true
  timeout:
    description:
      - Seconds after which the module ends with what is known.
    type: float
    default: 15
seealso:
  - module: ascend.vllm.node_info
    description: Finds a free port on each node.
"""

EXAMPLES = r"""
- name: Connect the nodes to each other, on the RPC port and on a port that is free at the moment
  ascend.vllm.tcp_reach:
    host: a2-node0
    local_ip: 198.51.100.11
    token: "{{ one_random_word_for_the_run }}"
    listen:
      - port: 13389
        name: data parallel rpc
      - port: 40001
        name: free
    peers:
      - host: a2-node1
        address: 198.51.100.12
        ports: [13389, 40001]
  register: reach
"""

RETURN = r"""
opened:
  description: Each port of O(listen), whether it was opened, and why not (V(null) when it was).
  returned: success
  type: list
  elements: dict
  sample: [{"port": 13389, "name": "data parallel rpc", "opened": false, "error": "Address already in use"}]
reached:
  description: One entry for each port of each peer, in the order given.
  returned: success
  type: list
  elements: dict
  contains:
    host:
      description: Name of the peer.
      type: str
      sample: a2-node1
    address:
      description: Address that was connected to.
      type: str
      sample: 198.51.100.12
    port:
      description: Port that was connected to.
      type: int
      sample: 13389
    status:
      description:
        - V(reached) when the peer itself answered.
        - V(not_opened) when nothing accepted the connection and the peer said, on another port, that it does not listen on this
          one.
        - V(in_use) the same, when the peer said that something else had the port by then, such as another run of this module.
        - V(other_service) when something accepted the connection and gave no right answer within a second.
        - V(refused), V(timeout) (packets are dropped, or the peer is down) or V(unreachable) when no connection came about.
      type: str
      sample: reached
    connected:
      description: Whether a TCP connection came about, whoever accepted it.
      type: bool
      sample: true
    ms:
      description: Milliseconds until it was accepted; V(null) without one.
      type: float
      sample: 0.212
    text:
      description: What went wrong; empty for V(reached).
      type: str
      sample: ""
heard:
  description: The peers that connected to this node, one entry for each peer and port.
  returned: success
  type: list
  elements: dict
  sample: [{"host": "a2-node1", "port": 13389}]
seconds:
  description: How long it took.
  returned: success
  type: float
  sample: 0.41
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.ascend.vllm.plugins.module_utils.driver_files import ipv4
from ansible_collections.ascend.vllm.plugins.module_utils.tcp_mesh import Mesh


def wrong_parameter(params):
    """What is wrong with the parameters, or None."""
    if params["timeout"] <= 0:
        return "timeout must be more than 0 seconds, not %g." % params["timeout"]
    if len(params["token"].split()) != 1 or params["token"] != params["token"].strip():
        return "token must be one word."
    for name in [params["host"]] + [peer["host"] for peer in params["peers"]]:
        if name.split() != [name]:
            return "%r cannot be a host: it must be one word." % name
    for address in [params["local_ip"]] + [peer["address"] for peer in params["peers"]]:
        if not ipv4(address):
            return "%r is not an IPv4 address." % address
    for port in [entry["port"] for entry in params["listen"]] + [port for peer in params["peers"] for port in peer["ports"]]:
        if not 1 <= port <= 65535:
            return "A port must be from 1 to 65535, not %d." % port
    return None


def main():
    module = AnsibleModule(
        argument_spec={
            "host": {"type": "str", "required": True},
            "local_ip": {"type": "str", "required": True},
            "token": {"type": "str", "required": True, "no_log": True},
            "listen": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {"port": {"type": "int", "required": True}, "name": {"type": "str"}},
            },
            "peers": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "host": {"type": "str", "required": True},
                    "address": {"type": "str", "required": True},
                    "ports": {"type": "list", "elements": "int", "required": True},
                },
            },
            "timeout": {"type": "float", "default": 15},
        },
        supports_check_mode=True,
    )
    params = module.params
    wrong = wrong_parameter(params)
    if wrong:
        module.fail_json(msg=wrong)
    mesh = Mesh(params["host"], params["local_ip"], params["token"], params["listen"], params["peers"], params["timeout"])
    module.exit_json(changed=False, **mesh.run())


if __name__ == "__main__":
    main()
