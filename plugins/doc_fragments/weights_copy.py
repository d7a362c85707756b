# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options that weights_pull and weights_fan_out have in common (module_utils/relay.py, SPEC)."""

from __future__ import annotations


class ModuleDocFragment:
    """What ansible-doc shows for each of them."""

    DOCUMENTATION = r"""
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
    description: Transfers at a time at most, at least V(1). Two run, and more while each one more makes it quicker; with O(bandwidth_limit) all.
    type: int
    default: 4
  bandwidth_limit:
    description: Bytes per second that this node may receive, V(0) for no limit.
    type: int
    default: 0
  full:
    description: Hash what is here whatever its size and time say, and fetch what turns out wrong.
    type: bool
    default: false
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
"""
