# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Real TCP connections between nodes that all run this at the same moment: each listens, and connects to all others.

The client says one line, C(TOKEN HOST PORT), and the server answers with one line, C(TOKEN HOST opened=40001 in_use=13389): who
it is, which ports it listens on, and which it could not open because something else has them, such as another run of this.
The token keeps runs apart and makes sure that no other service is taken for a node.

One thread, non-blocking sockets, a monotonic clock. What strangers send is read up to a limit and never answered. A node
that has what it wants keeps listening for those that it has not heard from: they may be late, and a listener that is gone
looks like a firewall to them.
"""

from __future__ import annotations

import errno
import hmac
import os
import selectors
import socket
import struct
import time

#: Seconds of silence after which what has accepted a connection is taken for another service.
REPLY_S = 1.0
#: Seconds that a client may take for its line.
HELLO_S = 5.0
#: Bytes of a line: host names have up to 253, a node listens on a few ports.
LINE_BYTES = 4096
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 0.5
#: Refused connections that are tried again in a second, all together: with many peers, waiting for late ones must not slow them down further.
TRIES_PER_S = 40.0
#: How often a port is tried again whose owner closes the connection without a word.
CLOSED_TRIES = 3
#: Clients at one time; the oldest gives way, so that idle strangers cannot keep a node out.
MOST_CLIENTS = 256

_NO_LINGER = struct.pack("ii", 1, 0)


def words_of(error):
    """An OSError or an error number in words."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return os.strerror(error)


def parse_reply(line, token):
    """(host, ports opened, ports in use) of a server's line, or None when it is no answer to this token."""
    words = line.decode("utf-8", "replace").split()
    if len(words) != 4 or not hmac.compare_digest(words[0].encode(), token.encode()):
        return None
    lists = []
    for word, name in zip(words[2:], ("opened=", "in_use=")):
        if not word.startswith(name):
            return None
        try:
            lists.append(set(int(port) for port in word[len(name):].split(",") if port))
        except ValueError:
            return None
    return words[1], lists[0], lists[1]


def parse_hello(line, token):
    """(host, port) of a client's line, or None when it does not know the token."""
    words = line.decode("utf-8", "replace").split()
    if len(words) != 3 or not hmac.compare_digest(words[0].encode(), token.encode()):
        return None
    try:
        return words[1], int(words[2])
    except ValueError:
        return None


class Target:
    """One port of one peer that this node wants to reach.

    status: None until something is known, else as in the module's result. settled: nothing more has to be waited for.
    pause, next_try: seconds between two tries, and when the next one is due (None while a connection is there).
    """

    def __init__(self, host, address, port):
        self.host = host
        self.address = address
        self.port = port
        self.status = None
        self.settled = False
        self.connected = False
        self.ms = None
        self.text = ""
        self.sock = None
        self.began = 0.0
        self.asked = None
        self.data = b""
        self.pause = FIRST_PAUSE_S
        self.next_try = 0.0
        self.closed_early = 0
        self.denied = None
        self.in_use = False

    def describe(self, timeout):
        """The entry of the result, at the end."""
        status, text = self.status, self.text
        if not self.settled and self.asked is not None:
            status, text = "other_service", "accepted the connection and said nothing"
        elif not self.settled and self.denied is not None:
            status, text = self.no_listener()
        elif not self.settled and self.sock is not None:
            status, text = "timeout", "no answer to the connection within %g s" % timeout
        return {"host": self.host, "address": self.address, "port": self.port, "status": status or "timeout",
                "connected": self.connected, "ms": self.ms, "text": text}

    def no_listener(self):
        """(status, text) of what the peer has said of this port."""
        if self.in_use:
            return "in_use", "something else had this port of %s" % self.host
        return "not_opened", "%s does not listen on this port" % self.host


class Client:
    """One connection that came in on a listener of this node."""

    def __init__(self, sock, port, until):
        self.sock = sock
        self.port = port
        self.until = until
        self.data = b""
        self.reply = b""
        self.host = None


