# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The option of every module that asks the Docker engine (module_utils/docker_engine.py)."""

from __future__ import annotations


class ModuleDocFragment:
    """What ansible-doc shows for each of them."""

    DOCUMENTATION = r"""
options:
  docker_socket:
    description: Socket of the Docker engine.
    type: path
    default: /var/run/docker.sock
"""
