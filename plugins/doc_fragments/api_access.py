# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of every module that asks the API of a group (module_utils/serve_api.py)."""

from __future__ import annotations


class ModuleDocFragment:
    """What ansible-doc shows for each of them."""

    DOCUMENTATION = r"""
options:
  api_key:
    description: API key of the service.
    type: str
  ca_file:
    description:
      - Certificates on the node that vouch for the service, where its address begins with C(https). The name in the service's certificate does not count,
        because the service is asked by its address.
    type: path
"""
