# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line and the environment of one server: the recipe's, with the inventory's merged last."""

from __future__ import annotations

import copy
import json
import re

from .messages import check, is_list, is_mapping, shown

_ELSEWHERE = "the planner computes it"
#: Options of ``vllm serve`` that the planner writes, with the variable that sets each properly. vLLM's short names included.
OWNED_OPTIONS = {
    "host": ("vllm_bind_address", "what asks the API has to know where it listens"),
    "port": ("vllm_port", ""),
    "headless": ("no variable", "every host of a group but the first is headless; vllm_node_rank sets the order"),
    "model": ("vllm_weights_dir", ""),
    "served-model-name": ("vllm_served_model_name", ""),
    "tensor-parallel-size": ("vllm_tensor_parallel_size", ""),
    "tp": ("vllm_tensor_parallel_size", ""),
    "data-parallel-size": ("vllm_data_parallel_size", ""),
    "dp": ("vllm_data_parallel_size", ""),
    "data-parallel-size-local": ("vllm_data_parallel_size_local", ""),
    "dpl": ("vllm_data_parallel_size_local", ""),
    "data-parallel-rpc-port": ("vllm_data_parallel_rpc_port", ""),
    "dpp": ("vllm_data_parallel_rpc_port", ""),
    "data-parallel-address": ("vllm_local_ip", "it is the head's address"),
    "dpa": ("vllm_local_ip", "it is the head's address"),
    "data-parallel-start-rank": ("vllm_node_rank", _ELSEWHERE),
    "dpr": ("vllm_node_rank", _ELSEWHERE),
    "data-parallel-rank": ("vllm_node_rank", _ELSEWHERE),
    "dpn": ("vllm_node_rank", _ELSEWHERE),
    "data-parallel-backend": ("no variable", "the ranks of a group meet over its rpc port"),
    "dpb": ("no variable", "the ranks of a group meet over its rpc port"),
    "data-parallel-hybrid-lb": ("no variable", "the head balances the load of its group"),
    "dph": ("no variable", "the head balances the load of its group"),
    "data-parallel-external-lb": ("no variable", "the role of a group decides who balances its load"),
    "dpe": ("no variable", "the role of a group decides who balances its load"),
    # Each multiplies the NPUs of a rank, which the rank arithmetic does not know.
    "pipeline-parallel-size": ("vllm_tensor_parallel_size", "ranks over several pipeline stages are not planned"),
    "pp": ("vllm_tensor_parallel_size", "ranks over several pipeline stages are not planned"),
    "prefill-context-parallel-size": ("vllm_tensor_parallel_size", "context-parallel ranks are not planned"),
    "pcp": ("vllm_tensor_parallel_size", "context-parallel ranks are not planned"),
    # A key on a command line is shown by ps and docker inspect.
    "api-key": ("vllm_api_key_file", "a key in the arguments would be readable by everyone on the node"),
    "ssl-certfile": ("vllm_tls_certificate_file", "the file has to be mounted into the container"),
    "ssl-keyfile": ("vllm_tls_key_file", "the file has to be mounted into the container"),
}
#: Variables of the environment that would show a secret to everyone who may run docker inspect.
OWNED_ENV = {"VLLM_API_KEY": ("vllm_api_key_file", "a key in the environment would be readable by docker inspect")}


#: Options whose value is a mapping: as JSON text it would be a whole that no check sees into.
JSON_OPTIONS = ("additional-config", "compilation-config", "speculative-config")


def option_name(key: str) -> str:
    """Return an option's name without dashes in front and with dashes inside: ``--max_num_seqs`` and ``max-num-seqs`` are one."""
    head, dot, tail = key.strip().lstrip("-").partition(".")
    return head.replace("_", "-") + dot + tail


