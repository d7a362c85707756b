# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection's data, with what a site adds or replaces.

A data folder has a subfolder a kind (``recipes``, ``releases``, ``hardware``, ``floors``, ``checks``, ``causes``, ``clients``, ``sets``, ``gates``), each
with YAML files that map names to entries. Every entry carries its ``source``. An entry of a later folder replaces the whole entry of the same name. An
entry may start from another one with ``base: <name>``: mappings are merged key by key, anything else is replaced, ``null`` removes.
"""

from __future__ import annotations

import pickle
import re
from functools import lru_cache
from pathlib import Path

import yaml

from .messages import CONTROLLER, check, did_you_mean, is_mapping, known_names, shown

#: The collection's own data.
BUNDLED = Path(__file__).resolve().parents[2] / "data"
KINDS = ("recipes", "releases", "hardware", "floors", "checks", "causes")
#: What only evaluate and benchmark read.
CLIENT_KINDS = ("clients", "sets", "gates")
#: What the planner reads of every entry of these kinds; a recipe is checked when it is selected.
NEEDED = {
    "releases": ("image_tag", "start"),
    "hardware": ("title", "npus", "npus_max", "device_nodes", "mounts"),
    "floors": ("minimum", "recommended"),
    "checks": ("title", "meaning", "outcomes"),
    "causes": ("patterns", "cause", "remedy"),
    "clients": ("verb", "kind", "command", "flags", "added", "collect"),
    "sets": ("samples", "files", "tools"),
    "gates": ("kind",),
}
#: By kind of gate: the keys it needs, with their types; a float may be an integer.
GATES = {
    "accuracy": {"set": str, "samples": int, "recipes": list, "tools": dict, "floor": float},
    "performance": {"metrics": dict, "ratio": float},
}


class DataError(Exception):
    """An entry that cannot be resolved. ``problem`` says why, ``remedy`` what to do."""

    def __init__(self, problem: str, remedy: str):
        super().__init__(problem)
        self.problem = problem
        self.remedy = remedy


class _UniqueKeys(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    """YAML without the trap that the second of two equal keys silently wins."""

    def construct_mapping(self, node, deep=False):
        """Refuse a key that is there twice."""
        seen = set()
        for key_node, _value in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is there twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


def read_yaml(path: Path) -> object:
    """Return the content of one YAML file. Raises yaml.YAMLError (also for a key that is there twice) and OSError."""
    seen = Path(path).stat()
    return pickle.loads(_parsed(str(path), seen.st_mtime_ns, seen.st_size, seen.st_ino))


@lru_cache(maxsize=128)
def _parsed(path: str, *_state) -> bytes:
    """Return the content of a file as it is in this state, pickled: each caller has its own copy, in a tenth of the time that parsing takes."""
    with open(path, encoding="utf-8") as stream:
        return pickle.dumps(yaml.load(stream, Loader=_UniqueKeys))


def load_all(site_dirs=(), kinds=KINDS) -> tuple[dict, list]:
    """Return ``({kind: {name: entry}}, checks)`` of the bundled folder and the site's, in that order."""
    data: dict = {kind: {} for kind in kinds}
    checks: list = []
    for folder in [BUNDLED, *map(Path, site_dirs)]:
        if folder != BUNDLED:
            problem = _folder_problem(folder)
            if problem:
                checks.append(check(CONTROLLER, "data_folder", "vllm_data_dirs", *problem))
                continue
        for kind in kinds:
            entries, problems = _load_folder(folder / kind)
            data[kind].update(entries)
            checks += problems
    for kind in [kind for kind in NEEDED if kind in data]:
        data[kind], problems = _complete(kind, data[kind], NEEDED[kind])
        checks += problems
    return data, checks


