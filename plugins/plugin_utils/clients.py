# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The clients of evaluate and benchmark: what was asked for, converted and checked, and every run of a client that comes of it.

Settings are ``{verb, tool, ..}``, the variables of the role without its prefix. A job is one run of a client, of one set or one load point::

    {id, name, run_id, tool, kind: container|exec|serving, set, load, argv, env, files: {name below the configuration folder: text},
     results, config, collect, limit_s, progress, mounts, secrets, wanted, configuration, added: [{name, value, reason}]}

``id`` is of the record and has the time of day in it; ``run_id`` is the same for the same run, so that a second one joins the first.

Pure: nothing is read but the data folders and the roles' argument specifications. Units: seconds, tokens, requests per second.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import shlex
from functools import lru_cache
from pathlib import Path

from . import commandline, gates, inputs, proxies
from . import data as data_folders
from .answers import LABEL, PURPOSE
from .messages import CONTROLLER, check, did_you_mean, known_names, plain, shown
from .units import ETC_ROOT

ROLES = Path(__file__).resolve().parents[2] / "roles"
#: Beside the argument specification: the least that an integer may be.
LEAST = {
    "limit": 1, "concurrency": 1, "max_tokens": 0, "request_timeout_s": 1, "timeout_s": 0, "min_model_len": 0,
    "input_len": 1, "output_len": 1, "num_prompts": 1, "tensor_parallel_size": 0, "room_mb": 0,
}
#: Gates that are no set.
GATES = ("none", "smoke", "throughput")
#: Where a secret's value is in the environment of a client: what lm_eval and vllm bench read.
KEY_VARIABLE = "OPENAI_API_KEY"
#: How far a client is, in the last line of its progress bar.
PROGRESS = r"\|\s*(?P<done>\d+)/(?P<total>\d+) \["
#: A set's task gets this ending, so that it cannot be taken for the packaged one, which loads from a hub.
LOCAL = "_local"
#: The name of the configuration folder until it has one.
UNNAMED = "config-@"
#: Tokens of a prompt with its examples, which have to fit beside the answer. An estimate with room to spare: the five worked examples of gsm8k and its
#: question are in the order of 1000 tokens, a question of gpqa or aime2024 of some hundred.
PROMPT_TOKENS = 2048
#: In the serving container: what gives a process the environment of the image.
START = ["/bin/bash", "/opt/ascend-vllm/start.sh"]


def load(data_dirs=()) -> tuple[dict, list]:
    """Return ``({clients, sets, gates}, checks)`` of the collection's data and the site's.

    What a set says of a tool (``tools``) is laid over what the tool says of the set (``sets``): a site's own set is one entry.
    """
    found, checks = data_folders.load_all(data_dirs, data_folders.CLIENT_KINDS)
    for name, entry in found["sets"].items():
        for tool, own in (entry.get("tools") or {}).items():
            client = found["clients"].get(tool)
            if client and "sets" in client and (name in client["sets"] or {"include", "import"} & set(own)):
                client["sets"] = {**client["sets"], name: {**client["sets"].get(name, {}), **own}}
    return found, checks


# ---- What was asked for


@lru_cache(maxsize=2)
def options(verb: str) -> dict:
    """Return ``{name without prefix: option}`` of a role's main entry point that are settings: all but the plan."""
    specified = data_folders.read_yaml(ROLES / verb / "meta" / "argument_specs.yml")["argument_specs"]["main"]["options"]
    return {name.removeprefix(f"{verb}_"): {**option, "min": LEAST[name.removeprefix(f"{verb}_")]} if name.removeprefix(f"{verb}_") in LEAST else option
            for name, option in specified.items() if name != f"{verb}_plan"}


def read(verb: str, stated: dict, data: dict) -> tuple[dict, list]:
    """Return ``(settings, checks)``: everything that can be known to be wrong before any node is asked.

    ``stated`` may have ``gate``: for evaluate, the set is the name of a gate, which may also be one of GATES; for benchmark, the service is judged.
    """
    settings, checks = {"verb": verb}, []
    for name, option in options(verb).items():
        raw = stated.get(name)
        if inputs.is_unstated(raw):
            settings[name] = plain(option.get("default"))
            continue
        try:
            settings[name] = inputs.convert(option, raw)
        except inputs.InputError as error:
            variable = f"{verb}_{name}"
            checks.append(check(CONTROLLER, "variable_value", variable, error.observed or shown(raw), error.expected, error.remedy or f"correct {variable}."))
    if checks:
        return settings, checks
    tools = [name for name, entry in data["clients"].items() if verb in entry["verb"]]
    if settings["tool"] not in tools:
        hint = did_you_mean(settings["tool"], tools)
        return settings, [check(CONTROLLER, "client_known", f"{verb}_tool", f"the tool {settings['tool']!r}", known_names(tools),
                                f"{hint}correct {verb}_tool.")]
    client = data["clients"][settings["tool"]]
    return settings, (_evaluate if verb == "evaluate" else _benchmark)(settings, client, data, bool(stated.get("gate")))


