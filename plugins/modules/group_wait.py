#!/usr/bin/python
# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin group_wait."""

from __future__ import annotations

DOCUMENTATION = r"""
module: group_wait
short_description: Wait until a group of nodes serves, or say which node failed and why
description:
  - Runs on every node of the group at once. Each node is watched in slices of at most O(slice_s) seconds; one decision is
    made over all nodes and ends the wait everywhere.
  - Ready means that a completion came back from every container with an API, the head of a serve group, each rank of a prefill group, while all
    containers run; of a decode group, that each rank serves the model.
  - The wait fails when any container exits, and names the node whose log has the cause, the cause and its remedy (C(data/causes)), and the
    lines of the log behind it. An error that is not known is shown by its first traceback. An exit whose log says only that something
    else broke first waits a few seconds for the logs of the other nodes.
  - The wait fails when a node has not answered for a minute, and has been asked three times at least in it.
  - The wait fails as well when a node stays in one phase of its start, without progress in it, for longer than the phase's limit.
  - Progress is shown on the terminal while it waits.
  - This is an action plugin; it needs a worker (C(forks)) for each node of the group.
version_added: 0.1.0
author:
  - ascend.vllm contributors (@ascend-vllm)
options:
  board:
    description: Empty directory on the controller that the watchers of this wait share.
    type: path
    required: true
  units:
    description: All containers of the group as the plan names them, the head's first. Each host watches its own.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the container.
        type: str
        required: true
      host:
        description: Its host, as the inventory names it.
        type: str
        required: true
      rank:
        description: Its first data-parallel rank.
        type: int
      url:
        description: Base URL of its API as its host reaches it, where it has one.
        type: str
  model:
    description: Served model name.
    type: str
    required: true
  completion:
    description: Whether each API is asked for a completion; without one it counts as ready that the model is served.
    type: bool
    default: true
  limit_s:
    description: How long to wait at most, in seconds.
    type: int
    required: true
  phase_limits:
    description:
      - Seconds that a node may stay in a phase without progress, by phase. A phase that is left out has no limit but O(limit_s).
      - The phases are V(starting), V(loading) (each shard is progress), V(compiling) (each graph is), V(waiting) (for the engines of other
        nodes) and V(ready) (the API is up, and a completion has not come back yet).
      - A node that may have to wait for a slower one, which is so once it has loaded all shards, is measured by the progress of the whole group.
    type: dict
    default: {}
  slice_s:
    description: Length of a slice, in seconds; never more than 5.
    type: float
    default: 5.0
  language:
    description: Language of causes, remedies and progress.
    type: str
    choices: [en, zh]
    default: en
  data_dirs:
    description: Folders on the controller with C(causes) of the site, as in C(vllm_data_dirs).
    type: list
    elements: path
    default: []
extends_documentation_fragment:
  - ascend.vllm.api_access
  - ascend.vllm.reads_only
attributes:
  platform:
    support: full
    platforms: posix
    description: Nodes with a Docker engine.
"""

EXAMPLES = r"""
- name: Wait until the group answers
  ascend.vllm.group_wait:
    board: "{{ board.path }}"
    units:
      - {name: vllm-rank0, host: a2-node0, url: "http://198.51.100.11:8000"}
      - {name: vllm-rank2, host: a2-node1}
    model: deepseek_r1
    limit_s: 3600
    phase_limits: {starting: 1500, loading: 1500}
"""

RETURN = r"""
outcome:
  description: V(ready), V(failed) or V(timeout).
  returned: always
  type: str
host:
  description: The host that decided it, with the unit's name where it has several of the group; of a failure the one that is named in the message,
    which need not be the first that exited.
  returned: always
  type: str
elapsed_s:
  description: How long the wait took, in seconds.
  returned: always
  type: float
decided_at:
  description: When it was decided, in seconds since 1970-01-01 UTC by the controller's clock; the same for every host.
  returned: always
  type: float
"""
