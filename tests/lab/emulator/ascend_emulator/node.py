# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What happens at each boot of an emulated node: device nodes, driver files, the tools, the NPUs' network ports.

Input is /etc/ascend-lab/node.json:
    {"hostname", "generation": "a2"|"a3", "node_index": 0.., "nodes", "npus": 8|16, "roce_interface": "roce0",
     "service_address"}; optional "driver_version", "firmware_version", "superpod_id", "server_index".
Running it again changes nothing. /etc/hccn.conf is written when absent and otherwise obeyed, as the real driver
does at boot. Active faults survive a boot: they are undone, the healthy node is rebuilt, they are set again.

Agrees with captures: the keys of hccn.conf, ascend_install.info, both version.info files, device names and
majors. Made up: version.info values of a release no capture shows (ascendhal, Innerversion), library contents.
"""
from __future__ import annotations

import compileall
import functools
import grp
import io
import json
import os
import pwd
import stat
import subprocess
import sys
import zipfile

from ascend_emulator import fabric, faults, hccn, state as states

USER = "HwHiAiUser"
MANAGERS = {"davinci_manager": (236, 64), "hisi_hdc": (237, 0), "devmm_svm": (238, 0)}
DAVINCI_MAJOR = 236
# A node keeps an interpreter for the emulator, which no fault takes away; a container has its own.
SHEBANG = b"""#!/bin/sh
own=/usr/local/lib/ascend-lab/python3
[ -x "$own" ] || own=python3
exec "$own" -IS "$0" "$@"
"""

# A tool is one file (a zip archive that Python runs), because containers get it as one bind-mounted file. On the
# node a copy of the package with compiled modules goes first: that halves the start-up time.
COPY = "/usr/local/lib/ascend-lab/emulator"
MAIN = """import os, sys
if os.path.isdir(%(home)r):
    sys.path.insert(0, %(home)r)
from ascend_emulator.%(module)s import main
main()
"""


@functools.lru_cache(maxsize=None)
def modules(home):
    """{file name: bytes} of the package under home."""
    package = os.path.join(home, "ascend_emulator")
    found = {}
    for name in sorted(os.listdir(package)):
        if name.endswith(".py"):
            with open(os.path.join(package, name), "rb") as handle:
                found[name] = handle.read()
    return found


def archive(home, module, first):
    """The bytes of one self-contained tool. home: the package's folder; first: where to look for it before the zip."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as made:
        for name, content in modules(home).items():
            made.writestr(zipfile.ZipInfo("ascend_emulator/" + name), content)
        made.writestr(zipfile.ZipInfo("__main__.py"), MAIN % {"home": first, "module": module})
    return SHEBANG + buffer.getvalue()


def write_if_changed(path, data, mode=0o644):
    data = data if isinstance(data, bytes) else data.encode("utf-8")
    try:
        with open(path, "rb") as handle:
            if handle.read() == data and stat.S_IMODE(os.stat(path).st_mode) == mode:
                return
    except OSError:
        pass
    os.makedirs(os.path.dirname(path), exist_ok=True)
    temporary = path + ".new"
    with open(temporary, "wb") as handle:
        handle.write(data)
    os.chmod(temporary, mode)
    os.replace(temporary, path)


def ensure_user():
    """The driver's user and group; returns (uid, gid)."""
    try:
        entry = pwd.getpwnam(USER)
    except KeyError:
        subprocess.run(["groupadd", "--force", USER], check=True)
        subprocess.run(["useradd", "--gid", USER, "--no-create-home", "--shell", "/usr/sbin/nologin", USER], check=True)
        entry = pwd.getpwnam(USER)
    return entry.pw_uid, grp.getgrnam(USER).gr_gid


def make_devices(paths, stored):
    uid, gid = ensure_user() if not paths.root else (os.geteuid(), os.getegid())  # under a root: a test
    wanted = dict(MANAGERS)
    wanted.update(("davinci%d" % npu["phy_id"], (DAVINCI_MAJOR, npu["phy_id"])) for npu in stored["npus"])
    os.makedirs(paths.at("/dev"), exist_ok=True)
    for name, (major, minor) in wanted.items():
        path = paths.at("/dev/" + name)
        if os.path.lexists(path) and os.lstat(path).st_rdev != os.makedev(major, minor):
            os.unlink(path)
        if not os.path.lexists(path):
            os.mknod(path, stat.S_IFCHR | 0o660, os.makedev(major, minor))
        os.chown(path, uid, gid)
        os.chmod(path, 0o660)


def install_info(for_all="no", status=("Driver_Install_Mode=normal", "Driver_Install_Status=complete")):
    """/etc/ascend_install.info; older drivers do without the two lines of status."""
    return "".join(line + "\n" for line in (
        "UserName=" + USER, "UserGroup=" + USER, "Firmware_Install_Type=full",
        "Firmware_Install_Path_Param=/usr/local/Ascend", "Driver_Install_Type=full",
        "Driver_Install_Path_Param=/usr/local/Ascend", "Driver_Install_For_All=" + for_all) + status)


