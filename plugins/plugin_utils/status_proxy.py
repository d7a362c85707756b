# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What status asks of a proxy and says of it. A ``proxy`` is an entry of the plan's ``proxies``; ``said`` is what ``status_info`` returned of it."""

from __future__ import annotations

from .answers import LABEL
from .checks import stops

#: Label with the command that it was started with, but for its backends, of which it is told while it runs (roles/proxy/tasks/container.yml).
COMMAND = "ascend.vllm.command"
#: Keys of the plan that a report shows.
SHOWN = ("kind", "host", "url", "groups", "served_model_name")


def questions(host: str, plan: dict) -> list:
    """Return ``[{name, url, kind, model, backends}]``, what a host is asked of the proxies that run there."""
    return [
        {"name": proxy["name"], "url": proxy["url"], "kind": proxy["kind"], "model": proxy["served_model_name"],
         "backends": [backend["url"] for backend in proxy["backends"]]}
        for proxy in (plan.get("proxies") or {}).values()
        if proxy["host"] == host
    ]


def judge_proxy(judge, proxy: dict, container: dict, said: dict) -> list:
    """Return the check results of one proxy. ``container``: what the engine said of it."""
    name = proxy["name"]
    words = {"name": name}
    outcome, observed = _container(container)
    found = [judge.judged("proxy_runs", outcome, observed, "running", name, **words)]
    if outcome in ("absent", "foreign"):
        return found
    command = (container.get("labels") or {}).get(COMMAND)
    same = command == proxy["command"]
    found.append(judge.judged("proxy_command", None if same else "other", "as planned" if same else str(command or "nothing")[:300], "as planned", name))
    if outcome:
        return found
    router, completion = said.get("router") or {}, said.get("completion") or {}
    if not router.get("answers"):
        why = router.get("error") or said.get("msg") or "it was not asked"
        found.append(judge.found("proxy_backends", "silent", f"no list of backends: {why}", "a list of backends", name, **words))
    else:
        found += [_backend(judge, proxy, backend, router, words) for backend in proxy["backends"]]
        found += [judge.found("proxy_backends", "other", f"it also has {url}", "the backends of the plan", name, **words) for url in router["other"]]
    observed = f"in {completion['seconds']:.1f} s" if completion.get("answered") else str(completion.get("text") or "it was not asked")[:300]
    found.append(judge.judged("proxy_completion", None if completion.get("answered") else "failed", observed, f"a completion at {proxy['url']}", name, **words))
    return found


def _container(container: dict) -> tuple:
    """Return (outcome of proxy_runs, what was seen)."""
    if not container.get("exists"):
        return "absent", "no such container"
    if LABEL not in (container.get("labels") or {}):
        return "foreign", f"a container of this name without the label {LABEL}"
    if not container.get("running") or container.get("paused"):
        return "exited", f"{container.get('status')}, exit status {container.get('exit_code')}"
    return None, f"running, started again {container.get('restarts') or 0} times"


def backend_state(backend: dict, router: dict) -> str:
    """Return ``up``, ``down`` (unhealthy for the proxy, or silent for its host), ``missing`` or ``unknown``."""
    if not router.get("answers"):
        return "unknown"
    if backend["url"] in router["missing"]:
        return "missing"
    return "down" if backend["url"] in router["down"] or backend["url"] in router["unreachable"] else "up"


def _backend(judge, proxy: dict, backend: dict, router: dict, words: dict) -> dict:
    state, why = backend_state(backend, router), router["unreachable"].get(backend["url"])
    observed = {"up": "up", "missing": "taken out", "down": f"silent: {why}" if why else "unhealthy for the proxy"}[state]
    return judge.judged("proxy_backends", None if state == "up" else state, f"{backend['url']} {observed}", f"{backend['url']} up",
                        f"{proxy['name']} {backend['group']}", group=backend["group"], **words)


def shown(proxy: dict, container: dict, said: dict, state: str, mine: list) -> dict:
    """Return what a report shows of a proxy. ``state``: of its container; ``mine``: its check results."""
    bad = [entry for entry in mine if stops(entry)]
    router, completion = said.get("router") or {}, said.get("completion") or {}
    behind = [{"group": backend["group"], "url": backend["url"], "state": backend_state(backend, router)} for backend in proxy["backends"]]
    return {
        "state": "down" if not completion.get("answered") else "degraded" if bad else "serving",
        "reasons": [f"{entry['host']} {entry['device']} {entry['check']}: {entry['observed']}" for entry in bad],
        **{key: proxy[key] for key in SHOWN},
        "container": state,
        **{key: container.get(key) for key in ("image", "uptime_s", "restarts")},
        "readiness": router.get("readiness"),
        "backends": behind,
        "backends_up": sum(entry["state"] == "up" for entry in behind),
        "completion": said.get("completion"),
    }
