# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One run of an evaluation or benchmark client on this node: begin it, or join the one that goes on; look how far it is; read its results.

A client runs in a container of its own (ContainerRun), or as a command in the serving container (ExecRun). In both the program client_guard
stands above it. Nothing depends on the controller: what is known of a run lies in the folder of its results.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import re
import shutil
import stat
import time

from ansible_collections.ascend.vllm.plugins.module_utils import client_guard, docker_engine, redact
from ansible_collections.ascend.vllm.plugins.module_utils.client_engine import Refused, Torn
from ansible_collections.ascend.vllm.plugins.module_utils.docker_engine import GROUP, PURPOSE

#: What a client container is known by, beside its group and purpose.
RUN, SETTINGS = "ascend.vllm.run", "ascend.vllm.settings"
#: In the serving container: who runs there now.
LOCK = "/tmp/ascend-vllm-client.lock"
#: Where copies of secrets lie that an unprivileged client can read: in memory, below a folder that only root enters.
SECRETS = "/run/ascend-vllm"
INSIDE = "/run/ascend-vllm/secrets"
#: Who a client is when neither the caller nor its image says it: nobody that a node has.
USER = "10001:10001"
#: Seconds without a sign of a client in the serving container after which it is taken for dead, and until the first sign must come.
SILENT_S = 60.0
FIRST_S = 30.0
#: Seconds for which a state that is missing, or tells of a silent client, is asked for again, five beats of the guard: one look is no proof.
STILL_S = 5.0
#: Seconds beyond its limit after which a client whose guard did not end it is ended from here.
LATE_S = 120.0
PAUSE_S = 0.5

#: The options of a run, as an argument_spec.
SPEC = {
    "name": {"type": "str", "required": True},
    "group": {"type": "str", "required": True},
    "kind": {"type": "str", "choices": ["container", "exec"], "default": "container"},
    "run_id": {"type": "str", "required": True},
    "image": {"type": "str", "default": ""},
    "argv": {"type": "list", "elements": "str", "required": True},
    "env": {"type": "dict", "default": {}},
    # Paths are no secrets.
    "secrets": {"type": "dict", "default": {}, "no_log": False},
    "mounts": {"type": "list", "elements": "str", "default": []},
    "devices": {"type": "list", "elements": "str", "default": []},
    "shm_size": {"type": "str", "default": ""},
    "user": {"type": "str", "default": ""},
    "results_dir": {"type": "path", "required": True},
    "collect": {"type": "list", "elements": "str", "default": []},
    "max_mb": {"type": "int", "default": 20},
    "limit_s": {"type": "int", "required": True},
    "min_free_mb": {"type": "int", "default": 1024},
    "slice_s": {"type": "float", "default": 5.0},
    "docker_socket": {"type": "path", "default": "/var/run/docker.sock"},
}
_SIZE = re.compile(r"^(\d+)([bkmg]?)b?$")


class RunError(Exception):
    """A client cannot be run; the text has what was found, what is wanted and what to do."""

    def __init__(self, where, found, wanted, remedy):
        super().__init__("%s: found %s; wanted %s. Remedy: %s" % (where, found, wanted, remedy))


def fingerprint(given):
    """Return what a run is known by beside its run_id: all that makes a difference to its result."""
    names = ("name", "kind", "image", "argv", "env", "secrets", "mounts", "devices", "shm_size", "user", "results_dir")
    text = json.dumps([given[name] for name in names], sort_keys=True)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]


def size_of(text):
    """Return bytes of a size as Docker takes it (C(16g)); raises C(ValueError)."""
    found = _SIZE.match(text.strip().lower())
    if not found:
        raise ValueError("%r is no size such as 16g" % text)
    return int(found.group(1)) << {"": 0, "b": 0, "k": 10, "m": 20, "g": 30}[found.group(2)]


def matcher(patterns):
    """Return a function path -> whether one of the patterns matches it. C(**/) stands for any number of folders, C(*) stays within one."""
    parts = []
    for pattern in patterns:
        text = re.escape(pattern).replace(r"\*\*/", "(?:.*/)?").replace(r"\*", "[^/]*").replace(r"\?", "[^/]")
        parts.append(text)
    joined = re.compile("^(?:%s)$" % "|".join(parts)) if parts else None
    return lambda path: bool(joined and joined.match(path)) and not path.startswith(client_guard.FOLDER + "/")


