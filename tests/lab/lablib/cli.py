# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands of `lab`."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys

from lablib import access, bringup, clients, nodes, shape
from lablib.host import Engine
from lablib.say import LabError, say
from service_faults.table import FAULTS as SERVICE_FAULTS

_INTERVAL_VARIABLE = "ASCEND_VLLM_LAB_PACKET_INTERVAL"

_EPILOG = """\
A lab is N emulated Ascend nodes: containers with systemd, sshd and a Docker engine of their own, an npu-smi and an hccn_tool
that read real (emulated) links and devices, a registry with a vLLM image that runs on the CPU, and a model hub.

State is under $ASCEND_VLLM_LAB_DIR (default /var/lib/ascend-vllm-lab): cache/ survives `lab down`, run/ does not.
"""


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="lab", description="Emulated Ascend nodes on this machine.", epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    up = commands.add_parser("up", help="bring a lab up, or keep the one of this shape that is up")
    up.add_argument("--generation", choices=sorted(shape.GENERATIONS), default="a2")
    up.add_argument("--nodes", type=int, help="how many (default: 2 for a2, 1 for a3)")
    up.add_argument("--replace", action="store_true", help="remove a lab that is up first, whatever its shape")
    up.add_argument("--light", action="store_true", help="sshd, Python and the emulated NPUs only: no Docker engines, no registry, no hub")
    up.add_argument(
        "--packet-interval", type=float, metavar="SECONDS", default=os.environ.get(_INTERVAL_VARIABLE) or None,
        help=f"pace of the emulator's pings, at once if this lab is up already (default: ${_INTERVAL_VARIABLE}, "
        f"else unchanged, and {bringup.PACKET_INTERVAL_S:g} in a new lab)",
    )  # fmt: skip
    up.add_argument(
        "--unpacked", action="store_true",
        help="the engines of a new lab's nodes have the image's layers that those of an earlier lab unpacked, if any are kept: a pull takes seconds",
    )  # fmt: skip
    up.set_defaults(run=_up)

    down = commands.add_parser("down", help="remove the lab; what took long to build stays")
    down.add_argument("--purge", action="store_true", help="remove that too")
    down.set_defaults(run=_down)

    commands.add_parser("build", help="build the images and the model without starting anything").set_defaults(run=_build)
    commands.add_parser("status", help="what is up, and whether it is healthy (exit status 1: not healthy, 3: not up)").set_defaults(run=_status)
    commands.add_parser("vars", help="print the path of the variables file for Ansible").set_defaults(run=_vars)

    inventory = commands.add_parser("inventory", help="print the path of an inventory of every node of the lab")
    inventory.add_argument("--management", action="store_true", help="of the one that reaches the nodes over the management network")
    inventory.set_defaults(run=_inventory)

    fault = commands.add_parser(
        "fault", help="set or clear a fault on one node", epilog=_fault_help(), formatter_class=argparse.RawDescriptionHelpFormatter
    )
    fault.add_argument("node", metavar="NODE")
    fault.add_argument("verb", choices=("set", "clear", "list"))
    fault.add_argument("words", nargs="*", metavar="NAME [key=value ...]")
    fault.add_argument("--json", action="store_true", help="list: as JSON")
    fault.set_defaults(run=_fault)

    commands.add_parser("faults", help="list the faults that are set, node by node").set_defaults(run=_faults)

    reboot = commands.add_parser("reboot", help="restart one node and wait until it is back")
    reboot.add_argument("node", metavar="NODE")
    reboot.set_defaults(run=_reboot)

    client = commands.add_parser("client", help="have what an evaluation client's image is built from in registry and hub")
    client.add_argument("tool", choices=clients.tools())
    client.set_defaults(run=_client)

    execute = commands.add_parser("exec", help="run a command as root in one node")
    execute.add_argument("node", metavar="NODE")
    execute.add_argument("words", nargs=argparse.REMAINDER, metavar="CMD ...")
    execute.set_defaults(run=_exec)
    return top


