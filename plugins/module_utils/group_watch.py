# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The watch of one unit: after a reboot or a crash the whole group comes back, or nothing of it, without a controller.

Every start of a group has a number, its generation, which the head's watch gives out and which only grows. A unit runs for one
generation: its container was started by its watch, or adopted from a state file that names this very run of it. The head begins a
generation when every unit of the group has said that its container is stopped for it; it ends one when its own container or a peer's
does not run as started, a peer is not heard, or what is asked of its own API or of a peer's fails. A unit whose head has another
generation, or is not heard, stops its container and joins again. Each unit with an API of its own (C(asks): the head, and each rank of
prefill and decode) is asked by its own watch; a group serves when all of them have answered. Containers are only started and stopped, never
made, and only by the label of the group.

C(Head) and C(Peer) decide and touch nothing; C(Watch) looks, lets them decide and acts. Times that are compared come from one monotonic
clock in seconds; only generations and the record of starts, which outlive a reboot, are of the wall clock.
"""

from __future__ import annotations

import collections
import json
import os
import signal
import sys
import threading
import time

from ansible_collections.ascend.vllm.plugins.module_utils import plain_http, watch_wire
from ansible_collections.ascend.vllm.plugins.module_utils.ask_service import failure_of, why
from ansible_collections.ascend.vllm.plugins.module_utils.docker_engine import DEFAULT_SOCKET, GROUP, DockerEngine
from ansible_collections.ascend.vllm.plugins.module_utils.serve_api import Api

#: What a container can be: C(foreign) has the unit's name but not its group's label, C(unknown) is an engine that does not answer.
RUNNING, STOPPED, ABSENT, FOREIGN, UNKNOWN = "running", "stopped", "absent", "foreign", "unknown"
#: What a report says besides these: a start is under way; it runs, but not as it was started for the generation.
COMING, STRANGE = "starting", "strange"
#: A container as the engine shows it; C(id) and C(started_at) name one run of it, C(detail) says why it does not run.
Seen = collections.namedtuple("Seen", "kind id started_at detail")

WAITING, STARTING, SERVING, STOPPING, GIVEN_UP = "waiting", "starting", "serving", "stopping", "given_up"
#: What became of a completion: C(busy) is no answer in time while others were computed, one that blames the question, or none that this
#: node could have had or believed.
ANSWERED, BUSY, FAILED = "answered", "busy", "failed"

#: Seconds between two looks, and between two questions to a group that starts.
POLL_S, START_PROBE_S = 2.0, 5.0
#: Seconds between two counts of tokens, where none could be had before the completion: longer than a step of the engines.
BETWEEN_S = 5.0
#: Completions of one unit that fail in a row until the group counts as broken.
FAILURES = 2
#: Exit status for a configuration that no repetition mends (EX_CONFIG).
CONFIG_ERROR = 78
#: A run that no container has: for a start that was begun by an earlier watch and cannot be proved to be the one that runs.
_NO_RUN = ("", "")


def look(engine, name, group):
    """Return what the engine says of a unit's container, as Seen."""
    try:
        found = engine.container(name)
    except OSError as error:
        return Seen(UNKNOWN, None, None, str(error))
    if found is None:
        return Seen(ABSENT, None, None, "is not there")
    if ((found.get("Config") or {}).get("Labels") or {}).get(GROUP) != group:
        return Seen(FOREIGN, None, None, "has not the label %s=%s" % (GROUP, group))
    state = found.get("State") or {}
    if state.get("Running"):
        return Seen(RUNNING, found.get("Id"), state.get("StartedAt"), "")
    why = state.get("Error") or ("killed by the kernel: out of memory" if state.get("OOMKilled") else "")
    return Seen(STOPPED, found.get("Id"), None, "exited with status %s%s" % (state.get("ExitCode"), " (%s)" % why if why else ""))


def read_json(path):
    """Return the mapping in a file, or None where there is none or it is no mapping."""
    try:
        with open(path, encoding="utf-8") as stream:
            found = json.load(stream)
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def same_run(saved, seen):
    """Return whether the container runs, and a state file means this very run of it."""
    return bool(seen.kind == RUNNING and saved and seen.id and (saved.get("container_id"), saved.get("started_at")) == (seen.id, seen.started_at))