def guard_text():
    """Return the program that stands above a client."""
    return inspect.getsource(client_guard)


def plain_files(folder, wanted, mode="rb"):
    """Yield C((relative path, size in bytes, open stream)) of the plain files below a folder that are wanted: C(wanted(relative path, size)).

    No link is followed: what lies there was written by the client.
    """
    for root, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = os.path.join(root, name)
            relative = os.path.relpath(path, folder)
            try:
                size = os.lstat(path).st_size
                if not wanted(relative, size):
                    continue
                handle = os.open(path, (os.O_RDWR if "+" in mode else os.O_RDONLY) | os.O_NOFOLLOW | os.O_NONBLOCK)
            except OSError:
                continue
            with os.fdopen(handle, mode) as stream:
                if stat.S_ISREG(os.fstat(handle).st_mode):
                    yield relative, size, stream


def read_below(folder, wanted, most):
    """Return C({relative path: bytes}) of plain files below a folder, of C(most) bytes together."""
    found = {}

    def fits(relative, size):
        return wanted(relative, size) and sum(map(len, found.values())) + size <= most

    for relative, size, stream in plain_files(folder, fits):
        found[relative] = stream.read(size)
    return found


def hide_secrets(folder, secrets, most):
    """Take known secrets out of the plain files below a folder that are at most so large (bytes).

    A client may write down how it was called, with the key: AISBench's merged configuration has it.
    """
    redactor = redact.Redactor(secrets)
    for dummy, dummy_size, stream in plain_files(folder, lambda dummy, size: size <= most, "r+b"):
        text = stream.read().decode("utf-8", "surrogateescape")
        hidden = redactor.words(text)
        if hidden != text:
            stream.seek(0)
            stream.write(hidden.encode("utf-8", "surrogateescape"))
            stream.truncate()


