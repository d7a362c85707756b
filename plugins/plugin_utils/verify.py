# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Judges what the module serve_answers was told by the groups, in one place; a check result is what ``checks`` describes."""

from __future__ import annotations

from . import data as data_folders
from .checks import Judge
from .judge_api import REFUSED, judge_completion, judge_models, judge_ranks
from .messages import plain

#: Why an answer may end.
FINISHED = ("stop", "length")
#: A text of a model is shown up to so many characters of its own, and where two differ, so many before the first difference.
SHOWN, BEFORE = 200, 40
#: From so many tokens on one chunk is no stream.
TOKENS = 8
#: Chunks that all come within this part of the time without a stream, if that is at least so many seconds, were held somewhere.
HELD_PART, HELD_S = 0.1, 0.5
#: Name of an answer -> what a person calls it.
ANSWERS = {"completion": "completion", "repeat": "the same completion again", "chat": "chat"}
STREAMS = {"stream": "completion as a stream", "chat_stream": "chat as a stream"}


def answer_checks(said, groups, hosts, language: str = "en", data_dirs=()) -> list:
    """Return the check results of all groups.

    ``said``: name of a group -> result of ``serve_answers``. ``groups`` and ``hosts``: those of the plan.
    """
    said, groups, hosts = plain(said), plain(groups), plain(hosts)
    checks = data_folders.load_all(list(data_dirs))[0]["checks"]
    found = []
    for name, result in said.items():
        group = groups[name]
        facts = {"hardware": group["hardware"], "nodes": len(group["hosts"]), "role": group["role"], "release": group["release"]}
        judges = {host: Judge(host, checks, facts, language) for host in group["hosts"]}
        units = {host: [unit for unit in hosts[host]["units"] if unit["group"] == name] for host in group["hosts"]}
        found += Verified(name, group, judges, units, result).checks()
    return found


def quoted(text: str) -> str:
    """Return a model's text in quotes, on one line."""
    return repr(text if len(text) <= SHOWN else text[:SHOWN] + "...")


def difference(one: str, other: str) -> tuple:
    """Return both texts in quotes, from a little before the place where they differ."""
    place = next((index for index, (first, second) in enumerate(zip(one, other)) if first != second), min(len(one), len(other)))
    begin = max(0, place - BEFORE)
    return tuple(quoted(("..." if begin else "") + text[begin:]) for text in (one, other))