def _evaluate(settings: dict, client: dict, data: dict, is_gate: bool) -> list:
    """Check sets, their sizes and the mode; the mode and the sets without repetitions are put into the settings."""
    tool, checks = settings["tool"], []
    settings["sets"] = list(dict.fromkeys(settings["sets"]))
    known = sorted({*data["sets"], *(name for entry in data["clients"].values() for name in entry.get("sets", {}))})
    if not settings["sets"]:
        checks.append(check(CONTROLLER, "set_known", "evaluate_sets", "no set", known_names(known), "name one or more."))
    for name in settings["sets"]:
        if is_gate and name not in known:
            words = [*GATES, *known]
            checks.append(check(CONTROLLER, "gate_known", "gate", f"the gate {name!r}", known_names(words),
                                f"{did_you_mean(name, words)}correct evaluate (of site.yml) or serve_switch_gate."))
        elif name not in known:
            checks.append(check(CONTROLLER, "set_known", "evaluate_sets", f"the set {name!r}", known_names(known),
                                f"{did_you_mean(name, known)}correct evaluate_sets, or add the set in a folder of vllm_data_dirs."))
        elif name not in client["sets"]:
            others = [other for other, entry in data["clients"].items() if name in entry.get("sets", {})]
            checks.append(check(CONTROLLER, "set_of_tool", "evaluate_sets", f"the set {name!r}, which {tool} has no task for here",
                                known_names(client["sets"]), f"use evaluate_tool={others[0] if others else '?'} for it, or leave it out."))
        else:
            count = samples(name, data)
            if settings["limit"] and count and settings["limit"] > count:
                checks.append(check(CONTROLLER, "set_size", "evaluate_limit", settings["limit"], f"at most the {count} samples of {name}",
                                    "lower evaluate_limit, or leave it out for the whole set."))
    mode = settings["mode"] or client["modes"][0]
    if mode not in client["modes"]:
        checks.append(check(CONTROLLER, "client_mode", "evaluate_mode", f"{mode} with {tool}", known_names(client["modes"]),
                            f"leave evaluate_mode out, or set it to {client['modes'][0]}."))
    settings["mode"] = mode
    return checks


def _benchmark(settings: dict, client: dict, data: dict, is_gate: bool) -> list:
    """Check rates and concurrencies; the settings get ``points``, each ``{rate: float or None for all at once, concurrency: int or None}``."""
    checks, points = [], []
    if is_gate and client["kind"] == "serving":
        tools = [name for name, entry in data["clients"].items() if "benchmark" in entry["verb"] and entry["kind"] != "serving"]
        checks.append(check(CONTROLLER, "gate_tool", "benchmark_tool", f"{settings['tool']}, which loads an engine of its own, as the gate throughput",
                            f"a tool that measures the service: {known_names(tools)}", f"leave benchmark_tool out, or set it to {tools[-1]}."))
    if "performance" in client:
        # Its configuration for speed is one of gsm8k.
        known = [name for name, entry in client["sets"].items() if entry.get("variable") == client["performance"]["variable"]]
        count = samples(settings["set"], data)
        if settings["set"] not in known:
            checks.append(check(CONTROLLER, "set_known", "benchmark_set", f"the set {settings['set']!r}", known_names(known),
                                f"{did_you_mean(settings['set'], known)}correct benchmark_set."))
        elif count and settings["num_prompts"] > count:
            checks.append(check(CONTROLLER, "set_size", "benchmark_num_prompts", settings["num_prompts"], f"at most the {count} questions of {settings['set']}",
                                "lower benchmark_num_prompts."))
    for raw in settings["request_rates"]:
        rate = _rate(raw)
        if rate is False:
            checks.append(check(CONTROLLER, "variable_value", "benchmark_request_rates", shown(raw), "numbers above 0, or inf for all at once",
                                "correct benchmark_request_rates."))
        points.append({"rate": rate, "concurrency": None})
    for count in settings["concurrencies"]:
        if count < 1:
            checks.append(check(CONTROLLER, "variable_value", "benchmark_concurrencies", shown(count), "integers of 1 or more",
                                "correct benchmark_concurrencies."))
        points.append({"rate": None, "concurrency": count})
    if client["kind"] == "serving" and points:
        checks.append(check(CONTROLLER, "client_load", "benchmark_request_rates, benchmark_concurrencies", f"a load for {settings['tool']}",
                            "none: it computes without a service", "leave both out, or use benchmark_tool=vllm_serve."))
    settings["points"] = [dict(found) for found in dict.fromkeys(tuple(point.items()) for point in points)] or [
        {"rate": None if client["kind"] == "serving" else 1.0, "concurrency": None}]
    return checks


def told(settings: dict, data: dict) -> dict:
    """Return what the role has to know of the client: ``{kind, sets: {name: {files, dir}}}``, empty for one that is not known."""
    client = data["clients"].get(settings["tool"])
    if client is None:
        return {}
    names = settings["sets"] if settings["verb"] == "evaluate" else [settings["set"]] if "performance" in client else []
    found = {name: data["sets"][name] for name in names if name in data["sets"]}
    return {"kind": client["kind"], "sets": {name: {"files": entry["files"], "dir": entry.get("dir") or name} for name, entry in found.items()}}


