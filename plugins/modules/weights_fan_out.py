#!/usr/bin/python
# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin weights_fan_out."""

from __future__ import annotations

DOCUMENTATION = r"""
module: weights_fan_out
short_description: Fetch verified weights from other nodes, showing progress
description:
  - Begins M(ascend.vllm.weights_pull) and watches it in slices of O(slice_s) seconds until every file is here and proved, and shows on the
    terminal how far it is, how quick, and how long the rest takes. A node that is not asked any more is named with the reason.
  - This is an action plugin.
version_added: 0.1.0
author:
  - ascend.vllm contributors (@ascend-vllm)
options:
  slice_s:
    description: Seconds between two lines of progress.
    type: float
    default: 30.0
extends_documentation_fragment:
  - ascend.vllm.weights_copy
seealso:
  - module: ascend.vllm.weights_pull
"""

EXAMPLES = r"""
- name: Have the weights of the head here too
  ascend.vllm.weights_fan_out:
    weights: "{{ group.weights }}"
    fingerprint: "{{ head.fingerprint }}"
    upstreams: "{{ before_me }}"
    key_file: /run/ascend-vllm/copy/key
    known_hosts_file: /run/ascend-vllm/copy/known_hosts
"""

RETURN = r"""
fetched_bytes:
  description: Bytes that were fetched.
  returned: success
  type: int
gave_up:
  description: Nodes that were not asked any more, with the reason.
  returned: always
  type: dict
seconds:
  description: How long it took, in seconds.
  returned: success
  type: float
"""