def _complete(kind: str, entries: dict, keys: tuple) -> tuple[dict, list]:
    """Return the entries with their bases applied that have all keys, and a check for each of the others."""
    whole: dict = {}
    checks: list = []
    for name in entries:
        try:
            entry = resolve(entries, name)
            missing = [key for key in keys if key not in entry]
            observed, remedy = (
                f"no {', '.join(missing)}",
                "complete the entry, or start it with 'base: <a complete one>'.",
            )
            if kind in REFUSALS and not missing:
                REFUSALS[kind](entry)
        except DataError as error:
            missing, observed, remedy = [name], error.problem, error.remedy
        if missing:
            what = f"{kind} entry {name} with {observed}"
            checks.append(check(CONTROLLER, "data_file", "vllm_data_dirs", what, f"the keys {', '.join(keys)}", remedy))
        else:
            whole[name] = entry
    return whole, checks


def _refuse_cause(entry: dict) -> None:
    """Raise DataError for a cause whose patterns cannot be searched for, or that has no text to show."""
    patterns = entry["patterns"]
    if not isinstance(patterns, list) or not patterns:
        raise DataError(f"patterns {shown(patterns)}", "write patterns as a list of regular expressions, each in quotes.")
    for pattern in patterns:
        try:
            re.compile(pattern)
        except (re.error, TypeError) as error:
            raise DataError(f"the pattern {shown(pattern)}: {error}", "correct this regular expression (Python's re).") from error
    for key in ("cause", "remedy"):
        if not is_mapping(entry[key]) or not isinstance(entry[key].get("en"), str):
            raise DataError(f"{key} {shown(entry[key])}", f"write {key} as a mapping of languages, with en: TEXT at least.")
    rank = entry.get("rank", 0)
    if not isinstance(rank, int) or isinstance(rank, bool):
        raise DataError(f"rank {shown(rank)}", "write rank as a whole number; lower ones are told first.")


def _is(value: object, wanted: type) -> bool:
    """Return whether a value is of a type; a boolean is no number, and an integer is a decimal number too."""
    if isinstance(value, bool):
        return False
    if wanted is dict:
        return is_mapping(value) and bool(value)
    return isinstance(value, (int, float) if wanted is float else wanted) and (wanted is not list or bool(value))


def _refuse_set(entry: dict) -> None:
    """Raise DataError for a set of which no result could be judged."""
    if not _is(entry["samples"], int) or entry["samples"] < 1:
        raise DataError(f"samples {shown(entry['samples'])}", "write samples as the number of questions of the whole set.")
    files = entry["files"]
    if not _is(files, list) or not all(is_mapping(part) and part.get("path") and part.get("format") for part in files):
        raise DataError(f"files {shown(files)}", "write files as a list of {path: NAME, format: FORMAT}.")
    tools = entry["tools"]
    if not _is(tools, dict) or not all(is_mapping(tool) and isinstance(tool.get("metric"), str) for tool in tools.values()):
        raise DataError(f"tools {shown(tools)}", "write tools as a mapping of tools to {metric: NAME}; for aisbench with name: NAME.")
    try:
        re.compile(entry.get("answered") or "")
    except (re.error, TypeError) as error:
        raise DataError(f"answered {shown(entry['answered'])}: {error}", "correct this regular expression (Python's re).") from error
    most = entry.get("unanswered_max_percent", 0)
    if not _is(most, float) or not 0 <= most <= 100:
        raise DataError(f"unanswered_max_percent {shown(most)}", "write a number from 0 to 100.")


def _refuse_gate(entry: dict) -> None:
    """Raise DataError for a gate that could not judge, or that every result passes."""
    kind = entry["kind"]
    if kind not in GATES:
        raise DataError(f"kind {shown(kind)}", f"write kind as {known_names(GATES)}.")
    for key, wanted in GATES[kind].items():
        if not _is(entry.get(key), wanted):
            noun = {str: "a text", int: "a whole number", float: "a number", list: "a list that is not empty", dict: "a mapping that is not empty"}[wanted]
            raise DataError(f"{key} {shown(entry.get(key))}", f"write {key} as {noun}.")
    if kind == "performance" and not 0 < entry["ratio"] <= 1:
        raise DataError(f"ratio {entry['ratio']}", "write ratio as a number above 0 and at most 1: the part of the baseline that is enough.")
    if kind == "accuracy" and (not 0 < entry["floor"] <= 100 or entry["samples"] < 1):
        raise DataError(f"floor {entry['floor']} of {entry['samples']} samples", "write floor in percent, above 0 and at most 100, and samples as 1 or more.")
    if kind == "accuracy" and not all(isinstance(words, (list, tuple)) for words in entry["tools"].values()):
        raise DataError(f"tools {shown(entry['tools'])}", "write tools as a mapping of tools to lists of words, [] for any configuration.")