def _rate(raw):
    """Return a request rate as a number above 0, None for all at once, False for anything else."""
    if isinstance(raw, str) and raw.strip().lower() in ("inf", ".inf"):
        return None
    try:
        rate = float(raw) if not isinstance(raw, bool) else -1.0
    except (TypeError, ValueError):
        return False
    if math.isinf(rate) and rate > 0:
        return None
    return rate if rate > 0 else False


def samples(name: str, data: dict):
    """Return how many samples a set has, or None where its data do not say it."""
    found = (data["sets"].get(name) or {}).get("samples")
    return found if isinstance(found, int) else None


def set_folder(name: str, settings: dict, data: dict) -> str:
    """Return where a set is on the head."""
    return f"{settings['data_dir']}/{(data['sets'].get(name) or {}).get('dir') or name}"


# ---- What the service has to be


def inventory(sources) -> str:
    """Return what follows ``-i`` in a command that names these inventories: as short as it is typed in this directory."""
    here = os.getcwd() + os.sep
    return " -i ".join(shlex.quote(str(source).removeprefix(here)) for source in sources or ["INVENTORY"])


def service_checks(said: dict, group: dict, settings: dict, data: dict, command: dict) -> list:
    """Return what keeps a client from being run: the service, the length of its context, the tokenizer, room on the disk.

    ``said``: what evaluation_info answered on the head. ``command``: ``inventory``, the sources of it, and ``extra_args``, what is stated in
    vllm_extra_args now: the command that mends the length has to keep it.
    """
    host, client = group["head"], data["clients"][settings["tool"]]
    ansible = f"ansible-playbook ascend.vllm.%s -i {inventory(command['inventory'])}"
    checks = []
    if client["kind"] != "serving":
        checks += _served(said["service"], group, host, ansible)
        if not checks and settings["verb"] == "evaluate":
            checks += _length(said["service"], group, settings, client, host, ansible, command["extra_args"])
    if not said["tokenizer"]["files"]:
        found = said["tokenizer"]["error"] or "none"
        checks.append(check(host, "client_tokenizer", group["weights"]["dir"], f"no file of a tokenizer: {found}", "tokenizer.json or tokenizer.model",
                            f"{ansible % 'fetch'} brings what is missing of the weights."))
    room = said["room"]
    if room["free_mb"] is None or room["free_mb"] < settings["room_mb"]:
        found = f"{room['free_mb']} MB free" if room["free_mb"] is not None else room["error"]
        checks.append(check(host, "client_room", room["path"], found, f"{settings['room_mb']} MB for the results",
                            f"make room there, or set {settings['verb']}_results to another folder."))
    return checks


def _served(service: dict, group: dict, host: str, ansible: str) -> list:
    """Return the check of a service that does not serve the model."""
    url = group["api"]["url"]
    if service["status"] != 200:
        found = f"HTTP {service['status']}" if service["status"] else service["error"]
        remedy = f"{ansible % 'status'} says how the group is, {ansible % 'site'} starts it."
        if service["status"] in (401, 403):
            remedy = "the service was started with another API key: correct vllm_api_key_file, or run site.yml."
        return [check(host, "client_service", url, found, "a service that is up: HTTP 200 from /v1/models", remedy)]
    names = [entry["id"] for entry in service["models"]]
    if group["served_model_name"] not in names:
        return [check(host, "client_service", url, f"the models {', '.join(names) or 'none'}", f"the model {group['served_model_name']}",
                      "another service listens there, or vllm_served_model_name was changed since: run site.yml.")]
    return []


def _length(service: dict, group: dict, settings: dict, client: dict, host: str, ansible: str, extra_args: dict) -> list:
    """Return the check of a context that is too short for the answers of a reasoning model, with the command that mends it."""
    wanted = minimum(settings, client)
    found = max_model_len(service, group)
    if found is not None and found >= wanted:
        return []
    kept = {key: value for key, value in plain(extra_args or {}).items() if commandline.option_name(key) != "max-model-len"}
    given = json.dumps({"vllm_extra_args": {**kept, "max-model-len": wanted}})
    return [check(host, "client_model_len", group["api"]["url"], f"max_model_len {'that is not said' if found is None else found}",
                  f"at least {wanted}: a shorter one cuts answers, and the score is of the cut",
                  f"{ansible % 'upgrade'} -e '{given}'")]


def minimum(settings: dict, client: dict) -> int:
    """Return what max_model_len has to be: the stated one, or that of the data."""
    return settings["min_model_len"] if settings["min_model_len"] is not None else client["min_model_len"]


