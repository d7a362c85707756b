# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can be broken on an emulated node, and mended again exactly.

A fault is one row of FAULTS. It works in one of two ways, or both:

* overlay(state, values): changes what the tools believe, at the moment they read it. The stored state stays as it
  is, so clearing is forgetting: nothing to restore.
* apply(context, values) -> saved, undo(context, values, saved): changes the kernel or a file. `saved` is kept in
  the state file and is all that undo needs. undo succeeds where the thing is already gone (after a reboot).

A fault is set once at a time: setting it again replaces it. Two faults that change the same file or port
("target") exclude each other, because one's undo would write back what the other had put there.
"""
from __future__ import annotations

import base64
import collections
import copy
import os
import shutil
import signal
import stat
import subprocess
import time

from ascend_emulator import fabric, hccn, hccn_text, state as states

HEALTH_WORDS = ("OK", "Warning", "Alarm", "Critical", "UNKNOWN")

Context = collections.namedtuple("Context", "paths stored")
# parameters: {name: (default, help)}; a default of None means it must be given, or is worked out by the fault.
#: What a node that is in no super pod says of id and size (npu_chip_info_ext.c prints an unsigned number; mind-cluster, InvalidSuperPodID).
NO_SUPERPOD = 0xFFFFFFFF
Fault = collections.namedtuple("Fault", "name help parameters overlay apply undo target generations")

FAULTS = {}


class FaultError(Exception):
    """A fault that cannot be set or cleared; the text says why."""


def fault(name, help_text, parameters=None, overlay=None, apply=None, undo=None, target=None,
          generations=("a2", "a3")):
    targets = (target,) if isinstance(target, str) else tuple(target or ())
    FAULTS[name] = Fault(name, help_text, parameters or {}, overlay, apply, undo, targets, generations)


# --- parameters --------------------------------------------------------------------------------------------

NPU = {"npu": ("0", "physical ids: one, a list 0,3 or all")}


def npus(stored, values):
    """The physical ids a fault is about."""
    known = [npu["phy_id"] for npu in stored["npus"]]
    if values["npu"] == "all":
        return known
    try:
        wanted = [int(part) for part in str(values["npu"]).split(",")]
    except ValueError:
        raise FaultError("npu=%s: physical ids such as 0 or 0,3, or all" % values["npu"]) from None
    missing = [str(phy_id) for phy_id in wanted if phy_id not in known]
    if missing:
        raise FaultError("npu=%s: this node has NPUs 0 to %d" % (",".join(missing), known[-1]))
    return wanted


def whole(values, name):
    try:
        return int(values[name])
    except ValueError:
        raise FaultError("%s=%s: a whole number is needed" % (name, values[name])) from None


def checked(entry, stored, given):
    """Given parameters with defaults filled in; unknown or missing ones are refused."""
    unknown = sorted(set(given) - set(entry.parameters))
    if unknown:
        takes = ", ".join(sorted(entry.parameters)) or "no parameters"
        raise FaultError("%s takes %s, not %s" % (entry.name, takes, ", ".join(unknown)))
    if stored["generation"] not in entry.generations:
        raise FaultError("%s is a fault of %s nodes; this node is %s" % (
            entry.name, " and ".join(entry.generations), stored["generation"]))
    values = {name: default for name, (default, dummy) in entry.parameters.items()}
    values.update(given)
    if "npu" in values:
        npus(stored, values)
    return values


# --- overlays: what the tools believe ----------------------------------------------------------------------

def overlaid(stored):
    """The state as the tools should see it."""
    state = copy.deepcopy(stored)
    for name, active in stored["faults"].items():
        entry = FAULTS.get(name)
        if entry and entry.overlay:
            entry.overlay(state, active["values"])
    return state


def _each(state, values):
    wanted = npus(state, values)
    return [npu for npu in state["npus"] if npu["phy_id"] in wanted]


def _devices(state, values):
    return [state["hccn"]["devices"][str(phy_id)] for phy_id in npus(state, values)]


def _health(state, values):
    if values["health"] not in HEALTH_WORDS:
        raise FaultError("health=%s: one of %s" % (values["health"], ", ".join(HEALTH_WORDS)))
    for npu in _each(state, values):
        npu.update(health=values["health"], error_codes=values["code"].split(","), error_information=values["text"])


def _driver(code):
    def overlay(state, values):
        state["driver_error"] = code
        state["driver_error_style"] = values.get("detail")
    return overlay


def _hbm(state, values):
    for npu in _each(state, values):
        npu["hbm_used_mb"] = min(npu["hbm_total_mb"], whole(values, "mb"))


def _process_overlay(state, values):
    for phy_id in npus(state, values):
        state["processes"].append({"phy_id": phy_id, "pid": int(values["pid"]), "name": values["name"],
                                   "memory_mb": whole(values, "mb")})


def _driver_version(state, values):
    state["driver_version"] = values["version"]
    state["tool_version"] = values["tool"] or values["version"]


def _firmware(state, values):
    state["firmware_version"] = values["version"]


def _net_health(state, values):
    if values["status"] not in hccn_text.NET_HEALTH:
        raise FaultError("status=%s: one of %s" % (values["status"], ", ".join(hccn_text.NET_HEALTH)))
    for device in _devices(state, values):
        device["net_health"] = values["status"]


def _netdetect(state, values):
    for device in _devices(state, values):
        device["netdetect"] = values["address"]


def _tls(state, values):
    for device in _devices(state, values):
        device["tls"] = 1


def _back_to_back(state, values):
    for phy_id, device in zip(npus(state, values), _devices(state, values)):
        device["lldp"] = {"npu": "eth%d" % phy_id, "mac": states.roce_mac(state["node_index"] ^ 1, phy_id)}


def _no_lldp(state, values):
    for device in _devices(state, values):
        device["lldp"] = None


def _busy(state, values):
    state["hccn"]["busy_until"] = values["until"]


def _busy_until(values):
    seconds = values["seconds"]
    return "forever" if seconds == "forever" else time.time() + whole(values, "seconds")


def _output(kind):
    def overlay(state, values):
        if values["tool"] not in ("npu-smi", "hccn_tool"):
            raise FaultError("tool=%s: npu-smi or hccn_tool" % values["tool"])
        state["output"].append(dict(values, kind=kind))
    return overlay


def _superpod(state, values):
    state["superpod"]["id"] = whole(values, "id")
    if state["superpod"]["id"] == NO_SUPERPOD:
        state["superpod"]["size"] = NO_SUPERPOD


# --- files -------------------------------------------------------------------------------------------------

def keep(path):
    """What stands at path: enough to put it back exactly. A folder is kept only when empty."""
    try:
        info = os.lstat(path)
    except FileNotFoundError:
        return {"path": path, "kind": "absent"}
    kept = {"path": path, "mode": stat.S_IMODE(info.st_mode), "uid": info.st_uid, "gid": info.st_gid}
    if stat.S_ISLNK(info.st_mode):
        return dict(kept, kind="link", target=os.readlink(path))
    if stat.S_ISCHR(info.st_mode):
        return dict(kept, kind="char", major=os.major(info.st_rdev), minor=os.minor(info.st_rdev))
    if stat.S_ISDIR(info.st_mode):
        return dict(kept, kind="directory")
    with open(path, "rb") as handle:
        return dict(kept, kind="file", content=base64.b64encode(handle.read()).decode("ascii"))


def remove(path):
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)


def put_back(kept):
    path = kept["path"]
    if kept == keep(path):
        return
    remove(path)
    if kept["kind"] == "absent":
        return
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if kept["kind"] == "link":
        os.symlink(kept["target"], path)
        return
    if kept["kind"] == "directory":
        os.mkdir(path)
    elif kept["kind"] == "char":
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(kept["major"], kept["minor"]))
    else:
        with open(path, "wb") as handle:
            handle.write(base64.b64decode(kept["content"]))
    os.chown(path, kept["uid"], kept["gid"])
    os.chmod(path, kept["mode"])


def file_fault(name, help_text, paths_of, change, parameters=None, overlay=None, target=None, generations=("a2", "a3")):
    """A fault that changes files: paths_of(context, values) -> [path], change(context, values, path)."""
    def apply(context, values):
        saved = [keep(path) for path in paths_of(context, values)]
        try:
            for kept in saved:
                change(context, values, kept["path"])
        except (OSError, hccn.Refusal) as error:
            undo(context, values, saved)
            raise FaultError("%s cannot be set: %s" % (name, error)) from None
        return saved

    def undo(context, values, saved):
        for kept in saved:
            put_back(kept)

    fault(name, help_text, parameters, overlay, apply, undo, target, generations)


def _remove(context, values, path):
    remove(path)


def _directory(context, values, path):
    remove(path)
    os.mkdir(path)


def _truncated(context, values, path):
    """Ends in the middle of a line of NPU 1, as after a full disk."""
    with open(path, "rb") as handle:
        content = handle.read()
    at = content.find(b"netmask_1=")
    with open(path, "wb") as handle:
        handle.write(content[:at + 13] if at >= 0 else content[:len(content) // 3])


def _stale(context, values, path):
    """The file names addresses the NPUs no longer have."""
    for phy_id in npus(context.stored, values):
        hccn.set_conf(path, phy_id, "address", values["address"] or "10.20.250.%d" % (10 + phy_id))


def _edit_version(context, values, path):
    with open(path, encoding="utf-8") as handle:
        lines = handle.read().splitlines()
    with open(path, "w", encoding="utf-8") as handle:
        for line in lines:
            key = line.partition("=")[0]
            handle.write(("%s=%s" % (key, values["version"]) if key in ("Version", "package_version") else line) + "\n")


def _incomplete(context, values, path):
    with open(path, encoding="utf-8") as handle:
        lines = [line for line in handle.read().splitlines() if not line.startswith("Driver_Install_Status=")]
    with open(path, "w", encoding="utf-8") as handle:
        handle.write("\n".join(lines) + "\n")


def tool_paths(paths, tool):
    """Where ascend-lab-node installs a tool."""
    if tool == "npu-smi":
        return [paths.at("/usr/local/bin/npu-smi")]
    if tool == "hccn_tool":
        return [paths.at("/usr/local/Ascend/driver/tools/hccn_tool"), paths.at("/usr/bin/hccn_tool")]
    raise FaultError("tool=%s: npu-smi or hccn_tool" % tool)


def _not_executable(context, values, path):
    if not os.path.islink(path):
        os.chmod(path, 0o644)


# --- the kernel --------------------------------------------------------------------------------------------

def _link(way):
    def change(context, values, saved=None):
        for phy_id in npus(context.stored, values):
            fabric.run(["ip", "link", "set", "npu%d" % phy_id, way], check=way == "down")
        if way == "down":
            now = time.strftime("%a %b %e %H:%M:%S %Y")
            for device in _devices(context.stored, values):
                device["link_changes"] = ([[now, "LINK DOWN"]] + device["link_changes"])[:10]
    return change


def _undo_link(context, values, saved):
    _link("up")(context, values)
    for phy_id in npus(context.stored, values):
        device = context.stored["hccn"]["devices"][str(phy_id)]
        device["link_changes"] = saved.get(str(phy_id), [])


def _apply_link(context, values):
    saved = {str(phy_id): list(context.stored["hccn"]["devices"][str(phy_id)]["link_changes"])
             for phy_id in npus(context.stored, values)}
    _link("down")(context, values)
    return saved


def _roce_down(state, values):
    """All RoCE ports of an A3 node are down and were never watched: net_health Init."""
    for device in state["hccn"]["devices"].values():
        device["net_health"] = "Init"
        device["lldp"] = None


def _no_gateway(context, values):
    saved = {}
    for phy_id in npus(context.stored, values):
        saved[str(phy_id)] = fabric.default_gateway(phy_id)
        fabric.ip_in(phy_id, "route", "del", "default", check=False)
    return saved


def _undo_gateway(context, values, saved):
    for phy_id, address in saved.items():
        if address:
            fabric.ip_in(int(phy_id), "route", "replace", "default", "via", address, "dev", "eth" + phy_id, check=False)


def _address(default):
    """Give NPUs another live address (and write it to hccn.conf, as hccn_tool -ip -s would)."""
    def apply(context, values):
        saved = {"conf": keep(context.paths.hccn_conf), "ports": {}}
        for phy_id in npus(context.stored, values):
            port = fabric.port(phy_id)
            saved["ports"][str(phy_id)] = {"address": port["address"], "prefix": port["prefix"],
                                           "gateway": fabric.default_gateway(phy_id)}
            address = values["address"] or default(context.stored, phy_id)
            if address:
                fabric.set_addresses(phy_id, "eth%d" % phy_id, ["%s/%d" % (address, states.ROCE_PREFIX)])
                fabric.ip_in(phy_id, "route", "replace", "default", "via", states.GATEWAY, "dev", "eth%d" % phy_id,
                             check=False)
                hccn.set_conf(context.paths.hccn_conf, phy_id, "address", address)
            else:
                fabric.set_addresses(phy_id, "eth%d" % phy_id, [])
        return saved
    return apply


def _undo_address(context, values, saved):
    put_back(saved["conf"])
    for phy_id, port in saved["ports"].items():
        if not fabric.exists(int(phy_id)):
            continue
        cidrs = ["%s/%d" % (port["address"], port["prefix"])] if port["address"] else []
        fabric.set_addresses(int(phy_id), "eth" + phy_id, cidrs)
        if port["gateway"]:
            fabric.ip_in(int(phy_id), "route", "replace", "default", "via", port["gateway"], "dev", "eth" + phy_id,
                         check=False)


def _other_npu(stored, phy_id):
    """The address of the same node's next NPU: two NPUs then answer for one address."""
    ids = [npu["phy_id"] for npu in stored["npus"]]
    return states.roce_address(stored["node_index"], ids[(ids.index(phy_id) + 1) % len(ids)])


