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
import hashlib
import os
import random
import shutil
import signal
import threading
import time

from ansible_collections.ascend.vllm.plugins.module_utils import background, manifest, rsync, weights

#: What is not proved yet lies here, below the directory; names with a dot are no weights.
INCOMING = ".ascend-vllm-incoming"
LIST = os.path.join(INCOMING, "manifest.json")
LOCK = ".ascend-vllm-weights.lock"
#: Files are asked for in batches of about this size (bytes): a connection costs 0.3 s of a processor, most of it for rrsync and SSH's keys.
BATCH = 256 << 20
#: A batch of up to so many bytes goes over a connection that such batches share: one of its own would take about as long to make.
SHARED = 64 << 20
#: Seconds between two looks at a node that has not everything yet: a look takes 0.06 s, and the next node waits half of this for each file.
LOOK_EVERY_S = 0.5
#: Seconds between two looks at what has come of a batch: the next node waits for it.
LAND_EVERY_S = 0.3
#: Transfers at a time to begin with: one leaves the line idle between two batches. The next node waits for whole files, and of N that come
#: at a time each takes N times as long.
FIRST_STREAMS = 2
#: Seconds over which the rate is taken with one number of transfers, and which part of its share one more has to bring in order to stay. A choice: where
#: files come from a node that gets them itself, the rate of ten seconds is a tenth or so off, which must not look like the line of one more.
RATE_OVER_S, RATE_GAIN = 10.0, 0.6
#: How often in a row something has to go wrong with a node before it is not asked any more, and the seconds in between, taken at random: where many
#: nodes ask one at a time its sshd drops some (MaxStartups), and they would all come back together.
TRIES, AGAIN_S = 3, (0.5, 1.5)
#: Seconds of one step of a copy that goes on by itself: transfers are ended and begun anew after them, which costs a second or two.
STEP_S = 600.0
#: Seconds after which hashing what is here is interrupted to say how far it is.
VERIFY_S = 20.0
#: Seconds after which a copy ends itself that nobody has asked for: its controller is gone. What is whole is kept.
LEASE_S = 120.0
#: Marks of files that came wrong once after they had been gone on with: the next time it is the sender's fault. Below INCOMING.
AGAIN = ".again"
#: The options of a pull, as an argument_spec.
SPEC = {
    "weights": {"type": "dict", "required": True},
    "fingerprint": {"type": "str", "required": True},
    "upstreams": {"type": "list", "elements": "dict", "required": True},
    # Paths are no secrets.
    "key_file": {"type": "path", "required": True, "no_log": False},
    "known_hosts_file": {"type": "path", "required": True},
    "streams": {"type": "int", "default": 4},
    "bandwidth_limit": {"type": "int", "default": 0},
    "full": {"type": "bool", "default": False},
}


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
        self.phase, self.total_bytes, self._left = "begins", 0, []
        self._incoming = os.path.join(self.root, INCOMING)
        self._lock = threading.Lock()
        self._problem = None
        # (name of a node, "look" or "copy") -> (how often it failed in a row, when it may be tried again, of time.monotonic).
        self._failed = {}

    # the list

    def entries(self):
        """Return the files of the head's manifest as path -> entry; ask for it where it is not there. Raises RelayError."""
        path = os.path.join(self.root, LIST)
        content = manifest.read_manifest(path)
        if content is None or manifest.fingerprint(content) != self.fingerprint:
            if content is not None:
                # The half files there are of other weights.
                shutil.rmtree(self._incoming)
            os.makedirs(self._incoming, mode=0o700, exist_ok=True)
            self._ask_for_list(path)
        return weights.read_sums(path)

    def _ask_for_list(self, path):
        """Fetch the manifest from whoever has it, the head first; those that could not be asked are asked again."""
        said, asked = {}, list(reversed(self.upstreams))
        for number in range(TRIES):
            if number:
                time.sleep(random.uniform(*AGAIN_S))
            for upstream in list(asked):
                manifest.remove(self._incoming, manifest.MARKER)
                problem = self._local(upstream.fetch, [manifest.MARKER], self._incoming + "/")
                content = manifest.read_manifest(os.path.join(self._incoming, manifest.MARKER))
                if content is not None and manifest.fingerprint(content) == self.fingerprint:
                    os.replace(os.path.join(self._incoming, manifest.MARKER), path)
                    return
                said[upstream.name] = problem or "another list of files, or none"
                if not problem:
                    asked.remove(upstream)
            if not asked:
                break
        raise RelayError("no node gives the list of files: %s. Remedy: mend these nodes and run again." % "; ".join("%s: %s" % item for item in said.items()))

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

    def begin(self, entries):
        """Return what is missing of these entries, and have the progress count from here."""
        self._left, self.total_bytes = self.missing(entries), sum(entry["size"] for entry in entries.values())
        return self._left

    def left_bytes(self, left):
        """Return how many bytes of these entries have not come yet, those of half files taken off."""
        return sum(entry["size"] - self._half(entry["path"]) for entry in left)

    def _half(self, path):
        """Return how many bytes of a file have come so far."""
        try:
            return os.path.getsize(os.path.join(self._incoming, path))
        except OSError:
            # Nothing, or it has just been put where it belongs.
            return 0

    def progress(self):
        """Return C({phase, total_bytes, left_bytes, fetched_bytes, gave_up}) as it is now; another thread may be at work."""
        left = [entry for entry in self._left if not entry.get("landed")]
        return {"phase": self.phase, "total_bytes": self.total_bytes, "left_bytes": self.left_bytes(left), "fetched_bytes": self.fetched_bytes,
                "gave_up": dict(self.gave_up)}

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
        # Each has its part of a limit, so all of them run.
        each = max(1, limit // min(streams, len(in_batches(left)))) if limit and left else 0
        while left and time.monotonic() < deadline:
            upstream = next((node for node in self.upstreams if node.name not in self.gave_up), None)
            if upstream is None:
                reasons = "; ".join("%s: %s" % item for item in sorted(self.gave_up.items()))
                raise RelayError("%d files are missing and no node gives them: %s. Remedy: mend one of these nodes and run again, with "
                                 "weights_sync_verify=full where a content is wrong; what is whole is kept." % (len(left), reasons))
            pace = Pace(streams, streams if limit else FIRST_STREAMS)
            crew = _Crew(pace, lambda batch: self._work(upstream, batch, each, deadline))  # pylint: disable=cell-var-from-loop
            try:
                watch = self._feed(crew, upstream, left, deadline, watch, stall_s)
            finally:
                crew.close()
            if self._problem is not None:
                raise self._problem
            left = [entry for entry in left if not entry.get("landed")]
        return watch

    def _feed(self, crew, upstream, left, deadline, watch, stall_s):
        """Give the crew what a node has, again and again while it fetches, until nothing is left or the node is given up; return C(watch)."""
        while True:
            left = [entry for entry in left if not entry.get("landed")]
            if not left or time.monotonic() >= deadline or upstream.name in self.gave_up or self._problem is not None:
                return watch
            waiting = [entry for entry in left if entry["path"] not in crew.taken]
            ready = []
            if waiting:
                self._rest(upstream, deadline)
                begun = time.monotonic()
                sizes, problem = upstream.sizes()
                if problem:
                    self._fails(upstream, "look", problem, begun)
                    continue
                self._works(upstream, "look")
                ready = [entry for entry in waiting if sizes.get(entry["path"]) == entry["size"]]
                if upstream is self.upstreams[-1] and len(ready) < len(waiting):
                    # It has everything, or never will.
                    lacking = next(entry for entry in waiting if sizes.get(entry["path"]) != entry["size"])
                    self.gave_up[upstream.name] = "%s is no file of %d bytes there (a link is not copied)" % (lacking["path"], lacking["size"])
                    return watch
                if ready:
                    crew.take(in_batches(ready))
                    watch = None
                elif crew.idle():
                    watch = self._waited(upstream, sizes, watch, stall_s)
            crew.look(self.total_bytes - self.left_bytes(left))
            crew.wait(max(0.0, min(LOOK_EVERY_S, deadline - time.monotonic())))

    def _fails(self, upstream, what, problem, begun):
        """Take note that something (C(look), C(copy)) that was begun then failed; give the node up when that was so TRIES times in a row.

        What was begun before the last failure is a part of it: transfers that run at a time end together.
        """
        with self._lock:
            times, again = self._failed.get((upstream.name, what), (0, 0.0))
            if begun < again:
                return
            self._failed[upstream.name, what] = (times + 1, time.monotonic() + random.uniform(*AGAIN_S))
            if times + 1 >= TRIES:
                # Unless there is a reason already, for which this one was ended.
                self.gave_up.setdefault(upstream.name, problem)

    def _works(self, upstream, *whats):
        """Take note that something did not fail. A look says nothing of copies, a file that has come says all."""
        with self._lock:
            for what in whats:
                self._failed.pop((upstream.name, what), None)

    def _rest(self, upstream, deadline):
        """Wait, until C(deadline) at most, for the time after a failure to be over."""
        with self._lock:
            again = max(self._failed.get((upstream.name, what), (0, 0.0))[1] for what in ("look", "copy"))
        time.sleep(max(0.0, min(again, deadline) - time.monotonic()))

    def _waited(self, upstream, sizes, watch, stall_s):
        """Keep since when a node has stood still; give it up when that is too long."""
        seen = [upstream.name, sum(sizes.values()), len(sizes)]
        if not watch or watch["seen"] != seen:
            return {"seen": seen, "since": time.monotonic()}
        if time.monotonic() - watch["since"] > stall_s:
            self.gave_up[upstream.name] = "it has nothing new since %d s" % (time.monotonic() - watch["since"])
            return None
        return watch

    def _work(self, upstream, batch, limit, deadline):
        """Fetch one batch; what goes wrong is kept for the thread that called."""
        self._rest(upstream, deadline)
        begun = time.monotonic()
        if begun >= deadline or upstream.name in self.gave_up or self._problem is not None:
            return
        try:
            problem = self._local(self._batch, upstream, batch, limit, deadline)
        except Exception as error:  # pylint: disable=broad-except
            # It belongs into the thread that called.
            self._problem = error
            return
        if problem:
            self._fails(upstream, "copy", problem, begun)

    def _batch(self, upstream, batch, limit, deadline):
        """Fetch one batch and prove it; what is under way at C(deadline) goes on where it was in the next call."""
        begun = {entry["path"] for entry in batch if os.path.lexists(os.path.join(self._incoming, entry["path"]))}
        shared = sum(entry["size"] for entry in batch) <= SHARED
        process = upstream.start([entry["path"] for entry in batch], self._incoming + "/", limit, shared)
        timer = threading.Timer(max(0.0, deadline - time.monotonic()), process.terminate)
        timer.start()
        try:
            while not rsync.ended_within(process, LAND_EVERY_S):
                self._land_all(upstream, self._came(batch), begun)
                if upstream.name in self.gave_up:
                    process.terminate()
        finally:
            timer.cancel()
            if process.poll() is None:
                process.terminate()
            problem = rsync.finish(process)
        self._land_all(upstream, batch, begun)
        return None if time.monotonic() >= deadline else problem

    def _came(self, batch):
        """Return the entries of a batch that have come, while it goes on: whole, and not the file that was written to last."""
        times = {}
        for entry in batch:
            with contextlib.suppress(OSError):
                seen = os.stat(os.path.join(self._incoming, entry["path"]))
                times[entry["path"]] = (seen.st_mtime_ns, seen.st_size)
        newest = max(times, key=times.get) if times else None
        return [entry for entry in batch if times.get(entry["path"], (0, -1))[1] >= entry["size"] and entry["path"] != newest]

    def _land_all(self, upstream, entries, begun):
        """Prove what has come of these entries and put it where the next node sees it."""
        landed = {}
        try:
            for entry in entries:
                hashed = None if entry.get("landed") else self._land(upstream, entry, entry["path"] in begun)
                if hashed:
                    landed[entry["path"]] = dict(hashed, path=entry["path"])
        finally:
            if landed:
                self._works(upstream, "look", "copy")
            self._remember(landed)

    def _land(self, upstream, entry, resumed):
        """Put a file that has come where it belongs and return its hash; None where it is not whole or not right."""
        came = os.path.join(self._incoming, entry["path"])
        if not os.path.isfile(came) or os.path.getsize(came) < entry["size"]:
            return None
        hashed = weights.hash_file(came)
        if hashed["sha256"] != entry["sha256"]:
            os.remove(came)
            again = os.path.join(self._incoming, AGAIN, entry["path"])
            if resumed and not os.path.exists(again):
                # Its beginning may be of another node, or of a run that was cut off by a crash of this one: once more, from nothing.
                os.makedirs(os.path.dirname(again), exist_ok=True)
                with open(again, "wb"):
                    pass
                return None
            # Another one is asked for the rest too: this one's disk or memory is not to be trusted.
            self.gave_up[upstream.name] = "%s has the SHA-256 %s there, wanted %s" % (entry["path"], hashed["sha256"], entry["sha256"])
            return None
        place = os.path.join(self.root, entry["path"])
        os.makedirs(os.path.dirname(place), exist_ok=True)
        os.chmod(came, 0o644)
        os.replace(came, place)
        entry["landed"] = True
        return hashed

    def _remember(self, landed):
        """Keep the hashes of files that have landed: they are not hashed again. One write for a batch: a file of thousands is long."""
        if not landed:
            return
        with self._lock:
            self.fetched_bytes += sum(hashed["size"] for hashed in landed.values())
            partial = manifest.read_partial(self.root)
            partial["hashes"].update(landed)
            manifest.write_partial(self.root, partial)

    def close(self):
        """End what connections there are."""
        for upstream in self.upstreams:
            upstream.close()

    def clean(self):
        """Remove what is not needed any more."""
        shutil.rmtree(self._incoming, ignore_errors=True)


class Pace:
    """How many transfers run at a time: as few as fill the line, at most C(most).

    One more is tried while all of them are at work, and stays if it brings RATE_GAIN of what each of the others does: a processor
    that ciphers for one connection is full before a quick line is.
    """

    def __init__(self, most, first):
        self.number = min(first, most)
        self._most, self._before, self._since, self._settled = most, None, None, self.number == most

    def look(self, now, came, full):
        """Take note of C(came), bytes that have come, at C(now) (seconds); C(full): whether as many transfers as may are at work."""
        if self._settled or not full:
            self._since = None
        elif self._since is None:
            self._since = (now, came)
        elif now - self._since[0] >= RATE_OVER_S:
            rate = (came - self._since[1]) / (now - self._since[0])
            if self._before is not None and rate < self._before * (1 + RATE_GAIN / (self.number - 1)):
                self.number -= 1
                self._settled = True
            elif self.number == self._most:
                self._settled = True
            else:
                self.number += 1
            self._before, self._since = rate, None


class _Crew:
    """Threads that work on batches of entries while more are found. C(work) is called with one batch; it raises nothing.

    taken: the paths that wait or are worked on.
    """

    def __init__(self, pace, work):
        self.taken = set()
        self._batches, self._busy, self._closed = [], 0, False
        self._work, self._changed, self._pace = work, threading.Condition(), pace
        self._threads = []
        self._more()

    def _more(self):
        """Have as many threads as may work."""
        while len(self._threads) < self._pace.number:
            self._threads.append(threading.Thread(target=self._run, daemon=True))
            self._threads[-1].start()

    def look(self, came):
        """Take note of how many bytes have come; perhaps another number of threads works from now on."""
        with self._changed:
            self._pace.look(time.monotonic(), came, self._busy >= self._pace.number)
            self._more()
            self._changed.notify_all()

    def _run(self):
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._batches and self._busy < self._pace.number or self._closed)
                if self._closed:
                    return
                batch = self._batches.pop(0)
                self._busy += 1
            self._work(batch)
            with self._changed:
                self._busy -= 1
                # What did not land is found again.
                self.taken.difference_update(entry["path"] for entry in batch)
                self._changed.notify_all()

    def take(self, batches):
        """Work on these too."""
        with self._changed:
            self._batches += batches
            self.taken.update(entry["path"] for batch in batches for entry in batch)
            self._changed.notify_all()

    def idle(self):
        """Return whether nothing waits or is worked on."""
        with self._changed:
            return not self._batches and not self._busy

    def wait(self, seconds):
        """Wait so many seconds, or until all that was taken has been worked on."""
        if self.idle():
            time.sleep(seconds)
            return
        with self._changed:
            self._changed.wait_for(lambda: not self._batches and not self._busy, seconds)

    def close(self):
        """Wait for what is worked on; what waits is left."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()


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


def check(streams):
    """Raise RelayError for a number of transfers that never ends."""
    if streams < 1:
        raise RelayError("weights_sync_streams is %d, wanted 1 or more. Remedy: set it to 4, the default, or leave it out." % streams)


def step(relay, streams=4, limit=0, budget_s=20.0, watch=None, stall_s=60.0, full=False, dry=False):
    """Go on for about C(budget_s) seconds; return C({done, changed, phase, total_bytes, left_bytes, fetched_bytes, gave_up, watch, full, differences}).

    With done and no differences the directory is marked complete. C(full): hash what is here whatever is known of it; the result says
    whether the next call has to go on with that. Raises RelayError, weights.HubError and manifest.WriteError.
    """
    check(streams)
    deadline = time.monotonic() + budget_s
    root, wanted = relay.root, relay.wanted
    marker = manifest.read_verified(root, manifest.MARKER, wanted)
    result = {"done": True, "changed": False, "phase": "complete", "total_bytes": 0, "left_bytes": 0, "fetched_bytes": 0,
              "gave_up": relay.gave_up, "watch": None, "full": False, "differences": []}
    complete = bool(marker) and manifest.fingerprint(marker) == relay.fingerprint and manifest.state(root, wanted)["verified"]
    if complete and (dry or not full):
        return result
    if dry:
        return dict(result, changed=True, phase="checked")
    os.makedirs(root, mode=0o755, exist_ok=True)
    relay.phase = "waiting for another run"
    with locked(root, budget_s) as alone:
        if not alone:
            return dict(result, done=False, phase=relay.phase, full=full, watch=watch)
        relay.phase = "verified"
        entries = relay.entries()
        listed = os.path.join(root, LIST)
        # What lies here is hashed rather than fetched; what is wrong is moved out of the way.
        found = weights.verify(root, wanted, full=full, budget_s=min(budget_s, VERIFY_S), discard=True, expected_file=listed)
        left = relay.begin(entries)
        result.update(changed=found["changed"], total_bytes=relay.total_bytes, left_bytes=relay.left_bytes(left), phase="verified")
        if not found["done"]:
            return dict(result, done=False, full=full, watch=watch)
        if left:
            relay.check_room(left)
            relay.phase = "copied"
            watch = relay.pull(left, streams, limit, deadline, watch, stall_s)
            left = relay.missing(entries)
            result.update(watch=watch, left_bytes=relay.left_bytes(left), fetched_bytes=relay.fetched_bytes, phase="copied")
            result["changed"] = result["changed"] or relay.fetched_bytes > 0
            if left:
                return dict(result, done=False)
            found = weights.verify(root, wanted, expected_file=listed)
        result.update(done=found["done"], changed=result["changed"] or found["changed"], differences=found["differences"])
        if found["done"] and not found["differences"]:
            relay.clean()
        return result


def job(root, folder=None):
    """Return the background.Job that copies to a directory."""
    return background.Job("weights-%s" % hashlib.sha256(root.encode("utf-8")).hexdigest()[:12], folder)


def carry_on(relay, own, streams=4, limit=0, stall_s=60.0, full=False, lease_s=LEASE_S):
    """Copy until all is done or nothing more can be; runs in the process of C(own), a background.Job, and tells it how far it is.

    What is told is C({fingerprint, done, error, changed, differences}) and relay.Relay.progress(). It ends, with whatever it has started,
    when nobody has asked for C(lease_s) seconds.
    """
    about = {"fingerprint": relay.fingerprint, "done": False, "error": None, "changed": False, "differences": []}
    over = threading.Event()

    def tick():
        asked, since = own.asked(), time.monotonic()
        while not over.wait(background.WRITE_S):
            seen = asked
            # On a full disk nothing is told, and nobody is known to have asked.
            with contextlib.suppress(OSError):
                own.tell(dict(about, **relay.progress()))
                seen = own.asked()
            if seen != asked:
                asked, since = seen, time.monotonic()
            elif time.monotonic() - since > lease_s:
                os.killpg(0, signal.SIGTERM)

    ticker = threading.Thread(target=tick, daemon=True)
    ticker.start()
    try:
        result = {"done": False, "watch": None, "full": full}
        while not result["done"]:
            result = step(relay, streams, limit, STEP_S, result["watch"], stall_s, result["full"])
            about.update(changed=about["changed"] or result["changed"], differences=result["differences"])
        about["done"] = True
    except RelayError as error:
        about["error"] = "%s: %s" % (relay.root, error)
    except (manifest.WriteError, weights.HubError, OSError) as error:
        about["error"] = "cannot write the weights to %s: %s. Remedy: make room and let root write there." % (relay.root, error)
    except Exception as error:  # pylint: disable=broad-except
        # Nobody sees a traceback of this process.
        about["error"] = "%s: the copy ended with %s: %s. Remedy: run again; what is whole is kept." % (relay.root, type(error).__name__, error)
    relay.close()
    over.set()
    ticker.join()
    own.tell(dict(relay.progress(), left_bytes=0, phase="complete", **about) if about["done"] else dict(about, **relay.progress()))
