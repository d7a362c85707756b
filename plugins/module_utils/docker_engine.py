# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Questions to the Docker engine of this node over its socket, with the standard library only.

community.docker does everything that changes something; this is for modules that ask many things in one round
trip or look again every second, where starting one Ansible task per question would cost more than the question.
"""

from __future__ import annotations

import http.client
import json
import socket
from urllib.parse import quote

DEFAULT_SOCKET = "/var/run/docker.sock"


class _UnixConnection(http.client.HTTPConnection):
    """An HTTP connection over a Unix socket."""

    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class DockerEngine:
    """The engine behind one socket. Every method raises C(OSError) when the engine does not answer in C(timeout) seconds."""

    def __init__(self, path=DEFAULT_SOCKET, timeout=10.0):
        self.path = path
        self.timeout = timeout

    def get(self, path):
        """Return (HTTP status, body bytes) of C(GET path)."""
        connection = _UnixConnection(self.path, self.timeout)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except http.client.HTTPException as error:
            raise OSError("the Docker engine gave no valid answer: %s" % error) from error
        finally:
            connection.close()

    def _object(self, path):
        """Return the decoded object at C(path), or None when there is none (404)."""
        status, body = self.get(path)
        if status == 404:
            return None
        if status != 200:
            raise OSError("the Docker engine answered %d to %s: %s" % (status, path, body[:200].decode("utf-8", "replace")))
        return json.loads(body.decode("utf-8", "replace"))

    def info(self):
        """Return what C(docker info) knows."""
        return self._object("/info")

    def container(self, name):
        """Return the inspected container, or None."""
        return self._object("/containers/%s/json" % quote(name, safe=""))

    def image(self, reference):
        """Return the inspected image, or None."""
        return self._object("/images/%s/json" % quote(reference, safe="/:@"))

    def logs(self, name, tail):
        """Return the last C(tail) lines of a container's output, both streams in their order."""
        status, body = self.get("/containers/%s/logs?stdout=1&stderr=1&tail=%d" % (quote(name, safe=""), tail))
        if status != 200:
            return []
        return demultiplex(body).decode("utf-8", "replace").splitlines()


def demultiplex(body):
    """Return the text of Docker's stream format: 8 byte headers (stream, 0, 0, 0, length), then that many bytes.

    A container with a terminal sends plain text; what does not look like a header is taken as it is.
    """
    parts, rest = [], body
    while len(rest) >= 8 and rest[0] in (0, 1, 2) and rest[1:4] == b"\x00\x00\x00":
        size = int.from_bytes(rest[4:8], "big")
        parts.append(rest[8:8 + size])
        rest = rest[8 + size:]
    return b"".join(parts) + rest
