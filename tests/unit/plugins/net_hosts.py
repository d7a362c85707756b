# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two hosts with real kernels' network and the real nft, for tests of what a table of ours does to connections.

Whoever runs the unit tests is root and has both, see tests/tools/units.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time

from ansible_collections.ascend.vllm.plugins.module_utils import drain

# A server in one namespace, clients in it and in another one, joined by a cable. It says at which port it was reached.

SERVER = r"""
import socket, sys, threading
def echo(connection, port):
    while True:
        text = connection.recv(100)
        if not text:
            return
        connection.sendall(text + b" %d" % port)
def serve(port):
    listener = socket.socket(socket.AF_INET6)
    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    listener.bind(("::", port))
    listener.listen(20)
    while True:
        threading.Thread(target=echo, args=(listener.accept()[0], port), daemon=True).start()
for port in (8000, 8001):
    threading.Thread(target=serve, args=(port,), daemon=True).start()
sys.stdin.read()
"""
CLIENT = r"""
import socket, sys
kept = {}
for line in sys.stdin:
    verb, name, address, port = line.split()
    try:
        if verb == "open":
            kept[name] = socket.create_connection((address, int(port)), 3)
        kept[name].settimeout(3)
        kept[name].sendall(b"hello")
        said = kept[name].recv(100).split()
        print(("ok" if verb == "open" else said[1].decode()) if said[:1] == [b"hello"] else "closed", flush=True)
    except OSError as error:
        print(type(error).__name__, flush=True)
"""


class Hosts:
    """Two network namespaces, 192.0.2.1 with the server and 192.0.2.2, and a process in each that connects when it is told to."""

    def __init__(self, folder):
        self.names = ["ascend-unit-%d-%d" % (os.getpid(), number) for number in (1, 2)]
        self.nft_path, self.processes, self.clients = folder / "nft", [], []
        self.nft_path.write_text('#!/bin/sh\nexec ip netns exec %s nft "$@"\n' % self.names[0])
        self.nft_path.chmod(0o755)

    def up(self):
        """Make them."""
        first, second = self.names
        for name in self.names:
            subprocess.run(["ip", "netns", "add", name], check=True)
            subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
        subprocess.run(["ip", "-n", first, "link", "add", "name", "eth0", "type", "veth", "peer", "name", "eth0", "netns", second], check=True)
        for number, name in enumerate(self.names, 1):
            subprocess.run(["ip", "-n", name, "address", "add", "192.0.2.%d/24" % number, "dev", "eth0"], check=True)
            subprocess.run(["ip", "-n", name, "address", "add", "2001:db8::%d/64" % number, "dev", "eth0", "nodad"], check=True)
            subprocess.run(["ip", "-n", name, "link", "set", "eth0", "up"], check=True)
        self.start(first, SERVER)
        self.clients = [self.start(name, CLIENT) for name in self.names]
        until = time.monotonic() + 20
        while self.open(2, "first") != "ok" or self.open(2, "first", "2001:db8::1") != "ok":
            assert time.monotonic() < until
            time.sleep(0.05)

    def start(self, name, script):
        """Start a Python script in a namespace."""
        child = subprocess.Popen(["ip", "netns", "exec", name, sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                 universal_newlines=True)
        self.processes.append(child)
        return child

    def down(self):
        """Leave nothing."""
        for child in self.processes:
            child.kill()
            child.communicate(timeout=10)
        for name in self.names:
            subprocess.run(["ip", "netns", "delete", name], check=False, stderr=subprocess.DEVNULL)

    def ask(self, number, *words):
        """Return what host C(number) says to a command."""
        client = self.clients[number - 1]
        client.stdin.write(" ".join(words) + "\n")
        client.stdin.flush()
        return client.stdout.readline().strip()

    def open(self, number, name, address="192.0.2.1", port=8000):
        """Return what becomes of a new connection from host C(number)."""
        return self.ask(number, "open", name, address, str(port))

    def port(self, number, name, address="192.0.2.1", port=8000):
        """Return the port that a new connection from host C(number) came to, or what became of it."""
        opened = self.open(number, name, address, port)
        return self.said(number, name) if opened == "ok" else opened

    def said(self, number, name):
        """Return the port that a connection which is there came to, or what became of it."""
        return self.ask(number, "say", name, "-", "-")

    def nft(self, arguments, script=None):
        """Call the real nft on host 1, by the function under test."""
        return drain.run_nft(arguments, script, nft=str(self.nft_path))

    def ruleset(self):
        """Return all rules of host 1, without the time that passes."""
        return re.sub(r"expires \S+", "", self.nft(["list", "ruleset"])[1])
