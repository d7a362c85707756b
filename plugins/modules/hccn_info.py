#!/usr/bin/python
# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: hccn_info
short_description: Read the network of the NPUs of a node
version_added: 0.1.0
author:
  - ascend.vllm contributors (@ascend-vllm)
description:
  - Asks C(hccn_tool) about every NPU or die of a node and reads C(/etc/hccn.conf), in one round trip.
  - The tool serves one call at a time, so the calls of a node run one after the other, and a call that finds the tool
    busy is repeated.
  - What is not configured or not supported is V(null). What was not answered or not understood is V(null) too, and
    named in C(errors) of its device.
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
  - ascend.vllm.reads_only
attributes:
  platform:
    support: full
    platforms: linux
options:
  devices:
    description:
      - Physical ids to ask about.
      - The default is every N of C(/dev/davinciN).
    type: list
    elements: int
  questions:
    description:
      - What to ask. A value that was not asked for is V(null) in the answer.
    type: list
    elements: str
    choices: [ip, link, net_health, netdetect, gateway, tls, lldp, vnic]
    default: [ip, link, net_health, netdetect, gateway, tls, lldp, vnic]
  hccn_tool_path:
    description:
      - Path of C(hccn_tool).
      - Without it the tool is searched in C(PATH), C(/usr/local/bin), C(/usr/local/sbin), C(/usr/bin) and the C(tools)
        folder of the driver.
    type: path
  hccn_conf_path:
    description:
      - The file with the addresses of the NPUs.
    type: path
    default: /etc/hccn.conf
  timeout:
    description:
      - Seconds that one call of the tool may take. After two timeouts in a row nothing more is asked, and a question that timed out
        on two devices is not asked of the others.
    type: float
    default: 30
  busy_retry_s:
    description:
      - Seconds during which a call is repeated while the tool says that it is busy.
    type: float
    default: 30
seealso:
  - module: ascend.vllm.hccn_ping
  - module: ascend.vllm.npu_info
"""

EXAMPLES = r"""
- name: Read the network of every NPU of this node
  ascend.vllm.hccn_info:
  become: true
  register: hccn

- name: Read address and link of two NPUs
  ascend.vllm.hccn_info:
    devices: [0, 1]
    questions: [ip, link]
  become: true
  register: hccn
"""

RETURN = r"""
devices:
  description: One entry for each device asked about, by physical id.
  returned: success
  type: list
  elements: dict
  contains:
    phy_id:
      description: Physical id.
      type: int
      sample: 0
    ip:
      description: RoCE address.
      type: str
      sample: 198.51.100.80
    netmask:
      description: Netmask of the RoCE address.
      type: str
      sample: 255.255.255.0
    gateway:
      description: Default gateway of the NPU.
      type: str
      sample: 198.51.100.1
    netdetect:
      description: Address that the NPU checks its network with.
      type: str
      sample: 198.51.100.1
    link:
      description: State of the RoCE link (V(UP), V(DOWN) or V(null)).
      type: str
      sample: UP
    net_health:
      description: Result of the NPU's own network check, as printed.
      type: str
      sample: Success
    tls:
      description: TLS switch (V(0) off, V(1) on).
      type: int
      sample: 0
    lldp:
      description: The neighbour that LLDP tells of, or V(null).
      type: dict
      contains:
        ifname:
          description: Port of the switch; V(null) when the neighbour names its port in another way.
          type: str
          sample: 400GE1/1/5:1
        port_id:
          description: First line of the neighbour's port id, as printed.
          type: str
        chassis_id:
          description: First line of the neighbour's chassis id, as printed.
          type: str
        system:
          description: Name or description of the neighbour.
          type: str
    vnic:
      description: The virtual NIC (HCCS) of an A3 die, or V(null).
      type: dict
      contains:
        link:
          description: V(UP), V(DOWN) or V(null).
          type: str
          sample: UP
        ip:
          description: Address.
          type: str
          sample: 192.168.2.199
        netmask:
          description: Netmask.
          type: str
          sample: 255.255.255.0
    errors:
      description: Question to the text of what went wrong, for the questions that have no trustworthy answer.
      type: dict
      sample: {"link": "hccn_tool -i 0 -link -g timed out after 30 s"}
hccn_conf:
  description: What C(/etc/hccn.conf) is (C(exists), C(type)) and states (C(devices), by physical id as a string) and what is wrong with it (C(errors)).
  returned: always
  type: dict
  sample:
    path: /etc/hccn.conf
    exists: true
    type: file
    devices: {"0": {"address": "198.51.100.80", "netmask": "255.255.255.0", "tls_enable": 0}}
    errors: []
hccn_tool:
  description: Path of the tool that was run.
  returned: success
  type: str
  sample: /usr/local/Ascend/driver/tools/hccn_tool
calls:
  description: How many calls of the tool were made, repeats included.
  returned: success
  type: int
busy_retries:
  description: How many of them were repeats because the tool was busy.
  returned: success
  type: int
searched:
  description: Where the tool was searched.
  returned: when it was not found
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.ascend.vllm.plugins.module_utils import ask_hccn, tools


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "devices": {"type": "list", "elements": "int"},
            "questions": {
                "type": "list",
                "elements": "str",
                "choices": ["ip", "link", "net_health", "netdetect", "gateway", "tls", "lldp", "vnic"],
                "default": ["ip", "link", "net_health", "netdetect", "gateway", "tls", "lldp", "vnic"],
            },
            "hccn_tool_path": {"type": "path"},
            "hccn_conf_path": {"type": "path", "default": "/etc/hccn.conf"},
            "timeout": {"type": "float", "default": 30},
            "busy_retry_s": {"type": "float", "default": 30},
        },
        supports_check_mode=True,
    )
    if module.params["timeout"] <= 0:
        module.fail_json(msg="timeout must be more than 0 seconds, not %g." % module.params["timeout"])
    try:
        result = ask_hccn.answer(**module.params)
    except tools.NoAnswer as failure:
        module.fail_json(msg=failure.message, **failure.known)
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
