# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Questions to the Docker engine of this node over its socket, with the standard library only.

community.docker does what a playbook changes; this is for modules that ask many things in one round trip or look again every
second, where starting one Ansible task per question would cost more than the question, and for the watch, which runs without Ansible.
"""

from __future__ import annotations

import base64
import calendar
import http.client
import json
import os
import re
import socket
import time
from urllib.parse import quote

DEFAULT_SOCKET = "/var/run/docker.sock"
#: Labels of containers of this collection: the name of the group, and on what is no rank what it is for (C(client), C(weights)).
GROUP, PURPOSE = "ascend.vllm.group", "ascend.vllm.purpose"
#: Seconds that an engine may give no answer while somebody watches what runs there: it is restarted, and containers may go on meanwhile. A choice:
#: systemd gives a service 90 s to stop by default before it is killed (DefaultTimeoutStopSec), and the engine has to start again.
AWAY_S = 120.0
#: Seconds between two questions to an engine that gave no answer.
AGAIN_S = 1.0

#: Colours and cursor moves; vLLM colours what it prints before each line also where nobody sees it.
_TERMINAL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def seconds(text):
    """Return a time as the engine writes it (C(2026-01-31T23:59:59.123456789Z)) as seconds since 1970-01-01 UTC, as it takes them; None for none."""
    match = re.match(r"^(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(\.\d+)?Z$", text or "")
    # A container that never ran has the year 1.
    if not match or int(match.group(1)) < 1970:
        return None
    return "%d%s" % (calendar.timegm(tuple(int(part) for part in match.groups()[:6])), match.group(7) or "")


def patiently(ask, final=(), clock=time.monotonic, pause=time.sleep):
    """Return what C(ask()) returns; where it raises C(OSError), it is asked again until AWAY_S seconds have passed since the first time.

    C(final): kinds of C(OSError) that are an answer and are raised at once.
    """
    first = None
    while True:
        try:
            return ask()
        except final:
            raise
        except OSError:
            first = clock() if first is None else first
            if clock() - first >= AWAY_S:
                raise
            pause(AGAIN_S)


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
    """The engine behind one socket. Every method raises C(OSError), with the socket in its text, when the engine does not
    answer in C(timeout) seconds or not as a Docker engine does."""

    def __init__(self, path=DEFAULT_SOCKET, timeout=10.0):
        self.path = path
        self.timeout = timeout

    def get(self, path):
        """Return (HTTP status, body bytes) of C(GET path)."""
        return self._ask("GET", path, self.timeout)

    def _ask(self, method, path, timeout):
        """Return (HTTP status, body bytes)."""
        connection = _UnixConnection(self.path, timeout)
        try:
            connection.request(method, path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except http.client.HTTPException as error:
            raise OSError("%s gave no valid HTTP answer: %s" % (self.path, str(error) or type(error).__name__)) from error
        except socket.timeout as error:
            raise OSError("%s: no answer within %g s" % (self.path, timeout)) from error
        except OSError as error:
            raise OSError("%s: %s" % (self.path, error.strerror or error)) from error
        finally:
            connection.close()

    def _change(self, path, timeout):
        """Ask for a change; C(304) says that all is as wanted already."""
        status, body = self._ask("POST", path, timeout)
        if status not in (204, 304):
            raise OSError("%s answered %d to %s: %s" % (self.path, status, path, body[:500].decode("utf-8", "replace").strip()))

    def start(self, name):
        """Start a container that is there; one that runs is left as it is. The engine may be at it for a while: devices, mounts."""
        self._change("/containers/%s/start" % quote(name, safe=""), self.timeout + 60)

    def stop(self, name, timeout):
        """Stop a container, whose process gets C(timeout) seconds between SIGTERM and SIGKILL; one that does not run is left as it is."""
        self._change("/containers/%s/stop?t=%d" % (quote(name, safe=""), timeout), self.timeout + timeout + 30)

    def _object(self, path, kind=dict):
        """Return the decoded value of a C(kind) at C(path), or None when there is none (404)."""
        status, body = self.get(path)
        if status == 404:
            return None
        if status != 200:
            raise OSError("%s answered %d to %s: %s" % (self.path, status, path, body[:200].decode("utf-8", "replace").strip()))
        try:
            found = json.loads(body.decode("utf-8", "replace"))
        except ValueError:
            found = None
        if not isinstance(found, kind):
            raise OSError("%s answered no object to %s: %s" % (self.path, path, body[:200].decode("utf-8", "replace").strip()))
        return found

    def info(self):
        """Return what C(docker info) knows."""
        return self._object("/info")

    def container(self, name):
        """Return the inspected container, or None."""
        return self._object("/containers/%s/json" % quote(name, safe=""))

    def running(self):
        """Return the ids of all running containers."""
        listed = self._object("/containers/json", list) or []
        return [entry["Id"] for entry in listed if isinstance(entry, dict) and isinstance(entry.get("Id"), str)]

    def image(self, reference):
        """Return the inspected image, or None."""
        return self._object("/images/%s/json" % quote(reference, safe="/:@"))

    def logs(self, name, tail, since=None, early_s=0):
        """Return the last C(tail) lines of a container's output, both streams in their order, without colours.

        C(since): a time as the engine writes it, such as C(State.StartedAt): a container that was started again has the lines of its earlier
        runs in the same log. C(early_s): whole seconds before that time in which lines count, too.
        """
        path, begin = "/containers/%s/logs?stdout=1&stderr=1&tail=%d" % (quote(name, safe=""), tail), seconds(since)
        if begin:
            whole, dot, rest = begin.partition(".")
            path += "&since=%d%s%s" % (int(whole) - early_s, dot, rest)
        status, body = self.get(path)
        if status != 200:
            return []
        return _TERMINAL.sub("", demultiplex(body).decode("utf-8", "replace")).splitlines()

    def stream_logs(self, name, tail):
        """Yield C((stream, bytes)) pieces of the last C(tail) lines of a container's output, oldest first, in bounded memory.

        stream: 1 stdout, 2 stderr. Each line starts with its time, as C(2026-01-31T23:59:59.000000000Z ), also where the engine cut a
        long line in pieces (of 16 KiB): those are put together again. Yields nothing where there is no such container.
        """
        connection = _UnixConnection(self.path, self.timeout)
        try:
            connection.request("GET", "/containers/%s/logs?stdout=1&stderr=1&timestamps=1&tail=%d" % (quote(name, safe=""), tail))
            answer = connection.getresponse()
            if answer.status == 404:
                return
            if answer.status != 200:
                body = answer.read(200).decode("utf-8", "replace").strip()
                raise OSError("%s answered %d: %s" % (self.path, answer.status, body))
            yield from _frames(answer)
        except http.client.HTTPException as error:
            raise OSError("%s gave no valid HTTP answer: %s" % (self.path, str(error) or type(error).__name__)) from error
        except socket.timeout as error:
            raise OSError("%s: no answer within %g s" % (self.path, self.timeout)) from error
        except OSError as error:
            # Its own words above name the socket already.
            if error.strerror is None:
                raise
            raise OSError("%s: %s" % (self.path, error.strerror)) from error
        finally:
            connection.close()

    def pull(self, reference, registry="", login=None):
        """Pull an image and yield what the engine says meanwhile, one decoded object each (C(status), C(id), C(progressDetail), C(error)).

        C(login): C(user:password) in base64 for the C(registry), or None. Waits for the next object as long as the engine is silent;
        closing the generator ends the pull. That nothing more is said does not say that the image is there: an engine that is ended says no more.
        """
        headers = {}
        if login:
            try:
                user, dummy, password = base64.b64decode(login).decode("utf-8").partition(":")
            except ValueError as error:
                raise OSError("the login for %s is no user:password in base64 (config.json of Docker)" % registry) from error
            value = json.dumps({"username": user, "password": password, "serveraddress": registry})
            headers["X-Registry-Auth"] = base64.urlsafe_b64encode(value.encode("utf-8")).decode("ascii")
        connection = _UnixConnection(self.path, None)
        try:
            connection.request("POST", "/images/create?fromImage=" + quote(reference, safe=""), headers=headers)
            answer = connection.getresponse()
            if answer.status != 200:
                body = answer.read().decode("utf-8", "replace").strip()
                try:
                    body = json.loads(body)["message"]
                except (ValueError, KeyError, TypeError):
                    pass
                yield {"error": "the engine answered %d: %s" % (answer.status, body)}
                return
            for line in answer:
                if line.strip():
                    yield json.loads(line.decode("utf-8", "replace"))
        except (http.client.HTTPException, ValueError) as error:
            raise OSError("%s gave no valid answer: %s" % (self.path, str(error) or type(error).__name__)) from error
        except OSError as error:
            raise OSError("%s: %s" % (self.path, error.strerror or error)) from error
        finally:
            connection.close()


def _indices(text):
    """Return the numbers of C(0-3,5) or C(Ascend910-0,Ascend910-1), as the Ascend runtime takes them; other words are left out."""
    found = set()
    for word in text.split(","):
        match = re.match(r"^(?:Ascend\w*-(\d{1,3})|(\d{1,3})(?:-(\d{1,3}))?)$", word.strip())
        if match:
            first = int(match.group(1) or match.group(2))
            found.update(range(first, int(match.group(3) or first) + 1))
    return found


def npu_access(found):
    """Return C({devices, privileged}) of an inspected container that may use NPUs of the node, or None for one that cannot.

    devices: the paths C(/dev/davinci*) that it was given by name, sorted. One that is privileged, has a device cgroup rule or
    mounts all of C(/dev) may reach more than these. The Ascend runtime gives devices by C(ASCEND_VISIBLE_DEVICES).
    """
    config, host = found.get("Config") or {}, found.get("HostConfig") or {}
    given = [entry.get("PathOnHost") or "" for entry in host.get("Devices") or []]
    mounted = [entry.get("Source") or "" for entry in found.get("Mounts") or [] if entry.get("Type") == "bind"]
    devices = set(path for path in given + mounted if path.startswith("/dev/davinci"))
    if "ascend" in (host.get("Runtime") or ""):
        for line in config.get("Env") or []:
            name, dummy, value = line.partition("=")
            if name == "ASCEND_VISIBLE_DEVICES":
                devices.update("/dev/davinci%d" % number for number in _indices(value))
    privileged = bool(host.get("Privileged"))
    whole = any(path.rstrip("/") in ("", "/dev") for path in mounted + given if path)
    if not (devices or privileged or whole or host.get("DeviceCgroupRules")):
        return None
    number = re.compile(r"\d+$")
    return {"devices": sorted(devices, key=lambda path: (number.sub("", path), int((number.findall(path) or ["0"])[0]))), "privileged": privileged}


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


#: Bytes of a log that are in memory at once.
_PIECE = 1 << 16
#: The time that the engine puts before a line and before each further piece of a long one.
_TIME = re.compile(br"^\d{4}-\d\d-\d\dT\S{9,26} ")


def _frames(stream):
    """Yield C((stream number, bytes)) of Docker's stream format, see C(demultiplex), as it is read from C(stream)."""
    unended = set()
    while True:
        head = stream.read(8)
        if len(head) < 8 or head[0] not in (0, 1, 2) or head[1:4] != b"\x00\x00\x00":
            break
        left, first = int.from_bytes(head[4:], "big"), True
        while left:
            data = stream.read(min(left, _PIECE))
            if not data:
                return
            left -= len(data)
            # The further piece of a line that the same stream has begun.
            text = _TIME.sub(b"", data, count=1) if first and head[0] in unended else data
            (unended.discard if data.endswith(b"\n") else unended.add)(head[0])
            first = False
            yield head[0], text
    while head:
        yield 1, head
        head = stream.read(_PIECE)


def processes_below(pid, proc="/proc"):
    """Return the sorted ids of a process and all that descend from it: with a container's first process, all of the container."""
    children = {}
    for name in os.listdir(proc):
        if name.isdigit():
            try:
                with open(os.path.join(proc, name, "stat"), encoding="utf-8", errors="replace") as stream:
                    # The name in parentheses may hold anything; state and parent follow it.
                    parent = int(stream.read().rpartition(")")[2].split()[1])
            except (OSError, ValueError, IndexError):
                continue
            children.setdefault(parent, []).append(int(name))
    found, todo = set(), [pid]
    while todo:
        found.add(todo[-1])
        todo += [child for child in children.get(todo.pop(), []) if child not in found]
    return sorted(found)
