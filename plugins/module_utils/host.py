# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a node says about itself apart from its NPUs: interfaces, listening ports, paths, disk, the Docker engine.

Everything reads and nothing raises for a thing that is not there. The roots (/proc, /sys) are parameters, so that
tests can hand in folders of their own.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import stat
import struct
import sys

from ansible_collections.ascend.vllm.plugins.module_utils.docker_engine import DockerEngine
from ansible_collections.ascend.vllm.plugins.module_utils.driver_files import ipv4, read_text

# PCI device ids of vendor 19e5.
GENERATION_OF_PCI = {"0xd801": "910a", "0xd802": "a2", "0xd803": "a3", "0xd500": "310p", "0xd806": "950"}
PCI_VENDOR = "0x19e5"

ROOTINFO = "/etc/hccl_rootinfo.json"

#: HCCL listens on these ports of a node (one for each NPU, from HCCL_IF_BASE_PORT on, which is 60000 by default).
HCCL_PORTS = range(60000, 60064)
FREE_PORT_TRIES = 256

_LISTEN = "0A"
_ONELINE = re.compile(r"^\d+:\s+([^\s@]+)(?:@\S+)?\s+inet\s+(\d{1,3}(?:\.\d{1,3}){3}(?:/\d{1,2})?)(?:\s+peer\s+\S+/(\d{1,2}))?")


def parse_ip_json(text):
    """C(ip -j addr): [{name, up, mtu, addresses: ['198.51.100.11/24']}], or None when it is not understood.

    Names are the kernel's. Addresses are IPv4, secondary ones included. up: the link carries traffic (C(UNKNOWN) is
    what drivers without carrier detection say, such as lo).
    """
    try:
        links = json.loads(text)
        interfaces = []
        for link in links:
            if not link.get("ifname"):
                continue
            state = link.get("operstate")
            interfaces.append(
                {
                    "name": link["ifname"],
                    "up": state == "UP" or (state == "UNKNOWN" and "UP" in link.get("flags", [])),
                    "mtu": link.get("mtu"),
                    "addresses": [
                        "%s/%s" % (entry["local"], entry["prefixlen"])
                        for entry in link.get("addr_info", [])
                        if entry.get("family") == "inet" and "local" in entry
                    ],
                }
            )
    except (ValueError, AttributeError, TypeError, KeyError):
        return None
    return interfaces


def parse_ip_oneline(text):
    """C(ip -o -4 addr): {name: ['198.51.100.11/24']}; the prefix of a point-to-point address stands by its peer."""
    addresses = {}
    for line in text.splitlines():
        match = _ONELINE.match(line)
        if match:
            name, address, peer_prefix = match.groups()
            if "/" not in address:
                address = "%s/%s" % (address, peer_prefix or "32")
            addresses.setdefault(name, []).append(address)
    return addresses


def _read(path):
    try:
        with open(path, "r") as handle:
            return handle.read(65536).strip()
    except (OSError, ValueError):
        return ""


def sys_interfaces(addresses, root="/sys/class/net"):
    """The shape of parse_ip_json from /sys and the addresses of parse_ip_oneline, for an C(ip) without C(-j)."""
    try:
        names = sorted(os.listdir(root))
    except OSError:
        return []
    interfaces = []
    for name in names:
        folder = os.path.join(root, name)
        if not os.path.isdir(folder):
            continue
        state, mtu, flags = (_read(os.path.join(folder, leaf)) for leaf in ("operstate", "mtu", "flags"))
        is_up = bool(re.match(r"^0x[0-9a-f]+$", flags)) and bool(int(flags, 16) & 1)
        interfaces.append(
            {
                "name": name,
                "up": state == "up" or (state == "unknown" and is_up),
                "mtu": int(mtu) if mtu.isdigit() else None,
                "addresses": addresses.get(name, []),
            }
        )
    return interfaces


