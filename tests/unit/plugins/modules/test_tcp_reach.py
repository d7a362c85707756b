# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""tcp_reach as Ansible runs it: one process a node, several at the same moment. The connections: test_tcp_mesh.py."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys

import pytest

from ansible_collections.ascend.vllm.plugins.modules import tcp_reach

NODES = {"a2-node0": "127.0.0.2", "a2-node1": "127.0.0.3", "a2-node2": "127.0.0.4"}


def parameters(host, ports, names=tuple(NODES), **more):
    """What one node is given."""
    return dict({
        "host": host, "local_ip": NODES[host], "token": "f00fba5e", "timeout": 20, "listen": [{"port": port, "name": "rpc"} for port in ports],
        "peers": [{"host": name, "address": NODES[name], "ports": ports} for name in names if name != host],
    }, **more)


@pytest.fixture
def ports():
    """Two ports that are free on every address of loopback."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for dummy in range(2)]
        for probe in probes:
            probe.bind(("0.0.0.0", 0))
        return sorted(probe.getsockname()[1] for probe in probes)


CHILD = """
import json, sys
from ansible_collections.ascend.vllm.plugins.module_utils.tcp_mesh import Mesh
given = json.load(sys.stdin)
print(json.dumps(Mesh(given["host"], given["local_ip"], given["token"], given["listen"], given["peers"], given["timeout"]).run()))
"""


def test_a_node_among_others_in_processes_of_their_own(run_module, ports):
    children = {}
    try:
        for name in ("a2-node1", "a2-node2"):
            children[name] = subprocess.Popen([sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                              env=dict(os.environ, PYTHONPATH=os.pathsep.join(path for path in sys.path if path)))
            children[name].stdin.write(json.dumps(parameters(name, ports)).encode())
            children[name].stdin.close()
            children[name].stdin = None
        results = {"a2-node0": run_module(tcp_reach, **parameters("a2-node0", ports))}
        assert not results["a2-node0"].pop("failed") and results["a2-node0"].pop("changed") is False
        results.update((name, json.loads(child.communicate(timeout=30)[0].decode())) for name, child in children.items())
    finally:
        for child in children.values():
            child.kill()
            child.wait(10)
            child.stdout.close()
    for name, result in results.items():
        others = [other for other in NODES if other != name]
        reached = [(entry["host"], entry["port"], entry["status"]) for entry in result["reached"]]
        assert reached == [(other, port, "reached") for other in others for port in ports]
        assert result["heard"] == [{"host": other, "port": port} for other in others for port in ports]
        assert [(entry["port"], entry["name"], entry["opened"]) for entry in result["opened"]] == [(port, "rpc", True) for port in ports]


@pytest.mark.parametrize("check", [False, True])
def test_a_peer_that_never_comes_is_no_failure(run_module, ports, check):
    result = run_module(tcp_reach, check=check, **parameters("a2-node0", ports, ("a2-node1",), timeout=0.3))
    assert not result["failed"] and {entry["status"] for entry in result["reached"]} == {"refused"}
    assert "f00fba5e" not in json.dumps({key: value for key, value in result.items() if key != "invocation"})


def test_a_node_alone_ends_at_once(run_module, ports):
    result = run_module(tcp_reach, **parameters("a2-node0", ports, ()))
    assert (result["reached"], result["heard"]) == ([], []) and result["seconds"] < 2 and len(result["opened"]) == 2


@pytest.mark.parametrize(
    "more, words",
    [
        ({"timeout": 0}, "timeout must be more than 0"),
        ({"token": ""}, "token must be one word"),
        ({"token": "two words"}, "token must be one word"),
        ({"host": "a b"}, "must be one word"),
        ({"local_ip": "eth0"}, "'eth0' is not an IPv4 address"),
        ({"listen": [{"port": 0}]}, "not 0"),
        ({"listen": [{"port": 65536}]}, "not 65536"),
        ({"peers": [{"host": "x", "address": "a2-node1", "ports": [1]}]}, "'a2-node1' is not an IPv4 address"),
        ({"peers": [{"host": "x", "address": "127.0.0.3", "ports": [0]}]}, "not 0"),
        ({"peers": [{"host": "x\ny", "address": "127.0.0.3", "ports": [1]}]}, "must be one word"),
        ({"peers": [{"host": "x"}]}, "address"),
    ],
)
def test_wrong_parameters(run_module, more, words):
    result = run_module(tcp_reach, **dict(parameters("a2-node0", [13389]), **more))
    assert result["failed"] and words in result["msg"]
