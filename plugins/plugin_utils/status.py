# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report of status: what the nodes of every group answered, judged in one place.

Shape: ``{schema, verb, result: pass|fail, state, language, started_at, ended_at, version, groups, proxies, summary, checks, nodes}``. A check is what
``checks`` describes. ``state``, the worst one of all groups and proxies, ``groups.NAME.state`` and ``proxies.NAME.state`` are ``serving`` (a completion
comes back and nothing is wrong), ``degraded`` (a completion comes back, but something is wrong) or ``down`` (no completion comes back).
"""

from __future__ import annotations

from datetime import datetime, timezone

from . import answers as read_answers
from . import data as data_folders
from . import status_proxy
from .answers import LABEL
from .checks import Judge, accept, stops
from .judge_api import REFUSED, judge_completion, judge_models, judge_ranks
from .judge_hccn import hccs_good
from .judge_npu import judge_npus, number_of
from .messages import plain
from .preflight import now, summary
from .prerequisites import command
from .questions import handed_over, meshes, nodes_together

SCHEMA = 1
#: States of a group, the best one first.
STATES = ("serving", "degraded", "down")
#: What status asks of the checks about NPUs; those that only matter before a start are preflight's.
NPU_CHECKS = ("npu_smi", "npu_count", "npu_health", "npu_processes")


def status_questions(plan: dict, links: bool = True) -> dict:
    """Return host -> what ``status_info`` is asked there: ``{containers, images, links, link_questions, services, proxies, key_files}``.

    ``links``: whether the network ports of the NPUs are asked; those of a group of one node, which nothing leaves, never are, unless KV caches go from
    or to it.
    ``key_files``: name of a group that this host is the head of, or of a proxy that runs there -> file on the controller with its API key.
    """
    over = linked(plan) if links else set()
    return {host: _questions(host, entry, plan, over) for host, entry in plan["hosts"].items()}


def linked(plan: dict) -> set:
    """Return the names of the groups that need the network of their NPUs: those of several nodes, and prefill and decode where they are on different ones."""
    groups, across = plan["groups"], {host for way in handed_over(plan) for host in way}
    return {name for name, group in groups.items() if len(group["hosts"]) > 1 or group["role"] in ("prefill", "decode") and across & set(group["hosts"])}


def _questions(host: str, host_plan: dict, plan: dict, over: set) -> dict:
    groups, here = plan["groups"], [proxy for proxy in (plan.get("proxies") or {}).values() if proxy["host"] == host]
    units, headed = host_plan["units"], {name: group for name, group in groups.items() if group["head"] == host}
    return {
        "containers": [entry["name"] for entry in [*units, *here]],
        "images": sorted({unit["image"] for unit in units}),
        "links": sorted({npu for unit in units if unit["group"] in over for npu in unit["npus"]}),
        # HCCS joins the dies of a super pod without a link.
        "link_questions": ["link", "vnic"] if host_plan["hardware"] == "a3" else ["link"],
        "services": [
            {"name": name, "url": group["api"]["url"], "model": group["served_model_name"], "ranks": group["data_parallel_size"],
             "rank_urls": group["rank_urls"], "answers_alone": group["answers_alone"], "ca_file": group["api"].get("ca_file")}
            for name, group in headed.items()
        ],
        "proxies": status_proxy.questions(host, plan),
        "key_files": {
            **{name: group["api_key_file"] for name, group in headed.items() if group["api_key_file"]},
            **{proxy["name"]: proxy["api_key_file"] for proxy in here if proxy["api_key_file"]},
        },
    }


def build(plan: dict, hostvars, controller: dict) -> dict:
    """Return the report. ``controller``: ``{version}``, that of the collection."""
    plan = plain(plan)
    run, groups, hosts = plan["run"], plan["groups"], plan["hosts"]
    checks = data_folders.load_all(run.get("data_dirs") or [])[0]["checks"]
    answers = {host: Node(hostvars, host, entry) for host, entry in hosts.items()}
    found, shown, in_front, together = [], {}, {}, meshes(plan)
    for name, group in groups.items():
        facts = {"hardware": group["hardware"], "nodes": nodes_together(group["hosts"], together), "role": group["role"], "release": group["release"]}
        judges = {host: Judge(host, checks, facts, run["language"]) for host in group["hosts"]}
        mine = accept(_group_checks(name, group, judges, answers), run.get("preflight_accept") or [])
        shown[name] = _group(group, answers[group["head"]].service(name), mine)
        found += mine
    for proxy in (plan.get("proxies") or {}).values():
        group, node = groups[proxy["groups"][0]], answers[proxy["host"]]
        judge = Judge(proxy["host"], checks, {"hardware": group["hardware"], "nodes": 1, "role": "proxy", "release": group["release"]}, run["language"])
        mine = accept(_proxy_checks(judge, proxy, node), run.get("preflight_accept") or [])
        container = node.container(proxy)
        in_front[proxy["name"]] = status_proxy.shown(proxy, container, node.proxy(proxy["name"]), container_state(container), mine)
        found += mine
    # A host in two groups is judged by both.
    found = list({tuple(entry.values()): entry for entry in found}.values())
    state = max((entry["state"] for entry in [*shown.values(), *in_front.values()]), key=STATES.index, default=STATES[-1])
    return {
        "schema": SCHEMA,
        "verb": "status",
        "result": "pass" if state == STATES[0] else "fail",
        "state": state,
        "language": run["language"],
        "started_at": _time(min((node.asked for node in answers.values()), default=now())),
        "ended_at": _time(now()),
        "version": controller["version"],
        "groups": shown,
        "proxies": in_front,
        "summary": summary(found),
        "checks": found,
        "nodes": {host: node.shown(groups) for host, node in answers.items()},
    }


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


class Node:
    """What one node of the plan answered."""

    def __init__(self, hostvars, host: str, host_plan: dict):
        values = hostvars[host]
        said, asked = (plain(values[fact]) if fact in values else {} for fact in ("serve_status_said", "prerequisites_found"))
        self.host, self.plan = host, host_plan
        self.said = said if isinstance(said, dict) else {}
        self.prerequisites = asked if isinstance(asked, dict) else {}
        self.asked = self.prerequisites.get("asked") or now()
        self.docker = self._part("docker")
        self.npu = read_answers.whole("npu", self._part("npu"))
        self.hccn = read_answers.whole("hccn", self._part("hccn"))

    def _part(self, name: str) -> dict:
        found = self.said.get(name)
        return found if isinstance(found, dict) else {}

    @property
    def alive(self) -> bool:
        """Return whether the node answered."""
        return "docker" in self.said

    @property
    def docker_error(self) -> str | None:
        """Return why the Docker engine told nothing, or None."""
        return None if "containers" in self.docker and not self.docker.get("error") else self.docker.get("error") or read_answers.said(self.docker)

    def units(self, group: str) -> list:
        """Return this host's units of a group."""
        return [unit for unit in self.plan["units"] if unit["group"] == group]

    def container(self, unit: dict) -> dict:
        """Return what is known of a unit's container, nothing where that could not be asked."""
        found = {} if self.docker_error else self.docker["containers"].get(unit["name"])
        return found if isinstance(found, dict) else {}

    def service(self, group: str) -> dict:
        """Return what the API of a group told this host, its head."""
        found = self._part("services").get(group)
        return found if isinstance(found, dict) else {}

    def proxy(self, name: str) -> dict:
        """Return what a proxy told this host, which runs it."""
        found = self._part("proxies").get(name)
        return found if isinstance(found, dict) else {}

    def why(self) -> str:
        """Return why the node did not answer, as a part of one line."""
        for said in (self.said.get("msg"), self.prerequisites.get("msg"), self.prerequisites.get("error")):
            if said:
                return read_answers.said({"msg": said})
        return "no Python found" if self.prerequisites and not self.prerequisites.get("python") else "no answer"

    def as_answers(self) -> read_answers.Answers:
        """Return the answers as the judges of preflight take them; a container of that name that is a stranger's is not ours."""
        containers = {unit["name"]: self.container(unit) for unit in self.plan["units"]}
        ours = {name: entry for name, entry in containers.items() if LABEL in (entry.get("labels") or {})}
        node = {"interfaces": [], "npus": self.plan["npus"], "device_holders": []}
        return read_answers.Answers(prerequisites=self.prerequisites, node=node, npu=self.npu, artefacts={"containers": ours}, hccn=self.hccn)

    def npus(self, unit: dict) -> list:
        """Return what npu-smi says of the NPUs of a unit."""
        return [entry for entry in self.npu.get("npus") or [] if number_of(entry) in unit["npus"]]

    def shown(self, groups: dict) -> dict:
        """Return what a report shows of the node."""
        mine = {npu for unit in self.plan["units"] for npu in unit["npus"]}
        links = {entry["phy_id"]: entry["link"] for entry in self.hccn.get("devices") or []}
        npus = [entry for entry in self.npu.get("npus") or [] if number_of(entry) in mine]
        return {
            "answers": self.alive,
            "local_ip": self.plan["local_ip"],
            "nic_name": self.plan["nic_name"],
            "hardware": self.npu.get("hardware") or self.plan["hardware"],
            "driver": self.npu.get("driver_version"),
            "units": [self._unit(unit, links) for unit in self.plan["units"] if unit["group"] in groups],
            "npus": [
                {"npu": number_of(entry), **{key: entry.get(key) for key in ("health", "hbm_used_mb", "hbm_total_mb", "temperature_c", "power_w")},
                 "processes": entry["processes"] or [], "link": links.get(number_of(entry))}
                for entry in npus
            ],
        }

    def _unit(self, unit: dict, links: dict) -> dict:
        container, npus = self.container(unit), self.npus(unit)
        memory = {key: [entry[key] for entry in npus if entry[key] is not None] for key in ("hbm_used_mb", "hbm_total_mb")}
        asked = [links[npu] for npu in unit["npus"] if npu in links]
        return {
            **{key: unit[key] for key in ("name", "group", "rank", "ranks", "head", "npus")},
            "state": container_state(container),
            "planned_image": unit["image"],
            **{key: container.get(key) for key in ("image", "image_id", "started_at", "uptime_s", "restarts", "exit_code", "pids")},
            "oom": container.get("oom"),
            **{key: sum(values) if values else None for key, values in memory.items()},
            "links_asked": len(asked),
            "links_up": asked.count("UP"),
        }


