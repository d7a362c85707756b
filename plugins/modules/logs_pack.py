#!/usr/bin/python
# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin logs_pack."""

from __future__ import annotations

DOCUMENTATION = r"""
module: logs_pack
short_description: Make one bundle of the nodes' archives of logs on the controller
description:
  - Writes C(logs-GROUP-TIME.tar.gz), mode V(0600), with C(SUMMARY.txt) first, the plan and the reports without secrets, and a folder for each node.
  - C(SUMMARY.txt) says per node which errors its logs tell of, with cause and remedy, what was cut, and which node gave nothing and why.
  - A bundle is a report on the controller and never a change of the deployment.
  - This is an action plugin and runs on the controller, whatever the host of the task.
version_added: 0.1.0
author:
  - ascend.vllm contributors (@ascend-vllm)
options:
  plan:
    description: The plan.
    type: dict
    required: true
  parts:
    description:
      - By host, C(archive), the path on the controller of what M(ascend.vllm.logs_bundle) made, or none, then C(error) says why.
        C(note) is shown with the node.
    type: dict
    required: true
  report_dir:
    description: Directory on the controller in which the reports are and the bundle is written. It is made where it is missing.
    type: path
    required: true
  secrets:
    description: Texts of secrets, see M(ascend.vllm.logs_bundle); plan, reports and reasons are written without them.
    type: list
    elements: str
    default: []
attributes:
  check_mode:
    support: none
    description: Writes nothing, because it is skipped.
  diff_mode:
    support: none
    description: A bundle has no difference that anybody asked for.
  platform:
    support: full
    platforms: posix
    description: The controller.
seealso:
  - module: ascend.vllm.logs_bundle
"""

EXAMPLES = r"""
- name: Make the bundle
  ascend.vllm.logs_pack:
    plan: "{{ plan_result.plan }}"
    parts:
      a2-node0: {archive: /tmp/parts/a2-node0.tar.gz}
      a2-node1: {archive: null, error: no answer over SSH}
    report_dir: reports
  register: packed
"""

RETURN = r"""
bundle:
  description: Path of the bundle.
  returned: success
  type: str
  sample: /srv/deploy/reports/logs-vllm-20260131T235959Z.tar.gz
bytes:
  description: Its size, in bytes.
  returned: success
  type: int
summary:
  description: What C(SUMMARY.txt) says; P(ascend.vllm.logs_summary#filter) makes lines of it.
  returned: success
  type: dict
  contains:
    name:
      description: Name of the group, V(cluster) for several.
      type: str
    made_at:
      description: When, in UTC.
      type: str
    complete:
      description: Whether every node gave its part.
      type: bool
    nodes:
      description: One entry a node, with C(host), C(head), C(given), C(why), C(bytes), C(files), C(units), C(cut), C(missing) and C(notes).
      type: list
      elements: dict
"""
