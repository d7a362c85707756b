# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in of a Docker engine whose containers and commands are real processes of this machine, on a real unix socket.

It has the part of the API that clients are run with. There is no isolation: a mount is honoured by putting its source where the command names
its destination.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import tarfile

from . import servers


class _Handler(servers._Handler):
    """Takes bodies in chunks, too, and DELETE."""

    def _serve(self):
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while True:
                size = int(self.rfile.readline(), 16)
                parts.append(self.rfile.read(size))
                self.rfile.readline()
                if not size:
                    break
            body = b"".join(parts)
            self.rfile = io.BytesIO(body)
            del self.headers["Transfer-Encoding"]
            self.headers["Content-Length"] = str(len(body))
        super()._serve()

    do_GET = do_POST = do_DELETE = _serve


@contextlib.contextmanager
def serving(path, answer):
    """Serve on a unix socket while the block runs, see C(servers.unix_server)."""
    if os.path.exists(str(path)):
        os.remove(str(path))
    with servers._running(servers._Unix(str(path), _Handler), answer) as server:
        yield server


class Processes:
    """Answers as an engine does. C(images): name -> inspected; C(containers): name -> inspected, those that were there before."""

    def __init__(self, images=None, containers=None):
        self.images, self.containers = images or {}, containers or {}
        self.started, self.execs, self.refuse_create = [], {}, None
        #: Functions (archive) -> archive, each of which alters one answer: what the engine packs while a file is replaced.
        self.tears = []

    def _spawn(self, command, env, binds, **more):
        words = []
        for word in command:
            for source, destination in binds:
                if source != destination:
                    word = word.replace(destination, source)
            words.append(word)
        process = subprocess.Popen(words, env=dict(os.environ, **dict(item.split("=", 1) for item in env)), **more)
        self.started.append(process)
        return process

    def end(self):
        """End all that was started and still runs."""
        for process in self.started:
            if process.poll() is None:
                process.terminate()
            process.wait(20)

    def _container(self, name):
        found = self.containers.get(name)
        process = found.get("process") if found else None
        if process is not None:
            code = process.poll()
            found["State"] = dict(found["State"], Running=code is None, ExitCode=0 if code is None else code if code >= 0 else 128 - code)
        return found

    def _archive(self, path):
        if not os.path.exists(path):
            return 404, {"message": "Could not find the file %s" % path}
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT) as archive:
            self._pack(archive, path, os.path.basename(path))
        return 200, self.tears.pop(0)(stream.getvalue()) if self.tears else stream.getvalue()

    def _pack(self, archive, path, name):
        """Put what a path has into an archive, each file as it is at one moment; what is gone meanwhile is left out."""
        with contextlib.suppress(FileNotFoundError):
            if os.path.isfile(path) and not os.path.islink(path):
                with open(path, "rb") as file:
                    archive.addfile(archive.gettarinfo(arcname=name, fileobj=file), file)
                return
            archive.addfile(archive.gettarinfo(path, name))
            if os.path.isdir(path) and not os.path.islink(path):
                for entry in sorted(os.listdir(path)):
                    self._pack(archive, os.path.join(path, entry), name + "/" + entry)

    def __call__(self, asked):
        """Answer one request."""
        parts = asked.path.strip("/").split("/")
        if parts[0] == "images" and asked.method == "GET":
            found = self.images.get("/".join(parts[1:-1]))
            return (200, found) if found else (404, {"message": "No such image"})
        if parts[0] == "exec":
            return self._exec(parts, asked)
        if parts[:2] == ["containers", "create"]:
            return self._create(asked.query["name"], asked.json())
        name = parts[1]
        found = self._container(name)
        if found is None:
            return 404, {"message": "No such container: %s" % name}
        if asked.method == "DELETE":
            if found["State"]["Running"]:
                return 409, {"message": "You cannot remove a running container"}
            del self.containers[name]
            return (204,)
        if parts[2] == "json":
            return 200, {key: value for key, value in found.items() if key != "process"}
        if parts[2] == "archive":
            return self._archive(asked.query["path"])
        if parts[2] == "logs":
            return 200, b""
        if parts[2] == "start":
            config = found["Config"]
            binds = [bind.split(":")[:2] for bind in config["HostConfig"]["Binds"]]
            found["process"] = self._spawn(config["Entrypoint"] + config["Cmd"], config["Env"], binds)
            return (204,)
        if parts[2] == "stop":
            found["process"].terminate()
            found["process"].wait(20)
            return (204,)
        if parts[2] == "exec":
            if not found["State"]["Running"]:
                return 409, {"message": "Container %s is not running" % name}
            number = "e%d" % len(self.execs)
            self.execs[number] = {"config": asked.json(), "binds": [(mount["Source"], mount["Destination"]) for mount in found.get("Mounts") or []]}
            return 201, {"Id": number}
        return 404, {"message": "page not found"}

    def _create(self, name, config):
        if self.refuse_create:
            return self.refuse_create
        if name in self.containers:
            return 409, {"message": "Conflict. The container name is already in use"}
        self.containers[name] = {"Id": name, "Config": config, "State": {"Running": False, "ExitCode": 0, "Error": ""}}
        return 201, {"Id": name}

    def _exec(self, parts, asked):
        known = self.execs[parts[1]]
        if parts[2] == "json":
            process = known.get("process")
            code = process.poll() if process else None
            return 200, {"Running": process is not None and code is None, "ExitCode": code}
        config = known["config"]
        if json.loads(asked.body)["Detach"]:
            known["process"] = self._spawn(config["Cmd"], config.get("Env") or [], known["binds"])
            return (200,)
        known["process"] = self._spawn(config["Cmd"], config.get("Env") or [], known["binds"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        said = known["process"].communicate(timeout=30)[0]
        return 200, servers.multiplexed((1, said))