def gate_checks(settings: dict, plan: dict, data: dict) -> list:
    """Return what would let a gate end without a verdict or be refused, of all that the plan says: a floor that is not there, a context too short.

    Of a run that is to come; its command line is not known yet. A context that the plan does not state as a number is left to the service.
    """
    client, checks = data["clients"][settings["tool"]], []
    for name, group in proxies.measured(plan).items():
        for record in _planned(settings, group, data):
            gate, why = gates.find(data["gates"], record, planned=True)[::2]
            if gate is None:
                checks.append(check(group["head"], "gate_floor", name, why, "a gate that judges it", f"{gates.NO_GATE}."))
        if settings["verb"] == "evaluate":
            unit = next(unit for unit in plan["hosts"][group["head"]]["units"] if unit["group"] == name)
            found, wanted = str(engine_flags(unit["argv"], []).get("max-model-len", "")), minimum(settings, client)
            if found.isdecimal() and 0 < int(found) < wanted:
                checks.append(check(group["head"], "client_model_len", name, f"max-model-len {found} in the plan",
                                    f"at least {wanted}: a shorter one cuts answers",
                                    f"set max-model-len in vllm_extra_args to {wanted}, or use a gate of short answers (smoke)."))
    return checks


def _planned(settings: dict, group: dict, data: dict) -> list:
    """Return, of each run of a gate, as much of a record as is known before it."""
    common = {"tool": settings["tool"], "deployment": {"recipe": group["model"]}}
    if settings["verb"] != "evaluate":
        return [{**common, "kind": "performance"}]
    added = [{"name": name, "reason": f"stated in evaluate_{part}"} for part in ("generation", "extra_flags", "extra_arguments") for name in settings[part]]
    return [{**common, "kind": "accuracy", "set": name, "samples": {"wanted": _asked(settings, name, data)}, "added": added} for name in settings["sets"]]


def _asked(settings: dict, name: str, data: dict):
    """Return how many samples of a set are asked for, or None where nobody knows it."""
    total = samples(name, data)
    return min(settings["limit"], total) if settings["limit"] and total else settings["limit"] or total


def max_model_len(service: dict, group: dict):
    """Return the longest context that the service says it has, or None."""
    return next((entry["max_model_len"] for entry in service["models"] if entry["id"] == group["served_model_name"]), None)


def npu_checks(group: dict, unit: dict, containers: list, npus: list, settings: dict, needed, sources: list) -> list:
    """Return what keeps an engine of its own from the NPUs: size, and who holds them.

    ``containers``: device_containers of artefact_info; ``npus``: of npu_info; ``needed``: NPUs that the model needs, or None; ``sources``: of
    the inventory.
    """
    host, checks = group["head"], []
    size = tensor_parallel_size(settings, group, needed)
    if size > len(unit["npus"]):
        wanted = f"at most the {len(unit['npus'])} NPUs of {host}: {settings['tool']} loads all weights into one engine on one node"
        checks.append(check(host, "client_npus", "benchmark_tensor_parallel_size", f"{size} NPUs", wanted,
                            "measure the service of all nodes instead: benchmark_tool=vllm_serve."))
    mine, busy = set(unit["npus"]), {}
    joined = {container_name(unit["group"], settings["tool"], load_label(point, settings)) for point in settings["points"]}
    for npu in npus:
        if npu["phy_id"] in mine:
            for process in npu["processes"]:
                busy.setdefault(process["pid"], npu["phy_id"])
    for found in containers:
        held = [device for device in found["devices"] if device in unit["devices"]]
        pids = [pid for pid in found["pids"] if pid in busy]
        held += [f"/dev/davinci{number}" for number in sorted({busy[pid] for pid in pids})]
        for pid in pids:
            busy.pop(pid)
        ours, engine = found["labels"].get(LABEL), found["labels"].get(PURPOSE) == "client"
        # The same command joins the run that it has begun.
        if not held or (engine and ours == unit["group"] and found["name"] in joined):
            continue
        remedy = f"ansible-playbook ascend.vllm.stop -i {inventory(sources)}"
        if not ours or engine:
            whose = "wait until this benchmark has ended, or end it" if ours else "if it is yours"
            remedy = f"{whose}: docker stop {found['name']} on {host}{'' if ours else '; or ask who it belongs to'}."
        checks.append(check(host, "client_npus_free", ", ".join(dict.fromkeys(held)), f"the container {found['name']}{'' if ours else ', which is not ours'}",
                            f"NPUs that nobody holds: {settings['tool']} loads the weights itself", remedy))
    for pid, number in sorted(busy.items()):
        checks.append(check(host, "client_npus_free", f"/dev/davinci{number}", f"process {pid}, in no container", "NPUs that nobody holds",
                            f"look what it is (ps -p {pid} -f on {host}), and end it if it is yours."))
    return checks


def tensor_parallel_size(settings: dict, group: dict, needed) -> int:
    """Return over how many NPUs one engine is spread: as stated, else as many as the model needs, and no fewer than the group's TP."""
    return settings["tensor_parallel_size"] or max(group["tensor_parallel_size"], needed or 1)


def npus_needed(group: dict, recipes: dict):
    """Return how many NPUs the weights of a group's model need, or None where its recipe is not known any more."""
    try:
        recipe = data_folders.resolve(recipes, group["model"])
    except data_folders.DataError:
        return None
    return (recipe.get("hardware", {}).get(group["hardware"]) or {}).get("npus_needed")


