# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The attributes of every module that changes nothing; each says itself where it runs."""

from __future__ import annotations


class ModuleDocFragment:
    """What ansible-doc shows for each of them."""

    DOCUMENTATION = r"""
attributes:
  check_mode:
    support: full
    description: Nothing is ever changed, so check mode does the same.
  diff_mode:
    support: none
    description: Nothing is ever changed.
"""
