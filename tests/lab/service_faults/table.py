# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every fault by name."""

from __future__ import annotations

from service_faults import engine, files, net, system
from service_faults.base import Fault

FAULTS: dict[str, Fault] = {fault.name: fault for module in (net, engine, files, system) for fault in module.FAULTS}
