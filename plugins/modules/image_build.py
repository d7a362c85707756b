#!/usr/bin/python
# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin image_build."""

from __future__ import annotations

DOCUMENTATION = r"""
module: image_build
short_description: Build the image of a client on a node, showing progress
description:
  - Builds with M(ascend.vllm.image_build_progress) in slices of about O(slice_s) seconds, and shows on the terminal which step it is at.
  - The build goes on when the controller is gone, and another controller that wants the same image joins it.
  - Fails with the cause when the build fails, and ends it when the engine has said nothing for O(stall_s) seconds.
  - This is an action plugin.
version_added: 0.1.0
author:
  - ascend.vllm contributors (@ascend-vllm)
options:
  stall_s:
    description: Seconds without a word of the engine after which the build is ended.
    type: int
    default: 1800
  slice_s:
    description: About how long a slice is, in seconds.
    type: float
    default: 5.0
extends_documentation_fragment:
  - ascend.vllm.build_options
  - ascend.vllm.engine_socket
seealso:
  - module: ascend.vllm.image_build_progress
"""

EXAMPLES = r"""
- name: Build the image
  ascend.vllm.image_build:
    name: ascend-vllm-client/lm_eval:0123456789ab
    dir: /var/lib/ascend-vllm/build/lm_eval
    args: {BASE: "python:3.11-slim-bookworm"}
    need_mb: 6000
"""

RETURN = r"""
seconds:
  description: How long it took, in seconds.
  returned: when it has ended
  type: float
said:
  description: The last lines of the build.
  returned: when it has ended
  type: list
  elements: str
stalled:
  description: Whether it was ended because the engine said nothing.
  returned: when it stalled
  type: bool
"""
