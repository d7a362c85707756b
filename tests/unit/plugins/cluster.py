# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster that preflight looks at: its plan, and what its nodes answer while nothing is wrong with them.

A test breaks one thing of it and looks at the report.
"""

from __future__ import annotations

import copy
import functools

from ansible_collections.ascend.vllm.plugins.plugin_utils import data, mesh, plan, preflight, request
from ansible_collections.ascend.vllm.plugins.plugin_utils.answers import FACTS, LABEL
from ansible_collections.ascend.vllm.plugins.plugin_utils.checks import Judge

GIB = 1024**3
IMAGE = "quay.io/ascend/vllm-ascend:v0.13.0"
DIR = "/mnt/weights/DeepSeek-R1-W8A8"
CONTROLLER = {"core": "2.19.1", "forks": 50, "version": "0.1.0"}
#: The keys of a check result.
KEYS = {"host", "check", "device", "status", "observed", "expected", "remedy", "accepted", "title", "meaning"}
CHECKS = data.load_all()[0]["checks"]


def hostvars_of(answers):
    """Return the facts of a host that answered this."""
    found = {}
    for field, (fact, *keys) in FACTS.items():
        if field in answers and keys:
            found.setdefault(fact, {})[keys[0]] = answers[field]
        elif field in answers:
            found[fact] = answers[field]
    said = found.get("driver_check_said") or {}
    if list(said) == ["node"] and "interfaces" not in (said["node"] or {}):
        # A node that cannot be asked says so in place of all answers.
        found["driver_check_said"] = said["node"]
    return found


class Cluster:
    """Hosts ``a2-node0``, ``a2-node1``, ..: ``plan`` is their plan, ``facts`` what each of them answered, by field of Answers."""

    def __init__(self, nodes=2, hardware="a2"):
        self.plan = copy.deepcopy(_planned(nodes, hardware))
        self.hosts = list(self.plan["hosts"])
        self.facts = {host: self._facts(host) for host in self.hosts}
        for host in self.hosts:
            self.facts[host]["reach"] = self._reach(host)
            self.facts[host]["mesh"] = self._mesh(host)

    def _facts(self, host):
        index, mine = self.hosts.index(host), self.plan["hosts"][host]
        return {
            "prerequisites": {"python": "/usr/bin/python3", "python_version": "3.9.9", "requests": True, "rsync": "/usr/bin/rsync",
                              "docker": "/usr/bin/docker", "package_manager": "dnf", "asked": 1760000000.0, "clock_ahead_s": 0.2},
            "node": self._node(mine, index),
            "npu": self._npu(mine, index),
            "artefacts": self._artefacts(mine),
            "hccn": self._hccn(mine, index),
        }

    def _node(self, mine, index):
        paths = {path: {"exists": True, "type": entry["type"]} for unit in mine["units"] for entry in unit["mount_candidates"].values()
                 for path in entry["sources"]}
        return {
            "interfaces": [{"name": "lo", "up": True, "mtu": 65536, "addresses": ["127.0.0.1/8"]},
                           {"name": "eth0", "up": True, "mtu": 1500, "addresses": [f"{mine['local_ip']}/24"]}],
            "npus": list(mine["npus"]), "paths": paths, "listening": [], "hostname": f"node{index}", "kernel": "5.10.0", "arch": "aarch64",
            "python": {"version": "3.9.9", "executable": "/usr/bin/python3", "requests": True},
            "docker": {"reachable": True, "version": "20.10.24", "api_version": "1.41", "error": None,
                       "disk": {"path": "/var/lib/docker", "free_bytes": 500 * GIB, "total_bytes": 900 * GIB, "error": None}},
            "disk": {DIR: {"path": "/mnt", "free_bytes": 5000 * GIB, "total_bytes": 9000 * GIB, "error": None}},
            "memory": {"total_bytes": 1500 * GIB, "available_bytes": 1400 * GIB}, "shm": {"total_bytes": 750 * GIB, "free_bytes": 750 * GIB},
            "sysctls": {"vm.swappiness": "0", "kernel.numa_balancing": "0"}, "cpu_governors": ["performance"], "transparent_hugepage": "madvise",
            "hugepages": {"total": 0, "free": 0, "size_kb": 2048}, "free_port": 40001 + index, "device_holders": [],
            "rootinfo": {"exists": False, "type": None, "addresses": [], "errors": []},
        }

    def _npu(self, mine, index):
        dies = 2 if mine["hardware"] == "a3" else 1
        entries = [{"npu_id": number // dies, "chip_id": number % dies, "phy_id": number, "name": "910B3", "health": "OK", "bus_id": "0000:C1:00.0",
                    "power_w": 102.8, "temperature_c": 45, "hbm_used_mb": 3445, "hbm_total_mb": 65536, "processes": []} for number in mine["npus"]]
        superpod = {"id": 7, "size": 384, "server_index": index, "sdid": index} if mine["hardware"] == "a3" else None
        return {"npus": entries, "stray_processes": [], "silent_npus": [], "hardware": mine["hardware"], "driver_version": "25.5.1",
                "tool_version": "25.5.1", "driver_package_version": "25.5.1", "firmware_version": "7.1.0.11.220", "compatible_firmware": "[7.0.0,8.9.9]",
                "install_info": {"path": "/etc/ascend_install.info", "exists": True, "type": "file", "errors": [],
                                 "values": {"Driver_Install_Path_Param": "/usr/local/Ascend", "Driver_Install_Status": "complete"}},
                "file_errors": [], "health_details": [], "superpod": superpod, "tool_warnings": [], "unparsed": []}

    def _artefacts(self, mine):
        return {
            "images": {unit["image"]: {"present": True, "id": "sha256:1", "registry": None} for unit in mine["units"]},
            "weights": [{"dir": DIR, "complete": True, "differences": [], "files": 3, "bytes": 105, "hub": None} for unit in mine["units"] if unit["head"]],
            "containers": {unit["name"]: {"exists": False, "running": False, "pid": None, "pids": [], "labels": {}} for unit in mine["units"]},
            "device_containers": [], "docker_error": None,
        }

    def _hccn(self, mine, index):
        devices = []
        for number in mine["npus"]:
            a3 = mine["hardware"] == "a3"
            vnic = {"link": "UP", "ip": f"192.168.{index}.{number + 1}", "netmask": "255.255.0.0"} if a3 else None
            devices.append({"phy_id": number, "ip": f"10.20.{index}.{number + 10}", "netmask": "255.255.0.0", "gateway": "10.20.255.254",
                            "netdetect": "10.20.255.254", "link": "UP", "net_health": "Success", "tls": 0, "vnic": vnic, "errors": {},
                            "lldp": {"ifname": f"400GE1/1/{number}:1", "port_id": None, "chassis_id": None, "system": "leaf1"}})
        stated = {str(entry["phy_id"]): {"address": entry["ip"], "netmask": entry["netmask"], "tls_enable": 0} for entry in devices}
        return {"devices": devices, "calls": 8 * len(devices), "busy_retries": 0, "hccn_tool": "/usr/bin/hccn_tool",
                "hccn_conf": {"path": "/etc/hccn.conf", "exists": True, "type": "file", "devices": stated, "errors": []}}

    def _reach(self, host):
        reached = [{"host": peer, "address": self.plan["hosts"][peer]["local_ip"], "port": port, "status": "reached", "connected": True, "ms": 0.2, "text": ""}
                   for peer in self.hosts if peer != host for port in (13389, self.node(peer)["free_port"])]
        return {"opened": [], "reached": reached, "heard": [], "seconds": 0.4} if reached else {"skipped": True, "changed": False}

    def _mesh(self, host):
        pings = mesh.mesh_pings(self.plan, {name: self.hccn(name) for name in self.hosts})[host]
        results = [{**ping, "sent": 3, "received": 3, "loss_percent": 0.0, "rtt_ms": 0.08, "status": "pass", "text": ""} for ping in pings]
        return {"changed": False, "results": results, "left": 0, "seconds": 2.1 * len(pings)} if pings else {"skipped": True, "changed": False}

    def hostvars(self):
        """Return the facts as the roles leave them on the hosts."""
        return {host: hostvars_of(answers) for host, answers in self.facts.items()}

    def name(self, index=-1):
        """Return the name of a host by its number: the last one without one."""
        return self.hosts[index]

    def _of(self, fact, host):
        return self.facts[self.name() if host is None else host][fact]

    def prerequisites(self, host=None):
        """Return what a host said over a plain shell; the last host's without a name, as of all of these."""
        return self._of("prerequisites", host)

    def node(self, host=None):
        """Return what node_info says."""
        return self._of("node", host)

    def npu(self, host=None):
        """Return what npu_info says."""
        return self._of("npu", host)

    def artefacts(self, host=None):
        """Return what artefact_info says."""
        return self._of("artefacts", host)

    def hccn(self, host=None):
        """Return what hccn_info says."""
        return self._of("hccn", host)

    def mesh(self, host=None):
        """Return what hccn_mesh says."""
        return self._of("mesh", host)

    def reach(self, host=None):
        """Return what tcp_reach says."""
        return self._of("reach", host)

    def host_plan(self, host=None):
        """Return a host's part of the plan."""
        return self.plan["hosts"][host or self.name()]

    def port(self, number, host=None):
        """Return what hccn_info says of one NPU."""
        return next(entry for entry in self.hccn(host)["devices"] if entry["phy_id"] == number)

    def pings(self, host, npu, peer, peer_npu):
        """Return the results of the pings from one NPU to another one; None stands for all."""
        addresses = {(entry["ip"] if self.host_plan(peer)["hardware"] == "a2" else entry["vnic"]["ip"]) for entry in self.hccn(peer)["devices"]
                     if peer_npu in (None, entry["phy_id"])}
        return [entry for entry in self.mesh(host)["results"] if npu in (None, entry["phy_id"]) and entry["address"] in addresses]

    def serve(self, host=None, pid=100):
        """Let a host run this deployment's own container with one process."""
        unit, container = self.host_plan(host)["units"][0], "c" * 64
        self.artefacts(host)["containers"][unit["name"]].update(exists=True, running=True, pid=pid, pids=[pid])
        self.artefacts(host)["device_containers"].append(
            {"name": unit["name"], "id": container, "devices": [path for path in unit["devices"] if path[-1].isdigit()], "privileged": False,
             "labels": {LABEL: "vllm"}, "pids": [pid]})
        for entry in self.npu(host)["npus"]:
            entry["processes"] = [{"pid": pid, "name": "VLLMEngineCore", "memory_mb": 56000}]
            entry["hbm_used_mb"] += 56000
            self.node(host)["device_holders"].append({"path": f"/dev/davinci{entry['phy_id']}", "pid": pid, "process": "python3", "container": container})

    def report(self, **controller):
        """Return the report, after looking at what every check result has."""
        report = preflight.build(self.plan, self.hostvars(), {**CONTROLLER, **controller})
        for entry in report["checks"]:
            assert set(entry) == KEYS and entry["host"] in [*self.hosts, "localhost"], entry
            assert all(isinstance(entry[key], str) for key in KEYS - {"accepted"}) and entry["observed"] and entry["expected"], entry
            assert entry["status"] in ("pass", "warn", "fail", "unknown") and bool(entry["remedy"]) == (entry["status"] != "pass"), entry
            assert "{" not in entry["remedy"] and "None" not in entry["remedy"], entry
        assert len({(*(entry[key] for key in ("host", "check", "device", "observed")),) for entry in report["checks"]}) == len(report["checks"])
        return report

    def bad(self, **controller):
        """Return the check results that did not pass."""
        return [entry for entry in self.report(**controller)["checks"] if entry["status"] != "pass"]

    def brief(self, **controller):
        """Return (host, check, device, status) of what did not pass."""
        return [(entry["host"], entry["check"], entry["device"], entry["status"]) for entry in self.bad(**controller)]


