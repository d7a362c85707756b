#!/usr/bin/python
# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stop containers on a node, and ask what is left of those that were stopped."""

from __future__ import annotations

DOCUMENTATION = r"""
module: serve_released
short_description: Stop containers, and what is left of them on a node
description:
  - Stops the containers first where O(stop) says so, all of them at the same time; each gets the time that it was made with.
  - Looks whether the containers run, whether any of the processes they had is there, whether one of those listens on a port or holds an NPU, and
    whether an NPU of theirs that nobody uses has given its HBM back.
  - Looks again until nothing is left or O(wait_s) is over; a driver takes a moment to give memory back.
  - What belongs to somebody else is not looked at; an NPU that somebody else uses by now is not judged.
version_added: 0.1.0
author:
  - ascend.vllm contributors (@ascend-vllm)
options:
  containers:
    description: Names of the containers.
    type: list
    elements: str
    required: true
  stop:
    description: Whether to stop those that run. One that is not there is none to stop.
    type: bool
    default: false
  pids:
    description: The processes that they had, as the node numbers them, from before they were stopped.
    type: list
    elements: int
    default: []
  ports:
    description: Ports on which they listened, those for handing over the KV cache among them.
    type: list
    elements: int
    default: []
  npus:
    description: Physical ids of the NPUs that they had.
    type: list
    elements: int
    default: []
  hbm_idle_mb:
    description: HBM in MB that an idle NPU may have in use. HBM is not looked at without it.
    type: int
  wait_s:
    description: How long to look, in seconds.
    type: float
    default: 5.0
  npu_smi_path:
    description: Path of npu-smi, where it is none of the usual ones.
    type: path
extends_documentation_fragment:
  - ascend.vllm.engine_socket
attributes:
  check_mode:
    support: full
    description: Stops nothing and says what would be stopped; nothing is looked at then, because all of it is in use.
  diff_mode:
    support: none
    description: There is no text to compare.
  platform:
    support: full
    platforms: linux
    description: Nodes with a Docker engine.
"""

EXAMPLES = r"""
- name: Stop it and look what is left
  ascend.vllm.serve_released:
    containers: [vllm-rank0]
    stop: true
    pids: [4711, 4712]
    ports: [7100, 13389, 36000, 36001]
    npus: [0, 1, 2, 3, 4, 5, 6, 7]
    hbm_idle_mb: 4096
  register: released
"""

RETURN = r"""
stopped:
  description: The containers that were stopped, or would be in check mode.
  returned: success
  type: list
  elements: str
left:
  description: What is left, one entry each, with C(check), C(device) and C(observed).
  returned: success
  type: list
  elements: dict
  sample: [{"check": "process_gone", "device": "pid 4711", "observed": "VLLM::Worker_TP0 runs"}]
seconds:
  description: How long it took, in seconds.
  returned: success
  type: float
"""

import time
from concurrent.futures import ThreadPoolExecutor

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.ascend.vllm.plugins.module_utils import ask_npu, host, tools
from ansible_collections.ascend.vllm.plugins.module_utils.docker_engine import DEFAULT_SOCKET, DockerEngine

LOOK_S = 1.0
#: What the engine gives a container that was made without a time, in seconds (docker stop, --time).
STOP_S = 10


def process_name(pid, proc="/proc"):
    """Return what a process calls itself, or None when there is none; one that has ended and waits for its parent has none of its memory."""
    try:
        with open("%s/%d/stat" % (proc, pid), encoding="utf-8", errors="replace") as stream:
            name, dummy, rest = stream.read().partition("(")[2].rpartition(")")
    except OSError:
        return None
    return None if rest.split()[:1] in (["Z"], ["X"]) else name


def entry(check, device, observed):
    """Return one thing that is left."""
    return {"check": check, "device": device, "observed": observed}


def running(names, engine):
    """Return those of the containers that run, each by its name, as the engine inspects them."""
    found = ((name, engine.container(name)) for name in names)
    return {name: container for name, container in found if container is not None and container["State"]["Running"]}