class Run:
    """A run. C(given): the options of SPEC, converted. Methods raise RunError, and C(OSError) when the engine does not answer.

    C(clock) is the node's monotonic one, C(wall) the one that may be set while a client runs.
    """

    def __init__(self, given, engine, clock=time.monotonic, pause=time.sleep, wall=time.time):
        self.given, self.engine, self._clock, self._pause, self._wall = given, engine, clock, pause, wall
        self.settings = fingerprint(given)
        self.where = given["name"]

    # What the two kinds do differently.

    def state(self):
        """Return what the guard wrote down, or None."""
        raise NotImplementedError

    def begin(self):
        """Begin the run, or join it; returns whether it was joined."""
        raise NotImplementedError

    def look(self):
        """Return C((running, state of this run or None, exit status that the engine knows or None, why it is over or None))."""
        raise NotImplementedError

    def read(self, wanted, most):
        """Return C({relative path: bytes}) of the results."""
        raise NotImplementedError

    def end(self):
        """End the client, and only it."""
        raise NotImplementedError

    def done(self):
        """Its results have arrived: another run with the same run_id begins anew."""
        raise NotImplementedError

    # What they have in common.

    def secret_values(self):
        """Return the values of the secrets that can be read here."""
        values = []
        for path in self.given["secrets"].values():
            try:
                with open(path, encoding="utf-8") as stream:
                    values.append(stream.read())
            except OSError:
                continue
        return values

    def _prove_secrets(self):
        for name, path in sorted(self.given["secrets"].items()):
            if not os.path.isfile(path):
                raise RunError(self.where, "no file %s" % path, "the value of %s" % name, "run site.yml, which puts the group's secrets there")

    @staticmethod
    def sound(state):
        """Return the state, or None. The client may write there, too: what is no state of a guard is none."""
        numbers = [(state or {}).get(name) for name in ("started", "beat", "limit_s", "seconds")]
        if not all(isinstance(number, (int, float)) for number in numbers) or not isinstance(state.get("rc", 0), (int, type(None))):
            return None
        return state if "rc" in state else None

    def own(self, state):
        """Return the state if it is one of this run, else None."""
        state = self.sound(state)
        return state if state and state.get("run_id") == self.given["run_id"] else None

    def silent_s(self, state):
        """Return for how many seconds nothing has been heard of the client of a state.

        By the clock that says less: one may have been set, and the other one begins anew with the node.
        """
        up, since = state.get("up"), abs(self._wall() - state["beat"])
        return min(since, abs(self._clock() - up)) if isinstance(up, (int, float)) else since

    def kept(self, state):
        """Return whether a state is of this run, which has ended while nobody was there to take its results."""
        return bool(self.own(state) and state.get("rc") is not None and not state.get("collected") and state.get("settings") == self.settings)

    def refuse(self, run_id, how_to_end):
        """Raise that another client runs; C(how_to_end): what a person types to end it."""
        differs = "the same run %s with other settings" % run_id if run_id == self.given["run_id"] else "the client of another run, %s" % run_id
        raise RunError(self.where, differs, "none but run %s" % self.given["run_id"],
                       "wait until it has ended, join it with its own settings, or end it: %s" % how_to_end)

    def guard(self, secrets):
        """Return what the guard is given."""
        return {"run_id": self.given["run_id"], "settings": self.settings, "argv": self.given["argv"], "results_dir": self.given["results_dir"],
                "limit_s": self.given["limit_s"], "secrets": secrets}

    def _patiently(self, ask):
        """Return what C(ask()) returns: hours of a client are not given up because the engine is away for a moment."""
        return docker_engine.patiently(ask, Refused, self._clock, self._pause)

    def watch(self, seconds):
        """Return C({running, state, rc, error}) after so many seconds, or as soon as the client has ended; one far beyond its limit is ended.

        An engine that is away makes it longer, by up to docker_engine.AWAY_S seconds.
        """
        deadline = self._clock() + seconds
        while True:
            running, state, code, error = self._patiently(self.look)
            if running and state and state["seconds"] + self.silent_s(state) > state["limit_s"] + LATE_S:
                self.end()
                error = "it was ended after %g s, its limit" % state["limit_s"]
                return {"running": False, "state": dict(state, timed_out=True), "rc": None, "error": error}
            if not running or self._clock() >= deadline:
                rc = state["rc"] if state and state["rc"] is not None else code
                return {"running": running, "state": state, "rc": rc, "error": (state or {}).get("error") or error}
            self._pause(min(PAUSE_S, max(0.0, deadline - self._clock())))

    def results(self):
        """Return C((files: relative path -> text, left_out: paths that are too large or too many)) without the secrets."""
        matches, most, left = matcher(self.given["collect"]), self.given["max_mb"] << 20, set()

        def wanted(path, size):
            fits = matches(path) and size <= most
            if matches(path):
                left.add(path)
            return fits

        redactor = redact.Redactor(self.secret_values())
        files = self.read(wanted, most)
        texts = dict((path, redactor.words(data.decode("utf-8", "replace"))) for path, data in files.items())
        return texts, sorted(left - set(files))

    def log(self, state):
        """Return the client's last lines without secrets."""
        redactor = redact.Redactor(self.secret_values())
        return [redactor.line(str(line)) for line in (state or {}).get("tail") or []]


