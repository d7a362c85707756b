# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""weights_pull between real sshd processes on loopback, each with a directory of its own: a node of the chain."""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from ansible_collections.ascend.vllm.plugins.module_utils import background, manifest, relay, rsync, weights
from ansible_collections.ascend.vllm.plugins.modules import weights_dir, weights_pull
from ansible_collections.ascend.vllm.tests.unit.plugins.model_dir import SHARDS, fill, flip
from ansible_collections.ascend.vllm.tests.unit.plugins.servers import free_port

SOURCE = {"kind": "local", "id": "/srv/model", "requirements": {"quantization": "ascend", "mtp": True}}

#: Bytes of a file that takes long enough for something to happen meanwhile when the rate is limited.
LARGE = 8 << 20


class Chain:
    """Nodes on loopback: ``dir(n)`` and ``node(n)`` of each; node 0 is the head."""

    def __init__(self, place: Path):
        self.place = place
        self.ports, self.daemons = [], []
        self.key, self.known = place / "key", place / "known_hosts"
        for name in ("key", "hostkey"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(place / name)], check=True)

    def add(self) -> int:
        """Start the sshd of one more node; return its number."""
        number, port = len(self.ports), free_port()
        here = self.place / f"n{number}"
        (here / "w").mkdir(parents=True)
        # Each node has its own, beside which its connections' sockets are.
        shutil.copy(self.key, here / "key")
        public = (self.place / "key.pub").read_text(encoding="ascii")
        (here / "authorized_keys").write_text(f'restrict,command="/usr/bin/rrsync -ro {here}/w" {public}', encoding="ascii")
        (here / "authorized_keys").chmod(0o600)
        (here / "sshd_config").write_text(
            f"Port {port}\nListenAddress 127.0.0.1\nHostKey {self.place}/hostkey\nAuthorizedKeysFile {here}/authorized_keys\nPidFile none\n"
            "StrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin prohibit-password\nMaxStartups 100\n", encoding="ascii")
        if os.getuid() == 0:
            # Where sshd leaves its rights behind; Debian makes it when the service starts.
            Path("/run/sshd").mkdir(exist_ok=True)
        daemon = subprocess.Popen(["/usr/sbin/sshd", "-D", "-e", "-f", str(here / "sshd_config")], stderr=subprocess.DEVNULL)
        self.daemons.append(daemon)
        self.ports.append(port)
        host_key = (self.place / "hostkey.pub").read_text(encoding="ascii").split()
        with self.known.open("a", encoding="ascii") as stream:
            stream.write(f"[127.0.0.1]:{port} {host_key[0]} {host_key[1]}\n")
        deadline = time.monotonic() + 10
        while subprocess.run(["ssh-keyscan", "-p", str(port), "127.0.0.1"], capture_output=True, check=False).stdout == b"":
            assert time.monotonic() < deadline and daemon.poll() is None, "sshd does not answer"
        return number

    def dir(self, number: int) -> str:
        """Return the directory of a node."""
        return str(self.place / f"n{number}" / "w")

    def stop(self, number: int):
        """A node dies, with all of its connections."""
        children = Path(f"/proc/{self.daemons[number].pid}/task/{self.daemons[number].pid}/children").read_text(encoding="ascii").split()
        self.daemons[number].kill()
        self.daemons[number].wait()
        for child in children:
            os.kill(int(child), signal.SIGKILL)

    def options(self, number: int, fingerprint: str, **more) -> dict:
        """Return the module's options for a node."""
        before = [{"name": f"n{n}", "address": "127.0.0.1", "port": self.ports[n], "user": getpass.getuser()} for n in reversed(range(number))]
        return {"weights": dict(SOURCE, dir=self.dir(number)), "fingerprint": fingerprint, "upstreams": before,
                "key_file": str(self.place / f"n{number}" / "key"), "known_hosts_file": str(self.known), "begin": True, "slice_s": 60, **more}


