# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The public variables: what each may be, and the one conversion of what an inventory or ``-e`` gives for it.

Names, types, elements, choices and defaults are those of ``roles/plan/meta/argument_specs.yml``. What that schema cannot say (whom a
variable belongs to, ranges, the form of an address) is in ``RULES`` beside it. ``-e x=8000`` is a text, so every value is converted
here, once, and whatever cannot be converted becomes a check that names host and variable.
"""

from __future__ import annotations

import json
import os
import re
from functools import lru_cache
from pathlib import Path

from . import addresses, rsync_source
from .data import read_yaml
from .messages import check, did_you_mean, is_list, is_mapping, known_names, nearest, plain, shown

#: The one specification of the public variables.
SPECIFICATION = Path(__file__).resolve().parents[2] / "roles" / "plan" / "meta" / "argument_specs.yml"

#: Variables without which all hosts do something else than what was asked for: one that is nearly such a name stops the run.
SHAPE = ("vllm_groups", "vllm_proxy")
#: Beside the specification. scope: ``host`` (each its own), ``group`` (all hosts of a group the same) or ``run`` (all hosts the same);
#: entry: may be stated in an entry of vllm_groups; min and max: inclusive; form: a function below.
RULES = {
    "vllm_model": {"scope": "group", "entry": True, "form": "name"},
    "vllm_ascend_version": {"scope": "group", "entry": True, "form": "name"},
    "vllm_hardware": {"scope": "host"},
    "vllm_npus": {"scope": "host", "form": "npus"},
    "vllm_network": {"scope": "host", "form": "network"},
    "vllm_local_ip": {"scope": "host", "form": "ipv4"},
    "vllm_nic_name": {"scope": "host", "form": "nic"},
    "vllm_node_rank": {"scope": "host", "min": 0},
    "vllm_data_parallel_size": {"scope": "group", "entry": True, "min": 1},
    "vllm_data_parallel_size_local": {"scope": "host", "min": 0},
    "vllm_tensor_parallel_size": {"scope": "group", "entry": True, "min": 1},
    "vllm_port": {"scope": "group", "entry": True, "min": 1, "max": 65535},
    # Below 1024 only root may listen, and services of the system live there.
    "vllm_data_parallel_rpc_port": {"scope": "group", "entry": True, "min": 1024, "max": 65535},
    "vllm_supervise": {"scope": "group", "entry": True},
    "vllm_watch_port": {"scope": "group", "entry": True, "min": 1024, "max": 65535},
    "vllm_rank_port": {"scope": "group", "entry": True, "min": 1024, "max": 65535},
    "vllm_kv_port": {"scope": "group", "entry": True, "min": 1024, "max": 65535},
    "vllm_pd_colocate": {"scope": "run"},
    "vllm_proxy": {"scope": "run", "form": "proxy"},
    "vllm_served_model_name": {"scope": "group", "entry": True, "form": "word"},
    "vllm_extra_env": {"scope": "host", "entry": True, "form": "env"},
    "vllm_extra_args": {"scope": "group", "entry": True},
    "vllm_image": {"scope": "group", "entry": True, "form": "image"},
    "vllm_image_registries": {"scope": "group", "entry": True, "form": "registries"},
    "vllm_image_os": {"scope": "group", "entry": True},
    "vllm_image_archive": {"scope": "group", "entry": True, "form": "controller_file"},
    "vllm_image_fanout": {"scope": "group", "entry": True},
    "vllm_registry_auth_file": {"scope": "group", "entry": True, "form": "controller_file"},
    "vllm_shm_size": {"scope": "host", "entry": True, "form": "size"},
    "vllm_weights_source": {"scope": "group", "entry": True, "form": "weights_source"},
    "vllm_weights_dir": {"scope": "group", "entry": True, "form": "node_path"},
    "vllm_weights_token_file": {"scope": "group", "entry": True, "form": "controller_path"},
    "vllm_weights_target": {"scope": "group", "entry": True},
    "vllm_weights_bandwidth_limit": {"scope": "group", "entry": True, "form": "size"},
    "vllm_data_dirs": {"scope": "run"},
    "vllm_report_dir": {"scope": "run", "form": "controller_path"},
    "vllm_api_key_file": {"scope": "group", "entry": True, "form": "controller_path"},
    "vllm_bind_address": {"scope": "group", "entry": True, "form": "bind"},
    "vllm_tls_certificate_file": {"scope": "group", "entry": True, "form": "controller_file"},
    "vllm_tls_key_file": {"scope": "group", "entry": True, "form": "controller_file"},
    "vllm_tls_ca_file": {"scope": "group", "entry": True, "form": "controller_file"},
    "vllm_groups": {"scope": "run"},
    "vllm_language": {"scope": "run"},
    "preflight_mesh": {"scope": "run"},
    "preflight_accept": {"scope": "run"},
}

#: How the name of a public variable begins.
PREFIXES = ("vllm_", "preflight_")


class InputError(Exception):
    """A value that is not what its variable takes: ``expected`` and ``remedy`` in words."""

    def __init__(self, expected: str, remedy: str = "", observed: str = ""):
        super().__init__(expected)
        self.expected = expected
        self.remedy = remedy
        self.observed = observed


@lru_cache(maxsize=1)
def options() -> dict:
    """Return the public variables as ``{name: option}``, each option with the keys of the specification and of RULES."""
    table = read_yaml(SPECIFICATION)["argument_specs"]["main"]["options"]
    return {name: {**option, **RULES[name]} for name, option in table.items() if name.startswith(PREFIXES)}


def defaults() -> dict:
    """Return ``{name: value}`` of the variables that have a default."""
    return {name: plain(option["default"]) for name, option in options().items() if "default" in option}


def entry_options() -> dict:
    """Return the variables that an entry of vllm_groups may state, by their name there (without the prefix)."""
    return {name.removeprefix("vllm_"): option for name, option in options().items() if option.get("entry")}


def is_unstated(value: object) -> bool:
    """Return whether a value says nothing: ``-e vllm_image=`` and an empty YAML value mean "not stated"."""
    return value is None or (isinstance(value, str) and not value.strip())


def read_host(host: str, variables) -> tuple[dict, list, list]:
    """Return ``(values, checks, invalid)`` of one host: its stated public variables converted, the problems, and the names that failed.

    ``variables`` is a mapping that is read lazily, one public variable at a time: looking one up may raise, for instance because
    its template names something undefined; that too becomes a check.
    """
    known = options()
    values: dict = {}
    checks: list = []
    invalid: list = []
    for name in sorted(key for key in variables.keys() if str(key).startswith(PREFIXES)):
        if name not in known:
            bare = {_bare(entry): entry for entry in known}
            guess = nearest(_bare(name), bare)
            hint = f"did you mean '{bare[guess]}'? " if guess else ""
            remedy = f"{hint}A variable that nobody reads changes nothing: correct its name or remove it."
            checks.append(
                check(
                    host,
                    "variable_known",
                    str(name),
                    "a variable that the collection does not know",
                    "a variable of its reference",
                    remedy,
                    "fail" if guess and bare[guess] in SHAPE else "warn",
                )
            )
            continue
        try:
            value, problem = _read(host, str(name), known[name], variables)
        except Exception as error:  # pylint: disable=broad-except
            # Whatever a lazy lookup raises is a problem of this variable of this host, not of the planner.
            text = " ".join(str(error).split())
            value, problem = None, check(
                host,
                "variable_value",
                name,
                f"a value that cannot be computed: {text}",
                "a value",
                f"correct the template of {name}.",
            )
        if problem:
            checks.append(problem)
            invalid.append(str(name))
        elif value is not None:
            values[str(name)] = value
    return values, checks, invalid


def _bare(name: str) -> str:
    """Return a variable's name without its prefix: names that have only the prefix in common are not alike."""
    return name.partition("_")[2]


