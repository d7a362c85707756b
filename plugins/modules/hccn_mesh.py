#!/usr/bin/python
# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin hccn_mesh."""

from __future__ import annotations

DOCUMENTATION = r"""
module: hccn_mesh
short_description: Send many pings from the NPUs of a node, showing progress
description:
  - Sends the pings with M(ascend.vllm.hccn_ping) in slices of about O(slice_s) seconds, and shows on the terminal how far it is.
  - Ends early when a whole slice brought no answer that is understood, for instance because the tool stays busy.
  - This is an action plugin.
version_added: 0.1.0
author:
  - ascend.vllm contributors (@ascend-vllm)
options:
  pings:
    description: The pings, each with C(phy_id), C(address) and C(kind), as for M(ascend.vllm.hccn_ping).
    type: list
    elements: dict
    required: true
  slice_s:
    description: About how long a slice is, in seconds.
    type: float
    default: 5.0
  hccn_tool_path:
    description: Path of C(hccn_tool), as for M(ascend.vllm.hccn_ping).
    type: path
extends_documentation_fragment:
  - ascend.vllm.reads_only
attributes:
  platform:
    support: full
    platforms: linux
    description: Nodes with Ascend NPUs.
seealso:
  - module: ascend.vllm.hccn_ping
"""

EXAMPLES = r"""
- name: Ping the NPUs of the other node
  ascend.vllm.hccn_mesh:
    pings: "{{ (plan | ascend.vllm.mesh_pings(answers))[inventory_hostname] }}"
  register: mesh
"""

RETURN = r"""
results:
  description: One entry for each ping that was sent, as M(ascend.vllm.hccn_ping) returns it.
  returned: success
  type: list
  elements: dict
left:
  description: How many pings were not sent.
  returned: success
  type: int
seconds:
  description: How long it took, in seconds.
  returned: always
  type: float
"""