def container_state(container: dict) -> str:
    """Return ``running``, ``paused``, ``absent``, ``unknown``, or the engine's own word, which is mostly ``exited``."""
    if not container:
        return "unknown"
    if not container.get("exists"):
        return "absent"
    if container.get("paused"):
        return "paused"
    return "running" if container.get("running") else str(container.get("status") or "exited")


def _group_checks(name: str, group: dict, judges: dict, answers: dict) -> list:
    """Return all check results of one group."""
    found = []
    for host in group["hosts"]:
        found += _host_checks(judges[host], name, group, answers[host])
    return found + _service_checks(name, group, judges, answers)


def _proxy_checks(judge, proxy: dict, node: Node) -> list:
    """Judge a proxy, and what the host that runs it answered."""
    found = _node_checks(judge, node)
    if node.alive and not node.docker_error:
        found += status_proxy.judge_proxy(judge, proxy, node.container(proxy), node.proxy(proxy["name"]))
    return found


def _node_checks(judge, node: Node) -> list:
    """Judge whether a node and its engine answer."""
    if not node.alive:
        # A node on which a module could have run is no node that is silent.
        outcome = "not_asked" if node.prerequisites.get("python") and not node.said.get("unreachable") else "silent"
        return [judge.found("node_answers", outcome, node.why(), "an answer over SSH as a user that may become root")]
    found = [judge.passed("node_answers", "answers")]
    if node.docker_error:
        found.append(judge.found("docker_engine", "silent", node.docker_error, "a Docker engine that answers", command=command(node.prerequisites, "docker")))
    return found