def merge_flags(flags: dict, extra: dict, host: str, owned_by: str = "vllm_extra_args") -> tuple[dict, list]:
    """Return ``(flags, checks)``: the recipe's flags with the extra ones over them, in the recipe's order, new ones at the end.

    ``None`` and ``False`` remove. An option and its ``no-`` form replace each other. What the planner owns is refused. ``option.key`` changes one key
    of an option's mapping, None removes it: vLLM would take it for a second value of the whole option, which replaces the first
    (vllm/utils/argparse_utils.py, FlexibleArgumentParser.parse_args). JSON text of a mapping becomes the mapping.
    """
    merged = {option_name(key): value for key, value in flags.items()}
    checks = []
    for key, value in extra.items():
        name = option_name(key)
        if name in OWNED_OPTIONS:
            variable, why = OWNED_OPTIONS[name]
            instead = f"use {variable}" if variable != "no variable" else "leave it out"
            checks.append(
                check(
                    host,
                    "extra_args",
                    owned_by,
                    f"the option --{name}",
                    f"no option that the planner writes itself{': ' + why if why else ''}",
                    f"{instead} instead of --{name} in {owned_by}.",
                ),
            )
        elif not re.fullmatch(r"[a-z][a-z0-9-]*(\.[A-Za-z0-9_.-]+)?", name) or len(name) == 1:
            checks.append(
                check(
                    host,
                    "extra_args",
                    owned_by,
                    f"the option {key!r}",
                    "the long name of an option of vllm serve",
                    "write it as 'vllm serve --help=all' shows it.",
                )
            )
        elif not _renderable(value):
            checks.append(
                check(
                    host,
                    "extra_args",
                    owned_by,
                    f"{key}: {shown(value)}",
                    "a text, number, boolean, mapping or list",
                    "correct the value.",
                )
            )
        elif name in JSON_OPTIONS and isinstance(value, str) and value.lstrip().startswith("{"):
            try:
                merged[name] = json.loads(value)
            except ValueError as error:
                checks.append(_wrong(host, owned_by, f"{key}: {shown(value)}, which is not JSON: {error}", "a mapping", "write it as YAML."))
        elif "." in name:
            if not _set_key(merged, name, value):
                option = name.partition(".")[0]
                checks.append(_wrong(host, owned_by, f"{key} beside --{option} {shown(merged[option])}", f"a mapping that has {name.rpartition('.')[0]}",
                                     f"state the whole of {option} as a mapping."))
        else:
            if value is None or value is False:
                merged.pop(name, None)
                continue
            merged.pop(name[3:] if name.startswith("no-") else f"no-{name}", None)
            merged[name] = value
    return {name: value for name, value in merged.items() if value is not None and value is not False}, checks


def _wrong(host: str, owned_by: str, observed: str, expected: str, remedy: str) -> dict:
    """Return the check for an extra option that cannot be used."""
    return check(host, "extra_args", owned_by, observed, expected, remedy)


def _set_key(flags: dict, name: str, value: object) -> bool:
    """Set ``option.key.key`` in the mapping of an option, or remove it (None); False if there is something else than a mapping on the way.

    Text is what it is as JSON, as vLLM reads it there: "1" is a number; what is no JSON stays text.
    """
    option, *path, last = name.split(".")
    if value is None and option not in flags:
        return True
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            pass
    place = flags[option] = copy.deepcopy(flags.get(option, {}))
    for key in path:
        if not is_mapping(place):
            return False
        place = place.setdefault(key, {})
    if not is_mapping(place):
        return False
    if value is None:
        place.pop(last, None)
    else:
        place[last] = value
    return True


def _renderable(value: object) -> bool:
    """Return whether a value can be written on a command line; a list or mapping has to be possible as JSON."""
    if is_mapping(value) or is_list(value):
        try:
            json.dumps(value)
        except (TypeError, ValueError):
            return False
        return True
    return value is None or isinstance(value, (bool, int, float)) or (isinstance(value, str) and "\0" not in value)


def render(flags: dict) -> list:
    """Return flags as arguments: ``True`` is the bare option, mappings and lists become compact JSON."""
    arguments: list = []
    for name, value in flags.items():
        if value is True:
            arguments.append(f"--{name}")
            continue
        is_json = is_mapping(value) or is_list(value)
        text = json.dumps(value, separators=(",", ":"), ensure_ascii=False) if is_json else str(value)
        # argparse takes a separate text with a dash in front for the next option.
        arguments += [f"--{name}={text}"] if text.startswith("-") else [f"--{name}", text]
    return arguments


def merge_env(env: dict, extra: dict, host: str) -> tuple[dict, list]:
    """Return ``(env, checks)``: an environment with the extra one over it; ``None`` removes. Values are text."""
    checks = [
        check(
            host,
            "extra_env",
            "vllm_extra_env",
            f"the variable {name}",
            f"no secret in the environment: {why}",
            f"use {variable} instead.",
        )
        for name, (variable, why) in OWNED_ENV.items()
        if extra.get(name) is not None
    ]
    merged = {**env, **extra}
    return {name: str(value) for name, value in merged.items() if value is not None}, checks


#: Ranges of variables that would otherwise be refused, or ignored, only after minutes of loading.
#: Source: CANN, HCCL environment variables; vLLM envs.
ENV_RANGES = {
    "HCCL_CONNECT_TIMEOUT": (120, 7200),
    "VLLM_ENGINE_READY_TIMEOUT_S": (1, None),
    "HCCL_IF_BASE_PORT": (1024, 65520),
}


def env_ranges(env: dict, host: str) -> list:
    """Return a check for each variable of ENV_RANGES that is no number in its range."""
    checks = []
    for name, (low, high) in ENV_RANGES.items():
        value = env.get(name)
        if value is None:
            continue
        wanted = f"an integer from {low} to {high}" if high else f"an integer of {low} or more"
        if not re.fullmatch(r"[0-9]+", value) or int(value) < low or (high and int(value) > high):
            checks.append(
                check(
                    host,
                    "extra_env",
                    "vllm_extra_env",
                    f"{name}={value}",
                    f"{name} as {wanted}",
                    f"correct {name} in vllm_extra_env.",
                )
            )
    return checks
