#!/usr/bin/python
# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin image_fetch."""

from __future__ import annotations

DOCUMENTATION = r"""
module: image_fetch
short_description: Pull an image, showing progress
description:
  - Pulls with M(ascend.vllm.image_progress) in slices of about O(slice_s) seconds, and shows on the terminal bytes, rate, time left and layers.
  - The pull goes on when the controller is gone, and another controller that wants the same image joins it.
  - Fails with the cause when the engine cannot pull, and ends the pull when nothing has come for O(stall_s) seconds.
  - This is an action plugin.
version_added: 0.1.0
author:
  - ascend.vllm contributors (@ascend-vllm)
options:
  name:
    description: Reference of the image.
    type: str
    required: true
  registry_logins:
    description: The C(auths) of a Docker C(config.json). They are written nowhere on the node.
    type: dict
    default: {}
  total_bytes:
    description: What the pull loads, 0 if that is not known.
    type: int
    default: 0
  stall_s:
    description: Seconds without a word of the engine after which the pull is ended.
    type: int
    default: 600
  slice_s:
    description: About how long a slice is, in seconds.
    type: float
    default: 5.0
attributes:
  check_mode:
    support: full
    description: Pulls nothing.
  diff_mode:
    support: none
    description: There is no text to compare.
  platform:
    support: full
    platforms: posix
    description: Nodes with a Docker engine.
seealso:
  - module: ascend.vllm.image_progress
"""

EXAMPLES = r"""
- name: Pull the image
  ascend.vllm.image_fetch:
    name: quay.io/ascend/vllm-ascend:v0.13.0
"""

RETURN = r"""
bytes:
  description: Bytes that came, compressed as they are loaded.
  returned: when it has ended
  type: int
layers:
  description: Layers of the image.
  returned: when it has ended
  type: int
seconds:
  description: How long it took, in seconds.
  returned: when it has ended
  type: float
stalled:
  description: Whether it was ended because nothing came.
  returned: when it stalled
  type: bool
"""
