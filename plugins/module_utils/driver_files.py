# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files that the Ascend driver keeps on a host: version.info, ascend_install.info and hccn.conf.

Everything here reads; text goes in, a dict comes out. A file that is not there, is a directory (what Docker makes
of a missing mount source; seen for ascend_install.info) or is damaged is told apart from one that is well.
"""

from __future__ import annotations

import ipaddress
import os
import re
import stat

INSTALL_INFO = "/etc/ascend_install.info"
HCCN_CONF = "/etc/hccn.conf"
ASCEND_HOME = "/usr/local/Ascend"
MAX_FILE_BYTES = 1024 * 1024

_PAIR = re.compile(r"^\s*([^=:\s][^=:]*?)\s*[=:]\s*(.*?)\s*$")
_CONF_LINE = re.compile(r"^\s*([A-Za-z][\w.\-]*)_(\d{1,3})\s*=\s*(.*?)\s*$")
# The tool adds a line for each of these (tool_recovery.c and tool.c of the driver).
_LIST_KEYS = ("arp", "ip_rule", "ip_route")
_ADDRESS_KEYS = ("address", "netmask", "gateway", "netdetect")


def file_type(path):
    """'file', 'directory', 'char', 'other', or None when there is nothing (links are followed)."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return None
    for test, name in ((stat.S_ISREG, "file"), (stat.S_ISDIR, "directory"), (stat.S_ISCHR, "char")):
        if test(mode):
            return name
    return "other"


def read_text(path, limit=MAX_FILE_BYTES):
    """{exists, type, text, error}: text is '' and error says why when the content could not be read as a whole."""
    found = {"exists": os.path.lexists(path), "type": file_type(path), "text": "", "error": None}
    if found["type"] != "file":
        if found["type"] is None:
            found["error"] = "a dangling link" if found["exists"] else "missing"
        else:
            found["error"] = "not a file but a %s" % found["type"]
        return found
    try:
        with open(path, "rb") as handle:
            data = handle.read(limit + 1)
    except OSError as exc:
        found["error"] = exc.strerror or str(exc)
        return found
    if len(data) > limit:
        found["error"] = "larger than %d bytes" % limit
    found["text"] = data[:limit].decode("utf-8", "replace")
    return found


def parse_pairs(text):
    """C(key=value) or C(key : value) lines as a dict of str; the first of a repeated key counts, other lines do not."""
    pairs = {}
    for line in text.splitlines():
        if line.lstrip().startswith("#"):
            continue
        match = _PAIR.match(line[:4096])
        if match:
            pairs.setdefault(match.group(1), match.group(2))
    return pairs


def package_version(text):
    """The version a version.info names (driver, firmware: C(Version=); nnal: C(<package> Version : )), or None."""
    pairs = parse_pairs(text)
    for key in ("Version", "package_version", "version"):
        if pairs.get(key):
            return pairs[key]
    for key, value in pairs.items():
        if key.endswith(" Version") and value:
            return value
    return None


def read_install_info(path=INSTALL_INFO):
    """{path, exists, type, values: {key: str}, errors: [str]} of ascend_install.info.

    Older drivers do not write Driver_Install_Mode and Driver_Install_Status, so their absence is no error.
    """
    found = read_text(path)
    values = parse_pairs(found["text"])
    errors = [found["error"]] if found["error"] else []
    if found["type"] == "file" and not found["error"] and "Driver_Install_Path_Param" not in values:
        errors.append("no line Driver_Install_Path_Param=")
    return {"path": path, "exists": found["exists"], "type": found["type"], "values": values, "errors": errors}


def install_home(install_info):
    """The folder that holds driver/ and firmware/: as ascend_install.info says, else the usual one."""
    stated = install_info["values"].get("Driver_Install_Path_Param", "")
    return stated if stated.startswith("/") else ASCEND_HOME


def read_version(path):
    """(version or None, error or None) of a version.info."""
    found = read_text(path)
    if found["error"]:
        return None, "%s: %s" % (path, found["error"])
    version = package_version(found["text"])
    return version, None if version else "%s: no line Version=" % path


def compatible_firmware(path):
    """The firmware versions that a driver's version.info says it works with, as C([7.0.0,8.9.9]), or None."""
    return parse_pairs(read_text(path)["text"]).get("compatible_version_fw") or None


def ipv4(text):
    """True for a dotted IPv4 address."""
    try:
        ipaddress.IPv4Address(text)
    except ValueError:
        return False
    return True


def parse_hccn_conf(text):
    """What hccn.conf states per device: {devices: {'<phy id>': {key: str}}, errors: [str]}.

    Lines are C(<key>_<phy id>=<value>) in any order, the last one perhaps without a newline. C(tls_enable) becomes
    an int so that it compares with what the tool answers; static ARP entries, rules and routes of a device are one text of
    several lines. A line that is not understood, a key given twice with
    different values and an address that is none (a truncated file ends in one) are errors, each with its line number.
    """
    devices = {}
    errors = []
    for count, line in enumerate(text.splitlines(), 1):
        line = line[:4096]
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _CONF_LINE.match(line)
        if not match:
            errors.append("line %d is not understood: %s" % (count, line.strip()[:120]))
            continue
        key, device, value = match.group(1), str(int(match.group(2))), match.group(3)
        values = devices.setdefault(device, {})
        if key in _ADDRESS_KEYS and not ipv4(value):
            errors.append("line %d: %s_%s is not an IPv4 address: %r" % (count, key, device, value[:60]))
        if key == "tls_enable":
            if value not in ("0", "1"):
                errors.append("line %d: tls_enable_%s is neither 0 nor 1: %r" % (count, device, value[:60]))
            value = int(value) if value in ("0", "1") else None
        if key in values and key in _LIST_KEYS:
            value = "%s\n%s" % (values[key], value)
        elif key in values and values[key] != value:
            errors.append("line %d: %s_%s is given twice with different values" % (count, key, device))
        values[key] = value
    return {"devices": devices, "errors": errors}


def read_hccn_conf(path=HCCN_CONF):
    """{path, exists, type, devices, errors} of hccn.conf; see parse_hccn_conf for the last two."""
    found = read_text(path)
    parsed = parse_hccn_conf(found["text"])
    errors = [found["error"]] if found["error"] else []
    if found["type"] == "file" and not found["error"] and not parsed["devices"]:
        errors.append("states no device")
    return {
        "path": path,
        "exists": found["exists"],
        "type": found["type"],
        "devices": parsed["devices"],
        "errors": errors + parsed["errors"],
    }


def device_ids(dev="/dev"):
    """Sorted physical ids from the device nodes davinciN (davinci_manager is none of them)."""
    try:
        names = os.listdir(dev)
    except OSError:
        return []
    return sorted(int(name[7:]) for name in names if re.match(r"^davinci\d{1,4}$", name))