class ContainerRun(Run):
    """A client in a container of its own."""

    def __init__(self, given, engine, **more):
        super().__init__(given, engine, **more)
        self._secrets = os.path.join(SECRETS, "client-%s" % given["name"])

    def state(self):
        return client_guard.read_state(self.given["results_dir"])

    def _mine(self, labels):
        return labels.get(RUN) == self.given["run_id"] and labels.get(SETTINGS) == self.settings

    def begin(self):
        name, found = self.given["name"], self.engine.container(self.given["name"])
        if found is not None:
            labels = (found.get("Config") or {}).get("Labels") or {}
            if labels.get(PURPOSE) != "client" or labels.get(GROUP) != self.given["group"]:
                raise RunError(self.where, "a container of this name that no client of group %s is" % self.given["group"], "none",
                               "rename or remove that container: docker ps -a --filter name=%s" % name)
            if found["State"]["Running"]:
                return self._mine(labels) or self.refuse(labels.get(RUN), "docker stop %s" % name)
        if self.kept(self.state()):
            return True
        self._prove_secrets()
        owner, config = self._config()
        problem = client_guard.prepare(self.given["results_dir"], self.given["min_free_mb"], owner)
        if problem:
            raise RunError(self.where, *problem)
        self.engine.remove(name)
        self._give_secrets(owner)
        try:
            self.engine.create(name, config)
            self.engine.start(name)
        except OSError as error:
            if isinstance(error, Refused) and error.status == 409:
                # That one is not ours.
                raise RunError(self.where, "a container that another run has just made", "none of this name", "run again to join it") from error
            self._take_secrets()
            self.engine.remove(name)
            raise RunError(self.where, str(error), "a container of %s that starts" % self.given["image"],
                           "correct what the engine names, then run again") from error
        return False

    def _config(self):
        """Return C((owner [uid, gid] of the results, what the engine is told))."""
        given = self.given
        image = self.engine.image(given["image"]) if given["image"] else None
        if image is None:
            raise RunError(self.where, "no image %s on this node" % (given["image"] or "(none stated)"), "the image of the client",
                           "the role eval_client has it built, pulled or loaded")
        stated = (image.get("Config") or {}).get("User") or ""
        unprivileged = not given["devices"]
        user = given["user"] or (stated if not unprivileged or stated.partition(":")[0] not in ("", "0", "root") else USER) or "0:0"
        numbers = ["0" if part == "root" else part for part in user.split(":")]
        if not all(part.isdigit() for part in numbers) or len(numbers) > 2:
            raise RunError(self.where, "user %s" % user, "numbers, as uid:gid", "state the user of the client as numbers")
        owner = [int(numbers[0]), int(numbers[-1])]
        sources = [mount.split(":")[0] for mount in given["mounts"]]
        absent = [source for source in sources if not os.path.exists(source)]
        if absent:
            # The engine would make an empty folder there.
            raise RunError(self.where, "no %s on this node" % ", ".join(absent), "what the client is to read", "put it there, or correct its path")
        secrets = dict((variable, "%s/%s" % (INSIDE, variable)) for variable in given["secrets"])
        folder = given["results_dir"]
        env = dict({"HOME": folder}, **dict((key, str(value)) for key, value in given["env"].items()))
        host = {
            "Binds": given["mounts"] + ["%s:%s" % (folder, folder)]
            + ["%s/%s:%s/%s:ro" % (self._secrets, variable, INSIDE, variable) for variable in sorted(given["secrets"])],
            "NetworkMode": "host", "RestartPolicy": {"Name": "no"}, "SecurityOpt": ["no-new-privileges"],
            "LogConfig": {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "1"}},
            "Devices": [{"PathOnHost": path, "PathInContainer": path, "CgroupPermissions": "rwm"} for path in given["devices"]],
        }
        if unprivileged:
            host["CapDrop"] = ["ALL"]
        if given["shm_size"]:
            try:
                host["ShmSize"] = size_of(given["shm_size"])
            except ValueError as error:
                raise RunError(self.where, str(error), "a size", "correct shm_size") from error
        return owner, {
            "Image": given["image"], "User": ":".join(numbers), "WorkingDir": folder, "HostConfig": host, "StopTimeout": 30,
            "Entrypoint": ["python3", "-I", "-c", guard_text()], "Cmd": ["run", json.dumps(self.guard(secrets))],
            "Env": ["%s=%s" % item for item in sorted(env.items())],
            "Labels": {GROUP: given["group"], PURPOSE: "client", RUN: given["run_id"], SETTINGS: self.settings},
        }

    def _give_secrets(self, owner):
        """Copy the secrets to where the client, which is not root, can read them."""
        self._take_secrets()
        if not self.given["secrets"]:
            return
        os.makedirs(self._secrets, mode=0o700)
        for variable, path in self.given["secrets"].items():
            with open(path, "rb") as stream:
                value = stream.read()
            handle = os.open(os.path.join(self._secrets, variable), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400)
            with os.fdopen(handle, "wb") as stream:
                os.fchown(handle, owner[0], owner[1])
                stream.write(value)

    def _take_secrets(self):
        shutil.rmtree(self._secrets, ignore_errors=True)

    def look(self):
        found, state = self.engine.container(self.given["name"]), None
        running = bool(found) and found["State"]["Running"] and ((found.get("Config") or {}).get("Labels") or {}).get(RUN) == self.given["run_id"]
        # Read after the question: a client that has ended has written all.
        state = self.own(self.state())
        if running:
            if state and state.get("pid"):
                # It has read them.
                self._take_secrets()
            return True, state, None, None
        code, error = None, "its container is gone"
        if found:
            code = found["State"].get("ExitCode")
            error = "its container ended with %s before the client did%s" % (
                code, ": %s" % found["State"]["Error"] if found["State"].get("Error") else "")
            if found["State"].get("OOMKilled"):
                error = "the node ran out of memory, and the client was ended"
        ended = state is not None and state["rc"] is not None
        if not ended and found and state is None:
            error += ": %s" % "; ".join(self.engine.logs(self.given["name"], 5))
        return False, state, code, None if ended else error

    def read(self, wanted, most):
        return read_below(self.given["results_dir"], wanted, most)

    def end(self):
        found = self.engine.container(self.given["name"])
        if found and ((found.get("Config") or {}).get("Labels") or {}).get(RUN) == self.given["run_id"]:
            self.engine.stop(self.given["name"], 30)

    def done(self):
        found = self.engine.container(self.given["name"])
        if found and not found["State"]["Running"] and ((found.get("Config") or {}).get("Labels") or {}).get(RUN) == self.given["run_id"]:
            self.engine.remove(self.given["name"])
        self._take_secrets()
        hide_secrets(self.given["results_dir"], self.secret_values(), self.given["max_mb"] << 20)
        state = self.own(self.state())
        if state:
            client_guard.write_state(self.given["results_dir"], dict(state, collected=True))


