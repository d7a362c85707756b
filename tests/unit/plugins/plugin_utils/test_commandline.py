# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line and environment: what is merged, what is rendered, what is refused."""

from __future__ import annotations

import pytest

from ansible_collections.ascend.vllm.plugins.plugin_utils import commandline

RECIPE = {"seed": 1024, "trust-remote-code": True, "max-model-len": 16384, "speculative-config": {"method": "mtp"}}


@pytest.mark.parametrize(
    ("extra", "wanted"),
    [
        ({}, RECIPE),
        ({"seed": 1}, {**RECIPE, "seed": 1}),
        ({"--max_model_len": 35000}, {**RECIPE, "max-model-len": 35000}),
        ({"seed": None, "trust_remote_code": False}, {"max-model-len": 16384, "speculative-config": {"method": "mtp"}}),
        ({"enforce-eager": True}, {**RECIPE, "enforce-eager": True}),
        (
            {"no-trust-remote-code": True},
            {**{key: RECIPE[key] for key in RECIPE if key != "trust-remote-code"}, "no-trust-remote-code": True},
        ),
        ({"no-trust-remote-code": None}, RECIPE),
        ({"speculative-config": {"method": "x"}}, {**RECIPE, "speculative-config": {"method": "x"}}),
        ({"compilation-config.cudagraph_mode": "NONE"}, {**RECIPE, "compilation-config": {"cudagraph_mode": "NONE"}}),
        ({"compilation_config.pass_config.fuse": False}, {**RECIPE, "compilation-config": {"pass_config": {"fuse": False}}}),
        ({"speculative-config.num_speculative_tokens": 1}, {**RECIPE, "speculative-config": {"method": "mtp", "num_speculative_tokens": 1}}),
        ({"speculative-config.num_speculative_tokens": "1"}, {**RECIPE, "speculative-config": {"method": "mtp", "num_speculative_tokens": 1}}),
        ({"speculative-config.x": "false"}, {**RECIPE, "speculative-config": {"method": "mtp", "x": False}}),
        ({"speculative-config.method": None}, {**RECIPE, "speculative-config": {}}),
        ({"hf-overrides.x": None}, RECIPE),
        ({"speculative-config": '{"method": "eagle"}'}, {**RECIPE, "speculative-config": {"method": "eagle"}}),
        ({"compilation-config": "3"}, {**RECIPE, "compilation-config": "3"}),
    ],
)
def test_flags_merged(extra, wanted):
    flags, checks = commandline.merge_flags(RECIPE, extra, "h")
    assert checks == []
    assert flags == wanted
    assert RECIPE["seed"] == 1024


def test_the_opposite_form_replaces_both_ways():
    flags, _checks = commandline.merge_flags({"no-enable-prefix-caching": True}, {"enable-prefix-caching": True}, "h")
    assert flags == {"enable-prefix-caching": True}


def test_switching_an_option_off_leaves_its_opposite_alone():
    flags, _checks = commandline.merge_flags({"no-enable-prefix-caching": True}, {"enable-prefix-caching": False}, "h")
    assert flags == {"no-enable-prefix-caching": True}


@pytest.mark.parametrize(
    ("option", "instead"),
    [
        ("port", "use vllm_port"),
        ("--data_parallel_size", "use vllm_data_parallel_size "),
        ("data-parallel-size-local", "use vllm_data_parallel_size_local"),
        ("data-parallel-address", "use vllm_local_ip"),
        ("data-parallel-rpc-port", "use vllm_data_parallel_rpc_port"),
        ("data-parallel-start-rank", "use vllm_node_rank"),
        ("tp", "use vllm_tensor_parallel_size"),
        ("--tensor-parallel-size", "use vllm_tensor_parallel_size"),
        ("served-model-name", "use vllm_served_model_name"),
        ("api-key", "use vllm_api_key_file"),
        ("headless", "leave it out"),
        ("host", "use vllm_bind_address"),
        ("--ssl_keyfile", "use vllm_tls_key_file"),
        ("pipeline_parallel_size", "use vllm_tensor_parallel_size"),
    ],
)
@pytest.mark.parametrize("value", [1, None, True])
def test_what_the_planner_owns_is_refused(option, instead, value):
    _flags, checks = commandline.merge_flags(RECIPE, {option: value}, "h")
    assert [check["device"] for check in checks] == ["vllm_extra_args"]
    assert checks[0]["remedy"].startswith(instead)


@pytest.mark.parametrize("extra", [{"q": "x"}, {"": 1}, {"Max Len": 1}, {"a": {1, 2}}, {"a": "x\0"}, {"speculative-config": "{method: mtp}"},
                                   {"abc": 1, "abc.key": 2}, {"abc": {"d": 1}, "abc.d.e": 2}])
def test_options_that_nobody_can_write_are_refused(extra):
    _flags, checks = commandline.merge_flags({}, extra, "h")
    assert len(checks) == 1


def test_rendered():
    flags = {"a": True, "b": 1, "c": 0.92, "d": {"x": [1, 2], "y": "é"}, "e": [1, 2], "f": "text", "g": "-1", "h": -1}
    assert commandline.render(flags) == [
        "--a",
        "--b",
        "1",
        "--c",
        "0.92",
        "--d",
        '{"x":[1,2],"y":"é"}',
        "--e",
        "[1,2]",
        "--f",
        "text",
        "--g=-1",
        "--h=-1",
    ]


def test_env_merged():
    env, checks = commandline.merge_env({"A": "1", "B": "2"}, {"A": None, "C": "3"}, "h")
    assert (env, checks) == ({"B": "2", "C": "3"}, [])


def test_a_secret_in_the_environment_is_refused_without_showing_it():
    _env, checks = commandline.merge_env({}, {"VLLM_API_KEY": "s3cret"}, "h")
    assert len(checks) == 1 and "vllm_api_key_file" in checks[0]["remedy"]
    assert "s3cret" not in str(checks)


@pytest.mark.parametrize(
    ("env", "count"),
    [
        ({"HCCL_CONNECT_TIMEOUT": "120"}, 0),
        ({"HCCL_CONNECT_TIMEOUT": "7200"}, 0),
        ({"HCCL_CONNECT_TIMEOUT": "119"}, 1),
        ({"HCCL_CONNECT_TIMEOUT": "7201"}, 1),
        ({"HCCL_CONNECT_TIMEOUT": "long"}, 1),
        ({"VLLM_ENGINE_READY_TIMEOUT_S": "0"}, 1),
        ({"VLLM_ENGINE_READY_TIMEOUT_S": "99999"}, 0),
        ({}, 0),
    ],
)
def test_ranges_of_the_environment(env, count):
    assert len(commandline.env_ranges(env, "h")) == count
