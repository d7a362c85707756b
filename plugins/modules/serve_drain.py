#!/usr/bin/python
# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin serve_drain."""

from __future__ import annotations

DOCUMENTATION = r"""
module: serve_drain
short_description: Keep new requests away from a group and wait until those that were accepted have ended
description:
  - Runs on the head of a group, or on each node of a prefill or decode group. Keeps new connections away from the ports of its APIs
    (M(ascend.vllm.drain_progress)) and waits, in slices and with
    progress on the terminal, until no request is computed or waits.
  - Does not wait longer than O(limit_s), nor for requests of which no token comes and none ends for O(stall_s), nor for an API that does not say
    how many requests it has. What is left then is said and counted; nothing fails for it.
  - New connections stay away until M(ascend.vllm.drain_progress) is called with C(state=absent), at most O(limit_s) and ten minutes.
  - This is an action plugin.
version_added: 0.1.0
author:
  - ascend.vllm contributors (@ascend-vllm)
options:
  ports:
    description: Ports of the APIs.
    type: list
    elements: int
    required: true
  urls:
    description: Their base URLs.
    type: list
    elements: str
    required: true
  limit_s:
    description: How long to wait at most, in seconds. With V(0) nothing is kept away and nobody waited for.
    type: int
    required: true
  stall_s:
    description:
      - Seconds without a new token, or without any answer, after which requests are not waited for any more.
      - An API that does not count tokens has no such limit as long as it answers.
    type: int
    default: 60
  alone:
    description: Whether requests come over connections from other nodes only, which are kept away, so that without any the wait is over at once.
    type: bool
    default: false
  slice_s:
    description: Length of a slice, in seconds.
    type: float
    default: 5.0
extends_documentation_fragment:
  - ascend.vllm.api_access
attributes:
  check_mode:
    support: full
    description: Keeps nothing away and waits for nobody.
  diff_mode:
    support: none
    description: What is kept away is let in again by the same run.
  platform:
    support: full
    platforms: linux
    description: Nodes with nft.
"""

EXAMPLES = r"""
- name: Let requests end, for five minutes at most
  ascend.vllm.serve_drain:
    ports: [8000]
    urls: [http://198.51.100.11:8000]
    limit_s: 300
"""

RETURN = r"""
outcome:
  description: V(drained), V(limit), V(stalled), V(silent) (the API did not say, because nobody listened or no answer came in time) or V(off).
  returned: success
  type: str
left:
  description: Requests that were left, C(running) and C(waiting), null where the API did not say.
  returned: success
  type: dict
kept_away:
  description: Whether new connections were rejected meanwhile.
  returned: success
  type: bool
since:
  description: When that began, in seconds since 1970-01-01 UTC by the controller's clock, null for V(off).
  returned: success
  type: float
seconds:
  description: How long it took, in seconds.
  returned: success
  type: float
"""