# ---- The runs


def jobs(settings: dict, name: str, group: dict, unit: dict, context: dict, data: dict) -> list:
    """Return the runs of a group, in order: one of each set, or of each load point.

    ``unit``: the head's. ``context``: ``stamp`` (UTC, yyyymmddThhmmssZ), ``max_model_len`` (of the service, or None),
    ``needed`` (NPUs of the model, or None), ``plan_hash`` (of the deployment: what was begun against another one is not this run),
    ``serving_since`` (when the head's serving container started, or None: what was begun before is not this run, either).
    """
    client = data["clients"][settings["tool"]]
    points = settings["sets"] if settings["verb"] == "evaluate" else settings["points"]
    return [_job(settings, name, group, unit, context, client, point, data) for point in points]


def _job(settings: dict, name: str, group: dict, unit: dict, context: dict, client: dict, point, data: dict) -> dict:
    """Return one run."""
    evaluates = settings["verb"] == "evaluate"
    label = point if evaluates else load_label(point, settings)
    job = {"id": f"{context['stamp']}-{settings['tool']}-{label}", "tool": settings["tool"], "kind": client["kind"], "set": point if evaluates else None,
           "load": None if evaluates else _load(settings, point, client, group, context), "progress": PROGRESS, "mounts": [], "env": {},
           "secrets": {}, "files": {}}
    place = "/tmp/ascend-vllm" if client["kind"] == "exec" else settings["results"]
    job["results"] = f"{place}/{name}/{settings['tool']}-{label}/results"
    job["config"] = f"{place}/{name}/{settings['tool']}-{label}/{UNNAMED}"
    if not evaluates and "performance" in client:
        client = _performance(client)
    known = _known(settings, group, context, job, client, point)
    # AISBench measures with the questions of a set, vllm bench with random ones.
    name_of_set = job["set"] or (settings["set"] if "performance" in client else None)
    if name_of_set:
        known["set_dir"] = set_folder(name_of_set, settings, data)
    build = {"lm_eval": _lm_eval, "aisbench": _aisbench}.get(settings["tool"], _vllm)
    build(job, settings, client, known, group, unit)
    job["name"] = unit["name"] if client["kind"] == "exec" else container_name(name, settings["tool"], label)
    job["collect"] = list(client["collect"])
    job["limit_s"] = settings["timeout_s"] or (client["sets"][point]["timeout_s"] if evaluates else client["timeout_s"])
    if client["kind"] != "serving":
        _secret(job, group, unit)
    if client["kind"] == "container":
        job["mounts"].append(f"{group['weights']['dir']}:{group['weights']['dir']}:ro")
        job["mounts"].append(f"{known['set_dir']}:{known['set_dir']}:ro")
    job["wanted"] = _wanted(settings, group, client, job, data)
    text = json.dumps([job["argv"], job["files"], job["env"], job["limit_s"], context["plan_hash"], context.get("serving_since")], sort_keys=True)
    job["run_id"] = hashlib.sha256(text.encode()).hexdigest()[:16]
    # A folder of its own: a run that goes on reads its configuration, whatever is asked for next.
    job = _replaced(job, f"config-{job['run_id']}")
    if job["files"]:
        job["mounts"].append(f"{job['config']}:{job['config']}:ro")
    # Command line and files whole: gates look for what they are for in there.
    job["configuration"].update({key: job[key] for key in ("limit_s", "argv", "files")})
    return job


def container_name(group: str, tool: str, label: str) -> str:
    """Return the name of a client's container. ``label``: the set, or the load point in a word."""
    return re.sub(r"[^A-Za-z0-9_.-]", "-", f"{group}-{tool}-{label}")


def _replaced(value, folder: str):
    """Return a value with the name of the configuration folder in it."""
    if isinstance(value, str):
        return value.replace(UNNAMED, folder)
    if isinstance(value, dict):
        return {key: _replaced(entry, folder) for key, entry in value.items()}
    return [_replaced(entry, folder) for entry in value] if isinstance(value, list) else value


def _performance(client: dict) -> dict:
    """Return a client with what it gives for speed over what it gives for accuracy."""
    over = client["performance"]
    added = {part: {**client["added"].get(part, {}), **over["added"].get(part, {})} for part in ("flags", "arguments")}
    return {**client, **over, "added": added}


def load_label(point: dict, settings: dict) -> str:
    """Return a load point in a word of a file name."""
    if point["concurrency"]:
        return f"concurrency{point['concurrency']}"
    if settings["tool"] in ("vllm_latency", "vllm_throughput"):
        return f"tokens{settings['input_len']}x{settings['output_len']}"
    return "rate" + ("inf" if point["rate"] is None else f"{point['rate']:g}")