@pytest.fixture
def chain(tmp_path, run_module):
    """Three nodes; the head has the model, verified."""
    nodes = Chain(tmp_path)
    try:
        for dummy in range(3):
            nodes.add()
        shutil.rmtree(nodes.dir(0))
        fill(Path(nodes.dir(0)))
        (Path(nodes.dir(0)) / "notes.bin").write_bytes(os.urandom(LARGE))
        head = run_module(weights_dir, weights=dict(SOURCE, dir=nodes.dir(0)), state="verified")
        assert head["verified"], head
        nodes.fingerprint = head["fingerprint"]
        yield nodes
    finally:
        for daemon in nodes.daemons:
            daemon.kill()
            daemon.wait()


@pytest.fixture(autouse=True)
def jobs(tmp_path_factory, monkeypatch):
    """Files of copies that go on lie in a folder of the test's own."""
    folder = tmp_path_factory.mktemp("jobs")
    monkeypatch.setattr(background, "FOLDER", str(folder))
    return folder


def one_step(given: dict, **more) -> dict:
    """Do one step of what a copy does again and again, in this process."""
    work = relay.Relay(given["weights"], given["upstreams"], given["fingerprint"], given["key_file"], given["known_hosts_file"], more.pop("gave_up", {}))
    try:
        return relay.step(work, **more)
    finally:
        work.close()


def complete(root: str) -> bool:
    """Return whether the directory is marked, and every file has the content of the mark."""
    return manifest.state(root, SOURCE)["verified"]


def test_a_chain_of_three_has_the_same_files_and_asks_the_nearest(chain, run_module):
    first = run_module(weights_pull, **chain.options(1, chain.fingerprint))
    chain.stop(0)
    second = run_module(weights_pull, **chain.options(2, chain.fingerprint))
    assert (first["failed"], first["done"], first["changed"], first["differences"]) == (False, True, True, [])
    # The head is dead: the list of files and all files come from node 1.
    assert (second["failed"], second["done"], second["fetched_bytes"]) == (False, True, first["fetched_bytes"])
    assert all(complete(chain.dir(number)) for number in range(3))
    assert not os.path.exists(os.path.join(chain.dir(2), relay.INCOMING))
    again = run_module(weights_pull, **chain.options(2, chain.fingerprint))
    assert (again["changed"], again["done"], again["fetched_bytes"]) == (False, True, 0)


def test_a_wrong_byte_on_the_node_before_is_found_and_the_head_is_asked(chain, run_module):
    run_module(weights_pull, **chain.options(1, chain.fingerprint))
    flip(chain.dir(1), SHARDS[0])
    found = run_module(weights_pull, **chain.options(2, chain.fingerprint))
    assert found["done"] and complete(chain.dir(2)) and SHARDS[0] in found["gave_up"]["n1"]


def test_a_node_that_is_dead_is_left_for_the_one_before_it(chain, run_module):
    chain.stop(1)
    found = run_module(weights_pull, **chain.options(2, chain.fingerprint))
    assert found["done"] and complete(chain.dir(2)) and "refused" in found["gave_up"]["n1"]


def test_without_anybody_to_ask_each_is_named_and_nothing_is_marked(chain, run_module):
    run_module(weights_pull, **chain.options(1, chain.fingerprint))
    chain.stop(0)
    chain.stop(1)
    found = run_module(weights_pull, **chain.options(2, chain.fingerprint))
    # Which status rsync ends with depends on when it notices (12 or 255); what ssh says does not.
    assert found["failed"] and found["msg"].count("Connection refused") == 2 and "n0: " in found["msg"] and "n1: " in found["msg"]
    assert "Remedy" in found["msg"]
    assert not complete(chain.dir(2))


def test_what_is_here_is_hashed_and_only_the_rest_is_fetched(chain, run_module):
    run_module(weights_pull, **chain.options(1, chain.fingerprint))
    os.remove(os.path.join(chain.dir(1), manifest.MARKER))
    shard = os.path.join(chain.dir(1), SHARDS[0])
    wanted = os.path.getsize(shard)
    flip(chain.dir(1), SHARDS[0])
    found = run_module(weights_pull, **chain.options(1, chain.fingerprint))
    assert found["done"] and found["fetched_bytes"] == wanted and complete(chain.dir(1))
    assert os.path.isfile(os.path.join(chain.dir(1), manifest.BAD, SHARDS[0]))


