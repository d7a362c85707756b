# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The public variables: conversion once, of everything that YAML and ``-e`` give, and one specification of them all."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from ansible_collections.ascend.vllm.plugins.plugin_utils import inputs

ROLE = Path(inputs.SPECIFICATION).parents[1]
BIND = "0.0.0.0 for every address of the head, 127.0.0.1 for itself only, or one IPv4 address that it has"


def convert(name, raw):
    """Convert one value of one variable."""
    return inputs.convert(inputs.options()[name], raw)


@pytest.mark.parametrize(
    ("name", "raw", "wanted"),
    [
        ("vllm_port", "8000", 8000),
        ("vllm_port", 8000, 8000),
        ("vllm_port", " 8001 ", 8001),
        ("vllm_npus", "8", 8),
        ("vllm_npus", [3, "1", 2], [1, 2, 3]),
        ("vllm_npus", "0,1,2", [0, 1, 2]),
        ("vllm_npus", "[0, 1]", [0, 1]),
        ("vllm_node_rank", "0", 0),
        ("vllm_hardware", "a3", "a3"),
        ("vllm_network", "198.51.100.17/24", "198.51.100.0/24"),
        ("vllm_local_ip", "198.51.100.17", "198.51.100.17"),
        ("vllm_bind_address", "0.0.0.0", "0.0.0.0"),
        ("vllm_bind_address", " 127.0.0.1 ", "127.0.0.1"),
        ("vllm_bind_address", "198.51.100.17", "198.51.100.17"),
        ("vllm_extra_env", '{"A": 1, "B": null}', {"A": "1", "B": None}),
        ("vllm_extra_env", {"A": 0.5, "B": "x y"}, {"A": "0.5", "B": "x y"}),
        ("vllm_extra_args", {"max-model-len": 35000, "x": None}, {"max-model-len": 35000, "x": None}),
        ("vllm_image_registries", "quay.io,m.daocloud.io/quay.io/", ["quay.io", "m.daocloud.io/quay.io"]),
        ("vllm_image_registries", ["198.51.100.2:5000"], ["198.51.100.2:5000"]),
        ("vllm_image", "quay.io/ascend/vllm-ascend:v0.13.0", "quay.io/ascend/vllm-ascend:v0.13.0"),
        ("vllm_image", "r:5000/a@sha256:" + "0" * 64, "r:5000/a@sha256:" + "0" * 64),
        ("vllm_image", "r:5000/a/b:t@sha256:" + "f" * 64, "r:5000/a/b:t@sha256:" + "f" * 64),
        ("vllm_shm_size", "16G", "16g"),
        ("vllm_weights_dir", "/mnt/weights/x/", "/mnt/weights/x"),
        ("vllm_weights_source", {"endpoint": "http://hub:8090", "id": None}, {"endpoint": "http://hub:8090"}),
        ("vllm_data_dirs", "/srv/data", ["/srv/data"]),
        ("vllm_supervise", True, True),
        ("vllm_supervise", "true", True),
        ("vllm_supervise", " Yes", True),
        ("vllm_supervise", False, False),
        ("vllm_supervise", "False", False),
        ("vllm_supervise", "no", False),
        ("vllm_watch_port", "13391", 13391),
        ("vllm_rank_port", "7200", 7200),
        ("vllm_pd_colocate", "yes", True),
        ("vllm_proxy", '{"port": "2000", "host": null, "kind": "none"}', {"port": 2000, "kind": "none"}),
    ],
)
def test_converted(name, raw, wanted):
    assert convert(name, raw) == wanted


