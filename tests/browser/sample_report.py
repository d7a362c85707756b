# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reports as the role `report` writes them, for the tests of its page: healthy and faulty, small and large, in both languages.

`python sample_report.py DIR` writes each as DIR/NAME.json.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

#: What a garbled tool may print: markup, a template, a quote, an escape sequence.
HOSTILE = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\"> {{ 7 * 7 }} \"'&amp; \x1b[31mred"

TITLES = {
    "npu_health": ("Health of each NPU", "NPU 健康状态", "An NPU with an alarm fails under load.", "存在告警的 NPU 在负载下会出错。"),
    "hccn_link": ("Link of each NPU's port", "NPU 网口链路状态", "HCCL between nodes needs every port up.", "跨节点 HCCL 通信要求所有 NPU 网口链路正常。"),
    "npu_mesh": ("NPU reaches NPU", "NPU 间互通", "Every rank talks to every rank.", "每个 rank 之间都需要通信。"),
    "driver_equal": ("Same driver on all nodes", "各节点驱动版本一致", "Mixed drivers hang collectives.", "驱动版本不一致会导致集合通信挂起。"),
    "port_free": ("Ports are free", "端口未被占用", "The server listens on them.", "推理服务需要监听这些端口。"),
    "kernel_setting": ("Kernel settings", "内核参数", "The tutorials ask for them.", "教程建议的内核参数。"),
    "node_answers": ("Node answers", "节点可达", "Ansible reaches the node and may become root.", "Ansible 能够登录节点并提权。"),
}
ALWAYS = ("node_answers", "docker_engine", "npu_count", "npu_device_nodes", "nic_up", "mtu_equal", "clock", "disk_space", "dev_shm", "tcp_reach")


def check(host, name, status="pass", device="", observed="as wanted", expected="as wanted", remedy="", accepted=False, language="en"):
    """Return one check result."""
    words = TITLES.get(name, (name.replace("_", " ").capitalize(), name, "", ""))
    chinese = language == "zh"
    return {"host": host, "check": name, "device": device, "status": status, "observed": observed, "expected": expected, "remedy": remedy,
            "accepted": accepted, "title": words[1 if chinese else 0], "meaning": words[3 if chinese else 2]}


def npu(number, address, **change):
    """Return what is known of one NPU."""
    return {"npu": number, "health": "OK", "hbm_used_mb": 3400 + 7 * number, "hbm_total_mb": 65536, "temperature_c": 38 + number % 5,
            "power_w": 90.4 + number, "link": "UP", "net_health": "Success", "address": address, "processes": [], **change}


def node(index, npus, hardware):
    """Return what is known of one node."""
    return {"answers": True, "local_ip": f"198.51.100.{11 + index}", "nic_name": "enp67s0f5", "hardware": hardware, "driver": "25.5.0",
            "firmware": "7.8.0.5.216", "docker": "26.1.4 (API 1.45)", "kernel": "5.10.0-216.0.0.115.oe2203sp4.aarch64", "arch": "aarch64",
            "python": "3.9.9", "free_bytes": 3_298_534_883_328 - index * 10**11, "clock_offset_s": 0.012 * index,
            "npus": [npu(number, f"10.20.{index + 1}.{10 + number}") for number in range(npus)]}


def ping(host, number, peer, peer_index, peer_npu, kind="roce"):
    """Return one ping that went well; the round trip differs a little, as in life."""
    rtt = round(0.11 + 0.004 * ((number * 5 + peer_npu * 3) % 8) + (0.12 if (number + peer_npu) % 9 == 0 else 0), 3)
    return {"host": host, "npu": number, "peer": peer, "peer_npu": peer_npu, "address": f"10.20.{peer_index + 1}.{10 + peer_npu}", "kind": kind,
            "status": "pass", "sent": 3, "received": 3, "loss_percent": 0.0, "rtt_ms": rtt, "text": ""}