def driver_version_info(version, inner="V100R001C25SPC001B210", compatible=("C19", "C20", "C21", "C22", "C23", "C25"),
                        firmware="7.0.0,8.9.9"):
    return "".join(line + "\n" for line in (
        "Version=" + version, "ascendhal_version=7.35.23", "aicpu_version=1.0", "tdt_version=1.0", "log_version=1.0",
        "prof_version=2.0", "dvppkernels_version=1.1", "tsfw_version=1.0", "Innerversion=" + inner,
        "compatible_version=" + ",".join("[V100R001%s]" % release for release in compatible),
        "compatible_version_fw=[%s]" % firmware, "package_version=" + version))


def firmware_version_info(version, package, drivers):
    """package: the version of the package the firmware came in; drivers: driver versions it works with."""
    return "Version=%s\nfirmware_version=1.0\npackage_version=%s\ncompatible_version_drv=%s\n" % (
        version, package, ",".join("[%s,%s.]" % (driver, driver) for driver in drivers))


def install_files(paths, stored, home, compiled=True):
    """Driver, firmware and tool files; what a fault has changed was put back before.

    compiled False leaves the modules uncompiled: the tools then start more slowly (tests make many nodes).
    """
    driver, version = paths.driver, stored["driver_version"]
    write_if_changed(driver + "/version.info", driver_version_info(version))
    write_if_changed(paths.at("/usr/local/Ascend/firmware/version.info"),
                     firmware_version_info(stored["firmware_version"], version, [version]))
    write_if_changed(paths.install_info, install_info())
    library = b"emulated library: only its presence counts\n"
    for folder, names in (("/lib64", ("libdcmi.so", "libdrvdsmi_host.so")), ("/lib64/common", ("libc_sec.so", "libmmpa.so")),
                          ("/lib64/driver", ("libascend_hal.so", "libdcmi.so", "libdrvdsmi_host.so"))):
        for name in names:
            write_if_changed(driver + folder + "/" + name, library)
    write_if_changed(paths.at("/usr/local/dcmi/libdcmi.so"), library)
    write_if_changed(paths.at("/usr/local/dcmi/dcmi_interface_api.h"), "/* emulated header */\n")
    if not os.path.lexists(paths.hccn_conf):
        write_if_changed(paths.hccn_conf, hccn.conf_text(stored))
    copy = paths.at(COPY)
    for name, content in modules(home).items():
        write_if_changed("%s/ascend_emulator/%s" % (copy, name), content)
    if compiled:
        compileall.compile_dir(copy, quiet=2)
    write_if_changed(paths.at("/usr/local/bin/npu-smi"), archive(home, "npu_smi", copy), 0o755)
    write_if_changed(driver + "/tools/hccn_tool", archive(home, "hccn", copy), 0o755)
    link = paths.at("/usr/bin/hccn_tool")
    if not os.path.lexists(link):
        os.makedirs(os.path.dirname(link), exist_ok=True)
        os.symlink("/usr/local/Ascend/driver/tools/hccn_tool", link)


def read_node(paths):
    with open(paths.node, encoding="utf-8") as handle:
        node = json.load(handle)
    problems = []
    if node.get("generation") not in ("a2", "a3"):
        problems.append("generation is %r, not a2 or a3" % node.get("generation"))
    for key, low, high in (("node_index", 0, 199), ("npus", 1, 16)):
        if not isinstance(node.get(key), int) or not low <= node[key] <= high:
            problems.append("%s is %r, not a number from %d to %d" % (key, node.get(key), low, high))
    if not node.get("hostname"):
        problems.append("hostname is missing")
    if problems:
        raise SystemExit("%s: %s" % (paths.node, "; ".join(problems)))
    return node


def main():
    paths = states.Paths()
    if os.geteuid() != 0:
        raise SystemExit("ascend-lab-node has to be root")
    home = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
    node = read_node(paths)
    stored = states.load_stored(paths) if not states.in_container(paths) else None
    if stored is None or stored.get("node") != node:
        # A new machine, or one that was told to be another: faults of the old one mean nothing here.
        for name in list(stored["faults"] if stored else {}):
            faults.clear_fault(paths, stored, name)
        stored = states.default_state(node)
    os.makedirs(paths.process_drops, exist_ok=True)
    states.save(paths, stored)
    with states.changing(paths) as stored:
        def rebuild():
            make_devices(paths, stored)
            install_files(paths, stored, home)
            return fabric.build(stored, hccn.read_conf(paths.hccn_conf), node.get("roce_interface", "roce0"))
        remarks = faults.reapply(paths, stored, rebuild)
    for remark in remarks:
        print("ascend-lab-node: " + remark, file=sys.stderr)
    print("ascend-lab-node: %s, %s with %d NPUs%s" % (
        node["hostname"], node["generation"], node["npus"],
        ", faults set again: " + ", ".join(sorted(stored["faults"])) if stored["faults"] else ""))