@pytest.mark.parametrize(
    ("name", "raw", "expected"),
    [
        ("vllm_port", "abc", "an integer"),
        ("vllm_port", 8000.5, "an integer"),
        ("vllm_port", "8000.0", "an integer"),
        ("vllm_port", True, "an integer"),
        ("vllm_port", [8000], "an integer"),
        ("vllm_port", 0, "an integer from 1 to 65535"),
        ("vllm_port", 65536, "an integer from 1 to 65535"),
        ("vllm_data_parallel_rpc_port", 1023, "an integer from 1024 to 65535"),
        ("vllm_data_parallel_size", 0, "an integer of 1 or more"),
        ("vllm_data_parallel_size_local", -1, "an integer of 0 or more"),
        ("vllm_tensor_parallel_size", "four", "an integer"),
        ("vllm_node_rank", -1, "an integer of 0 or more"),
        ("vllm_model", 123, "a text"),
        ("vllm_model", {"a": 1}, "a text"),
        ("vllm_model", "../x", "a name of letters, digits, dots, dashes and underscores"),
        ("vllm_ascend_version", 0.13, "a text"),
        ("vllm_hardware", "A2", "one of a2, a3"),
        ("vllm_hardware", "h100", "one of a2, a3"),
        ("vllm_npus", 0, "the number of NPUs, or a list of different physical ids of 0 or more"),
        ("vllm_npus", [0, 0], "the number of NPUs, or a list of different physical ids of 0 or more"),
        ("vllm_npus", [-1], "the number of NPUs, or a list of different physical ids of 0 or more"),
        ("vllm_npus", [], "the number of NPUs, or a list of different physical ids of 0 or more"),
        ("vllm_npus", True, "the number of NPUs, or a list of different physical ids of 0 or more"),
        ("vllm_npus", "many", "the number of NPUs, or a list of different physical ids of 0 or more"),
        ("vllm_npus", {"count": 8}, "the number of NPUs, or a list of different physical ids of 0 or more"),
        ("vllm_network", "198.51.100.0", "a CIDR, such as 198.51.100.0/24"),
        ("vllm_network", "198.51.100.0/33", "a CIDR, such as 198.51.100.0/24"),
        ("vllm_network", "eth0", "a CIDR, such as 198.51.100.0/24"),
        ("vllm_local_ip", "198.51.100", "an IPv4 address of the host, such as 198.51.100.11"),
        ("vllm_local_ip", "198.51.100.256", "an IPv4 address of the host, such as 198.51.100.11"),
        ("vllm_local_ip", "0.0.0.0", "an IPv4 address of the host, such as 198.51.100.11"),
        ("vllm_local_ip", "224.0.0.1", "an IPv4 address of the host, such as 198.51.100.11"),
        ("vllm_local_ip", "255.255.255.255", "an IPv4 address of the host, such as 198.51.100.11"),
        ("vllm_local_ip", "2001:db8::1", "an IPv4 address of the host, such as 198.51.100.11"),
        ("vllm_nic_name", "a-name-that-is-too-long", "the name of an interface, such as eth0"),
        ("vllm_nic_name", "eth 0", "the name of an interface, such as eth0"),
        ("vllm_served_model_name", "--x", "a name without blanks that does not start with a dash"),
        ("vllm_extra_env", "A=1", "a mapping"),
        ("vllm_extra_env", ["A"], "a mapping"),
        ("vllm_extra_env", {"A": True}, "a text or a number for each name"),
        ("vllm_extra_env", {"A": {"b": 1}}, "a text or a number for each name"),
        ("vllm_extra_env", {"A B": "1"}, "names of letters, digits and underscores"),
        ("vllm_extra_env", {"A": "1\n2"}, "values of one line"),
        ("vllm_extra_env", {1: "x"}, "a mapping whose keys are texts"),
        ("vllm_extra_args", "--seed 1", "a mapping"),
        ("vllm_extra_args", "{broken", "a mapping"),
        ("vllm_image", "quay.io/ascend/vllm-ascend", "a full reference with a tag or a digest, such as quay.io/ascend/vllm-ascend:v0.13.0"),
        ("vllm_image", "localhost:5000/x", "a full reference with a tag or a digest, such as quay.io/ascend/vllm-ascend:v0.13.0"),
        ("vllm_image", "r/a@sha256:123", "a full reference with a tag or a digest, such as quay.io/ascend/vllm-ascend:v0.13.0"),
        ("vllm_image_registries", [], "a list of one or more registries or mirror prefixes, such as quay.io"),
        ("vllm_image_registries", ["https://quay.io"], "a list of one or more registries or mirror prefixes, such as quay.io"),
        ("vllm_image_registries", [1], "a list of which each element is a text"),
        ("vllm_image_registries", {"a": 1}, "a list"),
        ("vllm_image_os", "debian", "one of ubuntu, openeuler"),
        ("vllm_shm_size", "big", "a size with its unit, such as 1g or 512m"),
        ("vllm_image_archive", "/no/such.tar", "a file on the controller"),
        ("vllm_registry_auth_file", "/etc", "a file on the controller"),
        ("vllm_tls_certificate_file", "/no/such.crt", "a file on the controller"),
        ("vllm_tls_key_file", "/etc", "a file on the controller"),
        ("vllm_tls_ca_file", "/no/such.pem", "a file on the controller"),
        ("vllm_bind_address", "localhost", BIND),
        ("vllm_bind_address", "0.0.0.1", BIND),
        ("vllm_bind_address", "224.0.0.1", BIND),
        ("vllm_bind_address", "::", BIND),
        ("vllm_bind_address", "198.51.100.0/24", BIND),
        ("vllm_weights_dir", "weights", "an absolute path on the nodes, without ':' and '..'"),
        ("vllm_weights_dir", "/a/../b", "an absolute path on the nodes, without ':' and '..'"),
        ("vllm_weights_dir", "/", "an absolute path on the nodes, without ':' and '..'"),
        ("vllm_weights_source", {"kind": "ftp"}, "one of modelscope, huggingface, local, controller, rsync for kind"),
        ("vllm_weights_source", {"kind": "controller"}, "a folder on the controller for id"),
        ("vllm_weights_source", {"kind": "controller", "id": "/no/such"}, "a folder on the controller for id"),
        ("vllm_weights_source", {"kind": "rsync", "id": "/srv/model"}, "user@host:/folder or rsync://host/module/folder for id"),
        ("vllm_weights_source", {"kind": "rsync", "id": "a@b:/c"}, "host_key, the public key of the host"),
        ("vllm_weights_source", {"url": "x"}, "the keys kind, id, host_key, port, revision, endpoint"),
        ("vllm_weights_source", "modelscope", "a mapping"),
        ("vllm_groups", "x", "a list of which each element is a mapping"),
        ("vllm_groups", 1, "a list"),
        ("vllm_supervise", 1, "true or false"),
        ("vllm_supervise", "1", "true or false"),
        ("vllm_supervise", "always", "true or false"),
        ("vllm_supervise", [True], "true or false"),
        ("vllm_watch_port", 1023, "an integer from 1024 to 65535"),
        ("vllm_kv_port", 65536, "an integer from 1024 to 65535"),
        ("vllm_proxy", {"port": 80}, "an integer from 1024 to 65535 for port"),
    ],
)
def test_refused(name, raw, expected):
    with pytest.raises(inputs.InputError) as caught:
        convert(name, raw)
    assert caught.value.expected == expected