def _rules(context, values):
    """iptables rules of the two ping faults, as argument lists after -A or -D; names are for the comment match."""
    rules = []
    kind = "vnic" if values.get("plane") == "hccs" else "roce"
    for phy_id in npus(context.stored, values):
        rule = ["OUTPUT", "-p", "icmp", "--icmp-type", "echo-request"]
        rule += ["-o", "end%dv0" % phy_id if kind == "vnic" else "eth%d" % phy_id]
        if values.get("peer"):
            rule += ["-d", values["peer"]]
        if "every" in values:
            every = whole(values, "every")
            if every < 2:
                raise FaultError("every=%d: at least 2 (use ping-block for all packets)" % every)
            rule += ["-m", "statistic", "--mode", "nth", "--every", str(every), "--packet", str(every - 1)]
        rules.append((phy_id, rule + ["-j", "DROP"]))
    return rules


def _apply_rules(context, values):
    if values.get("plane") not in ("roce", "hccs"):
        raise FaultError("plane=%s: roce or hccs" % values["plane"])
    if "every" not in values and not values["peer"]:
        raise FaultError("peer=ADDRESS is needed: the NPU address that cannot be reached")
    saved = []
    try:
        for phy_id, rule in _rules(context, values):
            fabric.inside(phy_id, ["iptables", "-A"] + rule)
            saved.append([phy_id, rule])
    except fabric.FabricError as error:
        _undo_rules(context, values, saved)
        raise FaultError(str(error)) from None
    return saved


