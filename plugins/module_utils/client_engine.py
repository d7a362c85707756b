# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What it takes of the Docker engine to build the image of a client, to run a client, and to read back what it wrote."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import tarfile
from urllib.parse import quote, urlencode

from ansible_collections.ascend.vllm.plugins.module_utils import docker_engine

#: Bytes of a file that are in memory at once.
_PIECE = 1 << 20


class Refused(OSError):
    """The engine answered that it will not. C(status): of its answer; C(words): what it said."""

    def __init__(self, status, words):
        super().__init__("the engine answered %d: %s" % (status, words))
        self.status, self.words = status, words


class Torn(OSError):
    """What the engine packed is no whole archive: a file changed under its hands, or the engine itself went away."""


def words_of(body):
    """Return what the engine says in the body of an answer that is no success."""
    text = body.decode("utf-8", "replace").strip()
    try:
        return str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        return text[:500]


def context(folder, more=None):
    """Yield the bytes of a tar archive of the files of a folder; C(more): name in it -> another folder whose files come below that name.

    Links are followed: a folder of wheels may consist of them. Nothing is copied on the disk. Times and owners are left out, so that the
    same files are the same to the engine.
    """
    for prefix, root in [("", folder)] + sorted((more or {}).items()):
        for name in sorted(os.listdir(root)):
            path = os.path.join(root, name)
            if not os.path.isfile(path):
                continue
            info = tarfile.TarInfo(os.path.join(prefix, name))
            with open(path, "rb") as stream:
                info.size, info.mode = os.fstat(stream.fileno()).st_size, 0o644
                yield info.tobuf(tarfile.GNU_FORMAT)
                left = info.size
                while left:
                    data = stream.read(min(left, _PIECE))
                    if not data:
                        raise OSError("%s became shorter while it was read" % path)
                    left -= len(data)
                    yield data
            yield b"\0" * (-info.size % tarfile.BLOCKSIZE)
    yield b"\0" * (2 * tarfile.BLOCKSIZE)