def _read(host: str, name: str, option: dict, variables) -> tuple:
    """Return ``(value, None)``, ``(None, None)`` if nothing is stated, or ``(None, check)``. Raises whatever the lookup raises."""
    raw = variables[name]
    if is_unstated(raw):
        return None, None
    try:
        return convert(option, raw), None
    except InputError as error:
        return None, check(
            host,
            "variable_value",
            name,
            error.observed or shown(raw),
            error.expected,
            error.remedy or f"correct {name}.",
        )


def convert(option: dict, raw: object):
    """Return the value converted to the option's type and checked against its choices, range and form. Raises InputError."""
    value = _CONVERTERS[option["type"]](raw)
    if option["type"] == "list":
        value = [_element(option, entry) for entry in value]
    choices = option.get("choices")
    if choices and value not in choices:
        raise InputError(known_names(choices), f"{did_you_mean(value, choices)}known: {', '.join(choices)}.")
    low, high = option.get("min"), option.get("max")
    if (low is not None and value < low) or (high is not None and value > high):
        raise InputError(f"an integer from {low} to {high}" if high is not None else f"an integer of {low} or more")
    if "options" in option:
        value = _suboptions(option["options"], value)
    form = option.get("form")
    return _FORMS[form](value) if form else value


def _element(option: dict, entry: object):
    """Return one element of a list, converted."""
    try:
        return _CONVERTERS[option.get("elements", "raw")](entry)
    except InputError as error:
        raise InputError(
            f"a list of which each element is {error.expected}", error.remedy, f"the element {shown(entry)}"
        ) from error


