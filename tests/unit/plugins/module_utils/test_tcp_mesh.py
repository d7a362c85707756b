# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Nodes on addresses of loopback that connect to each other with real sockets, among strangers of every kind."""

from __future__ import annotations

import contextlib
import errno
import socket
import threading
import time

import pytest

from ansible_collections.ascend.vllm.plugins.module_utils import tcp_mesh

TOKEN = "0f4c1d"
ADDRESSES = {"n0": "127.0.0.2", "n1": "127.0.0.3", "n2": "127.0.0.4"}


@pytest.fixture
def ports():
    """Two ports that are free on every address of loopback."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for dummy in range(2)]
        for probe in probes:
            probe.bind(("0.0.0.0", 0))
        return [probe.getsockname()[1] for probe in probes]


def mesh(name, ports, names=("n0", "n1"), timeout=10.0, listen=None, token=TOKEN):
    """One node's part."""
    return tcp_mesh.Mesh(name, ADDRESSES[name], token, [{"port": port, "name": "p"} for port in (ports if listen is None else listen)],
                         [{"host": peer, "address": ADDRESSES[peer], "ports": ports} for peer in names], timeout)


class Running:
    """A node's part in a thread."""

    def __init__(self, part):
        self.part, self.result = part, None
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        self.result = self.part.run()

    def wait(self):
        """The result, at the end."""
        self.thread.join(30)
        assert not self.thread.is_alive(), "it did not end"
        return self.result


def statuses(result):
    return [(entry["host"], entry["port"], entry["status"], entry["connected"]) for entry in result["reached"]]


def until(condition):
    """Wait for something that another thread brings about."""
    limit = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < limit, "it did not come about"
        time.sleep(0.005)


def refuses(address, port):
    with socket.socket() as probe:
        return probe.connect_ex((address, port)) == errno.ECONNREFUSED


@contextlib.contextmanager
def service(address, port, talk):
    """Something else that listens: talk(connection) is called for each connection, each kept open until the end."""
    over = threading.Event()
    kept = []

    def serve():
        while not over.is_set():
            try:
                connection = listener.accept()[0]
            except socket.timeout:
                continue
            connection.settimeout(5)
            kept.append(connection)
            talk(connection)

    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(8)
        listener.settimeout(0.02)
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield kept
        finally:
            over.set()
            thread.join(10)
            for connection in kept:
                connection.close()


@pytest.mark.parametrize("names", [("n0", "n1"), ("n0", "n1", "n2")])
def test_all_reach_all_and_leave_nothing_behind(ports, names):
    nodes = {name: Running(mesh(name, ports, names)) for name in names}
    for name, node in nodes.items():
        result = node.wait()
        others = [other for other in names if other != name]
        assert result["opened"] == [{"port": port, "name": "p", "opened": True, "error": None} for port in ports]
        assert statuses(result) == [(other, port, "reached", True) for other in others for port in ports]
        assert result["heard"] == [{"host": other, "port": port} for other in others for port in sorted(ports)]
        assert all(entry["ms"] > 0 and entry["text"] == "" and entry["address"] == ADDRESSES[entry["host"]] for entry in result["reached"])
        assert result["seconds"] < 5
    for name in names:
        for port in ports:
            # Without SO_REUSEADDR: no listener is left, and no connection that waits for its end.
            with socket.socket() as probe:
                probe.bind((ADDRESSES[name], port))


def test_a_peer_that_starts_later_is_waited_for(ports):
    first = Running(mesh("n0", ports))
    # The first one is there, and has been refused.
    until(lambda: any(target.status == "refused" for target in first.part.targets))
    assert not first.part.finished()
    second = Running(mesh("n1", ports))
    for node in (first, second):
        assert {entry[2] for entry in statuses(node.wait())} == {"reached"}
    assert first.result["heard"] == [{"host": "n1", "port": port} for port in sorted(ports)]


def test_a_node_that_has_all_it_wants_keeps_listening_for_a_late_peer(ports):
    """The early one has settled all its ports before the late one starts, which cannot open its own."""
    early = Running(mesh("n0", ports))
    with service(ADDRESSES["n1"], ports[0], lambda c: None), service(ADDRESSES["n1"], ports[1], lambda c: None):
        # Another service has accepted and said nothing: all is settled, and nobody was heard.
        until(lambda: all(target.settled for target in early.part.targets))
        assert not early.part.finished() and not refuses(ADDRESSES["n0"], ports[0])
        late = mesh("n1", ports).run()
    assert {entry[2:] for entry in statuses(late)} == {("reached", True)}
    assert {entry["error"] for entry in late["opened"]} == {"Address already in use"}
    result = early.wait()
    assert {entry[2:] for entry in statuses(result)} == {("other_service", True)}
    assert result["heard"] == [{"host": "n1", "port": port} for port in sorted(ports)]


