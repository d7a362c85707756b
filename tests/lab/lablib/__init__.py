# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab: emulated Ascend nodes on one machine, with everything around the NPU real.

Reading order: ``shape`` (who is in the lab, and at which address), ``cli`` (the commands), ``bringup`` (what ``lab up``
does, step by step), then one file a concern: ``host``, ``rootfs``, ``engine_image``, ``network``, ``services``, ``nodes``, ``access``.
Python standard library only.
"""