@pytest.mark.parametrize("name", sorted(inputs.options()))
def test_no_variable_takes_what_is_nothing_like_it(name):
    """A mapping of mappings is a wrong type for every variable but two that are mappings, and those refuse a list."""
    raw = [["x"]] if inputs.options()[name]["type"] == "dict" else {"x": {"y": 1}}
    with pytest.raises(inputs.InputError):
        convert(name, raw)


class Lazy(dict):
    """Variables of which one cannot be looked up, as with a template that names something undefined."""

    def __getitem__(self, key):
        if key == "vllm_port":
            raise RuntimeError("'nowhere' is\n undefined")
        if key == "not_ours":
            raise AssertionError("a variable that is not public was looked up")
        return super().__getitem__(key)


def test_a_host_is_read_lazily_and_every_problem_is_named():
    variables = Lazy(vllm_port=1, not_ours=2, vllm_npus="8", vllm_image="", vllm_network=None, vllm_hardware="a4", vllm_modle="x")
    values, checks, invalid = inputs.read_host("n1", variables)
    assert values == {"vllm_npus": 8}
    assert invalid == ["vllm_hardware", "vllm_port"]
    assert {(check["host"], check["device"], check["status"]) for check in checks} == {
        ("n1", "vllm_port", "fail"),
        ("n1", "vllm_hardware", "fail"),
        ("n1", "vllm_modle", "warn"),
    }
    by_device = {check["device"]: check for check in checks}
    assert "'nowhere' is undefined" in by_device["vllm_port"]["observed"]
    assert by_device["vllm_hardware"]["observed"] == "'a4' (a text)"
    assert by_device["vllm_modle"]["remedy"].startswith("did you mean 'vllm_model'?")


def test_a_variable_like_no_other_gets_no_guess():
    _values, checks, _invalid = inputs.read_host("n1", {"vllm_quux": 1})
    assert "did you mean" not in checks[0]["remedy"]


def test_specification_rules_and_defaults_say_the_same():
    table = yaml.safe_load(inputs.SPECIFICATION.read_text(encoding="utf-8"))["argument_specs"]["main"]["options"]
    public = {name for name in table if name.startswith(inputs.PREFIXES)}
    assert public == set(inputs.RULES)
    written = yaml.safe_load((ROLE / "defaults" / "main.yml").read_text(encoding="utf-8"))
    assert written == {name: option["default"] for name, option in table.items() if "default" in option}
    for name, default in inputs.defaults().items():
        convert(name, default)


def test_every_choice_of_hardware_has_its_data():
    from ansible_collections.ascend.vllm.plugins.plugin_utils import data

    known, checks = data.load_all()
    assert checks == []
    assert sorted(known["hardware"]) == sorted(inputs.options()["vllm_hardware"]["choices"])


@pytest.mark.parametrize(("text", "size"), [
    ("1g", 1024**3), ("1G", 1024**3), ("1gb", 1024**3), ("1GiB", 1024**3), ("1.5g", 3 * 1024**3 // 2), ("512m", 512 * 1024**2), ("64k", 65536),
    ("2t", 2048 * 1024**3), ("100", 100), ("100b", 100),
    (100, 100), ("", 0), (None, 0), ("g", 0), ("much", 0), ("-1g", 0),
])
def test_sizes(text, size):
    assert inputs.size_bytes(text) == size