def test_a_peer_that_never_comes(ports):
    result = mesh("n0", ports, timeout=2).run()
    assert statuses(result) == [("n1", port, "refused", False) for port in ports]
    assert result["heard"] == [] and 2 <= result["seconds"] < 10
    assert all(entry["ms"] is None and entry["text"] == "Connection refused" for entry in result["reached"])
    assert refuses(ADDRESSES["n0"], ports[0])


def test_a_port_in_use_is_said_and_not_waited_for(ports):
    with service(ADDRESSES["n1"], ports[1], lambda connection: connection.sendall(b"SSH-2.0-x\r\n")):
        nodes = [Running(mesh(name, ports)) for name in ("n0", "n1")]
        first, second = [node.wait() for node in nodes]
    assert statuses(first) == [("n1", ports[0], "reached", True), ("n1", ports[1], "other_service", True)]
    assert first["reached"][1]["text"] == "another service answers there" and first["reached"][1]["ms"] > 0
    assert [(entry["opened"], entry["error"]) for entry in second["opened"]] == [(True, None), (False, "Address already in use")]
    # It is not heard on a port that it did not open, and does not wait for that.
    assert second["heard"] == [{"host": "n0", "port": ports[0]}] and second["seconds"] < 5


def test_a_port_that_the_peer_did_not_open_is_not_waited_for(ports):
    nodes = [Running(mesh("n0", ports)), Running(mesh("n1", ports, listen=ports[:1]))]
    first, second = [node.wait() for node in nodes]
    assert statuses(first) == [("n1", ports[0], "reached", True), ("n1", ports[1], "not_opened", False)]
    assert "n1 does not listen" in first["reached"][1]["text"] and first["seconds"] < 5
    assert {entry[2] for entry in statuses(second)} == {"reached"} and second["seconds"] < 5


def test_a_port_that_another_run_took_meanwhile_is_said_by_the_peer(ports):
    """Two preflights at once: the one that came second finds the port taken, and by the time its peer asks nobody listens."""
    with socket.socket() as other:
        other.bind((ADDRESSES["n1"], ports[1]))
        nodes = [Running(mesh(name, ports)) for name in ("n0", "n1")]
        first, second = [node.wait() for node in nodes]
    assert statuses(first) == [("n1", ports[0], "reached", True), ("n1", ports[1], "in_use", False)]
    assert first["reached"][1]["text"] == "something else had this port of n1" and first["seconds"] < 5
    assert [entry["opened"] for entry in second["opened"]] == [True, False] and {entry[2] for entry in statuses(second)} == {"reached"}


@pytest.mark.parametrize("talk, words", [
    (lambda c: None, "said nothing for 1 s"),
    (lambda c: c.close(), "closed the connection without an answer"),
    (lambda c: c.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "another service answers"),
    (lambda c: c.sendall(b"\xff\x00\x00\x00\x00\x00\x00\x00\x01\x7f"), "another service answers"),
    (lambda c: c.sendall(c.recv(4096)), "another service answers"),
    (lambda c: c.sendall(b"0f4c1d n1 opened=many in_use=\n"), "another service answers"),
    (lambda c: c.sendall(b"0f4c1d n1 opened=1\n"), "another service answers"),
    (lambda c: c.sendall(b"0f4c1d n1 opened=1 closed=2\n"), "another service answers"),
    (lambda c: c.sendall(b"wrong n1 opened=1 in_use=\n"), "another service answers"),
    (lambda c: c.sendall(b"0f4c1d n2 opened=1 in_use=\n"), "another node answers there: n2"),
    (lambda c: c.sendall(b"0f4c1d " + b"x" * 9000), "another service answers"),
])
def test_another_service_is_reachable_and_confuses_nobody(ports, talk, words):
    with service(ADDRESSES["n1"], ports[0], talk):
        result = mesh("n0", ports[:1], listen=[], timeout=5).run()
    assert statuses(result) == [("n1", ports[0], "other_service", True)]
    assert words in result["reached"][0]["text"] and result["seconds"] < 3


def test_an_answer_that_comes_after_the_second_still_counts(ports):
    """A node under load: its silence is settled, and what it says while others are waited for is taken."""
    spoke = threading.Event()

    def slow(connection):
        until(lambda: part.targets[0].settled)
        connection.sendall(("%s n1 opened=%d in_use=\n" % (TOKEN, ports[0])).encode())
        spoke.set()

    part = mesh("n0", ports, names=("n1", "n2"), timeout=5)
    part.targets = [part.targets[0], part.targets[2]]
    with service(ADDRESSES["n1"], ports[0], slow):
        result = part.run()
    assert spoke.is_set() and [entry[2] for entry in statuses(result)] == ["reached", "refused"]


def test_a_wrong_token_gets_no_answer_and_is_not_heard(ports):
    nodes = [Running(mesh("n0", ports, timeout=1.5)), Running(mesh("n1", ports, timeout=1.5, token="other"))]
    for node in nodes:
        result = node.wait()
        assert result["heard"] == [] and {entry[2:] for entry in statuses(result)} == {("other_service", True)}


