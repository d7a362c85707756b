#!/usr/bin/python
# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: npu_info
short_description: Read the state of the Ascend NPUs of a node
version_added: 0.1.0
author:
  - ascend.vllm contributors (@ascend-vllm)
description:
  - Runs C(npu-smi info) once and returns one entry for each chip (A2) or die (A3), the versions of driver and
    firmware, and the generation of the hardware.
  - Understands the tables of Atlas A2, A3, 910A, 310P and 950, of narrow and wide tool versions. What is not
    understood is V(null) or V(unknown), never a guess.
  - When the tool itself reports an error, hangs or cannot be found, the module fails and says what to do.
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
  - ascend.vllm.reads_only
attributes:
  platform:
    support: full
    platforms: linux
options:
  npu_smi_path:
    description:
      - Path of C(npu-smi).
      - Without it the tool is searched in C(PATH), C(/usr/local/bin), C(/usr/local/sbin), C(/usr/bin) and the C(tools)
        folder of the driver.
    type: path
  timeout:
    description:
      - Seconds that one call of the tool may take.
    type: float
    default: 30
  details:
    description:
      - Whether to ask further questions where C(npu-smi info) leaves something open. These are C(-m) when the table
        has no C(Phy-ID), the error codes of a chip whose health is not V(OK), and the super pod of an A3.
      - An answer that does not come leaves its value V(null); it never fails the module.
    type: bool
    default: true
  install_info_file:
    description:
      - File that names where the driver is installed.
    type: path
    default: /etc/ascend_install.info
  driver_version_file:
    description:
      - The C(version.info) of the driver package.
      - The default is C(driver/version.info) in the folder that O(install_info_file) names, or in
        C(/usr/local/Ascend).
    type: path
  firmware_version_file:
    description:
      - The C(version.info) of the firmware package.
      - The default is C(firmware/version.info) in the folder that O(install_info_file) names, or in
        C(/usr/local/Ascend).
    type: path
seealso:
  - module: ascend.vllm.hccn_info
  - module: ascend.vllm.node_info
"""

EXAMPLES = r"""
- name: Read the NPUs of this node
  ascend.vllm.npu_info:
  become: true
  register: npu

- name: Stop if an NPU is not healthy
  ansible.builtin.assert:
    that: npu.npus | rejectattr('health', 'in', ['OK', 'Warning']) | length == 0

- name: Read them with a tool in an unusual place and little patience
  ascend.vllm.npu_info:
    npu_smi_path: /opt/ascend/bin/npu-smi
    timeout: 10
  become: true
"""

RETURN = r"""
npus:
  description: One entry for each chip or die, in the order the tool lists them.
  returned: success
  type: list
  elements: dict
  contains:
    npu_id:
      description: NPU id, the number C(npu-smi -i) takes.
      type: int
      sample: 0
    chip_id:
      description: Chip id, the number C(npu-smi -c) takes; V(null) when it is not said (950).
      type: int
      sample: 0
    phy_id:
      description: Physical id, the N of C(/dev/davinciN) and of C(hccn_tool -i N); V(null) when neither the table nor C(-m) says it.
      type: int
      sample: 0
    name:
      description: Name of the chip as printed.
      type: str
      sample: 910B3
    health:
      description: Health as printed (V(OK), V(Warning), V(Alarm), V(Critical), V(UNKNOWN)).
      type: str
      sample: OK
    bus_id:
      description: PCI address.
      type: str
      sample: "0000:C1:00.0"
    power_w:
      description: Power in watt; V(null) for the second die of an A3 and for PCIe cards.
      type: float
      sample: 102.8
    temperature_c:
      description: Temperature in degrees Celsius.
      type: int
      sample: 45
    hbm_used_mb:
      description: HBM in use, in MB; V(null) for a chip without HBM.
      type: int
      sample: 3445
    hbm_total_mb:
      description: HBM size in MB; V(null) for a chip without HBM.
      type: int
      sample: 65536
    processes:
      description: Processes that use this chip.
      type: list
      elements: dict
      contains:
        pid:
          description: Process id on the host.
          type: int
          sample: 2290156
        name:
          description: Name as printed, which may be empty.
          type: str
          sample: VLLMEngineCore
        memory_mb:
          description: NPU memory of the process in MB.
          type: int
          sample: 56630
stray_processes:
  description: Processes of a chip that the table does not list.
  returned: success
  type: list
  elements: dict
silent_npus:
  description: NPU ids about whose processes the output says neither that there are any nor that there are none.
  returned: success
  type: list
  elements: int
hardware:
  description: Generation of the NPUs (V(a2), V(a3), V(310p), V(910a), V(950) or V(unknown)).
  returned: success
  type: str
  sample: a2
driver_version:
  description: C(Version) of the tool's banner.
  returned: success
  type: str
  sample: 25.5.1
tool_version:
  description: Version of C(npu-smi) itself, which can differ from the driver's.
  returned: success
  type: str
  sample: 25.5.1
driver_package_version:
  description: Version in the driver's C(version.info).
  returned: always
  type: str
  sample: 25.3.rc1
firmware_version:
  description: Version in the firmware's C(version.info).
  returned: always
  type: str
  sample: 7.1.0.11.220
compatible_firmware:
  description: The firmware versions that the driver's C(version.info) says it works with; V(null) if it says nothing.
  returned: always
  type: str
  sample: "[7.0.0,8.9.9]"
install_info:
  description: What O(install_info_file) is (C(exists), C(type)) and says (C(values)), and what is wrong with it (C(errors)).
  returned: always
  type: dict
file_errors:
  description: Why a version is V(null), one text for each file.
  returned: always
  type: list
  elements: str
health_details:
  description: Error codes of the chips whose health is not V(OK) (C(npu_id), C(chip_id), C(error_code), C(error_information)).
  returned: success
  type: list
  elements: dict
superpod:
  description: Super pod of an A3 (C(id), C(size), C(server_index), C(sdid) of the first die), else V(null).
  returned: success
  type: dict
tool_warnings:
  description:
    - Lines that the tool marks as a warning, such as a driver that is not completely installed. They are shown as warnings
      of the task too.
  returned: success
  type: list
  elements: str
unparsed:
  description: Lines that were not understood, at most 20.
  returned: success
  type: list
  elements: str
npu_smi:
  description: Path of the tool that was run.
  returned: when it was found
  type: str
  sample: /usr/local/bin/npu-smi
error_code:
  description: The code the tool reports, or its exit status when it names none; V(null) when it did not end by itself.
  returned: failure
  type: int
  sample: -8005
searched:
  description: Where the tool was searched.
  returned: when it was not found
  type: list
  elements: str
timed_out:
  description: Whether the tool was stopped at its timeout.
  returned: failure
  type: bool
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.ascend.vllm.plugins.module_utils import ask_npu, tools


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "npu_smi_path": {"type": "path"},
            "timeout": {"type": "float", "default": 30},
            "details": {"type": "bool", "default": True},
            "install_info_file": {"type": "path", "default": "/etc/ascend_install.info"},
            "driver_version_file": {"type": "path"},
            "firmware_version_file": {"type": "path"},
        },
        supports_check_mode=True,
    )
    if module.params["timeout"] <= 0:
        module.fail_json(msg="timeout must be more than 0 seconds, not %g." % module.params["timeout"])
    try:
        result = ask_npu.answer(**module.params)
    except tools.NoAnswer as failure:
        module.fail_json(msg=failure.message, **failure.known)
    for warning in result["tool_warnings"]:
        module.warn("npu-smi: %s" % warning)
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
