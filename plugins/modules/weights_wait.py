#!/usr/bin/python
# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin weights_wait."""

from __future__ import annotations

DOCUMENTATION = r"""
module: weights_wait
short_description: Wait until a container has downloaded weights, showing progress
description:
  - Watches the container with M(ascend.vllm.weights_progress) in slices of about O(slice_s) seconds, and shows on the terminal bytes, rate and
    time left.
  - Fails with the cause when the client ends with an error, and when no byte has come for O(stall_s) seconds.
  - A client that ended well is not believed. What it fetched has to be verified, see M(ascend.vllm.weights_verify).
  - This is an action plugin.
version_added: 0.1.0
author:
  - ascend.vllm contributors (@ascend-vllm)
options:
  container:
    description: Name of the container.
    type: str
    required: true
  dir:
    description: The directory that it downloads to.
    type: path
    required: true
  total_bytes:
    description: Size of the whole model, 0 if that is not known.
    type: int
    default: 0
  stall_s:
    description: Seconds without a new byte after which the wait ends.
    type: int
    default: 600
  slice_s:
    description: About how long a slice is, in seconds.
    type: float
    default: 5.0
extends_documentation_fragment:
  - ascend.vllm.reads_only
attributes:
  platform:
    support: full
    platforms: posix
    description: The node that downloads.
seealso:
  - module: ascend.vllm.weights_progress
"""

EXAMPLES = r"""
- name: Wait for the download
  ascend.vllm.weights_wait:
    container: vllm-weights
    dir: /mnt/weights/DeepSeek-R1-W8A8
"""

RETURN = r"""
bytes:
  description: Size of all files in the directory.
  returned: success
  type: int
exit_code:
  description: Exit status of the client; null if another controller removed the container.
  returned: success
  type: int
seconds:
  description: How long it took, in seconds.
  returned: success
  type: float
stalled:
  description: Whether the wait was ended because no byte came.
  returned: when it stalled
  type: bool
log:
  description: The client's last lines.
  returned: when it has ended
  type: list
  elements: str
"""