def strangers(address, port):
    """Clients that are none: each returns its socket, after which the node must be as before."""
    for said in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\xff\xff", b"x" * 3000000, b"%s n1\n" % TOKEN.encode(), b"%s n1 \xc2\xb2\n" % TOKEN.encode(),
                 b"%s n1 %d\n" % (TOKEN.encode(), port + 1), b"wrong n1 %d\n" % port, b"\xff\xfe\n", b""):
        sock = socket.create_connection((address, port), 5)
        with contextlib.suppress(OSError):
            sock.sendall(said)
        yield sock


def test_strangers_do_not_disturb(ports):
    first = Running(mesh("n0", ports))
    until(lambda: len(first.part.listeners) == 2)
    socks = list(strangers(ADDRESSES["n0"], ports[0]))
    # Those that said a whole line or too much are put out without a word; the others still hold their connection.
    for sock in socks[2:8]:
        with contextlib.suppress(ConnectionResetError):
            assert sock.recv(100) == b""
    assert not first.part.heard
    assert all(len(client.data) < tcp_mesh.LINE_BYTES for client in list(first.part.clients))
    second = mesh("n1", ports).run()
    for result in (first.wait(), second):
        assert {entry[2] for entry in statuses(result)} == {"reached"} and len(result["heard"]) == 2
    for sock in socks:
        sock.close()


def test_a_client_that_says_nothing_is_put_out(ports, monkeypatch):
    monkeypatch.setattr(tcp_mesh, "HELLO_S", 0.2)
    node = Running(mesh("n0", ports, timeout=3))
    until(lambda: len(node.part.listeners) == 2)
    with socket.create_connection((ADDRESSES["n0"], ports[0]), 5) as sock:
        assert sock.recv(100) == b"" and node.thread.is_alive()
    node.wait()


def test_too_many_idle_clients_give_way(ports, monkeypatch):
    monkeypatch.setattr(tcp_mesh, "MOST_CLIENTS", 4)
    # Not by their time.
    monkeypatch.setattr(tcp_mesh, "HELLO_S", 60.0)
    first = Running(mesh("n0", ports))
    until(lambda: len(first.part.listeners) == 2)
    idle = [socket.create_connection((ADDRESSES["n0"], ports[0]), 5) for dummy in range(12)]
    assert all(sock.recv(10) == b"" for sock in idle[:8])
    assert len(first.part.clients) <= 4
    second = mesh("n1", ports).run()
    assert {entry[2] for entry in statuses(first.wait()) + statuses(second)} == {"reached"}
    for sock in idle:
        sock.close()


def test_packets_that_are_dropped_hold_up_nothing_else(ports):
    """A listener whose queue is full drops SYNs, as a firewall does."""
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(socket.socket())
        full.bind((ADDRESSES["n2"], ports[0]))
        full.listen(0)
        fillers = [stack.enter_context(socket.socket()) for dummy in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex((ADDRESSES["n2"], ports[0]))
        part = mesh("n0", ports[:1], names=("n1", "n2"), timeout=2.0)
        first, second = Running(part), Running(mesh("n1", ports[:1]))
        until(lambda: part.targets[0].settled)
        # The port was reached long before the end, and is still served.
        assert first.thread.is_alive() and not refuses(ADDRESSES["n0"], ports[0])
        results = first.wait(), second.wait()
    assert statuses(results[0]) == [("n1", ports[0], "reached", True), ("n2", ports[0], "timeout", False)]
    assert results[0]["reached"][1]["text"] == "no answer to the connection within 2 s" and results[0]["seconds"] < 10
    assert statuses(results[1]) == [("n0", ports[0], "reached", True)]


def test_an_address_that_is_not_this_nodes(ports):
    part = tcp_mesh.Mesh("n0", "198.51.100.250", TOKEN, [{"port": ports[0]}], [{"host": "n1", "address": "127.0.0.3", "ports": ports}], 10)
    result = part.run()
    assert result["opened"][0]["opened"] is False and "assign" in result["opened"][0]["error"]
    assert {entry[2] for entry in statuses(result)} == {"unreachable"} and "198.51.100.250 cannot be used" in result["reached"][0]["text"]
    assert result["seconds"] < 2


def test_no_way_to_a_peer(ports, monkeypatch):
    monkeypatch.setattr(tcp_mesh.socket.socket, "connect_ex", lambda self, address: errno.EHOSTUNREACH, raising=False)
    result = mesh("n0", ports, timeout=0.3).run()
    assert statuses(result) == [("n1", port, "unreachable", False) for port in ports]
    assert result["reached"][0]["text"] == "No route to host"


def test_this_node_among_its_own_peers_and_nobody_else(ports):
    result = mesh("n0", ports, names=("n0",)).run()
    assert (result["reached"], result["heard"]) == ([], []) and result["seconds"] < 2


def test_nothing_stays_open_when_it_breaks(ports, monkeypatch):
    part = mesh("n0", ports)
    monkeypatch.setattr(part, "_turn", lambda now: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        part.run()
    assert refuses(ADDRESSES["n0"], ports[0]) and refuses(ADDRESSES["n0"], ports[1])
