# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Judges what the API of a group answered: its models, a completion, one of every rank. Status and verify share it.

``words`` fill the braces of the remedies: ``url`` of the API and ``name`` of the head's container.
"""

from __future__ import annotations

#: HTTP statuses with which a server refuses an API key.
REFUSED = (401, 403)
#: Kinds of a completion without an HTTP answer that have a remedy of their own.
KINDS = ("certificate", "tls", "ca_file")
#: HTTP status -> outcome; any other one is ``failed``.
OUTCOMES = {404: "unknown_model", 400: "bad_request", 200: "not_understood"}


def refused(status: int, group: dict) -> str:
    """Return that a server did not take the API key, without the key."""
    return f"HTTP {status}: " + (f"the API key of {group['api_key_file']} is refused" if group["api_key_file"] else "an API key is wanted, and none is stated")


def judge_models(judge, name: str, group: dict, status: int, models: list, words: dict) -> dict:
    """Judge the names that /v1/models has."""
    wanted = group["served_model_name"]
    if status in REFUSED:
        return judge.found("api_models", "unauthorized", refused(status, group), wanted, name, **words)
    if status != 200:
        return judge.found("api_models", "not_understood", f"HTTP {status}", wanted, name, **words)
    return judge.judged("api_models", None if wanted in models else "other", ", ".join(models), wanted, name, **words)


def judge_completion(judge, name: str, group: dict, said: dict, words: dict, health: int | None = None, hangs: bool = True) -> dict:
    """Judge a completion.

    ``health``: what /health said where it was asked. ``hangs``: whether one that does not come hangs, or nobody answers at all.
    """
    wanted = f"a completion by {group['served_model_name']}"
    before = "/health says 200, but " if health == 200 else ""
    if said["answered"]:
        return judge.passed("completion", f"{said['seconds']:.1f} s", wanted, name)
    if said["timed_out"]:
        observed = f"{before}a completion did not come back within {said['seconds']:.0f} s"
        return judge.found("completion", "hung" if hangs else "silent", observed, wanted, name, **words)
    if said["status"] is None:
        outcome = said["failure"] if said.get("failure") in KINDS else "silent"
        return judge.found("completion", outcome, f"{before}no completion: {said['text']}", wanted, name, **words)
    if said["status"] in REFUSED:
        return judge.found("completion", "unauthorized", refused(said["status"], group), wanted, name, **words)
    outcome = OUTCOMES.get(said["status"], "failed")
    return judge.found("completion", outcome, f"{before}/v1/completions answered HTTP {said['status']}: {said['text']}", wanted, name, **words)


def judge_ranks(name: str, group: dict, ranks: list | None, judges: dict, units: dict) -> list:
    """Judge the completions of the ranks; one that does not answer is a finding of the host that has it.

    ``units``: host -> its units of this group.
    """
    head = group["head"]
    if not ranks:
        return []
    silent = [entry for entry in ranks if not entry["answered"]]
    wanted = f"{len(ranks)} of {len(ranks)} ranks"
    if not silent:
        return [judges[head].passed("rank_answers", wanted, wanted, name)]
    if len(silent) == len(ranks):
        return [judges[head].found("rank_answers", "none", f"0 of {len(ranks)} ranks", wanted, name)]
    found = []
    for entry in silent:
        host, unit = next(((host, unit) for host in group["hosts"] for unit in units[host]
                           if unit["rank"] <= entry["rank"] < unit["rank"] + unit["ranks"]), (head, {"name": name}))
        what = f"HTTP {entry['status']}: {entry['text']}" if entry["status"] else entry["text"]
        observed = f"no completion within {entry['seconds']:.0f} s" if entry["timed_out"] else what
        found.append(judges[host].found("rank_answers", "hung" if entry["timed_out"] else "failed", observed, "a completion of this rank",
                                        f"{name} rank {entry['rank']}", name=unit["name"]))
    return found
