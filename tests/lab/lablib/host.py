# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The host: what it must have, the packages the lab needs, and the Docker engine (a running one, or one of our own)."""

from __future__ import annotations

import json
import os
import platform
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from lablib import shape
from lablib.places import CACHE, LOGS, RUN, STATE, remove_tree
from lablib.say import LabError, run_logged, say, step

_OWN_SOCKET = RUN / "docker.sock"
_OWN_PID = RUN / "dockerd.pid"
_MIN_MEMORY_MB = 8_000
_MIN_MEMORY_LIGHT_MB = 1_500
_MIN_DISK_MB = 15_000
# command -> Debian package. A running engine makes the two of the engine itself unnecessary.
_PACKAGES = {
    "debootstrap": "debootstrap",
    "ip": "iproute2",
    "pigz": "pigz",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
}
_ENGINE_PACKAGES = {"dockerd": "docker.io", "docker": "docker.io", "iptables": "iptables"}


@dataclass(frozen=True)
class Engine:
    """A Docker engine: the value of DOCKER_HOST (None: the client's own default) and whether the lab started it."""

    host: str | None
    ours: bool

    @property
    def env(self) -> dict[str, str]:
        return {"DOCKER_HOST": self.host} if self.host else {}

    def call(self, *args: str, check: bool = True, **kwargs) -> subprocess.CompletedProcess:
        """Runs the Docker client; a failure names the command and what the engine said."""
        done = subprocess.run(
            ["docker", *args], env={**os.environ, **self.env}, text=True, capture_output=True, check=False, **kwargs
        )
        if check and done.returncode:
            raise LabError(f"docker {' '.join(args[:3])} ...: {done.stderr.strip() or done.stdout.strip()}")
        return done

    def out(self, *args: str) -> str:
        return self.call(*args).stdout.strip()

    def inspect(self, name: str) -> dict | None:
        """What the engine knows of a container, or None when there is none."""
        done = self.call("container", "inspect", name, check=False)
        return json.loads(done.stdout)[0] if done.returncode == 0 else None

    def labelled(self, kind: str) -> list[str]:
        """Names of everything of one kind (container, network) that carries the lab's label."""
        command = ["container", "ls", "--all", "--format", "{{.Names}}"] if kind == "container" else [kind, "ls", "--format", "{{.Name}}"]
        return self.out(*command, "--filter", f"label={shape.LABEL}").split()


def require_root() -> None:
    if os.geteuid() != 0:
        raise LabError("the lab needs root (network namespaces, device nodes): run it as root or with sudo")


def require_builder() -> None:
    """Stops, in one line, on a machine that cannot build the images."""
    require_root()
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        raise LabError(f"the lab needs Linux on x86_64 (its engine is a wheel for that), this is {platform.system()} on {platform.machine()}")
    STATE.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(STATE).free // 2**20
    if free < _MIN_DISK_MB:
        raise LabError(f"the lab needs {_MIN_DISK_MB} MB of free disk at {STATE}, found {free} MB (ASCEND_VLLM_LAB_DIR puts it elsewhere)")


def require_machine(light: bool = False) -> None:
    """Stops, in one line, on a machine that cannot carry the lab. A light lab serves nothing and needs less."""
    require_builder()
    memory = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    available = int(memory["MemAvailable"].split()[0]) // 1024
    needed, why = (_MIN_MEMORY_LIGHT_MB, "32 light nodes") if light else (_MIN_MEMORY_MB, "a served pair takes 7 GB")
    if available < needed:
        raise LabError(f"the lab needs {needed} MB of available memory ({why}), found {available} MB")
    _require_overlay()
    _require_free_network()


def _require_overlay() -> None:
    """Mounts an overlay where the nodes' own engines will: on an overlay, or without the file system, they cannot work."""
    probe = STATE / "overlay-probe"
    remove_tree(probe)
    for name in ("lower", "upper", "work", "merged"):
        (probe / name).mkdir(parents=True)
    options = f"lowerdir={probe}/lower,upperdir={probe}/upper,workdir={probe}/work"
    done = subprocess.run(
        ["mount", "-t", "overlay", "overlay", "-o", options, str(probe / "merged")], capture_output=True, text=True, check=False
    )
    if done.returncode == 0:
        subprocess.run(["umount", str(probe / "merged")], check=True)
    remove_tree(probe)
    if done.returncode:
        raise LabError(f"no overlay mount can be made at {STATE} ({done.stderr.strip()}): put ASCEND_VLLM_LAB_DIR on ext4 or xfs, as root with CAP_SYS_ADMIN")


def _require_free_network() -> None:
    """The lab's addresses must not be in use on this machine already."""
    if not shutil.which("ip"):
        return
    for interface in json.loads(subprocess.run(["ip", "-j", "-4", "addr"], capture_output=True, text=True, check=True).stdout):
        if interface["ifname"].startswith(shape.BRIDGE_PREFIX):  # the lab itself is up
            continue
        for address in interface.get("addr_info", []):
            for network in (shape.SERVICE_NETWORK, shape.MANAGEMENT_NETWORK, shape.ROCE_NETWORK):
                if address.get("local") and shape.contains(network, address["local"]):
                    raise LabError(f"the lab's network {network} is in use on this machine: {interface['ifname']} has {address['local']}")