def report(nodes, npus, hardware="a2", language="en", mode="full"):
    """Return the report of a healthy group; with more than two nodes the mesh is rails and a rotating offset."""
    hosts = [f"{hardware}-node{index}" for index in range(nodes)]
    checks = [check(host, name, language=language) for host in hosts for name in ALWAYS]
    checks += [check(host, name, device=f"npu{number}", observed=value, expected=value, language=language)
               for host in hosts for name, value in (("npu_health", "OK"), ("hccn_link", "UP")) for number in range(npus)]
    pings = []
    for index, host in enumerate(hosts):
        for peer_index, peer in enumerate(hosts):
            for number in range(npus):
                far = {number, (number + peer_index) % npus} if mode == "rails" else range(npus)
                if peer != host and mode != "off":
                    pings += [ping(host, number, peer, peer_index, peer_npu, "hccs" if hardware == "a3" else "roce") for peer_npu in sorted(far)]
    possible = nodes * (nodes - 1) * npus * npus
    return {
        "schema": 1, "verb": "preflight", "result": "pass", "language": language, "started_at": "2026-01-01T00:00:00Z",
        "ended_at": "2026-01-01T00:00:21Z", "version": "0.1.0",
        "groups": {"vllm": {"model": "deepseek_r1_w8a8", "release": "v0.13.0", "hardware": hardware, "hosts": hosts, "head": hosts[0],
                            "data_parallel_size": nodes * npus // 4, "tensor_parallel_size": 4}},
        "summary": {}, "checks": checks, "nodes": {host: node(index, npus, hardware) for index, host in enumerate(hosts)},
        "mesh": {"mode": mode if nodes > 1 else "off", "planned": len(pings), "sent": len(pings), "possible": possible,
                 "seconds": round(len(pings) / nodes * 0.19, 1), "pings": pings},
    }


def summed(built):
    """Return the report with its summary and result as its checks say."""
    kinds = Counter("accepted" if entry["accepted"] and entry["status"] != "pass" else entry["status"] for entry in built["checks"])
    built["summary"] = {kind: kinds.get(kind, 0) for kind in ("pass", "warn", "fail", "unknown", "accepted")}
    built["result"] = "fail" if kinds.get("fail") or kinds.get("unknown") else "pass"
    return built


def replace(built, changed):
    """Put a check result in the place of the one with the same host, check and device, or at the end."""
    key = [changed[name] for name in ("host", "check", "device")]
    for place, entry in enumerate(built["checks"]):
        if [entry[name] for name in ("host", "check", "device")] == key:
            built["checks"][place] = changed
            return
    built["checks"].append(changed)


def spoil_ping(built, ends, **change):
    """Change the one ping between two ends ``(host, npu, peer, peer_npu)``."""
    found = [entry for entry in built["mesh"]["pings"] if (entry["host"], entry["npu"], entry["peer"], entry["peer_npu"]) == ends]
    assert len(found) == 1, ends
    found[0].update(change)


def faulty_pair(language="en"):
    """Return a pair with several faults: an alarm, a link, one direction of one pair of NPUs, loss, garbled output, one accepted."""
    built = report(2, 8, language=language)
    left, right = "a2-node0", "a2-node1"
    chinese = language == "zh"
    for entry in (
        check(left, "npu_health", "fail", "npu6", "Alarm", "OK", "npu-smi info -t health -i 6" if chinese else
              "npu-smi info -t health -i 6 on this node names the error codes"),
        check(right, "hccn_link", "fail", "npu2", "DOWN", "UP", "hccn_tool -i 2 -optical -g；检查光模块、光纤和交换机端口" if chinese else
              "hccn_tool -i 2 -optical -g; check the cable, module and switch port"),
        check(right, "hccn_link", "fail", "npu3", "DOWN", "UP", "hccn_tool -i 3 -optical -g；检查光模块、光纤和交换机端口" if chinese else
              "hccn_tool -i 3 -optical -g; check the cable, module and switch port"),
        check(left, "npu_mesh", "fail", "npu3->a2-node1 npu5", "0 / 3", "3 / 3", "检查两端链路和交换机端口" if chinese else
              "check link and switch port of both ends: a2-node0 npu3 and a2-node1 npu5"),
        check(left, "npu_mesh", "warn", "npu1->a2-node1 npu4", "2 / 3", "3 / 3", "检查光模块" if chinese else "clean the optical module"),
        check(right, "npu_count", "unknown", "", HOSTILE, "8", "npu-smi info"),
        check(right, "driver_equal", "fail", "driver", "24.1.rc3", "25.5.0", "在所有节点安装同一版本驱动" if chinese else "install the same driver on all nodes",
              accepted=True),
        check(left, "kernel_setting", "warn", "vm.swappiness", "60", "0", "sysctl -w vm.swappiness=0"),
        check(left, "port_free", "warn", "vllm_port", "java (pid 4711)", "8000", "", language=language),
    ):
        words = check("", entry["check"], language=language)
        replace(built, dict(entry, title=words["title"], meaning=words["meaning"]))
    built["nodes"][left]["npus"][6].update(health="Alarm", temperature_c=None, power_w=None)
    built["nodes"][left]["npus"][0].update(hbm_used_mb=60026, processes=[{"pid": 231415, "name": "python3 <b>x</b>", "memory_mb": 56630}])
    built["nodes"][right]["driver"] = "24.1.rc3"
    for number in (2, 3):
        built["nodes"][right]["npus"][number].update(link="DOWN", net_health=None)
    lost = {"status": "fail", "received": 0, "loss_percent": 100.0, "rtt_ms": None}
    spoil_ping(built, (left, 3, right, 5), **lost, text="3 packets transmitted, 0 received, 100.00% packet loss")
    spoil_ping(built, (left, 1, right, 4), status="fail", received=2, loss_percent=33.33, text="3 packets transmitted, 2 received, 33.33% packet loss")
    spoil_ping(built, (right, 7, left, 7), status="unknown", sent=None, received=None, loss_percent=None, rtt_ms=None, text=HOSTILE + "\nsecond line")
    return summed(built)


def silent_pair():
    """Return a pair of which one node did not answer."""
    built = report(2, 8, mode="off")
    host = "a2-node1"
    built["checks"] = [entry for entry in built["checks"] if entry["host"] != host]
    built["checks"].append(check(host, "node_answers", "fail", "", "ssh: connect to host 198.51.100.12 port 22: No route to host", "an answer over SSH",
                                 "try: ansible a2-node1 -i INVENTORY -m ansible.builtin.ping"))
    built["nodes"][host] = {"answers": False, **dict.fromkeys(list(built["nodes"]["a2-node0"])[1:-1]), "npus": []}
    built["mesh"].update(mode="full", planned=0, sent=0, seconds=None)
    return summed(built)


def lone_a3():
    """Return one A3 node: no RoCE address, links down, and healthy; every warning of it is accepted or expected."""
    built = report(1, 16, "a3")
    for entry in built["nodes"]["a3-node0"]["npus"]:
        entry.update(link="DOWN", net_health=None, address=None)
    return summed(built)


def large(language="en"):
    """Return 16 A3 nodes with rails; one NPU that nobody reaches, one lossy pair, one node with a warning."""
    built = report(16, 16, "a3", mode="rails", language=language)
    for entry in built["mesh"]["pings"]:
        if (entry["peer"], entry["peer_npu"]) == ("a3-node9", 11):
            entry.update(status="fail", received=0, loss_percent=100.0, rtt_ms=None, text="Destination unreachable")
            replace(built, check(entry["host"], "npu_mesh", "fail", f"npu{entry['npu']}->a3-node9 npu11", "0 of 3 packets came back",
                                 "3 of 3 packets", "check link and switch port of a3-node9 npu11", language=language))
    spoil_ping(built, ("a3-node2", 4, "a3-node3", 4), status="fail", received=2, loss_percent=33.33, text="33.33% packet loss")
    replace(built, check("a3-node2", "npu_mesh", "warn", "npu4->a3-node3 npu4", "2 of 3 packets came back", "3 of 3 packets", "clean the optical module",
                         language=language))
    replace(built, check("a3-node5", "kernel_setting", "warn", "vm.swappiness", "60", "0", "sysctl -w vm.swappiness=0", language=language))
    return summed(built)


def nothing_known():
    """Return a report in which everything that may be missing is missing."""
    hosts = ["a2-node0", "a2-node1"]
    empty = dict.fromkeys(npu(0, ""))
    blank = dict.fromkeys(node(0, 0, "a2"))
    return {
        "schema": 1, "verb": "preflight", "result": "fail", "language": "en", "started_at": None, "ended_at": None, "version": None,
        "groups": {"vllm": dict.fromkeys(("model", "release", "hardware", "hosts", "head", "data_parallel_size", "tensor_parallel_size"))},
        "summary": None, "checks": [dict.fromkeys(check("", "x"))],
        "nodes": {hosts[0]: {**blank, "answers": True, "npus": [{**empty, "npu": 0}, empty]}, hosts[1]: None},
        "mesh": {"mode": None, "planned": None, "sent": None, "possible": None, "seconds": None,
                 "pings": [{**dict.fromkeys(ping("a", 0, "b", 0, 0)), "host": hosts[0], "npu": 0}]},
    }


def quad(language="en"):
    """Return four healthy A2 nodes with the full mesh."""
    return summed(report(4, 8, language=language))


SAMPLES = {
    "healthy_pair": lambda: summed(report(2, 8)),
    "faulty_pair": faulty_pair,
    "faulty_pair_zh": lambda: faulty_pair("zh"),
    "silent_pair": silent_pair,
    "lone_a3": lone_a3,
    "quad": quad,
    "large": large,
    "nothing_known": nothing_known,
}


def write(folder):
    """Write every sample into a folder."""
    for name, build in SAMPLES.items():
        (Path(folder) / f"{name}.json").write_text(json.dumps(build()), encoding="utf-8")


if __name__ == "__main__":
    write(sys.argv[1])