def _load(settings: dict, point: dict, client: dict, group: dict, context: dict) -> dict:
    """Return the load of a record. What the questions of a set are long is not stated: null. An engine of its own has its size there, too."""
    load = {"request_rate": point["rate"], "max_concurrency": point["concurrency"], "output_len": settings["output_len"],
            "num_prompts": settings["num_prompts"], "input_len": None if "performance" in client else settings["input_len"]}
    if client["kind"] == "serving":
        load["tensor_parallel_size"] = tensor_parallel_size(settings, group, context["needed"])
    return load


def _known(settings: dict, group: dict, context: dict, job: dict, client: dict, point) -> dict:
    """Return what the names in angle brackets stand for; None leaves out what it stands in."""
    known = {
        "served_model_name": group["served_model_name"], "url": group["api"]["url"], "address": group["api"]["address"], "port": group["api"]["port"],
        "tls": True if group["api"]["tls"] else None, "weights": group["weights"]["dir"], "results": job["results"], "config": job["config"],
        "max_model_len": context["max_model_len"],
    }
    if settings["verb"] == "evaluate":
        most = settings["max_tokens"] or client["sets"][point]["max_tokens"][settings["mode"]]
        room = (context["max_model_len"] or most + PROMPT_TOKENS) - PROMPT_TOKENS
        # In a context that is very short, half of it.
        known.update(task=f"{point}{LOCAL}", limit=settings["limit"], concurrency=settings["concurrency"], request_timeout_s=settings["request_timeout_s"],
                     max_tokens=min(most, room if room > 0 else (context["max_model_len"] or most) // 2))
        return known
    at_once = settings["tool"] == "aisbench"
    known.update(
        # vllm bench says inf, AISBench 0.
        rate=("inf" if not at_once else 0) if point["rate"] is None else point["rate"],
        # AISBench has no other way to leave the number of requests open.
        concurrency=point["concurrency"] or (settings["num_prompts"] if at_once else None),
        max_tokens=settings["output_len"], limit=settings["num_prompts"], num_prompts=settings["num_prompts"], input_len=settings["input_len"],
        output_len=settings["output_len"],
        # Since releases after 0.13 vllm bench throughput has options of its own for random prompts, whose defaults win over the others silently.
        random_input_len=settings["input_len"] if _version(group) > (0, 13) else None,
        random_output_len=settings["output_len"] if _version(group) > (0, 13) else None,
        tensor_parallel_size=tensor_parallel_size(settings, group, context["needed"]),
    )
    return known


def _version(group: dict) -> tuple:
    """Return the first two numbers of the vLLM in the image."""
    found = re.match(r"v?(\d+)\.(\d+)", str((group.get("software") or {}).get("vllm") or ""))
    return tuple(map(int, found.groups())) if found else (0, 0)


def fill(value, known: dict):
    """Return a value of the data with the names in angle brackets filled in; one that is nothing else keeps its type."""
    if not isinstance(value, str):
        return value
    alone = re.fullmatch(r"<(\w+)>", value)
    if alone and alone.group(1) in known:
        return known[alone.group(1)]
    return re.sub(r"<(\w+)>", lambda found: str(known[found.group(1)]) if found.group(1) in known else found.group(0), value)


def merged(own: dict, added: dict, known: dict, mode: str = "", noun: str = "") -> tuple[dict, list]:
    """Return ``(values, added)``: the tutorial's entries with the added ones over them; None is left out. ``noun``: before the added ones' names."""
    values, said = {name: fill(value, known) for name, value in own.items()}, []
    for name, entry in added.items():
        value = fill(entry["value"], known)
        if entry.get("mode", mode) != mode or value is None:
            continue
        values[name] = value
        said.append({"name": f"{noun}{name}", "value": value, "reason": entry["reason"]})
    return {name: value for name, value in values.items() if value is not None}, said


def overlaid(values: dict, stated: dict, variable: str, noun: str = "") -> tuple[dict, list]:
    """Return ``(values, added)`` with what a variable of the site states over them; None removes. ``max_len`` and ``--max-len`` are one name."""
    values, said = dict(values), []
    spelled = {commandline.option_name(name): name for name in values}
    for name, value in (stated or {}).items():
        name = spelled.get(commandline.option_name(name), name.lstrip("-"))
        if value is None:
            values.pop(name, None)
        else:
            values[name] = value
        said.append({"name": f"{noun}{name}", "value": value, "reason": f"stated in {variable}"})
    return values, said


def _rendered(flags: dict) -> list:
    """Return options as arguments."""
    return commandline.render({name: value for name, value in flags.items() if value is not None and value is not False})


def _noted(values: dict, noun: str) -> dict:
    """Return values with a noun before their names."""
    return {f"{noun}{name}": value for name, value in values.items()}


def _environment(job: dict, client: dict, known: dict) -> list:
    """Give the job its environment; return what was added."""
    job["env"], said = merged({}, client.get("env", {}), known, noun="environment ")
    return said


def _lm_eval(job: dict, settings: dict, client: dict, known: dict, group: dict, unit: dict) -> None:
    """Give the job lm_eval's command line and the task of its set."""
    mode, task = settings["mode"], client["sets"][job["set"]]
    flags, added = merged(client["flags"], client["added"]["flags"], known, mode)
    arguments, more = merged(client["arguments"], client["added"]["arguments"], known, mode, "model_args ")
    flags, own = overlaid(flags, settings["extra_flags"], "evaluate_extra_flags")
    arguments, theirs = overlaid(arguments, settings["extra_arguments"], "evaluate_extra_arguments", "model_args ")
    # As JSON: a comma in a name would end a value otherwise.
    job["argv"] = [*client["command"], *_rendered(flags), "--model_args", json.dumps(arguments)]
    generation = {}
    if settings["generation"]:
        generation = settings["generation"]
        job["argv"] += ["--gen_kwargs", json.dumps(generation)]
    job["configuration"] = {**flags, **_noted(arguments, "model_args "), **_noted(generation, "gen_kwargs ")}
    job["files"] = {f"{known['task']}.yaml": task_file(task, known["task"], known["set_dir"], client["tasks_dir"])}
    job["added"] = added + more + own + theirs + _environment(job, client, known) + [
        {"name": f"gen_kwargs {name}", "value": value, "reason": "stated in evaluate_generation"} for name, value in generation.items()]


def task_file(task: dict, name: str, folder: str, tasks_dir: str) -> str:
    """Return lm_eval's task of a set: the packaged one, with the files of the site in place of a hub's."""
    files = {split: f"{folder}/{entry}" for split, entry in task["data"]["data_files"].items()}
    # JSON is YAML, and quotes what has to be quoted.
    lines = {"include": f"{tasks_dir}/{task['include']}", "task": name, "dataset_path": task["data"]["dataset_path"], "dataset_name": None,
             "dataset_kwargs": {"data_files": files}}
    return "".join(f"{key}: {json.dumps(value)}\n" for key, value in lines.items())


def _aisbench(job: dict, settings: dict, client: dict, known: dict, group: dict, unit: dict) -> None:
    """Give the job AISBench's command line and its configuration file."""
    evaluates = settings["verb"] == "evaluate"
    flags, added = merged(client["flags"], client["added"]["flags"], known)
    arguments, more = merged(client["arguments"], client["added"]["arguments"], known, noun="model ")
    flags, own = overlaid(flags, settings["extra_flags"], f"{settings['verb']}_extra_flags")
    arguments, theirs = overlaid(arguments, settings["extra_arguments"], f"{settings['verb']}_extra_arguments", "model ")
    generation, sampling = overlaid(client["generation"], settings["generation"] if evaluates else {}, "evaluate_generation", "generation_kwargs ")
    if not evaluates:
        sampling += [{"name": f"generation_kwargs {key}", "value": value, "reason": client["generation_reason"]} for key, value in generation.items()]
    # The set of a benchmark is the client's, its place that of the set of the same name.
    entry = client["sets"][job["set"] or settings["set"]]
    source = entry["import"] if evaluates else client["import"]
    folder = f"{known['set_dir']}{entry['path']}"
    job["argv"] = [*(fill(word, known) for word in client["command"]), *_rendered(flags)]
    job["configuration"] = {**flags, **_noted(arguments, "model "), **_noted(generation, "generation_kwargs "), "datasets": source}
    job["files"] = {"client.py": config_file(source, entry["variable"], folder, client["summarizer"], arguments, generation, evaluates, group)}
    job["added"] = added + more + own + theirs + sampling + _environment(job, client, known) + [
        {"name": "datasets path", "value": folder, "reason": "the data set of this site: the tool has none with it"}]


def config_file(source: str, variable: str, folder: str, summarizer: str, arguments: dict, generation: dict, reasons: bool, group: dict) -> str:
    """Return AISBench's configuration file. ``reasons``: whether what a reasoning model thinks is taken out of its answers."""
    lines = [
        "from mmengine.config import read_base",
        "with read_base():",
        f"    from {source} import {variable}",
        f"    from {summarizer} import summarizer",
        "from ais_bench.benchmark.models import VLLMCustomAPIChat",
    ]
    if reasons:
        lines.append("from ais_bench.benchmark.utils.postprocess.model_postprocessors import extract_non_reasoning_content")
    lines += ["", f"datasets = {variable}", f"datasets[0]['path'] = {folder!r}", "models = [dict("]
    lines += [f"    {name}={value!r}," for name, value in arguments.items()]
    lines.append("    type=VLLMCustomAPIChat, url='',")
    # An import of os would be a lazy one here, which cannot be called.
    key = f"__import__('os').environ.get({KEY_VARIABLE!r}, '')" if group["api_key_file"] else "''"
    lines += [f"    api_key={key},", f"    generation_kwargs=dict({', '.join(f'{name}={value!r}' for name, value in generation.items())}),"]
    if reasons:
        lines.append("    pred_postprocessor=dict(type=extract_non_reasoning_content),")
    return "\n".join([*lines, ")]", ""])


def _vllm(job: dict, settings: dict, client: dict, known: dict, group: dict, unit: dict) -> None:
    """Give the job the command line of vllm bench; one that has an engine of its own gets the options that the service is started with."""
    flags, added = merged(client["flags"], client["added"]["flags"], known)
    if client["kind"] == "serving":
        engine = engine_flags(unit["argv"], client["drop"])
        flags = {**engine, **flags}
        added += [{"name": name, "value": value, "reason": "as the service is started"} for name, value in engine.items()]
        job["env"] = dict(unit["env"])
    flags, own = overlaid(flags, settings["extra_flags"], "benchmark_extra_flags")
    job["configuration"] = dict(flags)
    job["argv"] = [*START, *client["command"], *_rendered(flags)]
    job["added"] = added + own


def engine_flags(argv: list, drop: list) -> dict:
    """Return the options of a unit's ``vllm serve`` that an engine without a service takes, too."""
    found, words = {}, argv[3:]
    while words:
        word = words.pop(0)
        name, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--"):
            continue
        if not equals:
            value = words.pop(0) if words and not words[0].startswith("--") else True
        served = name in ("host", "port", "headless", "ssl-certfile", "ssl-keyfile") or name.startswith("data-parallel")
        if not served and name not in drop:
            found[name] = value
    return found


def _secret(job: dict, group: dict, unit: dict) -> None:
    """Give the job the API key, as a file that root reads on the head, and what vouches for the service."""
    if group["api_key_file"]:
        job["secrets"] = {KEY_VARIABLE: f"{ETC_ROOT}/{unit['name']}/api_key"}
    if group["api"]["ca_file"]:
        # In the serving container there is the certificate itself only.
        place = "/run/ascend-vllm/tls.crt" if job["kind"] == "exec" else group["api"]["ca_file"]
        job["env"] = {**job["env"], "SSL_CERT_FILE": place}
        if job["kind"] != "exec":
            job["env"]["REQUESTS_CA_BUNDLE"] = place
            job["mounts"].append(f"{place}:{place}:ro")
        job["added"].append({"name": "environment SSL_CERT_FILE", "value": place, "reason": "vouches for the service's certificate"})


def _wanted(settings: dict, group: dict, client: dict, job: dict, data: dict) -> dict:
    """Return what the result has to be of: what the parser looks for."""
    wanted = {"model": group["served_model_name"], "set": job["set"], "limit": settings.get("limit"), "load": job["load"],
              # AISBench's name of the model, as the job has it, is a folder of its results.
              "abbr": job["configuration"].get("model abbr")}
    if settings["verb"] == "benchmark":
        wanted["n"] = settings["num_prompts"]
        return {**wanted, "set": settings["set"] if "performance" in client else None}
    wanted["n"] = _asked(settings, job["set"], data)
    return {**wanted, "task": f"{job['set']}{LOCAL}"}


# ---- What was run on


def deployment(record: dict, newest, group: dict, image_id, others: list = ()) -> dict:
    """Return what a record says of the deployment: ``record`` as deployments.record() gives it, ``newest`` the newest of its history or None.

    ``others``: the records of the other groups that a request goes through, where prefill and decode are separated.
    ``plan_hash`` is of everything that the plan says of these groups and their units; the number is that of the history, where it has this plan.
    """
    same = newest is not None and newest["record"] == plain(record)
    text = json.dumps(plain([record, *others] if others else record), sort_keys=True)
    return {"id": str(newest["number"]) if same else None, "release": group["release"], "image": group["image"], "image_id": image_id,
            "recipe": group["model"], "hardware": group["hardware"], "data_parallel_size": group["data_parallel_size"],
            "tensor_parallel_size": group["tensor_parallel_size"], "plan_hash": hashlib.sha256(text.encode()).hexdigest(),
            "together": together([record, *others]) if others else None}


def together(halves: list) -> str:
    """Return what decides how fast prefill and decode groups are together: the sizes of each, and a hash of the options and environment they start with.

    Where they are (addresses, interfaces, ports, names) is no part of it, nor are release and image: a new release is compared with the old one.
    """
    sizes, started = [], []
    for kept in [plain(half) for half in halves]:
        entry, there = kept["entry"], kept["hosts"][kept["entry"]["head"]]
        unit = there["units"][0]
        flags = engine_flags(unit["argv"], ["served-model-name"])
        connector = {name: value for name, value in json.loads(flags.pop("kv-transfer-config", "{}")).items() if name != "kv_port"}
        env = {name: value for name, value in unit["env"].items() if value not in (there["local_ip"], there["nic_name"]) and not name.endswith("_PORT")}
        sizes.append(f"{entry['role']}=dp{entry['data_parallel_size']}tp{entry['tensor_parallel_size']}")
        started.append(json.dumps([sizes[-1], flags, connector, env], sort_keys=True))
    return " ".join([*sorted(sizes), f"options={hashlib.sha256(json.dumps(sorted(started)).encode()).hexdigest()[:12]}"])


def lines(runs: list) -> list:
    """Return, for a person, what would be run: a line a job, and what was added to the tutorial's."""
    found = []
    for job in runs:
        found.append(f"{job['id']}: {shlex.join(job['argv'])}")
        found += [f"  added: {entry['name']} = {entry['value']} ({entry['reason']})" for entry in job["added"]]
    return found