def _suboptions(table: dict, value: dict) -> dict:
    """Return a mapping whose keys have types of their own."""
    result = {}
    for key, entry in value.items():
        if key not in table:
            raise InputError(
                f"the keys {', '.join(table)}",
                f"{did_you_mean(key, table)}known: {', '.join(table)}.",
                f"the key {key!r}",
            )
        if is_unstated(entry):
            continue
        try:
            result[key] = convert(table[key], entry)
        except InputError as error:
            raise InputError(
                f"{error.expected} for {key}", error.remedy, f"{key}: {error.observed or shown(entry)}"
            ) from error
    return result


def _to_int(raw: object) -> int:
    """Return an integer from an integer or from a text of digits."""
    if isinstance(raw, int) and not isinstance(raw, bool):
        return int(raw)
    if isinstance(raw, str) and re.fullmatch(r"[+-]?[0-9]+", raw.strip()):
        return int(raw)
    raise InputError("an integer")


def _to_bool(raw: object) -> bool:
    """Return a truth value from one or from the words that YAML 1.1 has for it; a number is none."""
    if isinstance(raw, bool):
        return bool(raw)
    words = {"true": True, "yes": True, "false": False, "no": False}
    if isinstance(raw, str) and raw.strip().lower() in words:
        return words[raw.strip().lower()]
    raise InputError("true or false")


def _to_str(raw: object) -> str:
    """Return a text; a number would lose its spelling on the way (1.10 is 1.1), so it has to be quoted."""
    if isinstance(raw, str):
        return str(raw).strip()
    remedy = "put the value in quotes." if isinstance(raw, (int, float)) else ""
    raise InputError("a text", remedy)


def _to_path(raw: object) -> str:
    """Return a path with its ``~`` resolved."""
    return os.path.expanduser(_to_str(raw))


def _to_list(raw: object) -> list:
    """Return a list from a list, from JSON, or from a text with commas."""
    if is_list(raw):
        return [plain(entry) for entry in raw]
    if isinstance(raw, str):
        text = raw.strip()
        if text.startswith("["):
            return _from_json(text, list, "a list")
        return [part.strip() for part in text.split(",")]
    raise InputError("a list")


def _to_dict(raw: object) -> dict:
    """Return a mapping with text keys from a mapping or from JSON."""
    if is_mapping(raw):
        value = plain(raw)
    elif isinstance(raw, str) and raw.strip().startswith("{"):
        value = _from_json(raw.strip(), dict, "a mapping")
    else:
        raise InputError("a mapping", 'write it as YAML, or with -e as JSON: -e \'{"name": {"key": "value"}}\'.')
    odd = [key for key in value if not isinstance(key, str)]
    if odd:
        raise InputError("a mapping whose keys are texts", "put the key in quotes.", f"the key {shown(odd[0])}")
    return value


