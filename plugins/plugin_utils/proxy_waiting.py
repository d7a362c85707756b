# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a wait for the proxy decides and says. ``found`` is a result of ``proxy_probe``. Pure."""

from __future__ import annotations

from . import causes as known_causes

#: Lines of the log that are shown where no cause is known.
SHOWN_LINES = 12


def outcome(found: dict, elapsed_s: float, limit_s: float):
    """Return ``ready``, ``exited``, ``absent``, ``limit``, or None to go on waiting."""
    if found["phase"] != "running":
        return found["phase"]
    return "limit" if elapsed_s >= limit_s else None


def progress(router: dict | None, wanted: int) -> str:
    """Return how far it has come, on one line."""
    if not router or not router["answers"]:
        return f"the proxy does not answer yet, {wanted} backends are wanted"
    silent = len(set(router["unreachable"]) | set(router["down"]) | set(router["missing"]))
    return f"{wanted - silent} of {wanted} backends are up"


def message(how: str, host: str, args: dict, found: dict, causes: dict) -> str:
    """Return what to tell; of a proxy that is ready, that. ``args``: those of ``proxy_wait``. ``causes``: see causes.load."""
    name, wanted = args["container"], len(args["backends"])
    if how == "ready":
        return f"{host}: {name} has {wanted} backends, and all of them answer"
    if how == "absent":
        return f"{host}: found no container {name}, wanted it running. Remedy: run again; if it is gone again: docker events on {host}."
    if how == "exited":
        return _ended(host, name, found, causes, args["language"])
    return _late(host, name, args, found["router"] or {})


def _ended(host: str, name: str, found: dict, causes: dict, language: str) -> str:
    code = "" if found["exit_code"] is None else f" with exit status {found['exit_code']}"
    told = known_causes.explain(found["telling"], causes, language)
    first = f"{host}: {name} ended{code}, wanted a proxy that goes on."
    if told["causes"]:
        best = told["causes"][0]
        return "\n".join([f"{first} {best['cause']}. Remedy: {best['remedy']}.", *best["lines"]])
    evidence = told["traceback"] or found["telling"][:SHOWN_LINES] or found["log"][-SHOWN_LINES:]
    return "\n".join([f"{first} Remedy: see its log, docker logs {name}; the first error is:", *(evidence or ["(it has no log)"])])


def _late(host: str, name: str, args: dict, router: dict) -> str:
    over = f"after {args['limit_s']} s"
    if not router.get("answers"):
        return (f"{host}: {over} {name} does not answer ({router.get('error') or 'it was not asked'}), wanted {len(args['backends'])} backends at "
                f"{args['url']}. Remedy: docker logs {name} on {host}; vllm-router answers once one backend says 200 to /health.")
    silent, odd = router["unreachable"], []
    odd += [f"{url} does not answer {host}: {why}" for url, why in sorted(silent.items())]
    odd += [f"{url} is unhealthy for the proxy" for url in router["down"] if url not in silent]
    odd += [f"the proxy does not have {url}" for url in router["missing"]]
    odd += [f"the proxy also has {url}" for url in router["other"]]
    if not odd:
        readiness = router["readiness"]
        odd = [f"/readiness says HTTP {readiness['status']}, {readiness['healthy']} healthy of {readiness['total']}"]
    return (f"{host}: {over} {name} does not have all of its {len(args['backends'])} backends: {'; '.join(odd)}. Wanted: it has each of them, and each says "
            f"200 to /health when {host} asks. Remedy: ascend.vllm.status says whether that group serves; if it does, let {host} reach that address and "
            "port; docker restart of the proxy brings back the backends of the plan.")
