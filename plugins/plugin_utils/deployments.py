# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Deployments that can be started again: a group's part of a plan, and a plan with that part put back.

A record is ``{schema, group, entry, hosts: {host: {local_ip, nic_name, units}}}``: what the plan says of the group and of its hosts' units.
"""

from __future__ import annotations

from datetime import datetime, timezone

from . import proxies

#: What a record of this collection looks like; one of another shape is not started.
SCHEMA = 1


class DeploymentError(Exception):
    """There is no such deployment, or it does not fit the inventory; the text says what was found, what was wanted, what to do."""


def record(plan: dict, name: str) -> dict:
    """Return what is kept of a group of a plan."""
    entry = plan["groups"][name]
    hosts = {
        host: {
            "local_ip": plan["hosts"][host]["local_ip"],
            "nic_name": plan["hosts"][host]["nic_name"],
            "units": [unit for unit in plan["hosts"][host]["units"] if unit["group"] == name],
        }
        for host in entry["hosts"]
    }
    return {"schema": SCHEMA, "group": name, "entry": entry, "hosts": hosts}


def put_back(plan: dict, kept: dict) -> dict:
    """Return a plan in which a group is as it was deployed then. Raises DeploymentError where the group's nodes are others now."""
    name = kept.get("group")
    if kept.get("schema") != SCHEMA or name not in plan["groups"]:
        raise DeploymentError(f"a record of schema {kept.get('schema')} of group {name}, wanted schema {SCHEMA} of one of: {', '.join(plan['groups'])}. "
                              "Remedy: deploy it anew with site.yml.")
    wanted, have = kept["entry"]["hosts"], plan["groups"][name]["hosts"]
    if wanted != have:
        raise DeploymentError(f"group {name} was deployed on {', '.join(wanted)}, the inventory has {', '.join(have)}. "
                              "Remedy: rollback works with the same nodes in the same order; deploy the old settings with site.yml instead.")
    for host, then in kept["hosts"].items():
        now = plan["hosts"][host]
        if then["local_ip"] != now["local_ip"] or then["nic_name"] != now["nic_name"]:
            raise DeploymentError(
                f"{host} had {then['local_ip']} on {then['nic_name']} then, the inventory has {now['local_ip']} on {now['nic_name']}. "
                "Remedy: deploy the old settings with site.yml, which computes addresses anew.")
    # A record of an earlier release does not say of a unit where it answers, nor of a group which units it has.
    entry, then = dict(kept["entry"]), {host: [dict(unit) for unit in there["units"]] for host, there in kept["hosts"].items()}
    for unit in [unit for units in then.values() for unit in units]:
        unit.setdefault("api", None if unit["headless"] else {**{key: entry["api"][key] for key in ("address", "port", "url", "ca_file")},
                                                              "ranks": entry["data_parallel_size"]})
    entry.setdefault("units", [{"name": unit["name"], "host": host, "rank": unit["rank"], "url": unit["api"] and unit["api"]["url"]}
                               for host in wanted for unit in then[host]])
    entry.setdefault("rank_urls", [])
    entry.setdefault("answers_alone", True)
    hosts = {
        host: {**there, "units": [unit for unit in there["units"] if unit["group"] != name] + then.get(host, [])}
        for host, there in plan["hosts"].items()
    }
    groups = {**plan["groups"], name: entry}
    in_front = {key: proxies.with_group(proxy, name, groups) if name in proxy["groups"] else proxy for key, proxy in (plan.get("proxies") or {}).items()}
    return {**plan, "groups": groups, "hosts": hosts, **({"proxies": in_front} if "proxies" in plan else {})}


def without(plan: dict, name: str) -> dict:
    """Return a plan without a group: nobody starts it."""
    hosts = {host: {**entry, "units": [unit for unit in entry["units"] if unit["group"] != name]} for host, entry in plan["hosts"].items()}
    return {**plan, "groups": {key: entry for key, entry in plan["groups"].items() if key != name}, "hosts": hosts}


def choose(name: str, deployments: list, number=None) -> dict:
    """Return the deployment of a group with a number, or the one before the newest. Raises DeploymentError with the list of what there is."""
    numbers = [entry["number"] for entry in deployments]
    if number is None or number == "":
        if len(deployments) < 2:
            raise DeploymentError(f"group {name}: {len(deployments)} deployments are kept, wanted one before the newest to go back to. "
                                  "Remedy: deploy with site.yml.")
        return deployments[-2]
    wanted = int(number) if str(number).strip().isdecimal() else None
    if wanted not in numbers:
        raise DeploymentError(f"group {name}: rollback_to is {number}, wanted one of: {'; '.join(lines(deployments)) or 'none is kept'}. "
                              "Remedy: correct rollback_to.")
    return deployments[numbers.index(wanted)]


def lines(deployments: list) -> list:
    """Return one line a deployment, oldest first; the newest is the one that serves, or did last."""
    found = []
    for place, entry in enumerate(deployments):
        group = entry["record"]["entry"]
        when = datetime.fromtimestamp(entry["time"], timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
        now = " (newest)" if place == len(deployments) - 1 else ""
        found.append(f"{entry['number']}: {when}, {group['model']} {group['release']}, image {group['image']}{now}")
    return found


def switch_lines(plan: dict, hostvars, begun: float, way: str = "forth") -> list:
    """Return one line a group of what became of a switch that began at ``begun`` (seconds since 1970-01-01 UTC, by the controller's clock).

    The heads' facts say, by group, when the old service was told to stop and when a completion came back (``serve_launch_times``; going back,
    ``serve_switch_before`` has those of the way forth), and those of every host with an API what became of the requests (``serve_stop_requests``).
    """
    found = []
    for name, group in plan["groups"].items():
        facts = hostvars[group["head"]]
        times = (facts.get("serve_launch_times") or {}).get(name) or {}
        served = float(times.get("served") or 0)
        what = f"{name}: {group['model']} {group['release']} with image {group['image']}"
        if served < float(times.get("stopped") or 0) and float(times["stopped"]) >= float(begun):
            found.append(f"{what} does not serve: it was stopped and did not come back. Remedy: mend what is said here, then ascend.vllm.restart")
            continue
        if served < float(begun):
            found.append(f"{what} was not touched: it serves as planned")
            continue
        # Going back has stopped the group a second time.
        first = (facts.get("serve_switch_before") or {}).get(name) or {} if way == "back" else times
        stopped = max(float(begun), float(first.get("stopped") or begun))
        again = "serves again" if way == "back" else "serves"
        behind = any(name in proxy["groups"] and len(proxy["groups"]) > 1 for proxy in (plan.get("proxies") or {}).values())
        seconds = f"{served - stopped:.0f} s"
        gap = f"the others behind the proxy served alone for {seconds}" if behind else f"nobody was served for {seconds}"
        drained = [(hostvars[host].get("serve_stop_requests") or {}).get(name) or {} for host in group["hosts"]]
        found.append(f"{what} {again}; {gap}, {_cut_off(drained)}")
    return found


def _cut_off(drained: list) -> str:
    """Return how many requests the end of the old service cut off; ``drained`` is what serve_drain said by host, empty where nothing was running."""
    left = [entry["left"] for entry in drained if "outcome" in entry]
    if None in left:
        return "it is not known how many requests were cut off"
    cut = sum(sum(entry.values()) for entry in left)
    return f"{cut} requests were cut off" if cut else "no request was cut off"
