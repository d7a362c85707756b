#!/usr/bin/python
# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin weights_verify."""

from __future__ import annotations

DOCUMENTATION = r"""
module: weights_verify
short_description: Verify every file of a directory of model weights, showing progress
description:
  - Runs M(ascend.vllm.weights_dir) with O(ascend.vllm.weights_dir#module:state=verified) in slices of about O(slice_s) seconds, and shows on the
    terminal how far it is, how quick, and how long the rest takes.
  - Fails naming every file that is not as wanted. With O(discard) such files are set aside and named in RV(discarded) instead.
  - This is an action plugin.
version_added: 0.1.0
author:
  - ascend.vllm contributors (@ascend-vllm)
options:
  weights:
    description: The weights, as for M(ascend.vllm.weights_dir).
    type: dict
    required: true
  full:
    description: Hash every file, whatever its size and time say.
    type: bool
    default: false
  discard:
    description: Move wrong files out of the client's way, so that it fetches them again.
    type: bool
    default: false
  expected_file:
    description: Path on the node of a manifest or of a list as C(sha256sum) writes it, which says what is wanted.
    type: path
  token_file:
    description: Path on the node of a file with the hub's token.
    type: path
  proxies:
    description: Proxies to reach the hub, C(http) and C(https).
    type: dict
    default: {}
  slice_s:
    description: About how long a slice is, in seconds.
    type: float
    default: 5.0
attributes:
  check_mode:
    support: full
    description: In check mode nothing is written, moved or hashed.
  diff_mode:
    support: none
    description: The manifest is not shown as a difference.
  platform:
    support: full
    platforms: posix
    description: Nodes that see the weights directory.
seealso:
  - module: ascend.vllm.weights_dir
"""

EXAMPLES = r"""
- name: Verify the weights
  ascend.vllm.weights_verify:
    weights: "{{ group.weights }}"
"""

RETURN = r"""
hashed_bytes:
  description: Bytes that were hashed.
  returned: success
  type: int
differences:
  description: What keeps the directory from being complete, as M(ascend.vllm.weights_dir) returns it.
  returned: always
  type: list
  elements: str
discarded:
  description: Files that were set aside.
  returned: success
  type: list
  elements: str
seconds:
  description: How long it took, in seconds.
  returned: success
  type: float
"""