class Member:
    """What head and headless units have in common: a generation, and the run of the container that belongs to it."""

    def __init__(self, config, saved, now):
        """C(saved): the content of the state file, or None."""
        saved = saved or {}
        self.config = config
        self.born = now
        self.saved = saved
        generation = saved.get("generation")
        self.generation = generation if isinstance(generation, int) and not isinstance(generation, bool) else None
        self.phase = saved.get("phase")
        self.reason = str(saved.get("reason") or "")
        self.started = bool(saved.get("started"))
        self.run = None
        self.settled = False
        #: Whether the own API has answered since the start, how often in a row it has failed since the group serves, and when it is asked next.
        self.answered, self.failures, self.next_probe = False, 0, now
        #: Why the last completion proves nothing, where it was neither an answer nor a failure.
        self.doubt = ""

    def record(self):
        """Return what the state file has to say."""
        container_id, started_at = self.run or (None, None)
        return {"generation": self.generation, "phase": self.phase, "reason": self.reason, "started": self.started,
                "container_id": container_id, "started_at": started_at}

    def runs(self, seen):
        """Return whether the container runs as it was started for the generation."""
        return seen.kind == RUNNING and self.run == (seen.id, seen.started_at)

    def settle(self, seen):
        """Adopt the run that the state file names, at the first look that shows anything. Return whether it is known where this unit stands."""
        if self.settled or seen.kind == UNKNOWN:
            return self.settled
        self.settled = True
        if self.generation is not None and same_run(self.saved, seen):
            self.run, self.started = (seen.id, seen.started_at), True
        elif self.started:
            self.run = _NO_RUN
        return True

    def know(self, seen, busy):
        """Learn which run of the container a start gave."""
        if self.started and self.run is None and busy is None and seen.kind == RUNNING:
            self.run = (seen.id, seen.started_at)

    def count(self, probe):
        """Take the end of a completion into account, if there is one of this start; return what is wrong, or an empty text."""
        if probe and probe[0] == self.generation:
            outcome, detail = probe[1:]
            self.answered = self.answered or outcome == ANSWERED
            self.doubt = detail if outcome == BUSY else ""
            self.failures = self.failures + 1 if outcome == FAILED and self.phase == SERVING else 0
            if self.failures >= FAILURES:
                return "%d completions in a row failed: %s" % (self.failures, detail)
        return ""

    def due_probe(self, now):
        """Return C([probe]) when it is time for the next completion."""
        if now < self.next_probe:
            return []
        self.next_probe = now + (START_PROBE_S if self.phase == STARTING else self.config["probe_s"])
        return ["probe"]


