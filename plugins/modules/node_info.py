#!/usr/bin/python
# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: node_info
short_description: Read what a node is, apart from the state of its NPUs
version_added: 0.1.0
author:
  - ascend.vllm contributors (@ascend-vllm)
description:
  - Answers many questions about a node in one round trip, among them its interfaces, the generation and number of its
    NPUs, the Docker engine, the kind of paths, listening ports and free disk space.
  - Never fails for a thing that is missing; its value is then V(null), V(false) or an empty list, with a text where one
    helps.
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
  - ascend.vllm.reads_only
attributes:
  platform:
    support: full
    platforms: linux
options:
  paths:
    description:
      - Paths to describe.
    type: list
    elements: path
    default: []
  ports:
    description:
      - TCP ports to look for a listener on.
    type: list
    elements: int
    default: []
  disk_paths:
    description:
      - Paths whose file system to describe. A path that does not exist yet stands for its nearest parent that does.
    type: list
    elements: path
    default: []
  sysctls:
    description:
      - Names of kernel settings to read, as V(vm.swappiness).
    type: list
    elements: str
    default: []
  local_ip:
    description:
      - The node's address on the service network, on which to look for a free port.
    type: str
  npu_smi_path:
    description:
      - Path of C(npu-smi).
      - Without it the tool is searched in C(PATH), C(/usr/local/bin), C(/usr/local/sbin), C(/usr/bin) and the C(tools)
        folder of the driver.
    type: path
  hccn_tool_path:
    description:
      - Path of C(hccn_tool), searched like C(npu-smi) without it.
    type: path
  docker_host:
    description:
      - The socket on which the Docker engine listens, as C(unix:///path).
    type: str
    default: unix:///var/run/docker.sock
  timeout:
    description:
      - Seconds that one tool, or one answer of the Docker engine, may take.
    type: float
    default: 15
seealso:
  - module: ascend.vllm.npu_info
  - module: ascend.vllm.hccn_info
"""

EXAMPLES = r"""
- name: Read addresses and NPUs of this node
  ascend.vllm.node_info:
  become: true
  register: node

- name: Ask whether the API port is free and how much room the weights would have
  ascend.vllm.node_info:
    ports: [8000]
    disk_paths: [/mnt/weights]
    paths: [/etc/hccn.conf, /usr/local/dcmi]
  become: true
  register: node

- name: Read kernel settings, and find a port for a test connection
  ascend.vllm.node_info:
    sysctls: [vm.swappiness, kernel.numa_balancing]
    local_ip: 198.51.100.11
    ports: [8000, 13389]
  become: true
  register: node
"""

RETURN = r"""
interfaces:
  description: Network interfaces with their IPv4 addresses, secondary ones included.
  returned: success
  type: list
  elements: dict
  sample: [{"name": "eth0", "up": true, "mtu": 1500, "addresses": ["198.51.100.11/24"]}]
interfaces_error:
  description: Why the addresses could not be read, or V(null).
  returned: success
  type: str
hardware:
  description:
    - Generation of the NPUs (V(a2), V(a3), V(310p), V(910a), V(950) or V(unknown)), as C(npu-smi) or else the PCI ids
      tell.
  returned: success
  type: str
  sample: a2
npus:
  description: Physical ids of the device nodes C(/dev/davinciN), sorted.
  returned: success
  type: list
  elements: int
  sample: [0, 1, 2, 3, 4, 5, 6, 7]
npu_smi:
  description: Path of C(npu-smi), or V(null).
  returned: success
  type: str
  sample: /usr/local/sbin/npu-smi
npu_smi_error:
  description: Why C(npu-smi info) did not tell the generation, or V(null).
  returned: success
  type: str
hccn_tool:
  description: Path of C(hccn_tool), or V(null).
  returned: success
  type: str
  sample: /usr/local/Ascend/driver/tools/hccn_tool
rsync:
  description: Path of C(rsync), or V(null).
  returned: success
  type: str
  sample: /usr/bin/rsync
paths:
  description:
    - Each asked path to C(exists), C(type) (V(file), V(directory), V(char), V(other) or V(null)), C(size) in bytes,
      C(target) (the path without links) and C(error).
  returned: success
  type: dict
  sample: {"/etc/hccn.conf": {"exists": true, "type": "file", "size": 801, "target": "/etc/hccn.conf", "error": null}}
python:
  description: The interpreter that runs modules on this node, and whether it has the library C(requests).
  returned: success
  type: dict
  sample: {"version": "3.11.2", "executable": "/usr/bin/python3", "requests": true}
docker:
  description: The Docker engine.
  returned: success
  type: dict
  contains:
    reachable:
      description: Whether the engine answered.
      type: bool
    version:
      description: Version of the engine.
      type: str
      sample: 20.10.24
    api_version:
      description: Version of its API.
      type: str
      sample: "1.41"
    root_dir:
      description: Folder in which the engine keeps images.
      type: str
      sample: /var/lib/docker
    default_runtime:
      description: Runtime used for containers that name none.
      type: str
      sample: runc
    insecure_registries:
      description: Registries and networks that the engine reaches without TLS.
      type: list
      elements: str
      sample: ["127.0.0.0/8", "198.51.100.2:5000"]
    http_proxy:
      description: Proxy of the engine, without its password.
      type: str
    https_proxy:
      description: Proxy of the engine, without its password.
      type: str
    no_proxy:
      description: Names that the engine reaches without the proxy.
      type: str
    disk:
      description:
        - The file system of C(root_dir) as C(free_bytes), C(total_bytes), C(path) and C(error); V(null) while C(root_dir) is
          not known.
      type: dict
      sample: {"path": "/var/lib/docker", "free_bytes": 214748364800, "total_bytes": 536870912000, "error": null}
    error:
      description: Why the engine could not be asked, or V(null).
      type: str
listening:
  description: Listeners on the asked ports. C(pid) and C(process) are V(null) when they may not be seen, C(service) when it is no systemd service.
  returned: success
  type: list
  elements: dict
  sample: [{"port": 8000, "address": "0.0.0.0", "pid": 4711, "process": "vllm", "service": null}]
disk:
  description: Each asked path to C(free_bytes), C(total_bytes), C(path) (the existing folder that was measured) and C(error).
  returned: success
  type: dict
memory:
  description: Memory of the node. C(available_bytes) is what programs could get without swapping.
  returned: success
  type: dict
  sample: {"total_bytes": 1622722658304, "available_bytes": 1561806290944}
shm:
  description: Size of the shared memory on C(/dev/shm), or V(null) when no tmpfs is mounted there.
  returned: success
  type: dict
  sample: {"total_bytes": 811361329152, "free_bytes": 811361329152}
sysctls:
  description:
    - Each asked kernel setting to its value, in which single spaces stand between several numbers; V(null) when this kernel
      has no such setting or it cannot be read.
  returned: success
  type: dict
  sample: {"vm.swappiness": "0", "kernel.sched_migration_cost_ns": null}
cpu_governors:
  description: The distinct frequency governors of the CPUs, sorted; empty without frequency scaling.
  returned: success
  type: list
  elements: str
  sample: [performance]
transparent_hugepage:
  description: Mode of transparent huge pages, or V(null).
  returned: success
  type: str
  sample: madvise
hugepages:
  description: Huge pages of the default size as C(total), C(free) and C(size_kb); V(null) in a kernel without them.
  returned: success
  type: dict
  sample: {"total": 0, "free": 0, "size_kb": 2048}
free_port:
  description:
    - A TCP port that was free on O(local_ip) at this moment, outside 60000 to 60063 (HCCL's) and none of O(ports); V(null)
      without O(local_ip) or when this node does not have that address.
  returned: success
  type: int
  sample: 40001
device_holders:
  description:
    - Processes that hold a device node C(/dev/davinciN) open, one entry for each path and process. C(container) is the id of
      the container in which the process runs, or V(null).
  returned: success
  type: list
  elements: dict
  sample: [{"path": "/dev/davinci3", "pid": 4711, "process": "python3", "container": null}]
rootinfo:
  description:
    - The file C(/etc/hccl_rootinfo.json) as C(exists), C(type) (like RV(paths)), C(addresses) (every IPv4 address in it)
      and C(errors) (texts).
  returned: success
  type: dict
  sample: {"exists": true, "type": "file", "addresses": ["10.20.1.10", "10.20.1.11"], "errors": []}
hostname:
  description: Name of the node.
  returned: success
  type: str
  sample: a2-node0
kernel:
  description: Release of the kernel.
  returned: success
  type: str
  sample: 5.10.0-182.0.0.95.oe2203sp3.aarch64
arch:
  description: Architecture.
  returned: success
  type: str
  sample: aarch64
time_epoch_s:
  description: The node's clock, in seconds since 1970-01-01 UTC.
  returned: success
  type: float
  sample: 1760000000.25
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.ascend.vllm.plugins.module_utils import ask_node


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "paths": {"type": "list", "elements": "path", "default": []},
            "ports": {"type": "list", "elements": "int", "default": []},
            "disk_paths": {"type": "list", "elements": "path", "default": []},
            "sysctls": {"type": "list", "elements": "str", "default": []},
            "local_ip": {"type": "str"},
            "npu_smi_path": {"type": "path"},
            "hccn_tool_path": {"type": "path"},
            "docker_host": {"type": "str", "default": "unix:///var/run/docker.sock"},
            "timeout": {"type": "float", "default": 15},
        },
        supports_check_mode=True,
    )
    if module.params["timeout"] <= 0:
        module.fail_json(msg="timeout must be more than 0 seconds, not %g." % module.params["timeout"])
    module.exit_json(changed=False, **ask_node.answer(**module.params))


if __name__ == "__main__":
    main()