class ClientEngine(docker_engine.DockerEngine):
    """The engine behind one socket. Every method raises C(OSError): C(Refused) where the engine answered, else as DockerEngine does."""

    @contextlib.contextmanager
    def _answer(self, method, path, body=None, headers=None, timeout=-1):
        """Yield the answer, from which the body can be read piece by piece. C(timeout) in seconds, None for none."""
        timeout = self.timeout if timeout == -1 else timeout
        connection = docker_engine._UnixConnection(self.path, timeout)  # pylint: disable=protected-access
        try:
            try:
                connection.request(method, path, body=body, headers=headers or {}, encode_chunked="Transfer-Encoding" in (headers or {}))
            except BrokenPipeError:
                # It refuses before it has read everything; its answer says why.
                pass
            yield connection.getresponse()
        except http.client.HTTPException as error:
            raise OSError("%s gave no valid HTTP answer: %s" % (self.path, str(error) or type(error).__name__)) from error
        except socket.timeout as error:
            raise OSError("%s: no answer within %g s" % (self.path, timeout)) from error
        except OSError as error:
            # Its own words name what failed already.
            if error.strerror is None:
                raise
            raise OSError("%s: %s" % (self.path, error.strerror)) from error
        finally:
            connection.close()

    def _send(self, method, path, value=None, timeout=-1):
        """Return (status, body bytes) of a request with a value that becomes JSON; raises C(Refused) for what is no success."""
        body, headers = None, {}
        if value is not None:
            body, headers = json.dumps(value).encode("utf-8"), {"Content-Type": "application/json"}
        with self._answer(method, path, body, headers, timeout) as answer:
            status, found = answer.status, answer.read()
        if status >= 400:
            raise Refused(status, words_of(found))
        return status, found

    def create(self, name, config):
        """Create a container; C(config) as the engine's API has it."""
        self._send("POST", "/containers/create?" + urlencode({"name": name}), config, self.timeout + 60)

    def remove(self, name):
        """Remove a container that does not run; there need not be one."""
        try:
            self._send("DELETE", "/containers/%s?v=1" % quote(name, safe=""), timeout=self.timeout + 60)
        except Refused as error:
            if error.status != 404:
                raise

    def exec_begin(self, name, config):
        """Begin a command in a running container that nobody waits for; returns its id. C(config) as the API has it."""
        found = json.loads(self._send("POST", "/containers/%s/exec" % quote(name, safe=""), config)[1].decode("utf-8"))["Id"]
        self._send("POST", "/exec/%s/start" % found, {"Detach": True, "Tty": False})
        return found

    def exec_state(self, exec_id):
        """Return what the engine knows of such a command, C(Running) and C(ExitCode) among it, or None."""
        return self._object("/exec/%s/json" % quote(exec_id, safe=""))

    def exec_output(self, name, config, timeout=60.0):
        """Run a command in a running container; returns (exit status, both streams as one text)."""
        config = dict(config, AttachStdout=True, AttachStderr=True)
        found = json.loads(self._send("POST", "/containers/%s/exec" % quote(name, safe=""), config)[1].decode("utf-8"))["Id"]
        said = self._send("POST", "/exec/%s/start" % found, {"Detach": False, "Tty": False}, timeout)[1]
        return (self.exec_state(found) or {}).get("ExitCode"), docker_engine.demultiplex(said).decode("utf-8", "replace")

    def files(self, name, path, wanted, most):
        """Return C({relative path: bytes}) of files below a path in a container, running or not; none where there is no such path.

        C(wanted): function (relative path, size in bytes) -> whether to read it, "" being the path itself when it is a file. Nothing more
        is read once C(most) bytes have been.
        """
        found, count = {}, 0
        with self._answer("GET", "/containers/%s/archive?%s" % (quote(name, safe=""), urlencode({"path": path}))) as answer:
            if answer.status == 404:
                return {}
            if answer.status != 200:
                raise Refused(answer.status, words_of(answer.read(2000)))
            try:
                with tarfile.open(fileobj=answer, mode="r|") as archive:
                    for member in archive:
                        # The names begin with the last part of the path.
                        relative = member.name.strip("/").partition("/")[2]
                        if member.isreg() and wanted(relative, member.size) and count + member.size <= most:
                            found[relative] = archive.extractfile(member).read()
                            count += member.size
            except tarfile.TarError as error:
                raise Torn("%s gave no valid archive of %s: %s" % (self.path, path, error)) from error
        return found

    def build(self, tag, folder, more=None, args=None, labels=None, network="host"):
        """Build an image and yield what the engine says meanwhile, one decoded object each (C(stream), C(error)).

        C(folder) holds C(Dockerfile); C(more) as for context(). The build ends when the generator is closed. This is the engine's own
        builder, which needs no client program on the node; it knows no mounts in RUN.
        """
        query = {"t": tag, "networkmode": network, "rm": "1", "forcerm": "1", "buildargs": json.dumps(args or {}), "labels": json.dumps(labels or {})}
        headers = {"Content-Type": "application/x-tar", "Transfer-Encoding": "chunked"}
        with self._answer("POST", "/build?" + urlencode(query), context(folder, more), headers, None) as answer:
            if answer.status != 200:
                yield {"error": "the engine answered %d: %s" % (answer.status, words_of(answer.read()))}
                return
            for line in answer:
                if line.strip():
                    try:
                        yield json.loads(line.decode("utf-8", "replace"))
                    except ValueError as error:
                        raise OSError("%s gave no valid answer: %s" % (self.path, line[:200])) from error

    def prune_images(self, label):
        """Remove the images without a name that have a label (C(name=value)), and the steps of builds that led to them only."""
        self._send("POST", "/images/prune?" + urlencode({"filters": json.dumps({"dangling": ["true"], "label": [label]})}), timeout=self.timeout + 300)