def test_a_half_file_goes_on_where_it_was(chain, run_module):
    size = os.path.getsize(os.path.join(chain.dir(0), SHARDS[0]))
    half = os.path.join(chain.dir(1), relay.INCOMING, SHARDS[0])
    os.makedirs(os.path.dirname(half))
    with open(os.path.join(chain.dir(0), SHARDS[0]), "rb") as source, open(half, "wb") as target:
        target.write(source.read(size // 2))
    inode = os.stat(half).st_ino
    found = run_module(weights_pull, **chain.options(1, chain.fingerprint))
    # rsync without --append would have made a new file.
    assert found["done"] and os.stat(os.path.join(chain.dir(1), SHARDS[0])).st_ino == inode and complete(chain.dir(1))


def test_a_node_that_has_nothing_yet_is_waited_for_and_then_left(chain, run_module):
    waiting, deadline = {"watch": None}, time.monotonic() + 60
    while waiting["watch"] is None:
        # A slice that only got as far as the list has not looked at node 1 yet.
        assert time.monotonic() < deadline
        waiting = one_step(chain.options(2, chain.fingerprint), budget_s=2)
    assert (waiting["done"], waiting["gave_up"]) == (False, {}) and waiting["watch"]["seen"][0] == "n1"
    assert not complete(chain.dir(2))
    moved_on = one_step(chain.options(2, chain.fingerprint), watch=waiting["watch"], stall_s=0.5)
    assert moved_on["done"] and "nothing new" in moved_on["gave_up"]["n1"] and complete(chain.dir(2))


def test_another_list_than_the_heads_is_not_accepted(chain, run_module):
    found = run_module(weights_pull, **chain.options(1, "0" * 64))
    assert found["failed"] and "n0: another list of files" in found["msg"]
    assert not set(SHARDS) & set(os.listdir(chain.dir(1)))


def test_a_host_whose_key_is_another_one_is_not_talked_to(chain, run_module):
    chain.known.write_text("", encoding="ascii")
    found = run_module(weights_pull, **chain.options(1, chain.fingerprint))
    assert found["failed"] and "Host key verification failed" in found["msg"] and not complete(chain.dir(1))


def test_the_key_opens_no_shell_and_no_other_directory(chain):
    ssh = ["ssh", "-F", "none", "-i", str(chain.key), "-p", str(chain.ports[0]), "-o", f"UserKnownHostsFile={chain.known}", "-o", "BatchMode=yes",
           "-o", "IdentitiesOnly=yes", "127.0.0.1"]
    shell = subprocess.run([*ssh, "id"], capture_output=True, text=True, check=False)
    assert shell.returncode != 0 and "uid=" not in shell.stdout
    written = subprocess.run(["rsync", "-e", " ".join(ssh[:-1]), str(chain.key), "127.0.0.1:./"], capture_output=True, text=True, check=False)
    assert written.returncode != 0 and not os.path.exists(os.path.join(chain.dir(0), "key"))


def test_a_second_run_waits_for_the_first(chain, run_module):
    os.makedirs(chain.dir(1), exist_ok=True)
    # Another process: one that is forked from this one would share its lock.
    holder = subprocess.Popen(["flock", os.path.join(chain.dir(1), relay.LOCK), "sh", "-c", "echo held; read line"], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE)
    with holder:
        assert holder.stdout.readline() == b"held\n"
        found = run_module(weights_pull, **chain.options(1, chain.fingerprint, slice_s=1))
        holder.stdin.write(b"\n")
        holder.stdin.close()
        assert (found["running"], found["done"], found["phase"]) == (True, False, "waiting for another run")
    found = run_module(weights_pull, **chain.options(1, chain.fingerprint))
    assert (found["running"], found["done"]) == (False, True) and complete(chain.dir(1))


def test_of_four_nodes_one_dies_in_the_middle_and_the_others_finish(chain, run_module):
    chain.add()
    dead, results = threading.Event(), {}

    def node(number):
        """Do step after step as a copy does, until all is there or this node is dead."""
        gave_up, watch = {}, None
        while not (number == 1 and dead.is_set()):
            results[number] = one_step(chain.options(number, chain.fingerprint), gave_up=gave_up, limit=1 << 20, budget_s=5.0, watch=watch)
            if results[number]["done"]:
                return
            gave_up, watch = results[number]["gave_up"], results[number]["watch"]

    threads = [threading.Thread(target=node, args=(number,)) for number in (1, 2, 3)]
    for thread in threads:
        thread.start()
    half = os.path.join(chain.dir(1), relay.INCOMING, "notes.bin")
    deadline = time.monotonic() + 120
    while not (os.path.exists(half) and os.path.getsize(half) > 1 << 20):
        assert time.monotonic() < deadline, "node 1 got nothing"
        time.sleep(0.05)
    dead.set()
    chain.stop(1)
    for thread in threads:
        thread.join(120)
    assert not complete(chain.dir(1)) and complete(chain.dir(2)) and complete(chain.dir(3))
    # Node 2 asked the head instead; node 3 went on with node 2.
    assert "n1" in results[2]["gave_up"] and results[3]["gave_up"] == {}
    # Back again, it fetches only what it had not got.
    kept = os.path.getsize(half)
    assert kept < LARGE
    again = run_module(weights_pull, **chain.options(1, chain.fingerprint))
    assert again["done"] and complete(chain.dir(1))


class Growing:
    """A node on which a second file lands after the first look."""

    name, looks = "n1", 0

    def sizes(self):
        """Return what is there now."""
        self.looks += 1
        return ({"a": 1} if self.looks == 1 else {"a": 1, "b": 1}), None


def test_what_lands_on_a_node_is_fetched_beside_what_is_under_way(tmp_path, monkeypatch):
    """The chain stands still where a node waits for a whole round of files before it looks again."""
    puller, node, second = relay.Relay({"dir": str(tmp_path)}, [], "f", "key", "known_hosts"), Growing(), threading.Event()
    puller.upstreams = [node, Growing()]

    def batch(upstream, entries, limit, deadline):
        assert upstream is node and limit == 500
        if entries[0]["path"] == "a":
            assert second.wait(10), "the second was not asked for while the first was under way"
        second.set()
        entries[0]["landed"] = True

    monkeypatch.setattr(puller, "_batch", batch)
    monkeypatch.setattr(relay, "BATCH", 1)
    left = [{"path": "a", "size": 1}, {"path": "b", "size": 1}]
    puller.pull(left, 4, 1000, time.monotonic() + 30, None, 60.0)
    assert [entry.get("landed") for entry in left] == [True, True] and node.looks == 2 and not puller.gave_up


class Flaky:
    """A node with the files C(a) to C(e) and the list of them. C(looks), C(asks): whether each question fails; after them none does."""

    def __init__(self, name="n1", looks=(), asks=(), listed=b"other"):
        self.name, self._looks, self._asks, self._listed, self.looked, self.asked = name, list(looks), list(asks), listed, 0, 0

    def sizes(self):
        """Return what is there, or why not."""
        self.looked += 1
        return ({}, "Connection reset") if self._looks and self._looks.pop(0) else (dict.fromkeys("abcde", 1), None)

    def fetch(self, paths, destination):
        """Give the list."""
        self.asked += 1
        if self._asks and self._asks.pop(0):
            return "Connection reset"
        Path(destination, paths[0]).write_bytes(self._listed)
        return None


def flaky_copy(tmp_path, monkeypatch, node, batch):
    """Pull five files from a node one at a time; return the Relay and what did not land. C(batch): called with (puller, entry), returns the problem."""
    puller = relay.Relay({"dir": str(tmp_path)}, [], "f", "key", "known_hosts")
    puller.upstreams = [node]

    def fetch(upstream, entries, limit, deadline):
        problem = batch(puller, entries[0])
        if not problem:
            entries[0]["landed"] = True
            puller._works(upstream, "look", "copy")
        return problem

    monkeypatch.setattr(puller, "_batch", fetch)
    for name, value in (("BATCH", 1), ("AGAIN_S", (0.05, 0.1)), ("LOOK_EVERY_S", 0.02)):
        monkeypatch.setattr(relay, name, value)
    left = [{"path": name, "size": 1} for name in "abcde"]
    with contextlib.suppress(relay.RelayError):
        puller.pull(left, 1, 0, time.monotonic() + 30, None, 60.0)
    return puller, [entry["path"] for entry in left if not entry.get("landed")]


def test_a_look_that_fails_now_and_then_costs_no_node(tmp_path, monkeypatch):
    node = Flaky(looks=[True, True, False])
    puller, left = flaky_copy(tmp_path, monkeypatch, node, lambda puller, entry: None)
    assert (left, puller.gave_up) == ([], {}) and node.looked >= 3
    # One that is gone is left after a few.
    node = Flaky(looks=[True] * 99)
    puller, left = flaky_copy(tmp_path, monkeypatch, node, lambda puller, entry: None)
    assert (len(left), puller.gave_up, node.looked) == (5, {"n1": "Connection reset"}, relay.TRIES)


def test_a_copy_that_fails_now_and_then_costs_no_node(tmp_path, monkeypatch):
    failures = {"a": 2, "b": 2, "c": 2}

    def batch(dummy, entry):
        failures[entry["path"]] = failures.get(entry["path"], 0) - 1
        return "rsync ended with 255" if failures[entry["path"]] >= 0 else None

    # Each file that comes between says that the node is there.
    monkeypatch.setattr(relay, "in_batches", lambda entries: [[entry] for entry in entries[:1]])
    puller, left = flaky_copy(tmp_path, monkeypatch, Flaky(), batch)
    assert (left, puller.gave_up) == ([], {})
    failures["a"] = 99
    puller, left = flaky_copy(tmp_path, monkeypatch, Flaky(), batch)
    assert "a" in left and puller.gave_up == {"n1": "rsync ended with 255"} and failures["a"] == 99 - relay.TRIES


def test_transfers_that_end_together_are_one_failure(tmp_path):
    puller, node, begun = relay.Relay({"dir": str(tmp_path)}, [], "f", "key", "known_hosts"), Flaky(), time.monotonic()
    for dummy in range(8):
        puller._fails(node, "copy", "Connection reset", begun)
    assert puller.gave_up == {}


def test_the_list_of_files_is_asked_for_again(tmp_path, monkeypatch):
    monkeypatch.setattr(relay, "AGAIN_S", (0.0, 0.0))
    monkeypatch.setattr(manifest, "read_manifest", lambda path: json.loads(Path(path).read_text()) if os.path.exists(path) else None)
    monkeypatch.setattr(manifest, "fingerprint", lambda content: content)
    (tmp_path / relay.INCOMING).mkdir()

    def ask(*nodes):
        puller = relay.Relay({"dir": str(tmp_path)}, [], "f", "key", "known_hosts")
        puller.upstreams = list(nodes)
        puller._ask_for_list(str(tmp_path / "list"))

    ask(Flaky(asks=[True, True], listed=b'"f"'))
    assert (tmp_path / "list").read_text() == '"f"'
    gone, other = Flaky("n1", asks=[True] * 99), Flaky("n0", listed=b'"g"')
    with pytest.raises(relay.RelayError, match="n0: another list of files, or none; n1: Connection reset. Remedy"):
        ask(gone, other)
    assert (gone.asked, other.asked) == (relay.TRIES, 1)


def test_the_file_that_was_written_to_last_is_left_to_rsync(tmp_path):
    puller, incoming = relay.Relay({"dir": str(tmp_path)}, [], "f", "key", "known_hosts"), tmp_path / relay.INCOMING
    incoming.mkdir()
    for name, size, written in (("whole", 2, 1), ("half", 1, 2), ("last", 2, 3)):
        (incoming / name).write_bytes(b"x" * size)
        os.utime(incoming / name, (written, written))
    batch = [{"path": name, "size": 2} for name in ("whole", "half", "last", "not-there")]
    assert [entry["path"] for entry in puller._came(batch)] == ["whole"]
    assert puller._came(batch[3:]) == []


def paced(most, rate, seconds=120, full=lambda second: True):
    """Return how many transfers ran in each second; C(rate): bytes a second by their number."""
    pace, came, numbers = relay.Pace(most, relay.FIRST_STREAMS), 0, []
    for second in range(seconds):
        pace.look(float(second), came, full(second))
        numbers.append(pace.number)
        came += rate(pace.number)
    return numbers


def test_as_few_transfers_run_as_fill_the_line():
    line = paced(8, lambda number: 100)
    assert line[:10] == [2] * 10 and max(line) == 3 and line[25:] == [2] * (len(line) - 25)
    # Each is as quick as its processor, until the line is full.
    assert paced(8, lambda number: min(100 * number, 470))[-1] == 5
    assert paced(4, lambda number: 100 * number)[-1] == 4 and paced(1, lambda number: 100 * number)[-1] == 1
    # Where files come one by one from the node before, more transfers would wait, too.
    assert set(paced(4, lambda number: 100 * number, full=lambda second: second % 9 > 0)) == {2}


def test_a_transfer_more_works_on_what_waits():
    """Only as many batches are worked on as the pace says, and a thread more is there when it says one more."""
    pace, begun, over = relay.Pace(2, 1), threading.Semaphore(0), threading.Event()

    def work(batch):
        begun.release()
        over.wait(20)

    crew = relay._Crew(pace, work)
    crew.take([[{"path": "a"}], [{"path": "b"}]])
    assert begun.acquire(timeout=10) and not begun.acquire(timeout=0.3)
    pace.number = 2
    crew.look(0)
    assert begun.acquire(timeout=10)
    over.set()
    crew.close()
    assert not crew.taken


def test_batches_are_of_a_size_and_large_files_are_alone():
    sizes = [relay.BATCH * 3, 1, 2, relay.BATCH - 3, 1]
    assert [[entry["size"] for entry in batch] for batch in relay.in_batches([{"size": size} for size in sizes])] == [
        [relay.BATCH * 3], [1, 2, relay.BATCH - 3], [1]]


def test_full_finds_what_changed_silently_in_slices_and_fetches_only_that(chain, run_module, monkeypatch):
    run_module(weights_pull, **chain.options(1, chain.fingerprint))
    # The smallest file, and one thread: it is hashed in a later slice than the first.
    monkeypatch.setattr(weights, "default_threads", lambda: 1)
    flip(chain.dir(1), "sub/notes.md", keep_time=True)
    untold = run_module(weights_pull, **chain.options(1, chain.fingerprint))
    assert (untold["done"], untold["changed"]) == (True, False)
    given, found, fetched, changed = chain.options(1, chain.fingerprint), {"done": False, "full": True, "gave_up": {}, "watch": None}, 0, False
    calls = 0
    while not found["done"]:
        calls += 1
        # Without time a step hashes one file.
        found = one_step(given, full=found["full"], gave_up=found["gave_up"], watch=found["watch"], budget_s=20 if calls > 3 else 0)
        fetched, changed = fetched + found["fetched_bytes"], changed or found["changed"]
    assert calls > 1 and changed and found["differences"] == []
    assert fetched == os.path.getsize(os.path.join(chain.dir(0), "sub/notes.md")) and complete(chain.dir(1))
    assert os.path.isfile(os.path.join(chain.dir(1), manifest.BAD, "sub/notes.md"))
    again = run_module(weights_pull, **chain.options(1, chain.fingerprint, full=True))
    assert (again["done"], again["changed"]) == (True, False)


def test_a_full_pass_that_waits_for_another_run_is_still_to_be_done(chain, run_module):
    run_module(weights_pull, **chain.options(1, chain.fingerprint))
    with relay.locked(chain.dir(1), 0):
        found = one_step(chain.options(1, chain.fingerprint), full=True, budget_s=1)
    assert (found["done"], found["full"]) == (False, True)


def test_the_progress_is_written_once_for_what_came_together(chain, run_module, monkeypatch):
    written, write = [], manifest.write_partial
    # All of them come between two looks.
    monkeypatch.setattr(relay, "LAND_EVERY_S", 60.0)
    monkeypatch.setattr(manifest, "write_partial", lambda root, partial: (written.append(len(partial["hashes"])), write(root, partial)))
    files = len(manifest.read_marker(chain.dir(0))["files"])
    found = one_step(chain.options(1, chain.fingerprint), streams=1)
    assert found["done"] and written == [files]


def test_a_wrong_content_is_named_when_nobody_has_the_right_one(chain, run_module):
    chain.stop(1)
    flip(chain.dir(0), SHARDS[1], keep_time=True)
    found = run_module(weights_pull, **chain.options(2, chain.fingerprint))
    assert found["failed"] and f"n0: {SHARDS[1]} has the SHA-256 " in found["msg"] and "n1: rsync ended with" in found["msg"]
    assert "weights_sync_verify=full" in found["msg"] and not complete(chain.dir(2))


@pytest.mark.parametrize("kind", ["gone", "link"])
def test_a_file_that_the_head_has_not_is_named_at_once(chain, run_module, kind):
    shard = Path(chain.dir(0)) / SHARDS[1]
    size = shard.stat().st_size
    shard.rename(chain.place / "elsewhere")
    if kind == "link":
        shard.symlink_to(chain.place / "elsewhere")
    found = run_module(weights_pull, **chain.options(1, chain.fingerprint, stall_s=600))
    assert found["failed"] and f"n0: {SHARDS[1]} is no file of {size} bytes there" in found["msg"]


def test_half_files_of_other_weights_are_removed(chain):
    given = chain.options(1, chain.fingerprint)
    incoming = Path(chain.dir(1)) / relay.INCOMING
    incoming.mkdir(parents=True)
    other = dict(manifest.read_marker(chain.dir(0)), files=manifest.read_marker(chain.dir(0))["files"][:1])
    (incoming / "manifest.json").write_text(json.dumps(other), encoding="utf-8")
    (incoming / SHARDS[0]).write_bytes(b"of other weights")
    work = relay.Relay(given["weights"], given["upstreams"], chain.fingerprint, given["key_file"], given["known_hosts_file"])
    assert SHARDS[0] in work.entries() and [path.name for path in incoming.iterdir()] == ["manifest.json"]


def test_a_half_file_with_a_wrong_beginning_is_fetched_anew_and_nobody_is_accused(chain, run_module):
    half = Path(chain.dir(1)) / relay.INCOMING / SHARDS[0]
    half.parent.mkdir(parents=True)
    half.write_bytes(b"wrong")
    found = run_module(weights_pull, **chain.options(1, chain.fingerprint))
    assert (found["failed"], found["done"], found["gave_up"]) == (False, True, {}) and complete(chain.dir(1))


def slow(chain, **more):
    """Return options of a copy that takes some eight seconds."""
    return chain.options(1, chain.fingerprint, **dict({"slice_s": 0.5, "bandwidth_limit": 1 << 20}, **more))


def test_a_copy_goes_on_between_two_looks_and_tells_how_far_it_is(chain, run_module):
    first = run_module(weights_pull, **slow(chain))
    assert (first["failed"], first["running"], first["done"]) == (False, True, False)
    seen, deadline = [], time.monotonic() + 30
    while not seen or not 0 < seen[-1]["left_bytes"] < LARGE - (1 << 20):
        assert time.monotonic() < deadline, seen
        seen.append(run_module(weights_pull, **slow(chain, begin=False)))
    ended = run_module(weights_pull, **slow(chain, begin=False, slice_s=60))
    assert (seen[-1]["phase"], seen[-1]["total_bytes"]) == ("copied", sum(entry["size"] for entry in manifest.read_marker(chain.dir(0))["files"]))
    assert (ended["running"], ended["done"], ended["changed"], ended["left_bytes"]) == (False, True, True, 0) and complete(chain.dir(1))
    assert ended["fetched_bytes"] == ended["total_bytes"]


def test_a_copy_that_is_left_of_another_run_is_taken_over_with_what_this_one_asks_for(chain, run_module):
    assert run_module(weights_pull, **slow(chain))["running"]
    refused = run_module(weights_pull, **slow(chain, streams=0))
    assert refused["failed"] and "weights_sync_streams is 0" in refused["msg"]
    lock = Path(relay.job(chain.dir(1))._place("lock"))
    before = lock.read_text(encoding="ascii")
    found = run_module(weights_pull, **chain.options(1, chain.fingerprint))
    assert (found["running"], found["done"]) == (False, True) and complete(chain.dir(1)) and lock.read_text(encoding="ascii") != before


def group_of(stat):
    """Return the process group of a process that lives, by its C(/proc/PID/stat)."""
    try:
        state, dummy, group = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[:3]
    except OSError:
        return None
    return int(group) if state != "Z" else None


def test_a_copy_that_nobody_asks_for_ends_with_what_it_started(chain, run_module, monkeypatch):
    monkeypatch.setattr(relay.carry_on, "__defaults__", (*relay.carry_on.__defaults__[:-1], 6.0))
    some = {"bandwidth_limit": 1 << 18}
    assert run_module(weights_pull, **slow(chain, **some))["running"]
    job, deadline, half = relay.job(chain.dir(1)), time.monotonic() + 30, os.path.join(chain.dir(1), relay.INCOMING, "notes.bin")
    while not os.path.exists(half):
        assert time.monotonic() < deadline and run_module(weights_pull, **slow(chain, begin=False, **some))["running"]
    group = int((Path(job.folder) / f"{job._name}.lock").read_text(encoding="ascii"))
    while job.look()[1]:
        assert time.monotonic() < deadline, "it goes on"
        time.sleep(0.1)
    found = run_module(weights_pull, **slow(chain, begin=False, **some))
    assert found["failed"] and "the process that copied was ended. Remedy: run again" in found["msg"] and not complete(chain.dir(1))
    while any(group_of(stat) == group for stat in Path("/proc").glob("[0-9]*/stat")):
        assert time.monotonic() < deadline, "rsync goes on"
        time.sleep(0.1)
    # What had come is gone on with.
    assert os.path.getsize(half) < LARGE and run_module(weights_pull, **chain.options(1, chain.fingerprint))["done"]


def test_a_copy_of_other_weights_makes_room_for_the_one_that_is_wanted(chain, run_module):
    assert run_module(weights_pull, **dict(slow(chain), fingerprint=chain.fingerprint))["running"]
    (Path(chain.dir(0)) / "more.bin").write_bytes(b"x")
    (Path(chain.dir(0)) / manifest.MARKER).unlink()
    other = run_module(weights_dir, weights=dict(SOURCE, dir=chain.dir(0)), state="verified")
    found = run_module(weights_pull, **chain.options(1, other["fingerprint"]))
    assert (found["done"], found["fingerprint"]) == (True, other["fingerprint"]) and os.path.exists(os.path.join(chain.dir(1), "more.bin"))


def test_looks_share_a_connection_which_is_ended_with_the_copy(chain, run_module, jobs):
    given = chain.options(1, chain.fingerprint)
    children = Path(f"/proc/{chain.daemons[0].pid}/task/{chain.daemons[0].pid}/children")
    upstream = rsync.Upstream(given["upstreams"][0], given["key_file"], given["known_hosts_file"])
    try:
        sizes, problem = upstream.sizes()
        first = children.read_text(encoding="ascii").split()
        assert problem is None and sizes[SHARDS[0]] and len(first) == 1
        assert upstream.sizes() == (sizes, None) and children.read_text(encoding="ascii").split() == first
    finally:
        upstream.close()
    deadline = time.monotonic() + 10
    while children.read_text(encoding="ascii").split():
        assert time.monotonic() < deadline, "the connection stays"
        time.sleep(0.05)
    assert run_module(weights_pull, **given)["done"]
    assert [path.name for path in jobs.iterdir() if path.is_socket()] == []


def test_what_was_never_begun_is_said(chain, run_module):
    found = run_module(weights_pull, **chain.options(1, chain.fingerprint, begin=False))
    assert found["failed"] and "nothing is known of a copy here. Remedy: run again" in found["msg"]


def test_no_transfers_at_a_time_are_refused(chain, run_module):
    found = run_module(weights_pull, **chain.options(1, chain.fingerprint, streams=0))
    assert found["failed"] and "weights_sync_streams is 0, wanted 1 or more. Remedy" in found["msg"]


def test_files_that_are_no_model_are_copied_too(chain, run_module):
    archive = dict(SOURCE, kind="archive", id="quay.io/x:1", dir=str(chain.place / "n0" / "w"), requirements={})
    shutil.rmtree(archive["dir"])
    fill(Path(archive["dir"]), {"part-aaaa": b"a" * 1000, "part-aaab": b"b"})
    head = run_module(weights_dir, weights=archive, state="verified")
    assert head["verified"], head
    found = run_module(weights_pull, **dict(chain.options(1, head["fingerprint"]), weights=dict(archive, dir=chain.dir(1))))
    assert found["done"] and found["differences"] == [] and (Path(chain.dir(1)) / "part-aaab").read_bytes() == b"b"