def _undo_rules(context, values, saved):
    for phy_id, rule in saved:
        if fabric.exists(phy_id):
            fabric.inside(phy_id, ["iptables", "-D"] + rule, check=False)


def _apply_superpod(context, values):
    """Dies of another super pod are out of reach over HCCS: only this server's own vNICs stay routed."""
    server = context.stored["superpod"]["server_index"]
    for npu in context.stored["npus"]:
        phy_id = npu["phy_id"]
        fabric.ip_in(phy_id, "route", "replace", "192.%d.0.0/16" % server, "dev", "end%dv0" % phy_id)
        fabric.ip_in(phy_id, "route", "replace", "unreachable", fabric.VNIC_SPACE)
    return server


def _undo_superpod(context, values, saved):
    for npu in context.stored["npus"]:
        phy_id = npu["phy_id"]
        fabric.ip_in(phy_id, "route", "del", "192.%d.0.0/16" % saved, check=False)
        fabric.ip_in(phy_id, "route", "del", "unreachable", fabric.VNIC_SPACE, check=False)
        fabric.ip_in(phy_id, "route", "replace", fabric.VNIC_SPACE, "dev", "end%dv0" % phy_id, check=False)


# --- a real process ----------------------------------------------------------------------------------------

def _start_process(context, values):
    """A real, idle process of that name, so that its pid can be looked up on the node."""
    if "/" in values["name"] or not 0 < len(values["name"]) <= 15:
        raise FaultError("name=%s: 1 to 15 characters, no slash" % values["name"])
    whole(values, "mb")
    folder = context.paths.at("/var/lib/ascend-lab/left-behind")
    os.makedirs(folder, exist_ok=True)
    program = os.path.join(folder, values["name"])
    shutil.copy(shutil.which("sleep"), program)
    started = subprocess.Popen([program, "2147483647"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL, start_new_session=True, cwd="/")
    # The kernel closes the parent's pipe a moment before it renames the new process: wait for the name.
    for dummy in range(200):
        with open("/proc/%d/comm" % started.pid, encoding="utf-8") as handle:
            if handle.read().strip() == values["name"]:
                break
        time.sleep(0.01)
    values["pid"] = started.pid
    return {"pid": started.pid, "program": program}


def _stop_process(context, values, saved):
    """Only if that pid still is that program: pids are reused."""
    try:
        if os.readlink("/proc/%d/exe" % saved["pid"]) == saved["program"]:
            os.kill(saved["pid"], signal.SIGKILL)
    except OSError:
        pass
    remove(saved["program"])


def _apply_gone(context, values):
    saved = [keep(context.paths.davinci(phy_id)) for phy_id in npus(context.stored, values)]
    changes = _apply_link(context, values)
    for kept in saved:
        remove(kept["path"])
    return {"nodes": saved, "changes": changes}


def _undo_gone(context, values, saved):
    for kept in saved["nodes"]:
        put_back(kept)
    _undo_link(context, values, saved["changes"])


def _npu_gone(state, values):
    state["device_gone"] = sorted(set(state["device_gone"]) | set(npus(state, values)))


# --- the table ---------------------------------------------------------------------------------------------

CONF = "/etc/hccn.conf"
INFO = "/etc/ascend_install.info"


def _conf(context, values):
    return [context.paths.hccn_conf]


def _info(context, values):
    return [context.paths.install_info]


def _tool(context, values):
    return tool_paths(context.paths, values["tool"])


OUTPUT = {"tool": ("hccn_tool", "npu-smi or hccn_tool"), "verb": ("", "only calls with this word, such as -ping or info")}

fault("npu-missing", "an NPU fell off the bus: gone from npu-smi and from /dev, its link is down", NPU,
      overlay=_npu_gone, apply=_apply_gone, undo=_undo_gone, target=("/dev/davinci", "RoCE links"))
fault("npu-health", "an NPU's health word",
      dict(NPU, health=("Alarm", "Warning, Alarm, Critical or UNKNOWN"), code=("80E01801", "error codes, comma separated"),
           text=("node type=SOC, sensor type=Temperature", "error information")), overlay=_health)
fault("driver-not-loaded", "npu-smi ends with -8005, hccn_tool knows no device",
      {"detail": ("ret=4", "\"ret=4\", or \"g_conLogLevel=3\" as older drivers say")}, overlay=_driver(-8005))
fault("device-held", "npu-smi ends with -8020: another container holds the devices", overlay=_driver(-8020))
fault("process-left", "a process left on an NPU, with its memory (a real, idle process of that name)",
      dict(NPU, name=("python3", "process name"), mb=("30720", "HBM it holds, MB")),
      overlay=_process_overlay, apply=_start_process, undo=_stop_process)
fault("hbm-in-use", "HBM in use without a process", dict(NPU, mb=("30750", "HBM in use, MB")), overlay=_hbm)
file_fault("driver-version", "another driver version, in the banner and in version.info",
           lambda context, values: [context.paths.driver + "/version.info"], _edit_version,
           {"version": ("23.0.3", "driver version"), "tool": ("", "version of npu-smi itself; as the driver's if empty")},
           overlay=_driver_version, target="driver version.info")
file_fault("firmware-version", "another firmware version",
           lambda context, values: [context.paths.at("/usr/local/Ascend/firmware/version.info")], _edit_version,
           {"version": ("7.1.0.11.220", "firmware version")}, overlay=_firmware, target="firmware version.info")
file_fault("hccn-conf-missing", CONF + " is not there", _conf, _remove, target=CONF)
file_fault("hccn-conf-directory", CONF + " is a folder (what Docker makes of a missing mount source)", _conf,
           _directory, target=CONF)
file_fault("hccn-conf-truncated", CONF + " ends within NPU 1", _conf, _truncated, target=CONF)
file_fault("hccn-conf-stale", CONF + " names another address than the NPU has", _conf, _stale,
           dict(NPU, address=("", "the address to write")), target=CONF)
file_fault("install-info-missing", INFO + " is not there", _info, _remove, target=INFO)
file_fault("install-info-directory", INFO + " is a folder", _info, _directory, target=INFO)
file_fault("install-incomplete", INFO + " lacks Driver_Install_Status: npu-smi warns below its table", _info,
           _incomplete, target=INFO)
file_fault("tool-missing", "a tool is not installed", _tool, _remove, {"tool": ("hccn_tool", "npu-smi or hccn_tool")},
           target="tool files")
file_fault("tool-not-executable", "a tool has lost its x bits", _tool, _not_executable,
           {"tool": ("hccn_tool", "npu-smi or hccn_tool")}, target="tool files")
fault("link-down", "an NPU's RoCE link is down", NPU, apply=_apply_link, undo=_undo_link, target="RoCE links")
fault("roce-down", "all RoCE links of an A3 node are down, HCCS is fine (a healthy single A3 can look like this)",
      {"npu": ("all", "physical ids")}, overlay=_roce_down, apply=_apply_link, undo=_undo_link, target="RoCE links",
      generations=("a3",))
fault("net-health", "the word of -net_health", dict(NPU, status=("Receive timeout", "one of the tool's words")),
      overlay=_net_health)
fault("netdetect-address", "another netdetect address (none if empty: net_health becomes Init)",
      dict(NPU, address=("", "address")), overlay=_netdetect)
fault("gateway-missing", "no default gateway on an NPU", NPU, apply=_no_gateway, undo=_undo_gateway,
      target="NPU addresses")
fault("tls-on", "the TLS switch is on", {"npu": ("all", "physical ids")}, overlay=_tls)
fault("npu-address-duplicate", "an NPU has another NPU's address", dict(
    NPU, address=("", "the address to take; of this node's next NPU if empty")), apply=_address(_other_npu),
    undo=_undo_address, target=("NPU addresses", CONF))
fault("npu-wrong-subnet", "an NPU's address is in a subnet of its own", dict(NPU, address=("", "the address to take")),
      apply=_address(lambda stored, phy_id: "10.99.%d.%d" % (stored["node_index"] + 1, 10 + phy_id)),
      undo=_undo_address, target=("NPU addresses", CONF))
fault("npu-address-missing", "an NPU has no address: \"no ip was preset\"", dict(NPU, address=("", "leave empty")),
      apply=_address(lambda stored, phy_id: None), undo=_undo_address, target=("NPU addresses", CONF))
fault("ping-block", "an NPU cannot reach one peer address; the peer still reaches the NPU", dict(
    NPU, peer=("", "the peer NPU's address"), plane=("roce", "roce, or hccs for -hccs_ping")),
    apply=_apply_rules, undo=_undo_rules)
fault("ping-loss", "an NPU loses every n-th echo request", dict(
    NPU, every=("3", "one of so many packets is lost"), peer=("", "only to this address"),
    plane=("roce", "roce, or hccs for -hccs_ping")), apply=_apply_rules, undo=_undo_rules)
fault("lldp-back-to-back", "LLDP shows another NPU's port instead of a switch's: wired without a switch",
      {"npu": ("all", "physical ids")}, overlay=_back_to_back)
fault("lldp-missing", "no LLDP neighbour", {"npu": ("all", "physical ids")}, overlay=_no_lldp)
fault("hccn-tool-busy", "hccn_tool answers busy", {"seconds": ("5", "for so long, or forever")}, overlay=_busy)
for _kind, _help in (("garbled", "half of the characters lost"), ("non-utf8", "bytes that are no UTF-8"),
                     ("empty", "no output, exit 0")):
    fault("output-" + _kind, "a tool's output: " + _help, OUTPUT, overlay=_output(_kind))
fault("output-huge", "a tool prints megabytes", dict(OUTPUT, lines=("60000", "lines of 84 bytes")), overlay=_output("huge"))
fault("tool-hangs", "a tool hangs", dict(OUTPUT, seconds=("86400", "for so long")), overlay=_output("hang"))
fault("superpod-id", "the node belongs to another super pod", {"id": ("1", "super pod id; %d: none" % NO_SUPERPOD)}, overlay=_superpod,
      apply=_apply_superpod, undo=_undo_superpod, generations=("a3",))


# --- setting and clearing ----------------------------------------------------------------------------------

def set_fault(paths, stored, name, given):
    """Set one fault in `stored` (the caller saves it). Returns the values used."""
    entry = FAULTS.get(name)
    if entry is None:
        raise FaultError("no fault %s; there are: %s" % (name, ", ".join(sorted(FAULTS))))
    values = checked(entry, stored, given)
    for other in stored["faults"]:
        shared = set(entry.target) & set(FAULTS[other].target)
        if other != name and shared:
            raise FaultError("%s is active and changes the same %s: clear it first" % (other, sorted(shared)[0]))
    if name == "hccn-tool-busy":
        values["until"] = _busy_until(values)
    # A fault whose values make no sense must leave nothing behind: try the overlay before anything is changed.
    if entry.overlay:
        entry.overlay(copy.deepcopy(stored), dict(values, pid=0))
    if name in stored["faults"]:
        clear_fault(paths, stored, name)
    saved = entry.apply(Context(paths, stored), values) if entry.apply else None
    stored["faults"][name] = {"values": values, "saved": saved, "since": int(time.time())}
    return values


def clear_fault(paths, stored, name):
    """Clear one fault; one that is not active is fine (False)."""
    if name not in FAULTS:
        raise FaultError("no fault %s; there are: %s" % (name, ", ".join(sorted(FAULTS))))
    active = stored["faults"].pop(name, None)
    if active is None:
        return False
    entry = FAULTS[name]
    if entry.undo and active["saved"] is not None:
        entry.undo(Context(paths, stored), active["values"], active["saved"])
    return True


def reapply(paths, stored, rebuild):
    """After a boot: undo what is left, rebuild the healthy node, set the same faults again."""
    active = [(name, fault_["values"]) for name, fault_ in stored["faults"].items()]
    for name, dummy in active:
        clear_fault(paths, stored, name)
    remarks = rebuild()
    for name, values in active:
        given = {key: value for key, value in values.items() if key in FAULTS[name].parameters}
        set_fault(paths, stored, name, given)
    return remarks