def _from_json(text: str, kind: type, noun: str):
    """Return a value of one kind from JSON."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise InputError(noun, f"this is no JSON: {error}.") from error
    if not isinstance(value, kind):
        raise InputError(noun)
    return value


_CONVERTERS = {"bool": _to_bool, "int": _to_int, "str": _to_str, "path": _to_path, "list": _to_list, "dict": _to_dict, "raw": plain}


def npu_list(value: object):
    """Return a number of NPUs (an integer of 1 or more) or a sorted list of different physical ids.

    A text is taken as ``-e`` gives it: ``8`` is a number, ``0,1,2,3`` and ``[0, 1]`` are lists.
    """
    wanted = "the number of NPUs, or a list of different physical ids of 0 or more"
    if isinstance(value, str):
        value = _to_int(value) if re.fullmatch(r"[+-]?[0-9]+", value.strip()) else _to_list(value)
    if is_list(value):
        try:
            ids = [_to_int(entry) for entry in value]
        except InputError as error:
            raise InputError(wanted) from error
        if not ids or min(ids) < 0 or len(set(ids)) != len(ids):
            raise InputError(wanted)
        return sorted(ids)
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return int(value)
    raise InputError(wanted)


def _ipv4(value: str) -> str:
    """Return an IPv4 address that a host can own."""
    if not addresses.is_ipv4(value) or not addresses.can_be_owned(value):
        raise InputError("an IPv4 address of the host, such as 198.51.100.11")
    return value


def _bind(value: str) -> str:
    """Return an IPv4 address that a server can listen on: one of the host, or 0.0.0.0 for all of them."""
    if value != "0.0.0.0" and (not addresses.is_ipv4(value) or not addresses.can_be_owned(value)):
        raise InputError(
            "0.0.0.0 for every address of the head, 127.0.0.1 for itself only, or one IPv4 address that it has",
            "the server listens on IPv4; a name is not resolved.",
        )
    return value


def _network(value: str) -> str:
    """Return a CIDR without its host bits."""
    cidr = addresses.network(value)
    if cidr is None:
        raise InputError("a CIDR, such as 198.51.100.0/24")
    return cidr


def _nic(value: str) -> str:
    """Return the name of an interface: Linux allows 15 characters, none of them a slash or a blank."""
    if not re.fullmatch(r"[^\s/]{1,15}", value):
        raise InputError("the name of an interface, such as eth0", "ip -br addr on the host shows the names.")
    return value


def _name(value: str) -> str:
    """Return a name as recipes and releases have."""
    if not re.fullmatch(r"[A-Za-z0-9][\w.+-]*", value):
        raise InputError("a name of letters, digits, dots, dashes and underscores")
    return value


def _word(value: str) -> str:
    """Return a text without blanks that cannot be taken for an option."""
    if not re.fullmatch(r"[^\s-]\S*", value):
        raise InputError("a name without blanks that does not start with a dash")
    return value


def _image(value: str) -> str:
    """Return a full reference of an image: a repository with a tag, a digest or both."""
    if (
        not re.fullmatch(r"[\w.:/-]+?(:[\w.-]+)?(@sha256:[0-9a-f]{64})?", value)
        or not re.search(r"[^/]:[^/]+$", value)
        or "/" not in value
    ):
        raise InputError(
            "a full reference with a tag or a digest, such as quay.io/ascend/vllm-ascend:v0.13.0",
            "add ':<tag>' or '@sha256:<64 hexadecimal digits>'; without one Docker would take 'latest'.",
        )
    return value


def _registries(value: list) -> list:
    """Return prefixes of image references, without a scheme and without a final slash."""
    wanted = "a list of one or more registries or mirror prefixes, such as quay.io"
    if not value:
        raise InputError(wanted)
    for entry in value:
        if not re.fullmatch(r"[\w.-]+(:\d+)?(/[\w.-]+)*/?", entry):
            raise InputError(wanted, "leave out 'https://' and the image's own name.", f"the element {shown(entry)}")
    return [entry.rstrip("/") for entry in value]


def _size(value: str) -> str:
    """Return a size as Docker takes it."""
    if not re.fullmatch(r"[1-9][0-9]*[kmgKMG]?[bB]?", value):
        raise InputError("a size with its unit, such as 1g or 512m")
    return value.lower()


def _weights_source(value: dict) -> dict:
    """Return a source of weights; one that files are copied from has to say from where."""
    kind, place = value.get("kind"), value.get("id") or ""
    if kind == "controller":
        if not os.path.isdir(place):
            raise InputError("a folder on the controller for id", "state the folder with the model's config.json.", f"id: {place or 'nothing'}")
        return {**value, "id": os.path.abspath(place)}
    if kind == "rsync" and not rsync_source.OF_DAEMON.match(place):
        if not rsync_source.OVER_SSH.match(place):
            raise InputError("user@host:/folder or rsync://host/module/folder for id", "", f"id: {place or 'nothing'}")
        if not value.get("host_key"):
            raise InputError("host_key, the public key of the host", "take it from the host itself: cat /etc/ssh/ssh_host_ed25519_key.pub.", "no host_key")
    return value


def _proxy(value: dict) -> dict:
    """Return the settings of the proxy; what it does not say is decided by the planner."""
    for key in ("port", "next_port", "prometheus_port"):
        if key in value and not 1024 <= value[key] <= 65535:
            raise InputError(f"an integer from 1024 to 65535 for {key}", "", f"{key}: {value[key]}")
    if "image" in value:
        try:
            _image(value["image"])
        except InputError as error:
            raise InputError(f"{error.expected} for image", error.remedy, f"image: {shown(value['image'])}") from error
    return value


def size_bytes(text: object) -> int:
    """Return the bytes of a size as Docker writes it, such as 1g or 512m; 0 if it is none."""
    stated = str(text or "").strip().lower().removesuffix("b").removesuffix("i")
    factor = {"k": 1024, "m": 1024**2, "g": 1024**3, "t": 1024**4}.get(stated[-1:], 1)
    digits = stated.rstrip("kmgt")
    return int(float(digits) * factor) if digits.replace(".", "", 1).isdigit() else 0


def _controller_file(value: str) -> str:
    """Return the absolute path of a file that is there on the controller."""
    if not os.path.isfile(value):
        raise InputError("a file on the controller", "correct the path; a relative one is taken from the directory the playbook is run in.")
    return os.path.abspath(value)


def _node_path(value: str) -> str:
    """Return an absolute path on the nodes that can be mounted."""
    if not value.startswith("/") or ":" in value or ".." in value.split("/") or value.rstrip("/") == "":
        raise InputError("an absolute path on the nodes, without ':' and '..'")
    return value.rstrip("/")


def _env(value: dict) -> dict:
    """Return an environment: names that a shell takes, values as text, None to remove."""
    result = {}
    for name, entry in value.items():
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise InputError("names of letters, digits and underscores", "", f"the name {name!r}")
        if entry is None:
            result[name] = None
        elif isinstance(entry, bool) or not isinstance(entry, (str, int, float)):
            raise InputError(
                "a text or a number for each name",
                f'write {name} in quotes as the program reads it, such as "1" or "True".',
                f"{name}: {shown(entry)}",
            )
        elif "\n" in str(entry) or "\0" in str(entry):
            raise InputError("values of one line", "", f"{name}: {shown(entry)}")
        else:
            result[name] = str(entry)
    return result


_FORMS = {
    "npus": npu_list,
    "ipv4": _ipv4,
    "bind": _bind,
    "network": _network,
    "nic": _nic,
    "name": _name,
    "word": _word,
    "image": _image,
    "registries": _registries,
    "size": _size,
    "weights_source": _weights_source,
    "proxy": _proxy,
    "node_path": _node_path,
    "controller_path": os.path.abspath,
    "controller_file": _controller_file,
    "env": _env,
}