#: What is looked at beside the keys that are needed.
REFUSALS = {"causes": _refuse_cause, "sets": _refuse_set, "gates": _refuse_gate}


def _folder_problem(folder: Path):
    """Return (observed, expected, remedy) if a site's folder cannot be used."""
    wanted = f"an absolute path of a folder with {' or '.join(KINDS + CLIENT_KINDS)}"
    if not folder.is_absolute():
        return (
            f"the relative path {str(folder)!r}",
            wanted,
            "write it from the inventory: '{{ inventory_dir }}/../data'.",
        )
    if not folder.is_dir():
        return (
            f"no folder {folder}",
            wanted,
            "correct the path in vllm_data_dirs, or create the folder on the controller.",
        )
    if not any((folder / kind).is_dir() for kind in KINDS + CLIENT_KINDS):
        return (f"{folder} with none of them", wanted, f"put the files into {folder}/recipes, for instance.")
    return None


def _load_folder(folder: Path) -> tuple[dict, list]:
    """Return the entries of all ``*.yml`` files of one folder and a check for each file or entry that is wrong."""
    entries: dict = {}
    checks: list = []

    def refuse(path, observed, expected, remedy):
        checks.append(check(CONTROLLER, "data_file", str(path), observed, expected, remedy))

    for path in sorted(folder.glob("*.yml")):
        try:
            content = read_yaml(path)
        except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
            refuse(path, " ".join(str(error).split()), "a YAML file that can be read", "correct the file.")
            continue
        if not is_mapping(content):
            refuse(
                path,
                shown(content),
                "a mapping of names to entries",
                "start the file with the entry's name and a colon.",
            )
            continue
        for name, entry in content.items():
            if not is_mapping(entry) or not entry.get("source"):
                refuse(
                    path,
                    f"the entry {name} without a source",
                    "a source in every entry",
                    "say in 'source' where the numbers of the entry come from.",
                )
            elif name in entries:
                refuse(
                    path,
                    f"the entry {name} a second time",
                    "each name once in a folder",
                    "rename or remove one of the two.",
                )
            else:
                entries[str(name)] = entry
    return entries, checks


def overlay(base: object, top: object):
    """Return ``base`` with ``top`` laid over it: mappings key by key, anything else replaced, ``None`` removes the key."""
    if not is_mapping(top):
        return top
    merged = dict(base) if is_mapping(base) else {}
    for key, value in top.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = overlay(merged.get(key), value)
    return merged


def resolve(entries: dict, name: str) -> dict:
    """Return an entry with its bases applied. Raises DataError for an unknown name, an unknown base or a circle of bases."""
    chain: list = []
    while True:
        if name not in entries:
            by = f", the base of {chain[-1]}" if chain else ""
            raise DataError(
                f"{name!r}{by}",
                f"{did_you_mean(name, entries)}Choose a known one, or add it in a folder of vllm_data_dirs.",
            )
        if name in chain:
            raise DataError(f"a circle of bases: {' -> '.join([*chain, name])}", "remove 'base' from one of them.")
        chain.append(name)
        base = entries[name].get("base")
        if base is None:
            break
        name = base
    merged: dict = {}
    for link in reversed(chain):
        merged = overlay(merged, {key: value for key, value in entries[link].items() if key != "base"})
    return merged


def find(entries: dict, name: str, host: str, variable: str, noun: str) -> tuple[dict | None, list]:
    """Return ``(entry, [])``, or ``(None, [check])`` that lists what is known and names the nearest."""
    try:
        return resolve(entries, name), []
    except DataError as error:
        return None, [
            check(
                host,
                f"{noun}_known",
                variable,
                f"the {noun} {error.problem}",
                known_names(sorted(entries)),
                error.remedy,
            ),
        ]