class Verified:
    """What one group answered."""

    def __init__(self, name: str, group: dict, judges: dict, units: dict, result: dict):
        self.name, self.group, self.judges, self.units, self.result = name, group, judges, units, result
        self.answers = result["answers"]
        self.judge = judges[group["head"]]
        unit = next((unit for unit in units[group["head"]] if unit["head"]), {"name": name})
        self.words = {"url": group["api"]["url"], "name": unit["name"]}
        #: (what it is called, answer) of every text that came without a stream.
        self.texts = [(title, self.answers[key]) for key, title in ANSWERS.items() if self.answers.get(key, {}).get("answered")]
        self.texts += [(f"question {number}", entry) for number, entry in enumerate(self.answers.get("questions") or [], 1) if entry["answered"]]

    def judged(self, check: str, outcome, observed: str, expected: str, what: str = "") -> dict:
        """Return a check result of the head; ``what`` names the part of the group that it is about."""
        return self.judge.judged(check, outcome, observed, expected, " ".join(filter(None, (self.name, what))), **self.words)

    def checks(self) -> list:
        """Return all check results, in the order in which a person would ask."""
        first, models = self.answers.get("completion"), self.answers.get("models")
        found = [judge_models(self.judge, self.name, self.group, models["status"], models["names"], self.words)] if models else []
        found += [judge_completion(self.judge, self.name, self.group, first, self.words)] if first else []
        found += self.properties() + self.expected()
        for key, judge in (("repeat", self.repeat), ("stream", self.stream), ("chat", self.chat), ("chat_stream", self.stream)):
            found += [judge(self.answers[key])] if key in self.answers else []
        return found + judge_ranks(self.name, self.group, self.answers.get("ranks"), self.judges, self.units) + self.keys() + self.whole()

    def properties(self) -> list:
        """Judge what is the same for every text: whose it is, that it is one, that its tokens are counted, and why it ended."""
        if not self.texts:
            return []
        streams = [(title, self.answers[key]) for key, title in STREAMS.items() if self.answers.get(key, {}).get("ended")]
        wanted, every = self.group["served_model_name"], self.texts + streams
        others = [f"{title} by {entry['model']}" for title, entry in every if entry["model"] != wanted]
        ends = [f"{title}: {entry['finish_reason'] or 'no finish_reason'}" for title, entry in every if entry["finish_reason"] not in FINISHED]
        uncounted = [f"{title} {problem}" for title, entry in self.texts for problem in [self.uncounted(entry)] if problem]
        usage = self.texts[0][1]["usage"] or {}
        return [
            self.judged("answer_model", "other" if others else None, ", ".join(others) or wanted, wanted),
            self.judged("answer_tokens", "missing" if uncounted else None,
                        ", ".join(uncounted) or f"{usage.get('prompt_tokens')} + {usage.get('completion_tokens')} tokens", "a text with its tokens counted"),
            self.judged("answer_finish", "other" if ends else None, ", ".join(ends or [self.texts[0][1]["finish_reason"] or ""]), " or ".join(FINISHED)),
        ]

    @staticmethod
    def uncounted(entry: dict) -> str:
        """Return what is wrong with the text of an answer or the number of its tokens, or nothing."""
        usage = entry["usage"] or {}
        asked, written = usage.get("prompt_tokens"), usage.get("completion_tokens")
        if not entry["text"]:
            return "without a text"
        if not asked or not written:
            return f"without tokens: {asked} of the prompt, {written} of the text"
        return f"with {written} tokens where {entry['max_tokens']} were asked for" if written > entry["max_tokens"] else ""

    def expected(self) -> list:
        """Judge the texts that have to be right."""
        asked = [("", self.answers["completion"])] if self.answers.get("completion", {}).get("matched") is not None else []
        asked += [(f"question {number}", entry) for number, entry in enumerate(self.answers.get("questions") or [], 1)]
        found = []
        for title, entry in asked:
            outcome = "no_answer" if not entry["answered"] else None if entry["matched"] else "other"
            observed = quoted(entry["text"]) if entry["answered"] else unanswered(entry)
            found.append(self.judged("answer_expected", outcome, observed, f"a match of {entry['expected']!r} after {quoted(entry['prompt'])}", title))
        return found

    def repeat(self, again: dict) -> dict:
        """Judge whether the same prompt gives the same text."""
        first, wanted = self.answers["completion"], "the same text again"
        if not again["answered"]:
            return self.judged("answer_repeats", "no_answer", unanswered(again), wanted)
        if again["text"] == first["text"]:
            return self.judged("answer_repeats", None, wanted, wanted)
        one, other = difference(first["text"], again["text"])
        busy = (self.answers.get("requests") or {}).get("running")
        beside = f", beside {busy} request(s) of others" if busy else ""
        return self.judged("answer_repeats", "differs", f"{one}, then {other}{beside}", wanted)

    def chat(self, said: dict) -> dict:
        """Judge a chat."""
        wanted = f"an answer by {self.group['served_model_name']}"
        if said["answered"]:
            return self.judged("chat_answers", None, f"{said['seconds']:.1f} s", wanted)
        outcome = "hung" if said["timed_out"] else "no_template" if untemplated(said["status"], said["text"]) else "failed"
        return self.judged("chat_answers", outcome, unanswered(said), wanted)

    def stream(self, said: dict) -> dict:
        """Judge a stream; one that did not end as it should is no longer compared."""
        outcome, observed = self.broken(said) or self.told(said)
        return self.judged("stream_answers", outcome, observed, "chunks one after another, [DONE], the text that comes without a stream", said["path"])

    @staticmethod
    def broken(said: dict):
        """Return (outcome, what was seen) of a stream that did not end as it should, or None."""
        came = f"{said['chunks']} chunks in {said['seconds']:.1f} s"
        if said["ended"]:
            return None
        if said["endless"]:
            return "endless", f"{came} and no end, more than tokens were asked for"
        if said["timed_out"]:
            return ("endless", f"{came} and no end") if said["chunks"] else ("hung", f"no chunk within {said['seconds']:.0f} s")
        if said["status"] not in (None, 200):
            outcome = "no_template" if untemplated(said["status"], said["error"]) else "failed"
            return outcome, f"HTTP {said['status']}: {said['error']}"
        if said["error"] and (said["failure"] is None or not said["chunks"]):
            return "failed", f"{came}, then: {said['error']}"
        return "cut_off", f"{came}, then the end without [DONE]"

    def told(self, said: dict) -> tuple:
        """Return (outcome or None, what was seen) of a stream that ended with [DONE]."""
        came = f"{said['chunks']} chunks in {said['seconds']:.1f} s"
        plain_one = self.answers["chat" if said is self.answers.get("chat_stream") else "completion"]
        if said["same"] is False:
            one, other = difference(said["text"], said["unstreamed"])
            return ("other_text" if said["stable"] else "unstable"), f"{one} as a stream, {other} without"
        if not said["chunks"]:
            return "failed", "[DONE] without a text"
        tokens = (plain_one["usage"] or {}).get("completion_tokens") or 0
        if said["chunks"] == 1 and tokens >= TOKENS:
            return "one_chunk", f"{tokens} tokens in one chunk"
        if plain_one["answered"] and plain_one["seconds"] >= HELD_S and said["spread_s"] < HELD_PART * plain_one["seconds"] and tokens >= TOKENS:
            return "at_once", f"{said['chunks']} chunks within {said['spread_s']:.2f} s, after {said['first_s']:.1f} s without one"
        return None, f"{came}, [DONE], the same text"

    def keys(self) -> list:
        """Judge what a wrong key, and none, got."""
        found = []
        for key, title in (("wrong", "wrong key"), ("none", "no key")):
            entry = (self.answers.get("key_refusals") or {}).get(key)
            if entry is None:
                continue
            status = entry["status"]
            outcome = None if status in REFUSED else "accepted" if status is not None and 200 <= status < 300 else "not_understood"
            # A server may repeat what it was sent: only its status is shown.
            observed = f"HTTP {status}" if status is not None else unanswered(entry)
            found.append(self.judged("api_key_refused", outcome, observed, "HTTP 401", title))
        return found

    def whole(self) -> list:
        """Judge whether anything was not asked."""
        missing, asked = self.result["not_asked"], self.result["asked"]
        wanted = f"{asked} of {asked} questions asked"
        if not missing:
            return [self.judged("verify_whole", None, wanted, wanted)] if asked > 1 else []
        over = f"{self.result['seconds']:.0f} s were over; " if self.result["over"] else ""
        return [self.judged("verify_whole", "over" if over else "left_out", f"{over}not asked: {', '.join(missing)}", wanted)]


def unanswered(entry: dict) -> str:
    """Return what came instead of an answer."""
    if entry["timed_out"]:
        return f"no answer within {entry['seconds']:.0f} s"
    return f"HTTP {entry['status']}: {entry['text']}" if entry["status"] is not None else f"no answer: {entry['text']}"


def untemplated(status, text) -> bool:
    """Return whether a chat is refused because the model has no template for one."""
    return status == 400 and "chat template" in str(text).lower()