def _host_checks(judge, name: str, group: dict, node: Node) -> list:
    """Judge what one node answered about its part of a group."""
    found = _node_checks(judge, node)
    if not node.alive:
        return found
    if not node.docker_error:
        for unit in node.units(name):
            found += _container(judge, unit, node)
    return found + _npus(judge, name, node) + _links(judge, name, node)


def _container(judge, unit: dict, node: Node) -> list:
    entry, name = node.container(unit), unit["name"]
    outcome, observed = _state(entry)
    found = [judge.judged("container_runs", outcome, observed, "running, started once", name, name=name)]
    if not entry.get("exists") or outcome == "foreign":
        return found
    wanted = (node.docker.get("images") or {}).get(unit["image"])
    if wanted:
        other, observed = entry.get("image_id") != wanted, f"{short_id(entry.get('image_id'))} ({entry.get('image')})"
    else:
        # The image may have been removed from the node since; then its name is all there is.
        other, observed = entry.get("image") != unit["image"], entry.get("image")
    planned = f"{short_id(wanted)} ({unit['image']})" if wanted else unit["image"]
    found.append(judge.judged("container_image", "other" if other else None, observed, planned, name))
    argv = [str(word) for word in entry.get("command") or []]
    found.append(judge.judged("container_command", None if argv == unit["argv"] else "other", _difference(argv, unit["argv"]), "as planned", name))
    return found