def install_packages(engine_needed: bool) -> None:
    """Installs what is missing, in one apt-get run."""
    wanted = {**_PACKAGES, **(_ENGINE_PACKAGES if engine_needed else {"docker": "docker.io"})}
    missing = sorted({package for command, package in wanted.items() if not shutil.which(command)})
    if not missing:
        return
    if not shutil.which("apt-get"):
        raise LabError(f"missing here and no apt-get to install with: {', '.join(missing)} (names of Debian's packages)")
    with step(f"apt-get install {' '.join(missing)}"):
        env = {"DEBIAN_FRONTEND": "noninteractive"}
        run_logged(["apt-get", "-q", "update"], LOGS / "apt.log", env)
        run_logged(["apt-get", "-q", "install", "-y", "--no-install-recommends", *missing], LOGS / "apt.log", env)


def answers(engine: Engine) -> bool:
    """True when the engine's API answers."""
    if not shutil.which("docker"):
        return False
    try:
        return engine.call("version", "--format", "{{.Server.Version}}", check=False, timeout=20).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def running_engine() -> Engine | None:
    """The engine of this machine that answers, if any: the lab's own one first."""
    own = Engine(host=f"unix://{_OWN_SOCKET}", ours=True)
    if _OWN_SOCKET.exists() and answers(own):
        return own
    default = Engine(host=os.environ.get("DOCKER_HOST"), ours=False)
    return default if answers(default) else None


def provide_engine() -> Engine:
    """A Docker engine that answers: the running one, else Debian's, started by hand."""
    found = running_engine()
    install_packages(engine_needed=found is None)
    # Installing docker.io starts it on a machine whose init is systemd.
    found = found or running_engine()
    if found:
        say(f"Docker engine: {'the lab own one' if found.ours else 'the one that runs on this machine'} ({found.host or 'default socket'})")
        return found
    return _start_own_engine()


def _start_own_engine() -> Engine:
    """Starts dockerd with everything of its own, so that it meets no other engine and leaves nothing behind.

    No default bridge, no address translation, no firewall rules: the nodes talk to each other and to this machine only.
    The userland proxy stays on, unused: without it Docker sets its bridges to hairpin mode, and a frame an NPU sent comes back to its own bridge.
    """
    engine = Engine(host=f"unix://{_OWN_SOCKET}", ours=True)
    command = [
        "dockerd", f"--host=unix://{_OWN_SOCKET}", f"--pidfile={_OWN_PID}", f"--data-root={CACHE / 'docker'}", f"--exec-root={RUN / 'docker-exec'}",
        "--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false",
    ]  # fmt: skip
    RUN.mkdir(parents=True, exist_ok=True)
    LOGS.mkdir(parents=True, exist_ok=True)
    with step("Docker engine: none is running, starting Debian's"):
        _OWN_PID.unlink(missing_ok=True)
        with (LOGS / "dockerd.log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True, cwd="/")
        deadline = time.monotonic() + 90
        while not answers(engine):
            if process.poll() is not None or time.monotonic() > deadline:
                last = (LOGS / "dockerd.log").read_text(errors="replace").strip().splitlines()[-1:]
                raise LabError(f"dockerd does not start: {' '.join(last)} (whole log: {LOGS / 'dockerd.log'})")
            time.sleep(0.2)
    return engine


def stop_own_engine() -> None:
    """Stops the engine the lab started, by its recorded pid; never any other one."""
    pid = own_engine_pid()
    if pid is None:
        return
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + 60
    while own_engine_pid() == pid:
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
        _reap(pid)
        time.sleep(0.1)


def own_engine_pid() -> int | None:
    """The pid of the lab's dockerd, or None. A recorded pid counts only while that process is really this dockerd."""
    try:
        pid = int(_OWN_PID.read_text())
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return None
    return pid if f"--pidfile={_OWN_PID}".encode() in words else None


def _reap(pid: int) -> None:
    """Collects a dockerd that this very process started; from another process there is nothing to collect."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        pass


def unmount_below(root: Path) -> None:
    """Unmounts whatever is still mounted below a folder, deepest first (a killed engine leaves such mounts)."""
    mounts = [line.split()[1].encode().decode("unicode_escape") for line in Path("/proc/self/mounts").read_text().splitlines()]
    for mount in sorted((m for m in mounts if m.startswith(f"{root}/")), key=len, reverse=True):
        subprocess.run(["umount", "--lazy", mount], check=False)


def remove_cgroups(container_ids: list[str], root: Path = Path("/sys/fs/cgroup")) -> None:
    """Removes the empty control groups that the systemd of a removed node leaves behind: the engine removes only those it made itself."""
    for container in container_ids:
        for pattern in (f"docker/{container}", f"*/docker/{container}", f"system.slice/docker-{container}.scope"):
            for top in root.glob(pattern):
                below = sorted((path for path in top.rglob("*") if path.is_dir()), key=lambda path: len(path.parts), reverse=True)
                for group in [*below, top]:
                    try:
                        group.rmdir()
                    except OSError:
                        # Still in use, so not a leftover: it stays, and so do its parents.
                        break
