# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Questions about a node itself: interfaces, files, ports, memory, kernel and the Docker engine."""

from __future__ import annotations

import importlib.util
import os
import platform
import sys
import time

from . import driver_files, host, kernel, npu_smi, tools


def read_interfaces(timeout):
    """Return (interfaces, error or None): C(ip -j addr), or C(ip -o -4 addr) and /sys where the former is too old."""
    found = tools.find_tool("ip", extra_dirs=("/usr/sbin", "/sbin", "/bin"))
    if not found["path"]:
        return host.sys_interfaces({}), "ip was not found (searched %s): addresses are not known" % ", ".join(found["searched"])
    run = tools.run_tool([found["path"], "-j", "addr"], timeout)
    interfaces = host.parse_ip_json(run.out) if run.rc == 0 else None
    if interfaces is not None:
        return interfaces, None
    run = tools.run_tool([found["path"], "-o", "-4", "addr"], timeout)
    error = None if run.rc == 0 else (run.failure() or "%s: exit %s: %s" % (run.command, run.rc, tools.clip(run.text)))
    return host.sys_interfaces(host.parse_ip_oneline(run.out)), error


def read_hardware(found, driver_home, timeout):
    """Return (generation, error or None) of the NPUs."""
    if not found["path"]:
        return host.pci_generation(), found["problem"] or "npu-smi was not found"
    run = tools.run_tool([found["path"], "info"], timeout, tools.tool_environment(driver_home))
    info = npu_smi.parse_info(run.out)
    if info["hardware"] != "unknown":
        return info["hardware"], None
    error = run.failure() or "exit %s: %s" % (run.rc, tools.clip(run.text, 200) or "nothing printed")
    return host.pci_generation(), error


def read_python():
    """Return which interpreter this module runs on."""
    try:
        requests = importlib.util.find_spec("requests") is not None
    except (ImportError, ValueError):
        requests = False
    return {"version": platform.python_version(), "executable": sys.executable, "requests": requests}


def answer(paths=(), ports=(), disk_paths=(), sysctls=(), local_ip=None, npu_smi_path=None, hccn_tool_path=None,
           docker_host="unix:///var/run/docker.sock", timeout=15.0, hardware=None):
    """Return what node_info returns.

    C(hardware): the generation of the NPUs where npu-smi was already asked for it; without it, it is asked here.
    """
    # First of all, because the controller compares the clocks of the nodes and the other questions take time.
    now = time.time()
    driver_home = os.path.join(driver_files.install_home(driver_files.read_install_info()), "driver")
    npu_smi_found = tools.find_tool("npu-smi", npu_smi_path, driver_home)
    hccn_tool_found = tools.find_tool("hccn_tool", hccn_tool_path, driver_home)
    hardware, hardware_error = (hardware, None) if hardware else read_hardware(npu_smi_found, driver_home, timeout)
    interfaces, interfaces_error = read_interfaces(timeout)
    system = os.uname()
    return {
        "interfaces": interfaces,
        "interfaces_error": interfaces_error,
        "hardware": hardware,
        "npus": driver_files.device_ids(),
        "npu_smi": npu_smi_found["path"],
        "npu_smi_error": hardware_error,
        "hccn_tool": hccn_tool_found["path"],
        "rsync": tools.find_tool("rsync")["path"],
        "paths": dict((path, host.describe_path(path)) for path in paths),
        "python": read_python(),
        "docker": host.describe_docker(docker_host, timeout),
        "listening": host.listening(set(ports)),
        "disk": dict((path, host.describe_disk(path)) for path in disk_paths),
        "memory": kernel.memory(),
        "shm": kernel.shm(),
        "sysctls": dict((name, kernel.sysctl(name)) for name in sysctls),
        "cpu_governors": kernel.cpu_governors(),
        "transparent_hugepage": kernel.transparent_hugepage(),
        "hugepages": kernel.hugepages(),
        "free_port": host.free_port(local_ip, set(ports)) if local_ip else None,
        "device_holders": host.device_holders(),
        "rootinfo": host.read_rootinfo(),
        "hostname": system.nodename,
        "kernel": system.release,
        "arch": system.machine,
        "time_epoch_s": now,
    }
