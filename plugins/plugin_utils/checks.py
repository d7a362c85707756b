# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a check is called, how bad its outcomes are and what to do about them: from data/checks, in the language of the run.

A check result is ``{host, check, device, status: pass|warn|fail|unknown, observed, expected, remedy, accepted, title, meaning}``. What
was not understood is ``unknown`` and stops a run like a failure.
"""

from __future__ import annotations

from . import conditions
from .messages import CONTROLLER, check, did_you_mean, known_names

LANGUAGES = ("en", "zh")


class Judge:
    """Turns what was seen on one host into check results, by the data of the checks.

    ``facts`` are the subjects that the ``unless`` conditions may ask for: hardware, nodes, role, release.
    """

    def __init__(self, host: str, checks: dict, facts: dict, language: str = "en"):
        self.host = host
        self.checks = checks
        self.facts = facts
        self.language = language

    def limits(self, name: str) -> dict:
        """Return the numbers of a check."""
        return self.checks[name].get("limits") or {}

    def passed(self, name: str, observed: object, expected: object = "", device: str = "") -> dict:
        """Return a check result that passed."""
        return self._result(name, "pass", observed, expected or observed, "", device)

    def found(self, name: str, outcome: str, observed: object, expected: object, /, device: str = "", hccs: bool = False, **words) -> dict:
        """Return a check result for an outcome; ``words`` fill the braces of its remedy, ``hccs`` says whether the device has HCCS."""
        entry = self.checks[name]["outcomes"][outcome]
        status = self._status(entry, hccs)
        remedy = "" if status == "pass" else self._text(entry["remedy"]).format(host=self.host, **words)
        return self._result(name, status, observed, expected, remedy, device)

    def judged(self, name: str, outcome, observed: object, expected: object, /, device: str = "", hccs: bool = False, **words) -> dict:
        """Return ``found``, or ``passed`` if there is no outcome."""
        if outcome is None:
            return self.passed(name, observed, expected, device)
        return self.found(name, outcome, observed, expected, device, hccs, **words)

    def _status(self, entry: dict, hccs: bool) -> str:
        facts = {**self.facts, "hccs": hccs, "env": {}, "flag": {}}
        for exception in entry.get("unless") or []:
            if conditions.holds(exception["when"], facts):
                return exception["status"]
        return entry["status"]

    def _text(self, texts: dict) -> str:
        """Return a text in the language of the run; a site's own entry may have English only."""
        return texts.get(self.language) or texts["en"]

    def _result(self, name, status, observed, expected, remedy, device):
        return {
            "host": self.host,
            "check": name,
            "device": device,
            "status": status,
            "observed": "nothing" if observed is None or observed == "" else str(observed),
            "expected": str(expected),
            "remedy": remedy,
            "accepted": False,
            "title": self._text(self.checks[name]["title"]),
            "meaning": self._text(self.checks[name]["meaning"]),
        }


def accept(found: list, accepted: list) -> list:
    """Return the check results with those marked that ``accepted`` names, as ``check`` or ``check@host``; nothing is taken out."""
    names = set(accepted)
    return [
        {**entry, "accepted": entry["status"] != "pass" and bool(names & {entry["check"], f"{entry['check']}@{entry['host']}"})}
        for entry in found
    ]


def stops(entry: dict) -> bool:
    """Return whether a check result stops a run."""
    return entry["status"] in ("fail", "unknown") and not entry.get("accepted")


def accept_checks(accepted: list, checks: dict, hosts: list) -> list:
    """Return a failed check for each entry of preflight_accept that names no check, no host, or one that cannot be accepted."""
    found = []
    for entry in accepted:
        name, at, host = str(entry).partition("@")
        if name not in checks:
            wanted, remedy = known_names(sorted(checks)), f"{did_you_mean(name, checks)}Names are those of the report."
        elif checks[name].get("acceptable") is False:
            wanted, remedy = "a fault that a run can go on with", "mend it; nothing can be done on a node without it."
        elif at and host not in hosts:
            wanted, remedy = f"check@host with {known_names(hosts)}", f"{did_you_mean(host, hosts)}Leave @host out to accept it on all nodes."
        else:
            continue
        found.append(check(CONTROLLER, "accept_known", "preflight_accept", f"the entry {entry!r}", wanted, remedy))
    return found
