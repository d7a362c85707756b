# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults of a server that are not the NPUs': its NIC, firewall, ports, engine, disk, files, clock and interpreters.

Runs inside an emulated node, as root; the emulator has the faults of the NPUs. `lab fault` knows both.
Reading order: ``table`` (every fault by name), then the files it takes them from; ``store`` sets and clears, ``cli`` is the command.
"""