def stop_time(container):
    """Return the seconds that a container was made to get between SIGTERM and SIGKILL; 0 is a time, too."""
    stated = (container.get("Config") or {}).get("StopTimeout")
    return STOP_S if stated is None else stated


def stop(containers, engine):
    """Stop inspected containers, all at the same time: a node may have one for each rank, and an engine takes its seconds to end.

    Raises OSError, with the names of all that could not be stopped, when each has been tried.
    """
    with ThreadPoolExecutor(max_workers=len(containers) or 1) as pool:
        asked = {name: pool.submit(engine.stop, container["Id"], stop_time(container)) for name, container in containers.items()}
    wrong = {name: one.exception() for name, one in asked.items() if one.exception()}
    if wrong:
        raise OSError("; ".join("container %s was not stopped: %s" % found for found in sorted(wrong.items())))


def look(given, engine, ask=ask_npu.answer, proc="/proc"):
    """Return what is left now."""
    left = [entry("container_stopped", name, "it runs") for name in running(given["containers"], engine)]
    alive = {pid: process_name(pid, proc) for pid in given["pids"]}
    alive = {pid: name for pid, name in alive.items() if name is not None}
    for pid, name in sorted(alive.items()):
        left.append(entry("process_gone", "pid %d" % pid, "%s runs" % (name or "a process")))
    for listener in host.listening(given["ports"], proc):
        if listener.get("pid") in alive:
            found = entry("port_released", "port %d" % listener["port"], "pid %d listens on it" % listener["pid"])
            # A process may listen on several addresses.
            if found not in left:
                left.append(found)
    if given["npus"]:
        left += npus_left(given, alive, ask)
    return left


def npus_left(given, alive, ask):
    """Return the NPUs that a process of the containers still has, or that nobody has and whose memory is in use."""
    left = []
    try:
        table = ask(npu_smi_path=given["npu_smi_path"], details=False).get("npus") or []
    except tools.NoAnswer:
        # The driver's own checks name it; nothing can be said here.
        return []
    for npu in table:
        number = npu["phy_id"] if npu["phy_id"] is not None else npu["npu_id"]
        if number not in given["npus"]:
            continue
        users = [process["pid"] for process in npu.get("processes") or []]
        used, limit = npu.get("hbm_used_mb"), given["hbm_idle_mb"]
        if any(pid in alive for pid in users):
            left.append(entry("npu_released", "npu%d" % number, "pid %d is on it" % next(pid for pid in users if pid in alive)))
        elif not users and limit is not None and used is not None and used > limit:
            left.append(entry("npu_released", "npu%d" % number, "%d MB of HBM in use without a process" % used))
    return left


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "containers": {"type": "list", "elements": "str", "required": True},
            "stop": {"type": "bool", "default": False},
            "pids": {"type": "list", "elements": "int", "default": []},
            "ports": {"type": "list", "elements": "int", "default": []},
            "npus": {"type": "list", "elements": "int", "default": []},
            "hbm_idle_mb": {"type": "int"},
            "wait_s": {"type": "float", "default": 5.0},
            "npu_smi_path": {"type": "path"},
            "docker_socket": {"type": "path", "default": DEFAULT_SOCKET},
        },
        supports_check_mode=True,
    )
    given, start = module.params, time.monotonic()
    engine, stopped, left = DockerEngine(given["docker_socket"]), {}, []
    try:
        if given["stop"]:
            stopped = running(given["containers"], engine)
            if not module.check_mode:
                stop(stopped, engine)
        while not (given["stop"] and module.check_mode):
            left = look(given, engine)
            if not left or time.monotonic() - start + LOOK_S > given["wait_s"]:
                break
            time.sleep(LOOK_S)
    except OSError as error:
        module.fail_json(msg="the Docker engine did not do what it was asked: %s. Remedy: systemctl status docker on this node" % error)
    module.exit_json(changed=bool(stopped), stopped=sorted(stopped), left=left, seconds=round(time.monotonic() - start, 1))


if __name__ == "__main__":
    main()
