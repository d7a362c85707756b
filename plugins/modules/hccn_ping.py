#!/usr/bin/python
# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: hccn_ping
short_description: Ping NPUs of other nodes from the NPUs of this node
version_added: 0.1.0
author:
  - ascend.vllm contributors (@ascend-vllm)
description:
  - Sends pings from NPUs of this node with C(hccn_tool), over RoCE (C(-ping)) or, between the dies of a super pod, over
    HCCS (C(-hccs_ping)). All pings of a node take one round trip.
  - The tool serves one call at a time, so the pings run one after the other, and one that finds the tool busy is
    repeated.
  - A ping passes only when the tool ended with 0 and its summary says that every packet came back. The exit status alone
    does not tell; C(-hccs_ping) ends with 0 when all packets were lost.
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
  - ascend.vllm.reads_only
attributes:
  platform:
    support: full
    platforms: linux
options:
  pings:
    description:
      - The pings to send, in this order.
    type: list
    elements: dict
    required: true
    suboptions:
      phy_id:
        description:
          - Physical id of the NPU that sends.
        type: int
        required: true
      address:
        description:
          - IPv4 address to ping, the RoCE address of the other NPU for V(roce), its vNIC address for V(hccs).
        type: str
        required: true
      kind:
        description:
          - Which network to use.
        type: str
        choices: [roce, hccs]
        default: roce
  count:
    description:
      - Packets for each ping of kind V(hccs), 1 to 1000. The tool has no such setting for V(roce), where it sends 3.
      - Without it the tool's own default is used, which is 3.
    type: int
  hccn_tool_path:
    description:
      - Path of C(hccn_tool).
      - Without it the tool is searched in C(PATH), C(/usr/local/bin), C(/usr/local/sbin), C(/usr/bin) and the C(tools)
        folder of the driver.
    type: path
  timeout:
    description:
      - Seconds that one ping may take. After two timeouts in a row no more pings are sent.
    type: float
    default: 30
  busy_retry_s:
    description:
      - Seconds during which a ping is repeated while the tool says that it is busy.
    type: float
    default: 30
  budget_s:
    description:
      - Seconds after which no further ping is started, so that one task of many pings stays a short slice of a long wait.
      - The first ping is always sent. Without it all pings are sent.
    type: float
seealso:
  - module: ascend.vllm.hccn_info
"""

EXAMPLES = r"""
- name: Ping two NPUs of the other node
  ascend.vllm.hccn_ping:
    pings:
      - phy_id: 0
        address: 198.51.100.80
      - phy_id: 1
        address: 198.51.100.81
  become: true
  register: mesh

- name: Ping a die of the same super pod
  ascend.vllm.hccn_ping:
    pings:
      - phy_id: 0
        address: 192.168.2.198
        kind: hccs
    count: 10
  become: true
"""

RETURN = r"""
results:
  description: One entry for each ping that was sent, in the order given.
  returned: success
  type: list
  elements: dict
  contains:
    phy_id:
      description: The NPU that sent.
      type: int
      sample: 0
    address:
      description: The address that was pinged.
      type: str
      sample: 198.51.100.80
    kind:
      description: The network used (V(roce) or V(hccs)).
      type: str
      sample: roce
    sent:
      description: Packets sent; V(null) without a summary of the tool.
      type: int
      sample: 3
    received:
      description: Packets that came back.
      type: int
      sample: 3
    loss_percent:
      description: Loss in percent, as printed.
      type: float
      sample: 0.0
    rtt_ms:
      description: Average round trip in milliseconds; V(null) when nothing came back.
      type: float
      sample: 0.081333
    status:
      description:
        - V(pass) when every packet came back, V(fail) when packets were lost or the address was not reached, V(unknown)
          when the tool did not answer in a way that is understood.
      type: str
      sample: pass
    text:
      description: What was printed or went wrong; empty for V(pass).
      type: str
      sample: ""
