# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`lab up`, `lab build` and `lab down`, step by step."""

from __future__ import annotations

import fcntl
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from dataclasses import replace as replace_fields
from pathlib import Path

from lablib import access, engine_image, host, kept_layers, layers, network, node_image, nodes, rootfs, services, shape
from lablib.host import Engine
from lablib.places import CACHE, LAB_SOURCE, LOGS, RUN, STATE, cached, content_key, emulator_dir, is_cached, remove_tree
from lablib.say import LabError, run_logged, say, step

_STATE_FILE = RUN / "lab.json"
#: The layers of the engine image, diff_id -> digest: what `lab down` may keep of a node's engine.
_LAYERS_FILE = RUN / "layers.json"
#: Seconds between two packets of a ping, as the real tool is taken to send them.
PACKET_INTERVAL_S = 1.0


@dataclass(frozen=True)
class Running:
    """What ``run/lab.json`` says of the lab that is up.

    ``inputs`` is the hash of everything the lab was made from, ``packet_interval_s`` the pace of the emulator's pings.
    """

    lab: shape.Shape
    engine: Engine
    inputs: str
    packet_interval_s: float = PACKET_INTERVAL_S

    @property
    def service_containers(self) -> list[str]:
        """The containers beside the nodes: a light lab has none."""
        return [] if self.lab.light else list(services.CONTAINERS)


