# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real servers in threads for the tests of module code: HTTP and HTTPS on loopback, a Docker engine on a unix socket.

Python 3.8 and the standard library only, as the code under test.
"""

from __future__ import annotations

import contextlib
import http.server
import itertools
import json
import os
import socket
import socketserver
import ssl
import tempfile
import threading
from urllib.parse import parse_qs, unquote, urlsplit

#: A certificate for localhost that no authority has signed, and its key, which opens nothing.
CERTIFICATE = """\
-----BEGIN CERTIFICATE-----
MIIBmjCCAUGgAwIBAgIUEucqB4CeVabMr2JtcFxrnlKzmvQwCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyMzIwNTYyOFoYDzIxMjYxMDMw
MjA1NjI4WjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAASMdoQZSSq7WnuZ6S/+R1ekc8m036pNrfwd1fYErzEOM8yNTrzoNMxO
w4nNCB5zUoKzxOZ65nv3Ha8LE1G3Eusco28wbTAdBgNVHQ4EFgQUG14+zF+Q1pdA
YHOsvXvrd7NNO+YwHwYDVR0jBBgwFoAUG14+zF+Q1pdAYHOsvXvrd7NNO+YwDwYD
VR0TAQH/BAUwAwEB/zAaBgNVHREEEzARgglsb2NhbGhvc3SHBH8AAAEwCgYIKoZI
zj0EAwIDRwAwRAIgSxzIF9FLWuFQpBnDlSDHHHbCQorOdgmNP1zZY7Qyv9cCIFqh
tpi897OL91rFMLbvvfJoliL0v+YZLmCJbSi01nUr
-----END CERTIFICATE-----
-----BEGIN EC PRIVATE KEY-----
MHcCAQEEIMye8PxQ25cu247Kd+u9QbHYM9W+4rFNzpuu5HvHjYRHoAoGCCqGSM49
AwEHoUQDQgAEjHaEGUkqu1p7mekv/kdXpHPJtN+qTa38HdX2BK8xDjPMjU686DTM
TsOJzQgec1KCs8TmeuZ79x2vCxNRtxLrHA==
-----END EC PRIVATE KEY-----
"""

#: The sockets of closed_port.
_BOUND: list = []
#: Ports that free_port takes one after the other: of pytest-xdist's worker (gw0, gw1, ...), from another one in each process.
_PORTS_OF_A_WORKER = 600
_FIRST_PORT = 10000 + _PORTS_OF_A_WORKER * (int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % 16)
_PORTS = itertools.cycle(_FIRST_PORT + (os.getpid() + place) % _PORTS_OF_A_WORKER for place in range(_PORTS_OF_A_WORKER))
PROXY_VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


class Asked:
    """One request: method, path, query (each name's first value), headers, body."""

    def __init__(self, method, target, headers, body):
        parts = urlsplit(target)
        self.method = method
        self.target = target
        self.path = unquote(parts.path)
        self.query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        self.headers = headers
        self.body = body

    def json(self):
        """Return the decoded body."""
        return json.loads(self.body.decode())


class _Handler(http.server.BaseHTTPRequestHandler):
    """Records each request and answers what the server's C(answer) says."""

    def _serve(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        asked = Asked(self.command, self.path, self.headers, body)
        self.server.asked.append(asked)
        answer = self.server.answer(asked)
        if answer is None:
            # Silence until the test ends.
            self.server.over.wait(30)
            return
        if callable(answer):
            # It writes as it likes, when it likes.
            answer(self)
            return
        if isinstance(answer, bytes):
            # Not HTTP at all.
            self.wfile.write(answer)
            return
        status, content = answer[0], answer[1] if len(answer) > 1 else b""
        content = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in (answer[2] if len(answer) > 2 else {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_HEAD = do_POST = do_CONNECT = _serve

    def log_message(self, *args):
        """Say nothing."""


class _Quiet:
    """A server whose clients may hang up when they like."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 32

    def handle_error(self, request, client_address):
        """Say nothing: a client that timed out is what some tests are about."""


class _Tcp(_Quiet, socketserver.ThreadingTCPServer):
    pass


class _Unix(_Quiet, socketserver.ThreadingUnixStreamServer):
    pass


@contextlib.contextmanager
def _running(server, answer):
    server.answer, server.asked, server.over = answer, [], threading.Event()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.over.set()
        server.shutdown()
        server.server_close()
        thread.join(10)


@contextlib.contextmanager
def web_server(answer, tls=False):
    """Serve on loopback while the block runs; yields the server with C(port), C(url) and C(asked), the requests so far.

    C(answer) is a function Asked -> (status[, body or value that becomes JSON[, headers]]), bytes to send as they are, a function
    (handler, with C(wfile) and C(server.over)) that sends them, or None for silence. C(tls): whether to serve HTTPS, or with which certificate and key, as PEM.
    """
    server = _Tcp(("127.0.0.1", 0), _Handler)
    server.port = server.server_address[1]
    server.url = "%s://127.0.0.1:%d" % ("https" if tls else "http", server.port)
    if tls:
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as stream:
            stream.write(CERTIFICATE if tls is True else tls)
            stream.flush()
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(stream.name)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    with _running(server, answer):
        yield server


@contextlib.contextmanager
def unix_server(path, answer):
    """The same on a unix socket, which stays behind without a listener."""
    if os.path.exists(str(path)):
        os.remove(str(path))
    with _running(_Unix(str(path), _Handler), answer) as server:
        yield server


def free_port():
    """Return a port of loopback for a server that is started right away. Where nobody is to listen, take closed_port.

    From below those that the kernel gives to clients and to servers that ask for any port, and each worker of the tests has a part of its own:
    between this look and the server's start nobody else gets it.
    """
    for dummy in range(_PORTS_OF_A_WORKER):
        port = next(_PORTS)
        with contextlib.closing(socket.socket()) as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no free port below %d" % (port + 1))


def short_folder():
    """Return a context with a folder that has a short path, as str. Where TMPDIR leads matters to ansible-playbook: from ansible-core 2.21 on
    it has a socket in it, whose path may have 107 bytes, and pytest's own folders are too deep for that."""
    return tempfile.TemporaryDirectory(prefix="a.", dir="/tmp")


def closed_port():
    """Return a port of loopback that refuses connections until the tests end: it is bound, so that no server beside gets it, and nobody listens."""
    _BOUND.append(socket.socket())
    _BOUND[-1].bind(("127.0.0.1", 0))
    return _BOUND[-1].getsockname()[1]


def multiplexed(*frames):
    """Return Docker's log stream of C((stream, bytes)) frames, 1 being stdout and 2 stderr."""
    return b"".join(bytes([stream, 0, 0, 0]) + len(text).to_bytes(4, "big") + text for stream, text in frames)


def inspected(running=True, **state):
    """Return what the engine says of a container; C(state) overrides its State."""
    values = {"Running": running, "ExitCode": 0, "Error": "", "OOMKilled": False, "Pid": os.getpid() if running else 0}
    values.update(state)
    return {"Id": "c0ffee", "State": values, "Config": {"Labels": {"ascend.vllm.group": "vllm"}}}


class FakeEngine:
    """What a Docker engine answers: C(info), C(containers) and C(images) by name, C(logs) by name.

    A value that is a function is called for each question, so that a container can exit while it is watched.
    A question to stop one is answered by C(stop), a function (name, seconds) -> status, body.
    """

    def __init__(self, info=None, containers=None, images=None, logs=None, stop=None):
        self.stop = stop
        self.info = info if info is not None else {}
        self.containers, self.images, self.logs = containers or {}, images or {}, logs or {}

    def __call__(self, asked):
        """Answer one request."""
        if asked.path == "/info":
            return 200, self.info
        if asked.path == "/containers/json":
            return 200, [{"Id": name, "Names": ["/" + name]} for name in self.containers]
        kind, dummy, rest = asked.path.lstrip("/").partition("/")
        name, dummy, what = rest.rpartition("/")
        if (asked.method, kind, what) == ("POST", "containers", "stop") and self.stop:
            return self.stop(name, int(asked.query["t"]))
        known = {("containers", "json"): self.containers, ("images", "json"): self.images, ("containers", "logs"): self.logs}.get((kind, what), {})
        if name not in known:
            return 404, {"message": "No such object: %s" % name}
        value = known[name]() if callable(known[name]) else known[name]
        return 200, value


def quiet_proxies(monkeypatch, url=None):
    """Set every proxy variable of the environment to C(url), or remove them."""
    for name in PROXY_VARIABLES:
        for variable in (name, name.upper()):
            monkeypatch.delenv(variable, raising=False)
            if url and name != "no_proxy":
                monkeypatch.setenv(variable, url)