def _state(entry: dict) -> tuple:
    """Return (outcome of container_runs, what was seen)."""
    code = entry.get("exit_code")
    if not entry.get("exists"):
        return "absent", "no such container"
    if LABEL not in (entry.get("labels") or {}):
        return "foreign", f"a container of this name without the label {LABEL}"
    if not entry.get("running"):
        why = f": {entry['error']}" if entry.get("error") else ""
        return ("out_of_memory", f"killed by the kernel: out of memory (exit {code})") if entry.get("oom") else ("exited", f"exited with {code}{why}")
    if entry.get("paused"):
        return "paused", "paused"
    if entry.get("restarts"):
        return "restarted", f"running, started again {entry['restarts']} times"
    return None, f"running for {duration(entry.get('uptime_s'))}"


def _difference(argv: list, planned: list) -> str:
    """Return in which words two command lines differ."""
    if argv == planned:
        return "as planned"
    added, missing = [word for word in argv if word not in planned], [word for word in planned if word not in argv]
    parts = [f"{label} {' '.join(words)[:200]}" for label, words in (("with", added), ("without", missing)) if words]
    return " and ".join(parts) or "the same words in another order"


def _npus(judge, name: str, node: Node) -> list:
    """Judge the NPUs of a group's units; what the engine did not tell of its containers makes nobody a stranger."""
    numbers = sorted({npu for unit in node.units(name) for npu in unit["npus"]})
    if not numbers:
        return []
    devices = {f"npu{number}" for number in numbers}
    host_plan = {**node.plan, "npus": numbers, "npus_expected": len(numbers)}
    return [
        entry
        for entry in judge_npus(judge, host_plan, node.as_answers(), {})
        if entry["check"] in NPU_CHECKS
        and (entry["check"] != "npu_health" or entry["device"] in devices)
        and not (entry["check"] == "npu_processes" and node.docker_error)
    ]


def _links(judge, name: str, node: Node) -> list:
    """Judge the links of a group's NPUs where they were asked; a driver that does not work is named for that already."""
    numbers = {npu for unit in node.units(name) for npu in unit["npus"]}
    if not node.hccn or not numbers or "npus" not in node.npu:
        return []
    if "devices" not in node.hccn:
        return [judge.found("hccn_tool", "failed", read_answers.said(node.hccn), "hccn_tool answers")]
    found = []
    for entry in sorted((entry for entry in node.hccn["devices"] if entry["phy_id"] in numbers), key=lambda entry: entry["phy_id"]):
        number, error = entry["phy_id"], (entry.get("errors") or {}).get("link")
        if error:
            found.append(judge.found("hccn_tool", "no_answer", error, "an answer to -link", f"npu{number}", npu=number, question="-link"))
        else:
            outcome = None if entry["link"] == "UP" else "down"
            found.append(judge.judged("hccn_link", outcome, entry["link"], "UP", f"npu{number}", hccs_good(entry, node.plan["hardware"]), npu=number))
    return found


