# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fetch the files of a manifest from the nodes before this one, each file proved before the next node can see it.

Nodes form a chain: each asks the node before it for the files that have landed there, so the source's uplink is paid once and N nodes
take about as long as one. Whoever is gone, or stands still, is left for the node before it; the last one is the head.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import threading
import time

from ansible_collections.ascend.vllm.plugins.module_utils import manifest, rsync, weights

#: What is not proved yet lies here, below the directory; names with a dot are no weights.
INCOMING = ".ascend-vllm-incoming"
LIST = os.path.join(INCOMING, "manifest.json")
LOCK = ".ascend-vllm-weights.lock"
#: Files are asked for in batches of about this size (bytes): a connection costs 0.2 s, and the next node waits for a batch.
BATCH = 32 << 20
#: Seconds between two looks at a node that has nothing new.
LOOK_EVERY_S = 1.0


class RelayError(Exception):
    """The files cannot be had; the text says why and what to do."""


@contextlib.contextmanager
def locked(root, wait_s):
    """Hold the directory's lock, which a crash releases; yield whether it was had within C(wait_s) seconds."""
    deadline = time.monotonic() + wait_s
    with open(os.path.join(root, LOCK), "a", encoding="ascii") as stream:
        while True:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                yield True
                return
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    yield False
                    return
            time.sleep(0.5)