@contextmanager
def only_one():
    """Two commands that change the lab wait for each other."""
    host.require_root()
    STATE.mkdir(parents=True, exist_ok=True)
    with (STATE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def running() -> Running | None:
    """The lab that is up, or None. A lab whose engine is gone (the machine was restarted) is not up."""
    try:
        blob = json.loads(_STATE_FILE.read_text())
    except (OSError, ValueError):
        return None
    found = Running(
        shape.Shape(blob["generation"], blob["nodes"], blob.get("light", False)), Engine(blob["docker_host"], blob["own_engine"]),
        blob["inputs"], blob.get("packet_interval_s", PACKET_INTERVAL_S),
    )  # fmt: skip
    return found if host.answers(found.engine) else None


def need_running() -> Running:
    found = running()
    if not found:
        raise LabError("no lab is up: `tests/lab/lab up` brings one up")
    return found


def inputs_key() -> str:
    """Changes when a running lab would have to be made anew: the node image, the engine image, the model, the hub, the way nodes start."""
    return content_key(
        rootfs.key(), LAB_SOURCE / "engine", LAB_SOURCE / "service_faults", LAB_SOURCE / "hub.py", Path(nodes.__file__), Path(services.__file__),
        Path(network.__file__), Path(shape.__file__), str(emulator_dir()),
    )  # fmt: skip


def up(lab: shape.Shape, replace: bool, packet_interval_s: float | None = None, unpacked: bool = False) -> None:
    """Brings up a lab of this shape, or keeps the one that is there.

    ``packet_interval_s``: the pace of pings; None leaves that of a lab that is kept and gives a new one the default.
    ``unpacked``: a new lab's nodes have the engine image's layers that an earlier lab's nodes unpacked, if there are any.
    """
    there = running()
    if there and not replace:
        if there.lab != lab:
            raise LabError(f"a lab of {there.lab} is up, not of {lab}: `lab down` first, or `lab up --replace`")
        if there.inputs == inputs_key():
            faults = heal(there)
            if packet_interval_s is not None and packet_interval_s != there.packet_interval_s:
                set_packet_interval(there, packet_interval_s)
            if not faults:
                return say(f"a healthy lab of {lab} is up already")
            raise LabError(f"the lab that is up is not healthy ({'; '.join(faults)}): `lab up --replace` makes it anew")
        say("the lab that is up was made from other files than this checkout has: making it anew")
    if there or RUN.exists():
        tear_down(quiet=not there)
    host.require_machine(light=lab.light)
    engine = host.provide_engine()
    # An engine that was killed, with its machine or by hand, comes up with the containers it had: tear_down could not ask it for them.
    _remove_ours(engine)
    _refuse_strangers(engine, lab)
    if lab.light:
        rootfs.build()
    model = None if lab.light else _build_all()
    image = node_image.load(engine)
    try:
        _start(Running(lab, engine, inputs_key(), packet_interval_s or PACKET_INTERVAL_S), image, model, unpacked)
    except BaseException:
        say("bringing the lab up failed; `lab down` removes what there is")
        raise


def build() -> None:
    """Builds everything that is cached: both root file systems, the engine image's layers, the model."""
    host.require_builder()
    host.install_packages(engine_needed=host.running_engine() is None)
    _build_all()


def _build_all() -> Path:
    """The long part of a first run. The download of vLLM and the debootstrap take turns on processor and network: so they run together."""
    with ThreadPoolExecutor(max_workers=2) as pool:
        wheels = pool.submit(engine_image.wheel_layer)
        system = pool.submit(rootfs.build)
        for part in (system, wheels):
            part.result()
    engine_image.layers()
    return _model()


def _model() -> Path:
    script = LAB_SOURCE / "engine" / "mkmodel.py"
    return cached("model", content_key(script), lambda folder: run_logged([sys.executable, str(script), str(folder)], LOGS / "model.log"))


def _record(run: Running) -> None:
    blob = {
        "generation": run.lab.generation, "nodes": run.lab.size, "light": run.lab.light, "docker_host": run.engine.host,
        "own_engine": run.engine.ours, "inputs": run.inputs, "packet_interval_s": run.packet_interval_s,
    }  # fmt: skip
    _STATE_FILE.write_text(json.dumps(blob, indent=2) + "\n")


def set_packet_interval(there: Running, seconds: float) -> None:
    """Changes the pace of pings of a lab that is up, at once."""
    nodes.set_packet_interval(there.lab, seconds)
    _record(replace_fields(there, packet_interval_s=seconds))
    say(f"pings now send one packet every {seconds:g} s")


def _start(run: Running, image: str, model: Path | None, unpacked: bool = False) -> None:
    """``model``: the folder the hub serves; None in a light lab."""
    lab, engine = run.lab, run.engine
    # Recorded before the first thing is made: whatever happens from here on, `lab down` finds the engine.
    RUN.mkdir(parents=True, exist_ok=True)
    _record(run)
    network.make_room(lab)
    network.create(engine)
    nodes.configure(lab)
    nodes.set_packet_interval(lab, run.packet_interval_s)
    if model:
        say("starting registry and hub")
        services.start(engine, image, _registry_storage(), model)
        _LAYERS_FILE.write_text(json.dumps({layer.diff_id: layer.digest for layer in engine_image.layers()}))
        if unpacked:
            _give_layers(lab)
    say(f"starting {lab}: {', '.join(node.name for node in lab.nodes)}")
    nodes.start(engine, image, lab)
    if model:
        services.wait()
        push_engine_image()
    nodes.wait(engine, lab)
    say(f"the lab is up: {lab}; variables for Ansible: {access.VARIABLES}")


def _kept_layers(of: dict[str, str]) -> tuple[str, str]:
    """Kind and key of the cached folder that has these layers unpacked."""
    return "unpacked", content_key(*of.values())


def _give_layers(lab: shape.Shape) -> None:
    """Gives every node's engine the layers that an earlier one unpacked; none of them may have started."""
    wanted = json.loads(_LAYERS_FILE.read_text())
    source = CACHE.joinpath(*_kept_layers(wanted))
    with ThreadPoolExecutor() as pool:
        given = list(pool.map(lambda node: kept_layers.copy(source, nodes.folder(node) / "docker", wanted), lab.nodes))
    say("the nodes have the image's layers of an earlier lab" if all(given) else "no layers of an earlier lab are kept: the nodes unpack them")


def _keep_layers() -> None:
    """Keeps the image's layers of the first node that has them all, unless they are kept. The nodes' engines have ended."""
    try:
        wanted = json.loads(_LAYERS_FILE.read_text())
    except (OSError, ValueError):
        return
    if is_cached(*_kept_layers(wanted)):
        return
    having = [engine for engine in sorted((RUN / "nodes").glob("*/docker")) if kept_layers.has(engine, wanted)]
    if having:
        try:
            cached(*_kept_layers(wanted), lambda part: kept_layers.copy(having[0], part, wanted))
        except (OSError, subprocess.CalledProcessError) as error:
            say(f"the image's layers are not kept for later labs: {error}")


def _registry_storage() -> Path:
    """Where the registry keeps its blobs: they survive `lab down`, and go when the engine image becomes another one."""
    return cached("registry", content_key(*(layer.digest for layer in engine_image.layers())), lambda folder: None)


def push_engine_image() -> None:
    """Puts the engine image into the lab's registry under each of its tags; one that is there already costs one request."""
    stack = engine_image.layers()
    for tag in engine_image.TAGS:
        if layers.push(shape.REGISTRY, shape.ENGINE_REPOSITORY, tag, stack, engine_image.config(tag)):
            say(f"pushed {shape.REGISTRY}/{shape.ENGINE_REPOSITORY}:{tag}")


def _refuse_strangers(engine: Engine, lab: shape.Shape) -> None:
    """A container that has one of our names but not our label belongs to somebody else."""
    for name in [*services.CONTAINERS, *(node.name for node in lab.nodes)]:
        container = engine.inspect(name)
        if container and shape.LABEL not in (container["Config"]["Labels"] or {}):
            raise LabError(f"the Docker engine has a container {name!r} that is not the lab's: rename or remove it")


def heal(there: Running) -> list[str]:
    """Starts containers of the lab that were stopped; returns what is wrong all the same."""
    stopped = False
    for name in [*there.service_containers, *(node.name for node in there.lab.nodes)]:
        container = there.engine.inspect(name)
        if container and not container["State"]["Running"]:
            say(f"{name} was stopped: starting it")
            there.engine.call("start", name, check=False)
            stopped = True
    if stopped:
        try:
            if there.service_containers:
                services.wait()
            nodes.wait(there.engine, there.lab)
        except LabError as error:
            return [str(error)]
        return []
    return health(there)


def health(there: Running) -> list[str]:
    """What is wrong with a lab, one line each; empty when all is well."""
    faults = [f"{name} does not answer" for name in services.silent_services()] if there.service_containers else []
    with ThreadPoolExecutor() as pool:
        reasons = pool.map(lambda node: nodes.fault(there.engine, node, there.lab.light), there.lab.nodes)
    return faults + [f"{node.name}: {reason}" for node, reason in zip(there.lab.nodes, reasons) if reason]


def down(purge: bool) -> None:
    tear_down()
    if purge:
        with step(f"removing {CACHE}"):
            host.unmount_below(CACHE)
            remove_tree(CACHE)
    elif not STATE.exists():
        return
    say("the lab is down" + ("" if purge else f"; what took long to build stays in {CACHE}"))


def _remove_ours(engine: Engine) -> None:
    """Removes every container and network that carries the lab's label."""
    containers = engine.labelled("container")
    if containers:
        say(f"removing {', '.join(sorted(containers))}")
        ids = [(engine.inspect(name) or {}).get("Id", name) for name in containers]
        engine.call("rm", "--force", "--volumes", *containers, check=False)
        host.remove_cgroups(ids)
    network.remove(engine)


def tear_down(quiet: bool = False) -> None:
    """Removes containers, networks, rules, our own engine and run/. Works on whatever part of a lab is there."""
    access.close_connections()
    try:
        blob = json.loads(_STATE_FILE.read_text())
        engine = Engine(blob["docker_host"], blob["own_engine"])
    except (OSError, ValueError):
        engine = host.running_engine()
    if engine and host.answers(engine):
        _remove_ours(engine)
    elif not quiet:
        say("no engine of a lab answers")
    host.stop_own_engine()
    _keep_layers()
    host.unmount_below(RUN)
    remove_tree(RUN)