@functools.lru_cache(maxsize=None)
def _planned(nodes, hardware):
    hostvars = {
        f"{hardware}-node{index}": {"vllm_hardware": hardware, "vllm_npus": {"a2": 8, "a3": 16}[hardware], "vllm_local_ip": f"198.51.100.{11 + index}",
                                    "vllm_nic_name": "eth0"}
        for index in range(nodes)
    }
    result = plan.compute(request.build({"vllm": list(hostvars)}, hostvars), None)
    if nodes == 1 and hardware == "a2":
        # The tutorial's model needs two A2 nodes; what a lone one is judged by does not depend on the model.
        return _alone(copy.deepcopy(_planned(2, "a2")))
    assert result["plan"], result["checks"]
    return result["plan"]


def _alone(pair):
    """Return the plan of a pair with nothing but its head."""
    head = pair["groups"]["vllm"]["head"]
    pair["hosts"] = {head: pair["hosts"][head]}
    pair["groups"]["vllm"].update(hosts=[head], addresses={head: pair["hosts"][head]["local_ip"]})
    pair["hosts"][head]["units"][0]["mount_candidates"]["/etc/hccn.conf"]["required"] = False
    return pair


def judge_of(host="a2-node1", language="en", **facts):
    """Return a judge of one host by the shipped checks."""
    return Judge(host, CHECKS, {"hardware": "a2", "nodes": 2, "role": "serve", "release": "v0.13.0", **facts}, language)


def names(found):
    """Return (check, device, status) of results that did not pass."""
    return [(entry["check"], entry["device"], entry["status"]) for entry in found if entry["status"] != "pass"]


def apart(cluster, *roles, proxy=None):
    """Make each host a group of its own, of these roles, with a proxy in front, and let their NPUs answer each other; the cluster."""
    whole = cluster.plan["groups"].pop("vllm")
    for host, role in zip(cluster.hosts, roles):
        units = [{**unit, "url": f"http://{cluster.host_plan(host)['local_ip']}:8000"} for unit in whole["units"] if unit["host"] == host]
        cluster.plan["groups"][host] = {**whole, "role": role, "head": host, "hosts": [host], "units": units}
        for unit in cluster.host_plan(host)["units"]:
            unit["group"] = host
    backends = [{"host": host, "port": 8000} for host in cluster.hosts]
    in_front = {"name": "vllm-proxy", "host": proxy, "port": 1999, "prometheus_port": 29000, "backends": backends}
    cluster.plan["proxies"] = {"vllm-proxy": in_front} if proxy else {}
    for host in cluster.hosts:
        cluster.facts[host]["mesh"] = cluster._mesh(host)
    return cluster
