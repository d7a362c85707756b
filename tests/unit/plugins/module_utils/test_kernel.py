# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Memory and kernel settings, from folders made for the test and from this machine."""

from __future__ import annotations

import os

import pytest

from ansible_collections.ascend.vllm.plugins.module_utils import kernel

MEMINFO = """\
MemTotal:       1584690096 kB
MemFree:        1480000000 kB
MemAvailable:   1525201456 kB
HugePages_Total:     512
HugePages_Free:      500
HugePages_Rsvd:        0
Hugepagesize:       2048 kB
rubbish
Odd:            many kB
"""


def put(root, path, text):
    """Write one file below a folder."""
    target = root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(text if isinstance(text, bytes) else text.encode())


def test_memory_and_hugepages(tmp_path):
    put(tmp_path, "meminfo", MEMINFO)
    assert kernel.memory(str(tmp_path)) == {"total_bytes": 1584690096 * 1024, "available_bytes": 1525201456 * 1024}
    assert kernel.hugepages(str(tmp_path)) == {"total": 512, "free": 500, "size_kb": 2048}


def test_a_kernel_without_huge_pages_and_an_old_one_without_available(tmp_path):
    put(tmp_path, "meminfo", "MemTotal: 8 kB\n")
    assert kernel.memory(str(tmp_path)) == {"total_bytes": 8192, "available_bytes": None}
    assert kernel.hugepages(str(tmp_path)) is None


def test_nothing_there_is_no_failure(tmp_path):
    none = str(tmp_path / "none")
    assert kernel.memory(none) == {"total_bytes": None, "available_bytes": None}
    assert (kernel.hugepages(none), kernel.shm(proc=none), kernel.sysctl("vm.swappiness", none)) == (None, None, None)
    assert (kernel.cpu_governors(none), kernel.transparent_hugepage(none)) == ([], None)


def test_this_machine_agrees_with_itself():
    memory = kernel.memory()
    assert memory["total_bytes"] >= memory["available_bytes"] > 0
    assert memory["total_bytes"] <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") * 1.01


def test_shm_only_where_a_tmpfs_is_mounted_last(tmp_path):
    usage = os.statvfs("/dev/shm")
    sizes = {"total_bytes": usage.f_blocks * usage.f_frsize}
    put(tmp_path, "self/mounts", "proc /proc proc rw 0 0\nshm /dev/shm tmpfs rw,size=64k 0 0\nx\n")
    found = kernel.shm("/dev/shm", str(tmp_path))
    assert found["total_bytes"] == sizes["total_bytes"] and 0 <= found["free_bytes"] <= found["total_bytes"]
    put(tmp_path, "self/mounts", "shm /dev/shm tmpfs rw 0 0\n/dev/sda1 /dev/shm ext4 rw 0 0\n")
    assert kernel.shm("/dev/shm", str(tmp_path)) is None
    put(tmp_path, "self/mounts", "tmpfs /dev tmpfs rw 0 0\n")
    assert kernel.shm("/dev/shm", str(tmp_path)) is None
    put(tmp_path, "self/mounts", "tmpfs %s/gone tmpfs rw 0 0\n" % tmp_path)
    assert kernel.shm(str(tmp_path / "gone"), str(tmp_path)) is None


def test_sysctl(tmp_path):
    put(tmp_path, "sys/vm/swappiness", "0\n")
    put(tmp_path, "sys/net/ipv4/tcp_rmem", "4096\t131072\t6291456\n")
    put(tmp_path, "sys/net/ipv4/conf/bond0.100/rp_filter", "2\n")
    put(tmp_path, "sys/kernel/odd", b"\xff\n")
    put(tmp_path, "meminfo", "no setting")
    root = str(tmp_path)
    assert kernel.sysctl("vm.swappiness", root) == "0"
    assert kernel.sysctl("net.ipv4.tcp_rmem", root) == "4096 131072 6291456"
    assert kernel.sysctl("net.ipv4.conf.bond0/100.rp_filter", root) == "2"
    assert kernel.sysctl("kernel.odd", root) == "\ufffd"
    # A folder of settings and a setting that other kernels have.
    assert kernel.sysctl("vm", root) is None and kernel.sysctl("kernel.sched_migration_cost_ns", root) is None


@pytest.mark.parametrize("name", ["", ".", "vm..swappiness", "//.meminfo", "vm.//.//.meminfo", "vm.swappiness\0"])
def test_a_sysctl_name_stays_below_its_folder(tmp_path, name):
    put(tmp_path, "sys/vm/swappiness", "0\n")
    put(tmp_path, "meminfo", "secret")
    assert kernel.sysctl(name, str(tmp_path)) is None


def test_governors_are_distinct_and_sorted(tmp_path):
    for number, governor in ((0, "performance"), (1, "powersave"), (10, "performance")):
        put(tmp_path, "devices/system/cpu/cpu%d/cpufreq/scaling_governor" % number, governor + "\n")
    put(tmp_path, "devices/system/cpu/cpufreq/scaling_governor", "no CPU\n")
    put(tmp_path, "devices/system/cpu/cpu2/topology/core_id", "2\n")
    assert kernel.cpu_governors(str(tmp_path)) == ["performance", "powersave"]


@pytest.mark.parametrize("text, mode", [("always [madvise] never\n", "madvise"), ("[always] madvise never\n", "always"), ("always\n", None)])
def test_transparent_hugepage(tmp_path, text, mode):
    put(tmp_path, "kernel/mm/transparent_hugepage/enabled", text)
    assert kernel.transparent_hugepage(str(tmp_path)) == mode