class Head(Member):
    """The watch of the unit that answers for the group. C(units): the names of the other ones."""

    def __init__(self, config, saved, now, units):
        super().__init__(config, saved, now)
        self.units = list(units)
        self.reports = {}
        self.waits_for = ""
        stated = self.saved.get("starts")
        self.starts = [entry for entry in stated if isinstance(entry, (int, float))] if isinstance(stated, list) else []
        self.not_before = self.since = now

    def record(self):
        """Return what the state file has to say."""
        return dict(super().record(), starts=self.starts, waits_for=self.waits_for)

    def hear(self, now, unit, report):
        """Take a peer's report and return the answer."""
        self.reports[unit] = dict(report, at=now)
        return self.answer()

    def answer(self):
        """Return where the group stands. Until that is known nobody may start on what an earlier watch wrote."""
        return {"generation": self.generation or 0, "phase": self.phase if self.settled else WAITING, "reason": self.reason}

    def step(self, now, wall, seen, busy, error=None, probe=None):
        """Return what has to be done now, of C(start), C(stop) and C(probe).

        busy: C(start) or C(stop) while one is under way; error: why a start failed; probe: C((generation, outcome, detail)) of a
        completion that has ended.
        """
        if not self.settled:
            if not self.settle(seen):
                return []
            # After a reboot of its own, or an operator's, a group that failed long ago gets another chance.
            self.starts = [start for start in self.starts if 0 <= wall - start < self.config["window_s"]]
            if not self.runs(seen):
                self._renew(now, wall, "the container was not running when the watch began", failed=False)
            else:
                self.phase = self.phase if self.phase in (STARTING, SERVING) else SERVING
                self.since = now
        if self.phase in (STARTING, SERVING):
            self.know(seen, busy)
            trouble = self._of_own(seen, busy, error) or self._of_peers(now) or self._of_probes(now, probe)
            if trouble:
                self._renew(now, wall, trouble)
        if self.phase in (STARTING, SERVING):
            if self.phase == SERVING and now - self.since >= self.config["stable_s"]:
                self.starts = []
            return self.due_probe(now)
        return self._toward_start(now, wall, seen, busy)

    def _renew(self, now, wall, reason, failed=True):
        """End the generation: another number, everything is stopped, and a new start after a while, or none any more.

        A start of a large model may take longer than any window of time, so it is the starts since the group last served for a while
        that are counted.
        """
        self.generation = max((self.generation or 0) + 1, int(wall))
        self.started, self.run, self.answered, self.failures, self.waits_for, self.doubt = False, None, False, 0, "", ""
        wait = min(self.config["backoff_s"] * 2 ** len(self.starts), self.config["backoff_limit_s"]) if failed or self.starts else 0
        self.not_before = now + wait
        if len(self.starts) < self.config["starts"]:
            self.phase, self.reason = STOPPING, reason
        elif self.phase != GIVEN_UP:
            self.phase, self.reason = GIVEN_UP, "%d starts in a row came to nothing, the last one: %s" % (len(self.starts), reason)

    def _of_own(self, seen, busy, error):
        """Return what is wrong with the own container, or None."""
        if error:
            return "%s could not be started: %s" % (self.config["unit"], error)
        if busy == "start" or seen.kind == UNKNOWN or self.runs(seen):
            return None
        return "%s %s" % (self.config["unit"], "was started by somebody else" if seen.kind == RUNNING else seen.detail)

    def _of_peers(self, now):
        """Return what is wrong with a peer, or None. One that a watch has never heard gets more time: services do not begin at once everywhere."""
        for unit in self.units:
            said = self.reports.get(unit)
            if said is None or now - said["at"] > self.config["lost_s"]:
                if said is not None or now - self.born > 3 * self.config["lost_s"]:
                    return "%s has not been heard for %d s" % (unit, now - (said["at"] if said else self.born))
                continue
            if said.get("generation") != self.generation:
                return "%s is not of this start any more" % unit
            kind = said.get("container")
            not_yet = kind == STOPPED and not said.get("started") and self.phase == STARTING
            if kind not in (RUNNING, UNKNOWN, COMING) and not not_yet:
                return "%s %s" % (unit, said.get("detail") or kind)
            if self.phase == SERVING and said.get("failed"):
                return "%s: %s" % (unit, said["failed"])
        return None

    def _of_probes(self, now, probe):
        """Take the end of a completion into account; return what is wrong, or None."""
        trouble = self.count(probe)
        if self.phase == STARTING:
            lacking, doubt = self._unanswered()
            self.waits_for = lacking and "%s%s yet" % (lacking, " (%s)" % doubt if doubt else "")
            if not lacking:
                self.phase, self.since, self.next_probe = SERVING, now, now + self.config["probe_s"]
            elif now - self.since > self.config["ready_timeout_s"] and not doubt:
                # One that may serve, for all that is known here, is not stopped for it.
                return "%s within %d s" % (lacking, self.config["ready_timeout_s"])
        return trouble or None

    def _unanswered(self):
        """Return (which unit with an API of its own has not answered since the start, why that proves nothing), or empty texts.

        One of which it proves something comes first.
        """
        found = [] if self.answered else [("no completion", self.doubt)]
        for unit in self.units:
            said = self.reports.get(unit, {})
            if said.get("answered") is False:
                found.append(("no answer of %s" % unit, said.get("doubt") or ""))
        return min(found, key=lambda entry: bool(entry[1]), default=("", ""))

    def _toward_start(self, now, wall, seen, busy):
        """Return what brings a group that does not run nearer to its next start."""
        if seen.kind == RUNNING:
            return [] if busy else ["stop"]
        if self.phase == STOPPING and seen.kind != UNKNOWN and busy is None:
            self.phase = WAITING
        if self.phase != WAITING:
            return []
        lacking = [] if seen.kind == STOPPED else ["%s %s" % (self.config["unit"], seen.detail)]
        lacking += [text for text in (self._lacking(now, unit) for unit in self.units) if text]
        self.waits_for = "; ".join(lacking) or ("the back-off" if now < self.not_before else "")
        if self.waits_for or busy:
            return []
        self.phase, self.started, self.since, self.next_probe = STARTING, True, now, now + START_PROBE_S
        self.starts.append(int(wall))
        return ["start"]

    def _lacking(self, now, unit):
        """Return why a peer cannot be started yet, or None."""
        said = self.reports.get(unit)
        if said is None or now - said["at"] > self.config["lost_s"]:
            return "%s is not heard" % unit
        if said.get("generation") == self.generation and said.get("container") == STOPPED and not said.get("started"):
            return None
        if said.get("container") in (ABSENT, FOREIGN, UNKNOWN):
            return "%s %s" % (unit, said.get("detail") or said["container"])
        return "%s is not stopped yet" % unit