class Mesh:
    """One node's part. run() does everything and returns {opened, reached, heard, seconds}; nothing stays open after it."""

    def __init__(self, host, local_ip, token, listen, peers, timeout):
        """listen: [{port, name}]; peers: [{host, address, ports}], in which this node itself is left out; timeout: seconds."""
        self.host = host
        self.local_ip = local_ip
        self.token = token
        self.listen = listen
        self.timeout = timeout
        peers = [peer for peer in peers if peer["host"] != host]
        self.names = set(peer["host"] for peer in peers)
        self.targets = [Target(peer["host"], peer["address"], port) for peer in peers for port in peer["ports"]]
        self.opened = []
        self.in_use = []
        self.heard = set()
        self.listeners = []
        self.clients = []
        self.selector = None

    def run(self):
        """Listen and connect until all is known or the timeout has passed."""
        began = time.monotonic()
        deadline = began + self.timeout
        self.selector = selectors.DefaultSelector()
        try:
            for entry in self.listen:
                self.opened.append({"port": entry["port"], "name": entry.get("name"), "opened": False, "error": self._open(entry["port"])})
                self.opened[-1]["opened"] = self.opened[-1]["error"] is None
            while True:
                now = time.monotonic()
                self._turn(now)
                if self.finished() or now >= deadline:
                    break
                for key, events in self.selector.select(max(0.0, min(self._next_event(), deadline) - time.monotonic())):
                    key.data(events)
            reached = [target.describe(self.timeout) for target in self.targets]
        finally:
            self._close_all()
        heard = [{"host": name, "port": port} for name, port in sorted(self.heard)]
        return {"opened": self.opened, "reached": reached, "heard": heard, "seconds": round(time.monotonic() - began, 3)}

    def ports(self):
        """The ports that this node listens on."""
        return [entry["port"] for entry in self.opened if entry["opened"]]

    def finished(self):
        """Whether every port wanted is settled and every peer was heard on every port opened."""
        return all(target.settled for target in self.targets) and all((name, port) in self.heard for name in self.names for port in self.ports())

    def _turn(self, now):
        """What is due by the clock: tries, silences, and clients that take too long."""
        for target in self.targets:
            if target.sock is None and target.next_try is not None and now >= target.next_try and target.denied is None:
                self._connect(target, now)
            if target.settled:
                continue
            if target.asked is not None and now - target.asked >= REPLY_S:
                # The connection stays: a node under load may yet answer while the others are waited for.
                self._settle(target, "other_service", "accepted the connection and said nothing for %g s" % REPLY_S)
            elif target.denied is not None and target.asked is None and (target.sock is None or now - target.denied >= REPLY_S):
                self._drop(target)
                self._settle(target, *target.no_listener())
        for client in [client for client in self.clients if now >= client.until]:
            self._close_client(client)

    def _next_event(self):
        """When _turn has something to do next, on the monotonic clock."""
        times = [client.until for client in self.clients]
        for target in self.targets:
            if target.sock is None and target.next_try is not None and target.denied is None:
                times.append(target.next_try)
            if not target.settled:
                times.extend(at + REPLY_S for at in (target.asked, target.denied) if at is not None)
        return min(times) if times else float("inf")

    # The side that listens.

    def _open(self, port):
        """Listen on a port of local_ip: None, or why not."""
        sock = None
        try:
            sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((self.local_ip, port))
            sock.listen(128)
            sock.setblocking(False)
        except OSError as error:
            if sock is not None:
                sock.close()
            if error.errno == errno.EADDRINUSE:
                self.in_use.append(port)
            return words_of(error)
        self.listeners.append(sock)
        self.selector.register(sock, selectors.EVENT_READ, lambda dummy: self._accept(sock, port))
        return None

    def _accept(self, listener, port):
        try:
            sock = listener.accept()[0]
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                # No file descriptor is left: a client has to give way, or else the loop must not run hot.
                if self.clients:
                    self._close_client(self.clients[0])
                else:
                    time.sleep(0.05)
            return
        if len(self.clients) >= MOST_CLIENTS:
            self._close_client(self.clients[0])
        sock.setblocking(False)
        client = Client(sock, port, time.monotonic() + HELLO_S)
        self.clients.append(client)
        self.selector.register(sock, selectors.EVENT_READ, lambda dummy: self._serve(client))

    def _serve(self, client):
        """Read the client's line and answer it; close for anything else."""
        if client not in self.clients:
            # It gave way to another one a moment ago.
            return
        try:
            if not client.reply:
                chunk = client.sock.recv(LINE_BYTES - len(client.data))
                client.data += chunk
                line, end, dummy = client.data.partition(b"\n")
                if chunk and not end and len(client.data) < LINE_BYTES:
                    return
                hello = parse_hello(line, self.token) if end else None
                if hello is None or hello[1] != client.port:
                    self._close_client(client)
                    return
                client.host = hello[0]
                opened, in_use = (",".join(str(port) for port in ports) for ports in (self.ports(), self.in_use))
                client.reply = ("%s %s opened=%s in_use=%s\n" % (self.token, self.host, opened, in_use)).encode()
                self.selector.modify(client.sock, selectors.EVENT_WRITE, lambda dummy: self._serve(client))
            client.reply = client.reply[client.sock.send(client.reply):]
        except BlockingIOError:
            return
        except OSError:
            self._close_client(client)
            return
        if not client.reply:
            if client.host in self.names:
                self.heard.add((client.host, client.port))
            self._close_client(client)

    def _close_client(self, client):
        self.clients.remove(client)
        self.selector.unregister(client.sock)
        client.sock.close()

    # The side that connects.

    def _connect(self, target, now):
        target.began, target.data, target.next_try = now, b"", None
        sock = None
        try:
            sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            sock.setblocking(False)
            # Over the service network, also where another network leads to the same peer.
            sock.bind((self.local_ip, 0))
        except OSError as error:
            if sock is not None:
                sock.close()
            self._settle(target, "unreachable", "%s cannot be used on this node: %s" % (self.local_ip, words_of(error)))
            return
        target.sock = sock
        code = sock.connect_ex((target.address, target.port))
        self.selector.register(target.sock, selectors.EVENT_WRITE, lambda dummy: self._answered(target))
        if code not in (0, errno.EINPROGRESS):
            self._failed(target, code)

    def _answered(self, target):
        """The peer accepted or refused the connection."""
        code = target.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self._failed(target, code)
            return
        now = time.monotonic()
        target.connected, target.ms, target.asked = True, round((now - target.began) * 1000, 3), now
        self.selector.modify(target.sock, selectors.EVENT_READ, lambda dummy: self._reply(target))
        try:
            target.sock.send(("%s %s %d\n" % (self.token, self.host, target.port)).encode())
        except OSError as error:
            self._closed(target, words_of(error))

    def _reply(self, target):
        """Read what the other side says."""
        try:
            chunk = target.sock.recv(LINE_BYTES - len(target.data))
        except BlockingIOError:
            return
        except OSError as error:
            self._closed(target, words_of(error))
            return
        target.data += chunk
        line, end, dummy = target.data.partition(b"\n")
        start = ("%s " % self.token).encode()
        if not chunk and not target.data:
            self._closed(target, "end of the connection")
            return
        if chunk and not end and len(target.data) < LINE_BYTES and target.data[:len(start)] == start[:len(target.data)]:
            return
        reply = parse_reply(line, self.token) if end else None
        if reply is None or reply[0] != target.host:
            self._drop(target)
            self._settle(target, "other_service", "another node answers there: %s" % reply[0] if reply else "another service answers there")
            return
        # A reset leaves no connection waiting on the port, which a server may want a moment later.
        target.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self._drop(target)
        self._settle(target, "reached", "")
        now = time.monotonic()
        for other in self.targets:
            if other.host == target.host and other.port not in reply[1] and other.denied is None:
                other.denied, other.in_use = now, other.port in reply[2]

    def _closed(self, target, why):
        """Something accepted the connection and ended it without a word: a node that has just ended, or another service."""
        self._drop(target)
        target.closed_early += 1
        self._settle(target, "other_service", "closed the connection without an answer (%s)" % why)
        if target.closed_early < CLOSED_TRIES:
            self._retry(target)

    def _failed(self, target, code):
        """The connection did not come about."""
        self._drop(target)
        if target.status != "other_service":
            target.status = "refused" if code == errno.ECONNREFUSED else "timeout" if code == errno.ETIMEDOUT else "unreachable"
            target.text = words_of(code)
        self._retry(target)

    def _retry(self, target):
        target.next_try = time.monotonic() + max(target.pause, len(self.targets) / TRIES_PER_S)
        target.pause = min(target.pause * 1.5, LONGEST_PAUSE_S)

    def _drop(self, target):
        """Close the target's connection, if there is one."""
        if target.sock is not None:
            self.selector.unregister(target.sock)
            target.sock.close()
        target.sock, target.asked = None, None

    @staticmethod
    def _settle(target, status, text):
        target.status, target.text, target.settled = status, text, True

    def _close_all(self):
        socks = self.listeners + [client.sock for client in self.clients] + [target.sock for target in self.targets if target.sock is not None]
        for sock in socks:
            sock.close()
        self.selector.close()