def pci_generation(root="/sys/bus/pci/devices"):
    """The NPU generation by PCI device ids, or 'unknown' (no card, or cards of several generations)."""
    try:
        names = os.listdir(root)
    except OSError:
        return "unknown"
    kinds = set()
    for name in names:
        if _read(os.path.join(root, name, "vendor")).lower() == PCI_VENDOR:
            kinds.add(GENERATION_OF_PCI.get(_read(os.path.join(root, name, "device")).lower()))
    # Other Huawei devices (NICs) carry the same vendor id.
    kinds.discard(None)
    return kinds.pop() if len(kinds) == 1 else "unknown"


def _hex_address(text):
    """An address of /proc/net/tcp{,6}: 32-bit words in the byte order of the machine."""
    words = [int(text[at:at + 8], 16) for at in range(0, len(text), 8)]
    order = "<" if sys.byteorder == "little" else ">"
    packed = b"".join(struct.pack(order + "I", word) for word in words)
    return socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed)


def _tcp_tables(proc):
    """The texts of /proc/net/tcp and tcp6, those that there are."""
    texts = []
    for leaf in ("net/tcp", "net/tcp6"):
        try:
            # Not _read: a busy node has more sockets than fit a small buffer.
            with open(os.path.join(proc, leaf), "r") as handle:
                texts.append(handle.read())
        except (OSError, ValueError):
            continue
    return texts


def parse_proc_tcp(text):
    """Listeners of /proc/net/tcp or tcp6: [{port, address, inode}]; lines that are not understood are left out."""
    listeners = []
    for line in text.splitlines():
        words = line.split()
        if len(words) < 10 or words[3] != _LISTEN:
            continue
        try:
            address, port = words[1].split(":")
            listeners.append({"port": int(port, 16), "address": _hex_address(address), "inode": int(words[9])})
        except (ValueError, OSError, struct.error):
            continue
    return listeners


#: States in which the other end may still wait for an answer (include/net/tcp_states.h): ESTABLISHED, SYN_RECV, CLOSE_WAIT.
_OPEN = ("01", "03", "08")


def connections(ports, proc="/proc"):
    """How many TCP connections to one of these local ports are open, of those in which an answer may still be waited for; None where that is not told.

    The list is read in pieces, so that one may be missed while others come and go.
    """
    wanted = set("%04X" % port for port in ports)
    texts = _tcp_tables(proc)
    lines = (line.split() for text in texts for line in text.splitlines())
    count = sum(len(words) > 3 and words[3] in _OPEN and words[1].rpartition(":")[2] in wanted for words in lines)
    return count if texts else None


def socket_owners(inodes, proc="/proc"):
    """{inode: (pid, process name)} for those of the inodes whose owner may be seen (all of them, as root)."""
    wanted = dict(("socket:[%d]" % inode, inode) for inode in inodes)
    owners = {}
    if not wanted:
        return owners
    try:
        pids = sorted(int(name) for name in os.listdir(proc) if name.isdigit())
    except OSError:
        return owners
    for pid in pids:
        folder = os.path.join(proc, str(pid), "fd")
        try:
            descriptors = os.listdir(folder)
        except OSError:
            continue
        for descriptor in descriptors:
            try:
                target = os.readlink(os.path.join(folder, descriptor))
            except OSError:
                continue
            inode = wanted.get(target)
            if inode is not None and inode not in owners:
                owners[inode] = (pid, _read(os.path.join(proc, str(pid), "comm")) or None)
        if len(owners) == len(wanted):
            break
    return owners


_CONTAINER_ID = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
# A device node that is gone while a process holds it, as when its container is being removed, is marked by the kernel.
_NPU_DEVICE = re.compile(r"^(/dev/davinci(\d+))(?: \(deleted\))?$")


def container_of(pid, proc="/proc"):
    """The id (64 hexadecimal digits) of the container that a process runs in, or None.

    The control groups of cgroup v1 and v2 hold the id, whoever names them (Docker's two drivers, containerd, Kubernetes).
    The innermost id counts. One that this process has too is the place where the node itself runs and no container on it.
    """
    ours = set(_CONTAINER_ID.findall(_read(os.path.join(proc, "self", "cgroup"))))
    ids = [found for found in _CONTAINER_ID.findall(_read(os.path.join(proc, str(pid), "cgroup"))) if found not in ours]
    return ids[-1] if ids else None


