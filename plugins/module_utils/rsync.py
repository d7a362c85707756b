# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask rsync over SSH for files of another node: how it is called, what it lists and how it ends.

The other side allows one key one thing: C(rrsync -ro DIRECTORY), so every path here is relative to that directory.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import subprocess
import tempfile

from ansible_collections.ascend.vllm.plugins.module_utils import background

#: Seconds until a node that is gone is taken for gone: to connect, and without a byte.
CONNECT_S, SILENT_S = 10, 60
#: Seconds that a shared connection stays when nobody uses it: longer than the time between two looks.
PERSIST_S = 15
#: Ciphers that the processors of the nodes have instructions for; AES-GCM needs no MAC of its own.
CIPHERS = "aes128-gcm@openssh.com,aes256-gcm@openssh.com,aes128-ctr,aes256-ctr,chacha20-poly1305@openssh.com"
#: rsync(1), EXIT VALUES: some files could not be transferred (23), or vanished (24). The others of the call are there.
PARTLY = (23, 24)
_LISTED = re.compile(r"^-\S{9}\s+(\d+) \d{4}/\d\d/\d\d \d\d:\d\d:\d\d (.+)$")
_LOCAL = re.compile(r"No space left on device|Disk quota exceeded|Read-only file system")


class LocalError(Exception):
    """The files cannot be written on this node, whoever sends them."""


def shell(key_file, known_hosts_file, port=22):
    """Return the remote shell of a call (C(-e)): SSH that asks nobody, and talks only to hosts whose key is in the file."""
    return " ".join(shlex.quote(part) for part in [
        "ssh", "-F", "none", "-i", key_file, "-p", str(port), "-o", "UserKnownHostsFile=" + known_hosts_file, "-o", "StrictHostKeyChecking=yes",
        "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-o", "ConnectTimeout=%d" % CONNECT_S, "-o", "Compression=no", "-o", "Ciphers=" + CIPHERS,
        "-o", "ServerAliveInterval=10", "-o", "ServerAliveCountMax=3", "-o", "LogLevel=ERROR"])


def listed(text):
    """Return path -> size in bytes of every regular file in what C(rsync --list-only -r --no-h) says."""
    matches = [_LISTED.match(line) for line in text.splitlines()]
    return {match.group(2): int(match.group(1)) for match in matches if match}


class Upstream:
    """A node that has the files, or is about to. C(node): {name, address, port, user}."""

    def __init__(self, node, key_file, known_hosts_file, rsync="rsync"):
        self.name = node["name"]
        self._rsync = rsync
        self._host = "%s@%s" % (node["user"], node["address"])
        self._shell = shell(key_file, known_hosts_file, node["port"])
        # Short, because the path of a socket may have 108 bytes; what tells connections apart, the key among it, is in the name.
        name = hashlib.sha256((self._shell + self._host).encode("utf-8")).hexdigest()[:12]
        # A look that shares a connection with a transfer waits behind what that has sent: a second instead of 0.06 (measured at 100 Mbit/s).
        self._looks, self._files = (os.path.join(background.FOLDER, kind + name) for kind in ("look-", "mux-"))

    def command(self, options, destination=None, socket=None):
        """Return the argv of a call; C(socket): of the connection that such calls have in common, which takes no time to make.

        A connection has one processor at each end to cipher with: what is large is quicker over one of its own.
        """
        more = " -o ControlMaster=auto -o ControlPersist=%d -o ControlPath=%s" % (PERSIST_S, shlex.quote(socket)) if socket else ""
        argv = [self._rsync, "-8", "--no-motd", "--timeout=%d" % SILENT_S, "-e", self._shell + more] + options + [self._host + ":./"]
        return argv + [destination] if destination else argv

    def close(self):
        """End the shared connections that there are."""
        for socket in (self._looks, self._files):
            if os.path.exists(socket):
                subprocess.run(  # pylint: disable=ansible-bad-function
                    ["ssh", "-F", "none", "-O", "exit", "-o", "ControlPath=" + socket, self._host], stdin=subprocess.DEVNULL, capture_output=True,
                    check=False)

    def sizes(self):
        """Return C((path -> size in bytes of every regular file, problem or None))."""
        # Several run at a time and are ended when the time is up: run_command of a module can do neither.
        done = subprocess.run(  # pylint: disable=ansible-bad-function
            self.command(["--list-only", "-r", "--no-h"], socket=self._looks), stdin=subprocess.DEVNULL, capture_output=True, text=True,
            errors="surrogateescape", check=False)
        if done.returncode not in (0,) + PARTLY:
            return {}, ended(done.returncode, done.stderr)
        return listed(done.stdout), None

    def start(self, paths, destination, limit=0, shared=False):
        """Begin to fetch files below a directory; return the process. What is there of a file is kept and gone on with.

        C(limit): bytes per second, 0 for none. C(shared): over the connection of small transfers. Call finish with the process.
        """
        options = ["--append", "--files-from=-", "--from0"] + (["--bwlimit=%dK" % max(1, limit // 1024)] if limit else [])
        # A file, which never fills: nobody reads what rsync says before it has ended.
        said = tempfile.TemporaryFile()
        process = subprocess.Popen(  # pylint: disable=ansible-bad-function
            self.command(options, destination, self._files if shared else None), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=said)
        process.said = said
        try:
            process.stdin.write(b"".join(path.encode("utf-8", "surrogateescape") + b"\0" for path in paths))
            process.stdin.close()
        except OSError:
            # It ended before it read the list; its exit status says why.
            pass
        return process

    def fetch(self, paths, destination):
        """Fetch a few small files; return the problem or None. Raises LocalError."""
        return finish(self.start(paths, destination, shared=True))


def ended_within(process, seconds):
    """Return whether a process of start has ended, after so many seconds at most."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def finish(process):
    """Wait for a process of start; return the problem or None. Files that did not come are no problem: look for them. Raises LocalError."""
    code = process.wait()
    with process.said:
        process.said.seek(0)
        stderr = process.said.read().decode("utf-8", "replace")
    local = _LOCAL.search(stderr)
    if local and code:
        raise LocalError(" ".join(stderr.split())[:300])
    return None if code in (0,) + PARTLY else ended(code, stderr)


def ended(code, stderr):
    """Return why rsync ended, with its own first words."""
    said = [line.strip() for line in stderr.splitlines() if line.strip() and not line.startswith("rsync error:")]
    return "rsync ended with %s%s" % (code, ": " + "; ".join(said)[:300] if said else "")
