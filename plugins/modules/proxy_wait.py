#!/usr/bin/python
# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin proxy_wait."""

from __future__ import annotations

DOCUMENTATION = r"""
module: proxy_wait
short_description: Wait until a proxy counts every one of its backends
description:
  - Watches the proxy in slices (M(ascend.vllm.proxy_probe)), with progress on the terminal, until it has every backend and each of them answers.
  - Fails when the container ends, with what its log tells of the reason, and when O(limit_s) is over, with the backends that are not there.
  - This is an action plugin.
version_added: 0.1.0
author:
  - ascend.vllm contributors (@ascend-vllm)
options:
  container:
    description: Name of the container.
    type: str
    required: true
  url:
    description: Base URL of the proxy.
    type: str
    required: true
  kind:
    description: Which proxy it is.
    type: str
    choices: [vllm-router, vllm-ascend]
    default: vllm-router
  backends:
    description: Base URLs of the backends that it should have.
    type: list
    elements: str
    required: true
  also:
    description: Base URLs of backends that it may have beside these, in whatever state.
    type: list
    elements: str
    default: []
  api_key:
    description: API key of proxy and backends.
    type: str
  fresh:
    description: Whether the container was made just now, so that the engine has never started it again.
    type: bool
    default: false
  limit_s:
    description: How long to wait at most, in seconds.
    type: int
    default: 120
  slice_s:
    description: Length of a slice, in seconds.
    type: float
    default: 5.0
  language:
    description: Language of cause and remedy.
    type: str
    choices: [en, zh]
    default: en
  data_dirs:
    description: Folders on the controller with causes of the site.
    type: list
    elements: path
    default: []
attributes:
  check_mode:
    support: none
    description: There is nothing to wait for.
  diff_mode:
    support: none
    description: Changes nothing.
  platform:
    support: full
    platforms: posix
    description: Hosts with a Docker engine.
"""

EXAMPLES = r"""
- name: Wait until the proxy counts both replicas
  ascend.vllm.proxy_wait:
    container: vllm-proxy
    url: http://198.51.100.11:1999
    backends: [http://198.51.100.11:8000, http://198.51.100.13:8000]
"""

RETURN = r"""
outcome:
  description: V(ready), V(exited), V(absent) or V(limit).
  returned: always
  type: str
router:
  description: What the proxy said last, as M(ascend.vllm.proxy_probe) returns it.
  returned: always
  type: dict
elapsed_s:
  description: How long it took, in seconds.
  returned: always
  type: float
"""