left:
  description: How many of O(pings), the last ones, were not sent because O(budget_s) had gone by.
  returned: success
  type: int
  sample: 0
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

import os
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.ascend.vllm.plugins.module_utils import driver_files, hccn, tools


def send(runner, tool, ping, count):
    """One ping: the entry of the result."""
    phy_id, address, kind = ping["phy_id"], ping["address"], ping["kind"]
    argv = [tool, "-i", str(phy_id), "-ping" if kind == "roce" else "-hccs_ping", "-g", "address", address]
    if kind == "hccs" and count is not None:
        argv += ["cnt", str(count)]
    run = runner(argv)
    result = {"phy_id": phy_id, "address": address, "kind": kind}
    failure = run.failure()
    if failure or hccn.is_busy(run.text, run.rc):
        result.update(dict.fromkeys(("sent", "received", "loss_percent", "rtt_ms")), status="unknown")
        result["text"] = failure or "hccn_tool was still busy after %g s: %s" % (runner.busy_retry_s, tools.clip(run.text))
        return result
    result.update(hccn.parse_ping(run.text, run.rc, phy_id, address))
    result["text"] = ""
    if result["status"] != "pass":
        printed = tools.clip(run.text) or "nothing printed"
        result["text"] = ("exit %s: %s %s" % (run.rc, printed, tools.hint(run.text))).strip()
    return result


def send_all(runner, tool, pings, count, budget_s, clock=time.monotonic):
    """The entries of the pings sent: all of them, or the first ones when budget_s seconds (None: no limit) go by."""
    started = clock()
    results = []
    for ping in pings:
        if results and budget_s is not None and clock() - started >= budget_s:
            break
        results.append(send(runner, tool, ping, count))
    return results


def wrong_parameter(params):
    """What is wrong with the parameters, or None."""
    if params["timeout"] <= 0:
        return "timeout must be more than 0 seconds, not %g." % params["timeout"]
    if params["budget_s"] is not None and params["budget_s"] < 0:
        return "budget_s must not be less than 0 seconds, but is %g." % params["budget_s"]
    if params["count"] is not None and not 1 <= params["count"] <= 1000:
        return "count must be from 1 to 1000, not %d." % params["count"]
    for ping in params["pings"]:
        if not driver_files.ipv4(ping["address"]):
            return "pings: the address %r for phy_id %d is not an IPv4 address." % (ping["address"], ping["phy_id"])
    return None


def main():
    module = AnsibleModule(
        argument_spec={
            "pings": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "phy_id": {"type": "int", "required": True},
                    "address": {"type": "str", "required": True},
                    "kind": {"type": "str", "choices": ["roce", "hccs"], "default": "roce"},
                },
            },
            "count": {"type": "int"},
            "hccn_tool_path": {"type": "path"},
            "timeout": {"type": "float", "default": 30},
            "busy_retry_s": {"type": "float", "default": 30},
            "budget_s": {"type": "float"},
        },
        supports_check_mode=True,
    )
    params = module.params
    wrong = wrong_parameter(params)
    if wrong:
        module.fail_json(msg=wrong)
    driver_home = os.path.join(driver_files.install_home(driver_files.read_install_info()), "driver")
    found = tools.find_tool("hccn_tool", params["hccn_tool_path"], driver_home)
    if not found["path"]:
        module.fail_json(msg=tools.not_found_message("hccn_tool", found, "hccn_tool_path"), searched=found["searched"])
    runner = tools.PatientRunner(
        params["timeout"],
        params["busy_retry_s"],
        tools.tool_environment(driver_home),
        is_busy=lambda run: hccn.is_busy(run.text, run.rc),
    )
    results = send_all(runner, found["path"], params["pings"], params["count"], params["budget_s"])
    module.exit_json(
        changed=False,
        results=results,
        left=len(params["pings"]) - len(results),
        hccn_tool=found["path"],
        calls=runner.calls,
        busy_retries=runner.retries,
    )


if __name__ == "__main__":
    main()