def _service_checks(name: str, group: dict, judges: dict, answers: dict) -> list:
    """Judge what the API told the head."""
    head, judge = answers[group["head"]], judges[group["head"]]
    service, url = head.service(name), group["api"]["url"]
    unit = next((unit for unit in head.units(name) if unit["head"]), {"name": name})
    words = {"url": url, "name": unit["name"]}
    if "completion" not in service:
        why = f"nobody asked {url}: {head.why() if not head.alive else read_answers.said(service)}"
        return [judge.found("completion", "not_asked", why, "a completion", name, **words)]
    found = [_health(judge, name, service, words), *_open(judge, name, group, head, words)]
    if service["models_status"] is not None:
        found.append(judge_models(judge, name, group, service["models_status"], service["models"] or [], words))
    health = service["health"]
    found.append(judge_completion(judge, name, group, service["completion"], words, health, hangs=health == 200))
    found += judge_ranks(name, group, service["ranks"], judges, {host: answers[host].units(name) for host in group["hosts"]})
    if service["health_error"] is None and service["models_status"] not in REFUSED:
        requests = service["requests"]
        observed = f"{requests['running']} running, {requests['waiting']} waiting" if requests else "no number"
        found.append(judge.judged("requests", None if requests else "not_told", observed, "numbers of requests", name, **words))
    return found


def _open(judge, name: str, group: dict, head: Node, words: dict) -> list:
    """Judge whether clients get in: a stop that was killed keeps them out for a while, and the node itself does not notice."""
    kept_away, port = head.said.get("kept_away"), group["api"]["port"]
    if not isinstance(kept_away, list):
        return []
    observed = "new ones are rejected" if port in kept_away else "new ones get in"
    return [judge.judged("api_open", "kept_away" if port in kept_away else None, observed, "new connections get in", f"{name} port {port}", **words)]


def _health(judge, name: str, service: dict, words: dict) -> dict:
    health = service["health"]
    if health is None:
        return judge.found("api_health", "silent", f"{words['url']}/health: {service['health_error']}", "HTTP 200", name, **words)
    return judge.judged("api_health", None if health == 200 else "unwell", f"HTTP {health}", "HTTP 200", name, **words)


def _group(group: dict, service: dict, mine: list) -> dict:
    """Return what a report shows of a group."""
    said, ranks = service.get("completion") or {}, service.get("ranks")
    bad = [entry for entry in mine if stops(entry)]
    answered = said.get("answered") or any(entry["answered"] for entry in ranks or [])
    state = "down" if not answered else "degraded" if bad else "serving"
    keys = ("model", "release", "hardware", "role", "hosts", "head", "data_parallel_size", "tensor_parallel_size", "image", "served_model_name")
    return {
        "state": state,
        "reasons": [" ".join(part for part in (entry["host"], entry["device"], f"{entry['check']}: {entry['observed']}") if part) for entry in bad],
        **{key: group[key] for key in keys},
        "url": group["api"]["url"],
        **{key: service.get(key) for key in ("health", "health_error", "models", "requests")},
        "completion": service.get("completion"),
        "ranks": ranks,
        "ranks_answered": None if ranks is None else sum(entry["answered"] for entry in ranks),
        "transfers": service.get("transfers"),
    }


def short_id(identifier) -> str:
    """Return an image id as ``docker images`` shows it."""
    return str(identifier or "none").rpartition(":")[2][:12]


def duration(seconds) -> str:
    """Return seconds in their two largest units, as ``3d 4h``."""
    if seconds is None:
        return "?"
    left, parts = int(seconds), []
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m"), (1, "s")):
        if left >= size or (parts and len(parts) < 2) or unit == "s":
            parts.append(f"{left // size}{unit}")
            left %= size
        if len(parts) == 2:
            break
    return " ".join(parts)