class ExecRun(Run):
    """A client in the serving container, which is never stopped or changed for it."""

    def _one(self, path):
        """Return the bytes of one file in the container, or None."""
        return self.engine.files(self.given["name"], path, lambda relative, size: relative == "", 8 << 20).get("")

    def _state_in(self, folder, enough=lambda state: True):
        """Return the state below a folder in the container, or None.

        The guard replaces that file every second. The engine looks at a file's size and then opens its name (moby, pkg/archive,
        TarAppender.addTarFile), so that a packing in between holds a part of the new one, or ends early: what is no state is asked for again,
        and so is what C(enough(state)) says to be none, for STILL_S seconds.
        """
        deadline = self._clock() + STILL_S
        while True:
            torn = None
            try:
                data = self._one(os.path.join(folder, client_guard.STATE))
            except Torn as error:
                data, torn = b"", error
            state = client_guard.decoded(data) if data else None
            if data and state is None:
                # No proof of anything about the client either.
                torn = Torn("what the engine packed of %s is no state" % os.path.join(folder, client_guard.STATE))
            if (state or data is None) and enough(state):
                return state
            if self._clock() >= deadline:
                if torn is not None:
                    raise torn
                return state
            self._pause(PAUSE_S)

    def state(self):
        return self._state_in(self.given["results_dir"])

    def _listen(self, folder, kind):
        """Return C((state below a folder in the container or None, whether its client goes on)): it gives a sign every second.

        C(kind): a function state or None -> that state, or None where it is not wanted.
        """
        beats = []

        def told(state):
            state = kind(state)
            if state is None:
                return False
            beats.append(state["beat"])
            return state["rc"] is not None or self.silent_s(state) < SILENT_S or state["beat"] != beats[0]

        state = kind(self._state_in(folder, told))
        return state, state is not None and state["rc"] is None and told(state)

    def _command(self, what, given):
        found = {"Cmd": ["python3", "-I", "-S", "-c", guard_text(), what, json.dumps(given)]}
        if self.given["user"]:
            found["User"] = self.given["user"]
        return found

    def begin(self):
        given, found = self.given, self.engine.container(self.given["name"])
        if found is None or not found["State"]["Running"]:
            raise RunError(self.where, "no container of this name that runs", "the serving container of group %s" % given["group"],
                           "start the service: site.yml")
        if ((found.get("Config") or {}).get("Labels") or {}).get(GROUP) != given["group"]:
            raise RunError(self.where, "a container that is not of group %s" % given["group"], "the serving container", "correct its name")
        if given["mounts"] or given["devices"]:
            raise RunError(self.where, "mounts or devices", "none: the serving container is taken as it is", "use kind=container")
        if not given["results_dir"].startswith("/tmp/") or ".." in given["results_dir"].split("/"):
            raise RunError(self.where, "results_dir %s" % given["results_dir"], "a folder below /tmp in the container", "correct results_dir")
        holder = client_guard.decoded(self._one(LOCK) or b"") or {}
        if holder.get("results_dir"):
            other, goes_on = self._listen(holder["results_dir"], self.sound)
            if goes_on and other.get("run_id") == holder.get("run_id"):
                same = other["run_id"] == given["run_id"] and other.get("settings") == self.settings
                return same or self.refuse(other["run_id"], "docker exec %s kill -- -%s" % (given["name"], other.get("pid")))
        if self.kept(self.state()):
            return True
        self._prove_secrets()
        secrets = self._inside(found)
        self._prepare()
        env = dict(given["env"], **{client_guard.MARK: given["run_id"]})
        command = dict(self._command("run", dict(self.guard(secrets), lock=LOCK)), Env=["%s=%s" % item for item in sorted(env.items())])
        self._first_sign(self.engine.exec_begin(given["name"], command))
        return False

    def _inside(self, found):
        """Return name -> path in the container of each secret, which has to be mounted there already: it is written nowhere else."""
        inside = {}
        for variable, path in self.given["secrets"].items():
            for mount in found.get("Mounts") or []:
                source = mount.get("Source") or ""
                if path == source or path.startswith(source.rstrip("/") + "/"):
                    inside[variable] = mount["Destination"] + path[len(source.rstrip("/")):]
            if variable not in inside:
                raise RunError(self.where, "%s is not mounted into the container" % path, "the file with %s" % variable,
                               "restart the service, so that it has the secrets of the plan")
        return inside

    def _prepare(self):
        code, said = self.engine.exec_output(
            self.given["name"], self._command("prepare", {
                "results_dir": self.given["results_dir"], "min_free_mb": self.given["min_free_mb"], "run_id": self.given["run_id"], "lock": LOCK}))
        try:
            problem = json.loads(said)
        except ValueError:
            problem = ["python3 ended with %s: %s" % (code, " ".join(said.split())[-300:]), "a python3 in the serving image", "use another image"]
        if problem:
            raise RunError(self.where, *problem)

    def _first_sign(self, exec_id):
        deadline = self._clock() + FIRST_S
        while not self.own(self.state()):
            known = self.engine.exec_state(exec_id) or {}
            if not known.get("Running") and not self.own(self.state()):
                if known.get("ExitCode") == 75:
                    raise RunError(self.where, "another client that has just begun", "none", "run again when it has ended")
                raise RunError(self.where, "the client's start ended with %s" % known.get("ExitCode"), "a client that runs",
                               "look into docker logs of the engine")
            if self._clock() >= deadline:
                raise RunError(self.where, "no sign of the client in %g s" % FIRST_S, "a client that runs", "run again when the node is less busy")
            self._pause(PAUSE_S)

    def look(self):
        found = self.engine.container(self.given["name"])
        if found and found["State"]["Running"]:
            state, goes_on = self._listen(self.given["results_dir"], self.own)
            # It may have stopped meanwhile.
            found = found if goes_on else self.engine.container(self.given["name"])
        else:
            state, goes_on = self.own(self.state()) if found else None, False
        if goes_on:
            return True, state, None, None
        if state and state["rc"] is not None:
            return False, state, None, None
        if not found or not found["State"]["Running"]:
            return False, state, None, "the serving container does not run any more"
        # One that hangs, or cannot write its state, would go on asking the service beside the next run.
        self.end()
        return False, state, None, "nothing was heard of the client for %g s: it was ended, or the serving container was started again" % SILENT_S

    def read(self, wanted, most):
        return self._patiently(lambda: self.engine.files(self.given["name"], self.given["results_dir"], wanted, most))

    def end(self):
        self.engine.exec_output(self.given["name"], self._command("end", {"run_id": self.given["run_id"]}))

    def done(self):
        found = self.engine.container(self.given["name"])
        if found and found["State"]["Running"]:
            self.engine.exec_output(
                self.given["name"], self._command("collected", {"results_dir": self.given["results_dir"], "run_id": self.given["run_id"]}))


def of(given, engine, **more):
    """Return the run that the options ask for."""
    return (ExecRun if given["kind"] == "exec" else ContainerRun)(given, engine, **more)