class Peer(Member):
    """The watch of any other unit: a headless one, or a rank that answers by itself and whose API it asks, too."""

    def __init__(self, config, saved, now):
        super().__init__(config, saved, now)
        #: The head's generation and when it was heard last; None until then.
        self.wanted = None
        self.heard = now
        self.error = self.failed = ""

    def report(self, seen, busy, error=None, probe=None):
        """Return what the head has to know, and learn what there is to know at this look. error: why a start failed; probe: as for Head.

        C(answered) is null for a unit without an API, C(failed) what is wrong with one that has it, C(doubt) why its last answer proves nothing.
        """
        self.failed = self.count(probe) or (self.failed if self.failures else "")
        if error:
            self.error = "could not be started: %s" % error
        if self.settle(seen):
            self.know(seen, busy)
        kind = seen.kind
        if busy == "start":
            kind = COMING
        elif kind == RUNNING and not self.runs(seen):
            kind = STRANGE
        detail = self.error or ("runs, but was not started by its watch" if kind == STRANGE else seen.detail)
        answered = self.answered if self.config.get("asks") else None
        return {"generation": self.generation, "container": kind, "started": self.started, "detail": detail, "answered": answered, "failed": self.failed,
                "doubt": self.doubt}

    def step(self, now, dummy, seen, busy, dummy_error=None, answer=None):
        """Return what has to be done now, of C(start), C(stop) and C(probe). answer: the head's to the report of this look, None where there was none."""
        if answer is not None:
            self.wanted, self.heard = answer["generation"], now
            self.phase, self.reason = answer["phase"], answer["reason"]
        if not self.settle(seen):
            return []
        self.know(seen, busy)
        limit = self.config["lost_s"] * (1 if self.wanted is not None else 3)
        if now - self.heard > limit and self.generation is not None:
            self._join(None)
            self.wanted, self.phase, self.reason = None, WAITING, "the head has not answered for %d s" % (now - self.heard)
        if self.wanted is not None and self.wanted != self.generation:
            self._join(self.wanted)
        if busy:
            return []
        if seen.kind == RUNNING:
            if not self.runs(seen):
                return ["stop"]
            return self.due_probe(now) if self.config.get("asks") else []
        if seen.kind == STOPPED and self.phase == STARTING and self.generation is not None and not self.started:
            self.started = True
            return ["start"]
        return []

    def _join(self, generation):
        """Be of a generation, or of none, with nothing started for it."""
        self.generation, self.started, self.run, self.error, self.failed, self.doubt = generation, False, None, "", "", ""
        self.answered, self.failures, self.next_probe = False, 0, self.born


class Beside:
    """One call at a time beside the loop. C(spawn): a function that runs a function, in a thread unless a test has its own."""

    def __init__(self, spawn):
        self.spawn = spawn
        self.busy = None
        self.done = None

    def begin(self, name, call):
        """Begin a call unless one is under way; C(busy) is its name until it has ended."""
        if self.busy is not None:
            return
        self.busy = name

        def run():
            try:
                result, error = call(), None
            except Exception as caught:  # pylint: disable=broad-except
                # A thread that dies of it would leave the loop waiting for ever.
                result, error = None, str(caught) or type(caught).__name__
            # In this order: who sees that nothing is under way finds the result.
            self.done = (name, result, error)
            self.busy = None

        self.spawn(run)

    def take(self):
        """Return C((name, result, error)) of the call that has ended, once, or None."""
        done, self.done = self.done, None
        return done


