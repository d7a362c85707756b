# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A recipe as one group uses it: the entry for its release and hardware, with every limit that the recipe states."""

from __future__ import annotations

from dataclasses import dataclass

from . import conditions
from .data import overlay
from .messages import check, did_you_mean, is_list, is_mapping, known_names


@dataclass(frozen=True)
class Recipe:
    """What a recipe says for one release on one hardware. Sizes are counts of NPUs or ranks; ``env`` values are text."""

    name: str
    title: str
    source: str
    weights: dict
    served_model_name: str
    npus_needed: int
    data_parallel_size: int | None
    tensor_parallel_size: int
    expert_parallel_sizes: tuple
    attention_heads: int | None
    env: dict
    flags: dict
    timeouts: dict
    notices: dict
    #: Whether attention is multi-head latent attention, of which every NPU has the whole KV cache; whether it is mixed with Mamba layers.
    mla: bool = False
    hybrid: bool = False


def of_role(name: str, entry: dict, role: str, host: str) -> tuple[dict | None, list]:
    """Return ``(entry, checks)``: a recipe as one role uses it. What it says below ``roles`` takes the place of hardware, releases and source."""
    if role == "serve":
        return entry, []
    roles = entry.get("roles") or {}
    part = roles.get(role) if is_mapping(roles) else None
    if not is_mapping(part):
        has = [known for known in (roles if is_mapping(roles) else ()) if is_mapping(roles[known])]
        return None, [
            check(
                host,
                "recipe_role",
                "vllm_groups",
                f"the role {role}, for which the recipe {name} has no entry",
                known_names(["serve", *has]),
                "choose a recipe that has roles.prefill and roles.decode, or add them in vllm_data_dirs.",
            )
        ]
    return {**entry, **part, "notices": {**(entry.get("notices") or {}), **(part.get("notices") or {})}}, []


def select(name: str, entry: dict, release: str, hardware: str, host: str, role: str = "serve") -> tuple[Recipe | None, list]:
    """Return ``(recipe, checks)``. Refused: a role, release or hardware that the recipe has no entry for, and an entry that lacks what is needed."""
    entry, checks = of_role(name, entry, role, host)
    if entry is None:
        return None, checks
    releases, machines = entry.get("releases") or {}, entry.get("hardware") or {}
    if release not in releases:
        has = known_names(releases)
        remedy = f"{did_you_mean(release, releases)}Set vllm_ascend_version to {has}, or add an entry for {release} to the recipe in vllm_data_dirs."
        checks.append(
            check(
                host,
                "recipe_release",
                "vllm_ascend_version",
                f"{release}, for which the recipe {name} has no entry",
                has,
                remedy,
            )
        )
    if hardware not in machines:
        remedy = "choose a recipe for this hardware, or add an entry for it in vllm_data_dirs."
        checks.append(
            check(
                host,
                "recipe_hardware",
                "vllm_hardware",
                f"{hardware}, for which the recipe {name} has no entry",
                known_names(machines),
                remedy,
            )
        )
    if checks:
        return None, checks
    machine, at = machines[hardware], releases[release] or {}
    inner = (((at.get("hardware") or {}).get(hardware)) if is_mapping(at) else None) or {}
    problems = _problems(entry, machine, at, inner)
    if problems:
        return None, [
            check(
                host,
                "recipe_complete",
                "vllm_model",
                f"the recipe {name} with {problem}",
                "a complete recipe",
                "correct it in the folder of vllm_data_dirs that it comes from.",
            )
            for problem in problems
        ]
    return (
        Recipe(
            name=name,
            title=entry.get("title", name),
            source=at.get("source") or entry["source"],
            weights={key: value for key, value in entry["weights"].items() if key != "source"},
            served_model_name=entry["served_model_name"],
            npus_needed=machine["npus_needed"],
            data_parallel_size=machine.get("data_parallel_size"),
            tensor_parallel_size=machine["tensor_parallel_size"],
            expert_parallel_sizes=tuple(machine.get("expert_parallel_sizes") or ()),
            attention_heads=entry.get("attention_heads"),
            env={
                key: str(value)
                for key, value in overlay(at.get("env") or {}, inner.get("env") or {}).items()
                if value is not None
            },
            flags=overlay(at.get("flags") or {}, inner.get("flags") or {}),
            timeouts=entry.get("timeouts") or {},
            notices=entry.get("notices") or {},
            mla=bool(entry.get("mla")),
            hybrid=bool(entry.get("hybrid")),
        ),
        [],
    )


def _problems(entry: dict, machine: object, at: object, inner: object) -> list:
    """Return in words what a recipe lacks for being used at all: in its entry for the hardware, for the release and for both."""
    if not (is_mapping(machine) and is_mapping(at) and is_mapping(inner)):
        return ["an entry of its hardware or releases that is no mapping"]
    problems = [
        f"no whole number of 1 or more as {key} of its hardware"
        for key in ("npus_needed", "tensor_parallel_size")
        if not _is_count(machine.get(key))
    ]
    if machine.get("data_parallel_size") is not None and not _is_count(machine["data_parallel_size"]):
        problems.append("no whole number of 1 or more as data_parallel_size of its hardware")
    sizes = machine.get("expert_parallel_sizes") or []
    if not is_list(sizes) or not all(_is_count(size) for size in sizes):
        problems.append("no list of whole numbers as expert_parallel_sizes of its hardware")
    weights = entry.get("weights")
    if not is_mapping(weights) or not weights.get("id") or not weights.get("kind"):
        problems.append("no kind and id of its weights")
    if not isinstance(entry.get("served_model_name"), str):
        problems.append("no served_model_name")
    for part in (at, inner):
        problems += [
            f"{key} that are no mapping"
            for key in ("env", "flags")
            if part.get(key) is not None and not is_mapping(part[key])
        ]
    for key, needed in (("timeouts", ("value", "reason")), ("notices", ("when", "text"))):
        parts = entry.get(key) or {}
        if not is_mapping(parts) or not all(
            is_mapping(part) and all(name in part for name in needed) for part in parts.values()
        ):
            problems.append(f"{key} that are no mapping of names to {' and '.join(needed)}")
    return problems