def _fault_help() -> str:
    lines = [f"  {fault.name:<22} {fault.help}" for fault in SERVICE_FAULTS.values()]
    return "\n".join(["faults of the server (`lab fault NODE list` shows those of its NPUs too, and what is set):", *lines,
                      "`clear` without a name clears all."])  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    # The library's own folder is on PYTHONPATH for this process alone.
    os.environ.pop("PYTHONPATH", None)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    options = parser().parse_args(argv)
    try:
        return options.run(options) or 0
    except LabError as error:
        sys.stderr.write(f"lab: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("lab: interrupted\n")
        return 130


def _up(options: argparse.Namespace) -> None:
    size = shape.GENERATIONS[options.generation].default_nodes if options.nodes is None else options.nodes
    try:
        lab = shape.Shape(options.generation, size, options.light)
    except ValueError as error:
        raise LabError(str(error)) from error
    if options.packet_interval is not None and not 0.002 <= options.packet_interval <= 60:
        raise LabError(f"--packet-interval {options.packet_interval:g}: from 0.002 to 60 seconds")
    with bringup.only_one():
        bringup.up(lab, options.replace, options.packet_interval, options.unpacked)


def _down(options: argparse.Namespace) -> None:
    with bringup.only_one():
        bringup.down(options.purge)


def _client(options: argparse.Namespace) -> int:
    if not bringup.running():
        print("no lab is up")
        return 3
    with bringup.only_one():
        clients.provide(options.tool)
    return 0


def _build(_options: argparse.Namespace) -> None:
    with bringup.only_one():
        bringup.build()


def _status(_options: argparse.Namespace) -> int:
    there = bringup.running()
    if not there:
        print("no lab is up")
        return 3
    faults = bringup.health(there)
    print(f"lab        {there.lab}, {'not healthy' if faults else 'healthy'}")
    print(f"engine     {'started by the lab' if there.engine.ours else 'of this machine'}, DOCKER_HOST={there.engine.host or '(default)'}")
    for node in there.lab.nodes:
        print(f"node       {node.name}  {node.address}  management {node.management_address}  ssh -F {access.CONFIG} {node.name}")
    if there.service_containers:
        print(f"registry   {shape.REGISTRY}  {shape.ENGINE_REPOSITORY}")
        print(f"hub        http://{shape.HUB}  {shape.MODEL_ID}")
    print(f"pings      one packet every {there.packet_interval_s:g} s")
    print(f"variables  {access.VARIABLES}")
    print(f"inventory  {access.INVENTORY}, over the management network {access.MANAGEMENT_INVENTORY}")
    for fault in faults:
        print(f"fault      {fault}")
    return 1 if faults else 0


def _vars(_options: argparse.Namespace) -> None:
    bringup.need_running()
    print(access.VARIABLES)


def _inventory(options: argparse.Namespace) -> None:
    bringup.need_running()
    print(access.MANAGEMENT_INVENTORY if options.management else access.INVENTORY)


def _node(name: str) -> tuple[Engine, shape.Node]:
    there = bringup.need_running()
    for node in there.lab.nodes:
        if node.name == name:
            return there.engine, node
    raise LabError(f"the lab has no node {name!r}: it has {', '.join(node.name for node in there.lab.nodes)}")


def _docker(engine: Engine, *args: str) -> int:
    """Runs the Docker client on this terminal."""
    sys.stdout.flush()
    return subprocess.run(["docker", *args], env={**os.environ, **engine.env}, check=False).returncode


def _exec(options: argparse.Namespace) -> int:
    engine, node = _node(options.node)
    words = options.words[1:] if options.words[:1] == ["--"] else options.words
    if not words:
        raise LabError("exec: which command?")
    terminal = ["--tty"] if sys.stdin.isatty() and sys.stdout.isatty() else []
    return _docker(engine, "exec", "--interactive", *terminal, node.name, *words)


def _fault(options: argparse.Namespace) -> int:
    engine, node = _node(options.node)
    if options.verb == "set" and not options.words:
        raise LabError("fault: which one?")
    if options.verb == "list":
        return _list_faults(engine, node, options.json)
    if options.verb == "clear" and options.words in ([], ["all"]):
        # Both, whatever the first says.
        return max([_docker(engine, "exec", node.name, *command, "clear", "all") for command in (nodes.SERVICE_FAULT_COMMAND, nodes.FAULT_COMMAND)])
    of_server = options.words[0] in SERVICE_FAULTS
    code = _docker(engine, "exec", node.name, *(nodes.SERVICE_FAULT_COMMAND if of_server else nodes.FAULT_COMMAND), options.verb, *options.words)
    if code and not of_server:
        sys.stderr.write(f"lab: faults of the server are: {', '.join(sorted(SERVICE_FAULTS))}\n")
    return code


def _list_faults(engine: Engine, node: shape.Node, as_json: bool = False) -> int:
    """The emulator's faults and the server's, as two lists or one JSON value: {"available": [..], "active": {name: values}}."""
    commands = (nodes.FAULT_COMMAND, nodes.SERVICE_FAULT_COMMAND)
    if not as_json:
        return max([_docker(engine, "exec", node.name, *command, "list") for command in commands])
    ours, theirs = (json.loads(engine.out("exec", node.name, *command, "list", "--json")) for command in commands)
    print(json.dumps({"available": ours["available"] + theirs["available"], "active": {**ours["active"], **theirs["active"]}}))
    return 0


def _faults(_options: argparse.Namespace) -> int:
    there = bringup.need_running()
    worst = 0
    for node in there.lab.nodes:
        print(f"{node.name}:")
        worst = max(worst, _list_faults(there.engine, node))
    return worst


def _reboot(options: argparse.Namespace) -> None:
    engine, node = _node(options.node)
    # The emulator sets its own faults again at boot. Half of the server's a boot would mend: all of them are set anew.
    command = ["exec", node.name, *nodes.SERVICE_FAULT_COMMAND]
    active = json.loads(engine.out(*command, "list", "--json"))["active"]
    engine.out(*command, "clear", "all")
    engine.out("restart", "--time", "30", node.name)
    nodes.wait(engine, bringup.need_running().lab)
    for name, values in active.items():
        say(engine.out(*command, "set", name, *(f"{key}={value}" for key, value in values.items())))