def service_of(pid, proc="/proc"):
    """The systemd service that a process belongs to (C(name.service)), or None."""
    for line in _read(os.path.join(proc, str(pid), "cgroup")).splitlines():
        name = line.rpartition("/")[2]
        if name.endswith(".service"):
            return name
    return None


def device_holders(proc="/proc"):
    """Which processes hold an NPU's device node open: [{path: '/dev/davinci3', pid, process, container}], sorted.

    One entry for each path and process. Links of processes in containers read as in the container, where an NPU keeps its
    name. container: as container_of. Processes that end meanwhile, or that may not be looked into, are left out.
    """
    try:
        pids = [int(name) for name in os.listdir(proc) if name.isdigit()]
    except OSError:
        return []
    held = set()
    for pid in pids:
        folder = os.path.join(proc, str(pid), "fd")
        try:
            descriptors = os.listdir(folder)
        except OSError:
            continue
        for descriptor in descriptors:
            try:
                match = _NPU_DEVICE.match(os.readlink(os.path.join(folder, descriptor)))
            except OSError:
                continue
            if match:
                held.add((int(match.group(2)), pid, match.group(1)))
    return [
        {"path": path, "pid": pid, "process": _read(os.path.join(proc, str(pid), "comm")) or None, "container": container_of(pid, proc)}
        for dummy, pid, path in sorted(held)
    ]


def free_port(local_ip, avoid=()):
    """A TCP port of local_ip that nobody uses at this moment, outside HCCL's ports and not one of avoid; None when the
    address cannot be bound. The kernel chooses, from its own range of short-lived ports."""
    refused = []
    try:
        while len(refused) < FREE_PORT_TRIES:
            probe = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            # Held until the end, so that the kernel does not offer the same port again.
            refused.append(probe)
            probe.bind((local_ip, 0))
            port = probe.getsockname()[1]
            if port not in HCCL_PORTS and port not in avoid:
                return port
    except (OSError, UnicodeError):
        return None
    finally:
        for probe in refused:
            probe.close()
    return None


def listening(ports, proc="/proc"):
    """Who listens on the asked TCP ports, IPv4 and IPv6: [{port, address, pid, process, service}], sorted; service: as service_of."""
    if not ports:
        return []
    found = [entry for text in _tcp_tables(proc) for entry in parse_proc_tcp(text) if entry["port"] in ports]
    owners = socket_owners(set(entry["inode"] for entry in found), proc)
    result = []
    for entry in found:
        pid, name = owners.get(entry["inode"], (None, None))
        line = {"port": entry["port"], "address": entry["address"], "pid": pid, "process": name, "service": service_of(pid, proc) if pid else None}
        if line not in result:
            result.append(line)
    return sorted(result, key=lambda line: (line["port"], line["address"]))


def describe_path(path):
    """{exists, type: file|directory|char|other|None, size (bytes), target (realpath), error}; links are followed."""
    found = {"exists": False, "type": None, "size": None, "target": os.path.realpath(path), "error": None}
    try:
        status = os.stat(path)
    except OSError as exc:
        if os.path.islink(path):
            found["error"] = "a link to nothing"
        elif not isinstance(exc, (FileNotFoundError, NotADirectoryError)):
            found["error"] = exc.strerror or str(exc)
        return found
    kinds = ((stat.S_ISREG, "file"), (stat.S_ISDIR, "directory"), (stat.S_ISCHR, "char"))
    found["type"] = ([name for test, name in kinds if test(status.st_mode)] + ["other"])[0]
    found.update(exists=True, size=status.st_size)
    return found


def describe_disk(path):
    """{path, free_bytes, total_bytes, error} of the file system that holds path or will: the nearest parent there is."""
    place = os.path.abspath(path)
    while not os.path.exists(place) and place != os.path.dirname(place):
        place = os.path.dirname(place)
    try:
        usage = shutil.disk_usage(place)
    except OSError as exc:
        return {"path": place, "free_bytes": None, "total_bytes": None, "error": exc.strerror or str(exc)}
    return {"path": place, "free_bytes": usage.free, "total_bytes": usage.total, "error": None}