class Watch:
    """Looks, lets the member decide, acts. Everything that has an effect or depends on time is handed in.

    engine: container, start and stop of DockerEngine; clock and wall: functions that return seconds; spawn: see Beside; keep: a function
    that writes the state file; say: one that logs a line; talk: C(exchange) of a Link, on all units but the head; ask: a function that returns
    (outcome, detail) of a completion, where the unit has an API.
    """

    def __init__(self, config, member, engine, clock, wall, spawn, keep, say, talk=None, ask=None):
        self.config, self.member, self.engine = config, member, engine
        self.clock, self.wall, self.keep, self.say = clock, wall, keep, say
        self.talk, self.ask = talk, ask
        self.hands, self.probe = Beside(spawn), Beside(spawn)
        self.lock = threading.Lock()
        self.kept = self.said = self.complained = self.doubted = None

    def hear(self, unit, report):
        """Answer a peer's report, on the head."""
        with self.lock:
            return self.member.hear(self.clock(), unit, report)

    def tick(self):
        """Look once, and do what has to be done."""
        # In this order: what is seen is never older than the end of a start or stop.
        busy, done = self.hands.busy, self.hands.take()
        seen = look(self.engine, self.config["unit"], self.config["group"])
        error = self._failed(done)
        probed = self._probed()
        extra = self._exchange(seen, busy, error, probed) if self.talk else probed
        with self.lock:
            actions = self.member.step(self.clock(), self.wall(), seen, busy, error, extra)
            record = self.member.record()
        # A start that nobody remembers would be somebody else's after a crash of the watch, so it is written down first.
        self._note(record, seen)
        for action in actions:
            self._act(action, seen)

    def _failed(self, done):
        """Return why a start failed, or None; a stop that failed is begun again by itself."""
        if done is None or done[2] is None:
            return None
        self.say("cannot %s %s: %s" % (done[0], self.config["unit"], done[2]))
        return done[2] if done[0] == "start" else None

    def _exchange(self, seen, busy, error, probed):
        """Return the head's answer, or None."""
        with self.lock:
            report = self.member.report(seen, busy, error, probed)
        try:
            answer = self.talk(report)
            if not isinstance(answer.get("generation"), int) or not isinstance(answer.get("phase"), str) or not isinstance(answer.get("reason"), str):
                raise OSError("an answer without generation, phase and reason")
        except OSError as error:
            self._complain("the head does not answer: %s" % error)
            return None
        self._complain(None)
        return answer

    def _complain(self, text):
        """Log a complaint when it is another one than before."""
        if text and text != self.complained:
            self.say(text)
        self.complained = text

    def _probed(self):
        """Return (generation, outcome, detail) of a completion that has ended, or None."""
        done = self.probe.take()
        if done is None:
            return None
        dummy, result, error = done
        generation, outcome, detail = result if error is None else (self.member.generation, FAILED, error)
        doubt, self.doubted = self.doubted, detail if outcome == BUSY else None
        # A failure belongs to a start, every five seconds; what an operator has to mend does not.
        if outcome != ANSWERED and self.member.phase == SERVING or outcome == BUSY and detail != doubt:
            self.say("a completion did not come back (%s): %s" % (outcome, detail))
        return generation, outcome, detail

    def _note(self, record, seen):
        """Write the state file and a line of log where something has changed."""
        if record != self.kept:
            try:
                self.keep(record)
                self.kept = record
            except OSError as error:
                # A full disk is no reason to stop a group that serves.
                self.say("the state file cannot be written: %s" % error)
        line = "generation %s, %s%s%s%s" % (
            record["generation"], record["phase"], " (%s)" % record["waits_for"] if record.get("waits_for") else "",
            "; the last start ended because: %s" % record["reason"] if record["reason"] else "", "; %s" % seen.detail if seen.kind == UNKNOWN else "")
        if line != self.said:
            self.say(line)
        self.said = line

    def _act(self, action, seen):
        """Begin one action. By the id that was looked at, so that it is not another container's by now."""
        if action == "probe":
            generation = self.member.generation
            self.probe.begin(action, lambda: (generation,) + self.ask())
        elif seen.id and seen.kind in (RUNNING, STOPPED):
            self.say("%s %s" % (action, self.config["unit"]))
            if action == "start":
                self.hands.begin(action, lambda: self.engine.start(seen.id))
            else:
                self.hands.begin(action, lambda: self.engine.stop(seen.id, self.config["stop_timeout_s"]))


def _api(config):
    """Return (the API that a unit is asked at, what this node lacks to ask it); one of them is None."""
    key, path = None, config.get("api_key_file")
    try:
        if path:
            with open(path, encoding="utf-8") as stream:
                key = stream.read().strip()
        path = config.get("ca_file")
        if path:
            plain_http.verifying(path)
    except (OSError, ValueError) as error:
        return None, "this node cannot ask: %s is of no use: %s" % (path, getattr(error, "strerror", None) or error)
    return Api(config["url"], key, config.get("ca_file")), None


def _tokens(api, timeout):
    """Return (how many tokens the group has computed, None where it does not say it; whether it did not say it in time)."""
    try:
        return api.load(timeout)[1], False
    except OSError as error:
        return None, failure_of(error)[0] == "hung"
    except ValueError:
        return None, False