class Relay:
    """The files of one directory.

    C(wanted): the weights, as for weights.verify. C(nodes): [{name, address, port, user}], nearest first, the head last.
    C(gave_up): name -> reason, of nodes that are not asked any more; grows.
    """

    def __init__(self, wanted, nodes, fingerprint, key_file, known_hosts_file, gave_up=None):
        self.wanted, self.root = wanted, wanted["dir"]
        self.fingerprint = fingerprint
        self.upstreams = [rsync.Upstream(node, key_file, known_hosts_file) for node in nodes]
        self.gave_up = dict(gave_up or {})
        self.fetched_bytes = 0
        self._incoming = os.path.join(self.root, INCOMING)
        self._lock = threading.Lock()
        self._wrong = {}
        self._problem = None

    # the list

    def entries(self):
        """Return the files of the head's manifest as path -> entry; ask for it where it is not there. Raises RelayError."""
        path = os.path.join(self.root, LIST)
        content = manifest.read_manifest(path)
        if content is None or manifest.fingerprint(content) != self.fingerprint:
            os.makedirs(self._incoming, mode=0o700, exist_ok=True)
            content = self._ask_for_list(path)
        return {entry["path"]: entry for entry in weights.read_sums(path).values() if content}

    def _ask_for_list(self, path):
        """Fetch the manifest from whoever has it, the head first."""
        said = []
        for upstream in reversed(self.upstreams):
            manifest.remove(self._incoming, manifest.MARKER)
            problem = self._local(upstream.fetch, [manifest.MARKER], self._incoming + "/")
            content = manifest.read_manifest(os.path.join(self._incoming, manifest.MARKER))
            if content is not None and manifest.fingerprint(content) == self.fingerprint:
                os.replace(os.path.join(self._incoming, manifest.MARKER), path)
                return content
            said.append("%s: %s" % (upstream.name, problem or "another list of files, or none"))
        raise RelayError("no node gives the list of files: %s. Remedy: mend these nodes and run again." % "; ".join(said))

    @staticmethod
    def _local(call, *args):
        """Call; say what to do when this node cannot write."""
        try:
            return call(*args)
        except (rsync.LocalError, OSError) as error:
            raise RelayError("cannot write here: %s. Remedy: make room, let root write there, and run again; what is whole is kept." % error) from error

    def missing(self, entries):
        """Return the entries that are not here as they should be, by what was hashed before."""
        found = manifest.scan(self.root)[0]
        marker = manifest.read_verified(self.root, manifest.MARKER) or {"files": []}
        known = {entry["path"]: entry for entry in marker["files"]}
        known.update(manifest.read_partial(self.root)["hashes"])
        return [entry for path, entry in sorted(entries.items())
                if path not in found or not manifest.covers(known.get(path), found[path]) or known[path]["sha256"] != entry["sha256"]]

    # the transfer

    def left_bytes(self, left):
        """Return how many bytes of these entries have not come yet, those of half files taken off."""
        here = [os.path.join(self._incoming, entry["path"]) for entry in left]
        return sum(entry["size"] for entry in left) - sum(os.path.getsize(path) for path in here if os.path.isfile(path))

    def check_room(self, left):
        """Raise RelayError when the disk has no room for what is left, before anything more is fetched."""
        need = self.left_bytes(left)
        free = shutil.disk_usage(self.root).free
        if free < need:
            raise RelayError("%d bytes are free, wanted %d for the files that are missing. Remedy: make room and run again; what is whole is kept."
                             % (free, need))

    def pull(self, left, streams, limit, deadline, watch, stall_s):
        """Fetch what is left until C(deadline) (of time.monotonic); return C(watch), what was seen of a node that has nothing new.

        Raises RelayError when nobody is left to ask, or this node cannot write.
        """
        left = list(left)
        while left and time.monotonic() < deadline:
            upstream = next((node for node in self.upstreams if node.name not in self.gave_up), None)
            if upstream is None:
                reasons = "; ".join("%s: %s" % item for item in sorted(self.gave_up.items()))
                raise RelayError("%d files are missing and no node gives them: %s. Remedy: mend one of these nodes and run again; "
                                 "what is whole is kept." % (len(left), reasons))
            sizes, problem = upstream.sizes()
            if problem:
                self.gave_up[upstream.name] = problem
                continue
            ready = [entry for entry in left if sizes.get(entry["path"]) == entry["size"] and upstream.name not in self._wrong.get(entry["path"], ())]
            if ready:
                self._round(upstream, ready, streams, limit, deadline)
                left = [entry for entry in left if not entry.get("landed")]
                watch = None
                continue
            watch = self._waited(upstream, sizes, watch, stall_s)
            time.sleep(max(0.0, min(LOOK_EVERY_S, deadline - time.monotonic())))
        return watch

    def _waited(self, upstream, sizes, watch, stall_s):
        """Keep since when a node has stood still; give it up when that is too long. The head never gets more: it has everything."""
        seen = [upstream.name, sum(sizes.values()), len(sizes)]
        if not watch or watch["seen"] != seen:
            return {"seen": seen, "since": time.time()}
        if upstream is self.upstreams[-1] or time.time() - watch["since"] > stall_s:
            self.gave_up[upstream.name] = "it has nothing new since %d s" % (time.time() - watch["since"])
            return None
        return watch

    def _round(self, upstream, ready, streams, limit, deadline):
        """Fetch what a node has, in batches, several at a time, until C(deadline)."""
        batches = in_batches(ready)
        workers = [threading.Thread(target=self._work, args=(upstream, batches, limit // max(1, streams), deadline), daemon=True)
                   for dummy in range(min(streams, len(batches)))]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        if self._problem is not None:
            raise self._problem

    def _work(self, upstream, batches, limit, deadline):
        """Fetch one batch after the other."""
        while time.monotonic() < deadline and upstream.name not in self.gave_up and self._problem is None:
            with self._lock:
                if not batches:
                    return
                batch = batches.pop(0)
            try:
                problem = self._local(self._batch, upstream, batch, limit, deadline)
            except Exception as error:  # pylint: disable=broad-except
                # It belongs into the thread that called.
                self._problem = error
                return
            if problem:
                self.gave_up[upstream.name] = problem
                return

    def _batch(self, upstream, batch, limit, deadline):
        """Fetch one batch and prove it; what is under way at C(deadline) goes on where it was in the next call."""
        process = upstream.start([entry["path"] for entry in batch], self._incoming + "/", limit)
        timer = threading.Timer(max(0.0, deadline - time.monotonic()), process.terminate)
        timer.start()
        try:
            problem = rsync.finish(process)
        finally:
            timer.cancel()
        for entry in batch:
            self._land(upstream, entry)
        return None if time.monotonic() >= deadline else problem

    def _land(self, upstream, entry):
        """Prove a file that has come and put it where it belongs; a wrong one is asked of another node."""
        came = os.path.join(self._incoming, entry["path"])
        if not os.path.isfile(came) or os.path.getsize(came) < entry["size"]:
            return
        hashed = weights.hash_file(came)
        if hashed["sha256"] != entry["sha256"]:
            os.remove(came)
            with self._lock:
                self._wrong.setdefault(entry["path"], []).append(upstream.name)
                if len(self._wrong[entry["path"]]) == len(self.upstreams):
                    raise RelayError("%s has the SHA-256 %s on %s, wanted %s. Remedy: run again with weights_sync_verify=full, which proves the "
                                     "head's files." % (entry["path"], hashed["sha256"], upstream.name, entry["sha256"]))
            # Another one is asked for the rest too: this one's disk or memory is not to be trusted.
            if upstream is not self.upstreams[-1]:
                self.gave_up[upstream.name] = "%s has another content there than was verified" % entry["path"]
            return
        place = os.path.join(self.root, entry["path"])
        os.makedirs(os.path.dirname(place), exist_ok=True)
        os.chmod(came, 0o644)
        os.replace(came, place)
        with self._lock:
            self.fetched_bytes += entry["size"]
            entry["landed"] = True
            partial = manifest.read_partial(self.root)
            partial["hashes"][entry["path"]] = dict(hashed, path=entry["path"])
            manifest.write_partial(self.root, partial)

    def clean(self):
        """Remove what is not needed any more."""
        shutil.rmtree(self._incoming, ignore_errors=True)


def in_batches(entries):
    """Return lists of entries of about BATCH bytes each, in their order; a large file is a batch of its own."""
    batches, room = [], 0
    for entry in entries:
        if not batches or entry["size"] > room:
            batches.append([])
            room = BATCH
        batches[-1].append(entry)
        room -= entry["size"]
    return batches


def step(relay, streams=4, limit=0, budget_s=20.0, watch=None, stall_s=60.0, dry=False):
    """Go on for about C(budget_s) seconds; return C({done, changed, phase, total_bytes, left_bytes, fetched_bytes, gave_up, watch, differences}).

    With done and no differences the directory is marked complete. Raises RelayError, weights.HubError and manifest.WriteError.
    """
    deadline = time.monotonic() + budget_s
    root, wanted = relay.root, relay.wanted
    marker = manifest.read_verified(root, manifest.MARKER, wanted)
    result = {"done": True, "changed": False, "phase": "complete", "total_bytes": 0, "left_bytes": 0, "fetched_bytes": 0,
              "gave_up": relay.gave_up, "watch": None, "differences": []}
    if marker and manifest.fingerprint(marker) == relay.fingerprint and manifest.state(root, wanted)["verified"]:
        return result
    if dry:
        return dict(result, changed=True, phase="checked")
    os.makedirs(root, mode=0o755, exist_ok=True)
    with locked(root, budget_s) as alone:
        if not alone:
            return dict(result, done=False, phase="waiting for another run")
        entries = relay.entries()
        result.update(changed=True, total_bytes=sum(entry["size"] for entry in entries.values()))
        listed = os.path.join(root, LIST)
        # What lies here is hashed rather than fetched; what is wrong is moved out of the way.
        found = weights.verify(root, wanted, budget_s=budget_s, discard=True, expected_file=listed)
        left = relay.missing(entries)
        result.update(left_bytes=relay.left_bytes(left), phase="verified")
        if not found["done"]:
            return dict(result, done=False)
        if left:
            relay.check_room(left)
            watch = relay.pull(left, streams, limit, deadline, watch, stall_s)
            left = relay.missing(entries)
            result.update(watch=watch, left_bytes=relay.left_bytes(left), fetched_bytes=relay.fetched_bytes, phase="copied")
            if left:
                return dict(result, done=False)
            found = weights.verify(root, wanted, expected_file=listed)
        result.update(done=found["done"], differences=found["differences"])
        if found["done"] and not found["differences"]:
            relay.clean()
        return result