def _texts(value):
    """Every string that is a value in decoded JSON, in the order of the text."""
    found, todo = [], [value]
    while todo:
        entry = todo.pop()
        if isinstance(entry, str):
            found.append(entry)
        elif isinstance(entry, dict):
            todo.extend(reversed(list(entry.values())))
        elif isinstance(entry, list):
            todo.extend(reversed(entry))
    return found


def read_rootinfo(path=ROOTINFO):
    """The file that tells HCCL the addresses of the NPUs: {exists, type, addresses, errors: [str]}.

    exists, type: as read_text. addresses: every value anywhere in the JSON that is an IPv4 address, each once, in the order of
    the file; its layout differs between generations, and an address is an address in all of them. A file that is not there
    is no error: only some generations have one.
    """
    kept = read_text(path)
    found = {"exists": kept["exists"], "type": kept["type"], "addresses": [], "errors": []}
    if not kept["exists"]:
        return found
    value = None
    if kept["error"]:
        found["errors"].append(kept["error"])
    else:
        try:
            value = json.loads(kept["text"])
        except (ValueError, RecursionError) as exc:
            found["errors"].append("not JSON: %s" % exc)
    for entry in _texts(value):
        if ipv4(entry) and entry not in found["addresses"]:
            found["addresses"].append(entry)
    return found


def docker_get(docker_host, path, timeout):
    """The JSON object at one path of the Docker API. Raises OSError or ValueError, with the socket in the text."""
    socket_path = docker_host[7:] if docker_host.startswith("unix://") else docker_host
    if not socket_path.startswith("/"):
        raise ValueError("docker_host %r is not unix:///path" % docker_host)
    status, body = DockerEngine(socket_path, timeout).get(path)
    if status != 200:
        raise ValueError("%s answered %d to %s: %s" % (socket_path, status, path, body[:200].decode("utf-8", "replace").strip()))
    try:
        value = json.loads(body.decode("utf-8", "replace"))
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise ValueError("%s answered no object to %s" % (socket_path, path))
    return value


def _without_password(url):
    """A proxy URL whose user and password must not reach a report."""
    return re.sub(r"//[^/@\s]+@", "//***@", url) if isinstance(url, str) else None


def _insecure_registries(info):
    """Host names and networks that the engine asks over plain HTTP: [str], sorted."""
    config = info.get("RegistryConfig")
    config = config if isinstance(config, dict) else {}
    networks = config.get("InsecureRegistryCIDRs")
    found = set(entry for entry in (networks if isinstance(networks, list) else []) if isinstance(entry, str))
    indexes = config.get("IndexConfigs")
    for name, index in (indexes if isinstance(indexes, dict) else {}).items():
        if isinstance(index, dict) and index.get("Secure") is False:
            found.add(name)
    return sorted(found)


def describe_docker(docker_host, timeout):
    """The Docker engine: {reachable, version, api_version, root_dir, default_runtime, insecure_registries, http_proxy,
    https_proxy, no_proxy, disk, error}; error is None when both questions were answered. disk: describe_disk of root_dir, or
    None while that is not known."""
    found = {
        "reachable": False,
        "version": None,
        "api_version": None,
        "root_dir": None,
        "default_runtime": None,
        "insecure_registries": [],
        "http_proxy": None,
        "https_proxy": None,
        "no_proxy": None,
        "disk": None,
        "error": None,
    }
    try:
        version = docker_get(docker_host, "/version", timeout)
        found.update(reachable=True, version=version.get("Version"), api_version=version.get("ApiVersion"))
        info = docker_get(docker_host, "/info", timeout)
        found.update(
            root_dir=info.get("DockerRootDir") or None,
            default_runtime=info.get("DefaultRuntime") or None,
            insecure_registries=_insecure_registries(info),
            http_proxy=_without_password(info.get("HttpProxy") or None),
            https_proxy=_without_password(info.get("HttpsProxy") or None),
            no_proxy=info.get("NoProxy") or None,
        )
        if isinstance(found["root_dir"], str):
            found["disk"] = describe_disk(found["root_dir"])
    except (OSError, ValueError) as exc:
        found["error"] = str(exc)
    return found