def _is_count(value: object) -> bool:
    """Return whether a value is a whole number of 1 or more."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def size_checks(
    recipe: Recipe, present: int, per_node: int, hosts: list, dp: int, tp: int, expert_parallel: bool
) -> list:
    """Return the checks of a group's size against the recipe's limits.

    ``present``: NPUs of all hosts of the group; ``per_node``: NPUs of a reference node of the hardware; ``dp * tp`` NPUs are used,
    which is also the number of expert-parallel ranks if the experts are spread at all.
    """
    checks, head = [], hosts[0]
    used = dp * tp
    if used < recipe.npus_needed:
        if present < recipe.npus_needed:
            lacking = recipe.npus_needed - present
            nodes = -(-lacking // per_node)
            observed = f"{present} NPU(s) on {len(hosts)} host(s)"
            remedy, variable = f"add {nodes} more node(s) of {per_node} NPUs to the group.", "vllm_npus"
        else:
            observed = f"{used} of {present} NPUs used by DP {dp} x TP {tp}"
            remedy, variable = (
                f"set vllm_data_parallel_size to {-(-recipe.npus_needed // tp)} or more, or leave it out.",
                "vllm_data_parallel_size",
            )
        return [
            check(
                head,
                "npus_needed",
                variable,
                observed,
                f"{recipe.npus_needed} NPUs or more for {recipe.title}, or its weights do not fit",
                remedy,
            )
        ]
    if expert_parallel and recipe.expert_parallel_sizes and used not in recipe.expert_parallel_sizes:
        allowed = ", ".join(map(str, recipe.expert_parallel_sizes))
        observed = f"DP {dp} x TP {tp} = {used} expert-parallel ranks"
        checks.append(
            check(
                head,
                "expert_parallel_size",
                "vllm_data_parallel_size",
                observed,
                f"one of {allowed} on this hardware",
                _fitting(recipe, present, len(hosts), tp),
            )
        )
    return checks


def _fitting(recipe: Recipe, present: int, hosts: int, tp: int) -> str:
    """Return in words how an expert-parallel size that is allowed can be reached: with these hosts, or with how many of them."""
    sizes = [size for size in recipe.expert_parallel_sizes if size % tp == 0 and size >= recipe.npus_needed]
    same_hosts = [str(size // tp) for size in sizes if size <= present and (size // tp) % hosts == 0]
    each = present // hosts
    counts = [str(size // each) for size in sizes if size % each == 0] if present % hosts == 0 else []
    ways = []
    if same_hosts:
        ways.append(f"set vllm_data_parallel_size to {' or '.join(same_hosts)}")
    if counts:
        ways.append(f"serve with {' or '.join(counts)} host(s) of {each} NPUs")
    return f"{'; or '.join(ways) or 'change the number of hosts or vllm_tensor_parallel_size'}."


def heads_check(recipe: Recipe, tp: int, head: str) -> list:
    """Refuse a TP that does not divide the attention heads."""
    if not recipe.attention_heads or recipe.attention_heads % tp == 0:
        return []
    divisors = [size for size in (1, 2, 4, 8, 16) if recipe.attention_heads % size == 0]
    return [
        check(
            head,
            "tensor_parallel_divides",
            "vllm_tensor_parallel_size",
            f"TP {tp}",
            f"a divisor of the {recipe.attention_heads} attention heads of {recipe.title}",
            f"set vllm_tensor_parallel_size to one of {', '.join(map(str, divisors))}.",
        )
    ]


def notices(recipe: Recipe, group: str, head: str, facts: dict) -> tuple[list, list]:
    """Return ``(notices, checks)`` of those notices of the recipe whose condition holds of ``facts``: level ``fail`` becomes a check."""
    said, checks = [], []
    for code, entry in recipe.notices.items():
        try:
            if not conditions.holds(entry.get("when"), facts):
                continue
        except conditions.ConditionError as error:
            checks.append(
                check(
                    head,
                    "recipe_notice",
                    "vllm_model",
                    f"the notice {code} of {recipe.name}: {error}",
                    "a condition that can be read",
                    "correct the recipe.",
                    "unknown",
                )
            )
            continue
        if entry.get("level") == "fail":
            checks.append(
                check(
                    head,
                    code,
                    entry.get("variable", "vllm_model"),
                    entry.get("observed", entry["text"]),
                    entry.get("expected", "a setting that the recipe allows"),
                    entry.get("remedy", entry["text"]),
                )
            )
        else:
            said.append(
                {
                    "level": entry.get("level", "info"),
                    "code": code,
                    "group": group,
                    "host": None,
                    "text": entry["text"],
                    "source": entry.get("source", recipe.source),
                }
            )
    return said, checks
