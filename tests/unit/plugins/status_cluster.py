# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster that serves: its plan, and what its nodes answer to status while nothing is wrong. A test breaks one thing of it."""

from __future__ import annotations

from ansible_collections.ascend.vllm.plugins.plugin_utils import status
from ansible_collections.ascend.vllm.plugins.plugin_utils.answers import LABEL
from ansible_collections.ascend.vllm.tests.unit.plugins.cluster import KEYS, Cluster

IMAGE_ID = "sha256:0123456789abcdef0123456789abcdef"
CONTROLLER = {"version": "0.1.0"}
UNREACHABLE = {"unreachable": True, "msg": "ssh: connect to host 198.51.100.12 port 22: Connection timed out"}


def done(**change):
    """Return a completion that came."""
    return {"answered": True, "status": 200, "seconds": 0.8, "timed_out": False, "text": " bright", **change}


HANGS = {"answered": False, "status": None, "seconds": 30.0, "timed_out": True, "text": "timed out"}
REFUSED = {"answered": False, "status": None, "seconds": 0.0, "timed_out": False, "text": "[Errno 111] Connection refused"}


class Serving:
    """Hosts of a plan, ``a2-node0`` first: ``said`` is what status_info returned on each of them."""

    def __init__(self, nodes=2, hardware="a2"):
        cluster = Cluster(nodes, hardware)
        self.plan, self.hosts = cluster.plan, cluster.hosts
        self.group = self.plan["groups"]["vllm"]
        self.questions = status.status_questions(self.plan)
        self.prerequisites = {host: cluster.prerequisites(host) for host in self.hosts}
        self.said = {host: self._said(cluster, host, 100 + index) for index, host in enumerate(self.hosts)}

    def _said(self, cluster, host, pid):
        units = self.plan["hosts"][host]["units"]
        containers = {
            unit["name"]: {"exists": True, "status": "running", "running": True, "paused": False, "exit_code": None, "error": None, "oom": False,
                           "image": unit["image"], "image_id": IMAGE_ID, "started_at": "2026-01-02T03:04:05Z", "uptime_s": 273720, "restarts": 0,
                           "command": list(unit["argv"]), "labels": {LABEL: unit["group"]}, "pids": [pid]}
            for unit in units
        }
        npu = cluster.npu(host)
        for entry in npu["npus"]:
            entry.update(hbm_used_mb=59000, processes=[{"pid": pid, "name": "VLLMEngineCore", "memory_mb": 56000}])
        services = {}
        if host == self.group["head"]:
            ranks = [done(rank=rank) for rank in range(self.group["data_parallel_size"])]
            services["vllm"] = {"health": 200, "health_error": None, "models_status": 200, "models": ["deepseek_r1"],
                                "requests": {"running": 2, "waiting": 1}, "completion": done(), "ranks": ranks}
        hccn = {key: value for key, value in cluster.hccn(host).items() if key != "hccn_conf"} if self.questions[host]["links"] else {}
        return {"changed": False, "time": 1760000000.0, "npu": npu, "hccn": hccn, "services": services, "kept_away": [] if services else None,
                "docker": {"error": None, "containers": containers, "images": {unit["image"]: IMAGE_ID for unit in units}}}

    def container(self, index=0):
        """Return what was said of the container of a host, by the host's number."""
        return next(iter(self.said[self.hosts[index]]["docker"]["containers"].values()))

    def npu(self, number, index=0):
        """Return what was said of one NPU."""
        return self.said[self.hosts[index]]["npu"]["npus"][number]

    def port(self, number, index=0):
        """Return what was said of the network port of one NPU."""
        return self.said[self.hosts[index]]["hccn"]["devices"][number]

    @property
    def service(self):
        """Return what the API said."""
        return self.said[self.group["head"]]["services"]["vllm"]

    def lose(self, index):
        """Let a host be unreachable."""
        host = self.hosts[index]
        self.prerequisites[host], self.said[host] = dict(UNREACHABLE), {"skipped": True, "changed": False}

    def hostvars(self):
        """Return the facts as the roles leave them on the hosts."""
        return {host: {"prerequisites_found": self.prerequisites[host], "serve_status_said": self.said[host]} for host in self.hosts}

    def report(self):
        """Return the report, after looking at what every check result has."""
        report = status.build(self.plan, self.hostvars(), CONTROLLER)
        for entry in report["checks"]:
            assert set(entry) == KEYS and entry["host"] in self.hosts, entry
            assert all(isinstance(entry[key], str) for key in KEYS - {"accepted"}) and entry["observed"] and entry["expected"], entry
            assert bool(entry["remedy"]) == (entry["status"] != "pass") and "{" not in entry["remedy"] and "None" not in entry["remedy"], entry
        assert len({(*entry.values(),) for entry in report["checks"]}) == len(report["checks"])
        assert report["result"] == ("pass" if report["state"] == "serving" else "fail")
        return report

    def brief(self):
        """Return (state of the group, [(host, check, device, status)] of what did not pass)."""
        report = self.report()
        return report["groups"]["vllm"]["state"], [(entry["host"], entry["check"], entry["device"], entry["status"])
                                                   for entry in report["checks"] if entry["status"] != "pass"]

    def only(self, check):
        """Return the one result of a check that did not pass."""
        [found] = [entry for entry in self.report()["checks"] if entry["check"] == check and entry["status"] != "pass"]
        return found
