# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An emulated Ascend node for a test lab: the text of npu-smi and hccn_tool over real kernel state.

Python 3.9 or later, standard library only. Modules:

* npu_smi_text, hccn_text: pure functions, values in, text out. All knowledge of spelling, tabs and widths.
* state: the values no kernel holds (health, temperature, memory, TLS switch ...), one JSON file.
* fabric: what a kernel does hold: one network namespace per NPU, its link, address, route and neighbours.
* npu_smi, hccn: the two tools: arguments, errors, exit codes, order of checks.
* node: what happens at boot. faults: what can be broken and mended.
"""