def _computes(api, timeout, before, late):
    """Return whether tokens are computed. before, late: what _tokens() returned before the completion."""
    if late:
        # Metrics that are late belong to a group under load: two later counts say what the first one would have.
        before = _tokens(api, timeout)[0]
        if before is not None:
            time.sleep(BETWEEN_S)
    after = _tokens(api, timeout)[0] if before is not None else None
    return after is not None and after > before


def _asked(api, config):
    """Return (answered, HTTP status, text) of what a unit may be asked by itself: what it serves, where it computes no prompt, else a completion."""
    if not config.get("answers_alone", True):
        return api.serves(config["model"], config["probe_timeout_s"])
    status, text = api.get("/health", config["probe_timeout_s"])
    return api.completion(config["model"], config["probe_timeout_s"]) if status == 200 else (False, status, text)


def ask_completion(config):
    """Return (outcome, detail) of one completion, or of what takes its place.

    A group whose queue is long may not answer in time and yet be well: as long as it computes tokens for others it is busy, not broken.
    A question that is refused (a key that was changed, a name) says nothing against the engines either, nor does one that this node cannot ask,
    or whose answer it cannot trust, because of its own files or a certificate.
    """
    api, lacking = _api(config)
    if lacking:
        return BUSY, lacking
    before, late = _tokens(api, config["probe_timeout_s"])
    try:
        answered, status, text = _asked(api, config)
    except OSError as error:
        kind, text = failure_of(error, config.get("ca_file"))
        if kind in ("certificate", "ca_file"):
            return BUSY, text
        answered, status = False, None
    except ValueError as error:
        return BUSY, why(error)
    if answered:
        return ANSWERED, ""
    detail = "HTTP %s: %s" % (status, " ".join(text.split())[:300]) if status is not None else text
    alive = status is not None and 400 <= status < 500 or _computes(api, config["probe_timeout_s"], before, late)
    return (BUSY if alive else FAILED), detail


def keeper(path):
    """Return a function that writes a state file so that a crash leaves the old one or the new one."""

    def keep(record):
        partial = path + ".partial"
        with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as stream:
            json.dump(record, stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(partial, path)

    return keep


def say(line):
    """Log a line; the service's output is in the journal."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def in_thread(run):
    """Run a function in a thread that does not keep the process."""
    threading.Thread(target=run, daemon=True).start()


def build(config, key):
    """Return (watch, desk or None) of a configuration; see the template of the role C(supervise) for its keys."""
    engine = DockerEngine(config.get("docker_socket") or DEFAULT_SOCKET, 5.0)
    now, saved = time.monotonic(), read_json(config["state_file"])
    own = {"engine": engine, "clock": time.monotonic, "wall": time.time, "spawn": in_thread, "keep": keeper(config["state_file"]), "say": say}

    def ask():
        return ask_completion(config)

    if not config["head"]:
        link = watch_wire.Link(key, config["group"], config["unit"], watch_wire.poster(config["address"], config["port"]))
        return Watch(config, Peer(config, saved, now), talk=link.exchange, ask=ask, **own), None
    watch = Watch(config, Head(config, saved, now, config["units"]), ask=ask, **own)
    return watch, watch_wire.Desk(key, config["group"], config["units"], watch.hear) if config["units"] else None


def listen(config, desk, over):
    """Return the head's server; its address may come up after this service, so it is tried until it is there or C(over) is set."""
    complained = None
    while not over.is_set():
        try:
            return watch_wire.Server(config["address"], config["port"], desk)
        except OSError as error:
            text = "cannot listen on %s:%d: %s" % (config["address"], config["port"], error.strerror or error)
            if text != complained:
                say(text)
            complained = text
            over.wait(POLL_S)
    return None


def run(path, over):
    """Watch until C(over) is set; return the exit status."""
    config = read_json(path)
    try:
        with open(config["key_file"], "rb") as stream:
            key = stream.read().strip()
        watch, desk = build(config, key)
    except (KeyError, TypeError, OSError) as error:
        say("%s or the key that it names is of no use: %s. Remedy: run site.yml again." % (path, error))
        return CONFIG_ERROR
    if len(key) < 32:
        say("the key in %s is shorter than 32 characters. Remedy: run site.yml again." % config["key_file"])
        return CONFIG_ERROR
    server = listen(config, desk, over) if desk else None
    while not over.is_set():
        watch.tick()
        over.wait(POLL_S)
    if server:
        server.close()
    return 0


def main():
    """Run the watch of the configuration that the command line names. Its end leaves the container as it is."""
    over = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *dummy: over.set())
    raise SystemExit(run(sys.argv[1], over))


if __name__ == "__main__":
    main()
