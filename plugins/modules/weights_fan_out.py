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
  - Runs M(ascend.vllm.weights_pull) in slices of about O(slice_s) seconds until every file is here and proved, and shows on the terminal how
    far it is, how quick, and how long the rest takes. A node that is not asked any more is named with the reason.
  - This is an action plugin.
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
  slice_s:
    description: About how long a slice is, in seconds.
    type: float
    default: 20.0
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
