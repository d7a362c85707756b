# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The three scripts of the DeepSeek-R1 tutorial at v0.13.0, flag for flag, and the page at v0.23.0 with its defects mended."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path

import pytest

#: Written down from the tutorial; ``@`` stands for the head's address.
COMMON_ENV = {
    "HCCL_OP_EXPANSION_MODE": "AIV",
    "VLLM_ASCEND_ENABLE_MLAPO": "1",
    "VLLM_ASCEND_BALANCE_SCHEDULING": "1",
    "VLLM_USE_MODELSCOPE": "True",
}
A2_ENV = {**COMMON_ENV, "PYTORCH_NPU_ALLOC_CONF": "expandable_segments:True", "HCCL_INTRA_PCIE_ENABLE": "1", "HCCL_INTRA_ROCE_ENABLE": "0"}
COMMON_FLAGS = {
    "--host": "0.0.0.0",
    "--port": "8000",
    "--data-parallel-size": "4",
    "--tensor-parallel-size": "4",
    "--quantization": "ascend",
    "--seed": "1024",
    "--served-model-name": "deepseek_r1",
    "--enable-expert-parallel": None,
    "--async-scheduling": None,
    "--max-num-seqs": "16",
    "--max-model-len": "16384",
    "--max-num-batched-tokens": "4096",
    "--trust-remote-code": None,
    "--compilation-config": {"cudagraph_capture_sizes": [4, 16, 32, 48, 64], "cudagraph_mode": "FULL_DECODE_ONLY"},
}
A3_FLAGS = {**COMMON_FLAGS, "--gpu-memory-utilization": "0.92", "--speculative-config": {"num_speculative_tokens": 3, "method": "mtp"}}
NODE0_FLAGS = {
    **COMMON_FLAGS,
    "--data-parallel-size-local": "2",
    "--data-parallel-address": "@",
    "--data-parallel-rpc-port": "13389",
    "--gpu-memory-utilization": "0.94",
    "--speculative-config": {"num_speculative_tokens": 1, "method": "mtp"},
}
NODE1_FLAGS = {**NODE0_FLAGS, "--headless": None, "--data-parallel-start-rank": "2"}
#: What the plan adds to the environment, with a reason.
ADDED = {"VLLM_HOST_IP", "VLLM_ENGINE_READY_TIMEOUT_S", "HCCL_CONNECT_TIMEOUT"}
CASES = {
    "a3": ("a3", 1, 0, COMMON_ENV, A3_FLAGS),
    "a2 node 0": ("a2", 2, 0, A2_ENV, NODE0_FLAGS),
    "a2 node 1": ("a2", 2, 1, A2_ENV, NODE1_FLAGS),
}


def as_flags(arguments):
    """Return ``{option: value}`` of a command line; None for a bare option, the parsed value for JSON."""
    flags, words = {}, list(arguments)
    while words:
        option = words.pop(0)
        assert option.startswith("--") and option not in flags
        value = words.pop(0) if words and not words[0].startswith("--") else None
        flags[option] = json.loads(value) if value and value[0] in "{[" else value
    return flags


def with_network(env, address):
    """Return an environment with the four variables of address and interface."""
    return {**env, "HCCL_IF_IP": address, "GLOO_SOCKET_IFNAME": "eth0", "TP_SOCKET_IFNAME": "eth0", "HCCL_SOCKET_IFNAME": "eth0"}


def at(flags, head):
    """Return flags with the head's address in them."""
    return {key: head if value == "@" else value for key, value in flags.items()}


def unit_of(result, index):
    """Return the one unit of the plan's n-th host, and the host's entry."""
    entry = list(result["plan"]["hosts"].values())[index]
    assert len(entry["units"]) == 1
    return entry["units"][0], entry


@pytest.mark.parametrize("case", CASES)
def test_v0_13_0_equals_the_script(case, hosts, planned):
    hardware, count, index, env, flags = CASES[case]
    unit, host = unit_of(planned(hosts(count, hardware)), index)
    own = {key: value for key, value in unit["env"].items() if key not in unit["env_added"]}
    assert own == with_network(env, host["local_ip"])
    assert unit["argv"][:3] == ["vllm", "serve", "/mnt/weights/DeepSeek-R1-W8A8"]
    assert as_flags(unit["argv"][3:]) == at(flags, "198.51.100.11")


@pytest.mark.parametrize("case", CASES)
def test_what_is_added_goes_to_the_environment_with_its_reason(case, hosts, planned):
    hardware, count, index, _env, _flags = CASES[case]
    unit, host = unit_of(planned(hosts(count, hardware)), index)
    assert set(unit["env_added"]) == ADDED
    assert all(len(reason) > 20 for reason in unit["env_added"].values())
    assert unit["env"]["VLLM_HOST_IP"] == host["local_ip"]
    assert int(unit["env"]["VLLM_ENGINE_READY_TIMEOUT_S"]) > 600
    assert 120 < int(unit["env"]["HCCL_CONNECT_TIMEOUT"]) <= 7200
    assert all(isinstance(value, str) for value in unit["env"].values())


def tutorial_scripts(text):
    """Return ``{case: (environment, flags)}`` of the tutorial's three shell blocks that start a server."""
    found = {}
    blocks = [block.split("```")[0] for block in text.split("```shell")[1:]]
    for block in blocks:
        if "vllm serve" not in block or "local_ip=" not in block:
            continue
        env, words = {}, []
        for line in block.replace("\\\n", " ").splitlines():
            line_words = shlex.split(line, comments=True)
            if line_words[:1] == ["export"]:
                key, _equals, value = line_words[1].partition("=")
                env[key] = value
            elif line_words[:2] == ["vllm", "serve"]:
                words = line_words[3:]
        case = "a2 node 1" if "--headless" in words else "a2 node 0" if "--data-parallel-address" in words else "a3"
        found[case] = (env, as_flags(words))
    return found


def tutorial():
    """Return the tutorial's path if it lies beside the checkout or is named by ASCEND_VLLM_TUTORIAL."""
    named = os.environ.get("ASCEND_VLLM_TUTORIAL")
    path = Path(named) if named else Path(__file__).resolve().parents[5] / "shared" / "seed" / "DeepSeek-R1.md"
    return path if path.is_file() else None


def test_the_tutorial_itself_says_the_same():
    path = tutorial()
    if path is None:
        print("NOT RUN: the tutorial's own text is not here (ASCEND_VLLM_TUTORIAL names it)")
        return
    scripts = tutorial_scripts(path.read_text(encoding="utf-8"))
    assert set(scripts) == set(CASES)
    for case, (env, flags) in scripts.items():
        _hardware, _count, _index, wanted_env, wanted_flags = CASES[case]
        network = {
            "HCCL_IF_IP": "$local_ip",
            **dict.fromkeys(("GLOO_SOCKET_IFNAME", "TP_SOCKET_IFNAME", "HCCL_SOCKET_IFNAME"), "$nic_name"),
        }
        assert env == {**wanted_env, **network}, case
        assert flags == at(wanted_flags, "$local_ip" if case == "a2 node 0" else "$node0_ip"), case


def test_docker_part_equals_the_tutorial(hosts, planned):
    unit, _host = unit_of(planned(hosts(2)), 1)
    assert unit["devices"] == [f"/dev/davinci{index}" for index in range(8)] + ["/dev/davinci_manager", "/dev/devmm_svm", "/dev/hisi_hdc"]
    assert unit["mounts"] == [
        "/usr/local/dcmi:/usr/local/dcmi",
        "/etc/hccn.conf:/etc/hccn.conf",
        "/usr/bin/hccn_tool:/usr/bin/hccn_tool",
        "/usr/local/Ascend/driver/tools/hccn_tool:/usr/local/Ascend/driver/tools/hccn_tool",
        "/usr/local/bin/npu-smi:/usr/local/bin/npu-smi",
        "/usr/local/Ascend/driver/lib64/:/usr/local/Ascend/driver/lib64/",
        "/usr/local/Ascend/driver/version.info:/usr/local/Ascend/driver/version.info",
        "/etc/ascend_install.info:/etc/ascend_install.info",
        "/mnt/weights/DeepSeek-R1-W8A8:/mnt/weights/DeepSeek-R1-W8A8:ro",
        "/var/log/ascend-vllm/vllm-rank2:/root/ascend/log",
    ]
    assert unit["shm_size"] == "1g"


V23_FLAGS = {
    **{key: value for key, value in A3_FLAGS.items() if key not in ("--async-scheduling", "--compilation-config")},
    "--compilation-config": {"cudagraph_mode": "FULL_DECODE_ONLY"},
    "--additional-config": {"enable_balance_scheduling": True},
}
V23_A2_ENV = {
    "OMP_PROC_BIND": "false",
    "OMP_NUM_THREADS": "1",
    "HCCL_BUFFSIZE": "200",
    "HCCL_INTRA_PCIE_ENABLE": "1",
    "HCCL_INTRA_ROCE_ENABLE": "0",
    "PYTORCH_NPU_ALLOC_CONF": "expandable_segments:True",
}
V23_NODE0 = {**V23_FLAGS, "--data-parallel-size-local": "2", "--data-parallel-address": "@", "--data-parallel-rpc-port": "13389"}
V23 = {
    "a3": ("a3", 1, 0, {"HCCL_OP_EXPANSION_MODE": "AIV", "PYTORCH_NPU_ALLOC_CONF": "expandable_segments:True"}, V23_FLAGS),
    "a2 node 0": ("a2", 2, 0, V23_A2_ENV, V23_NODE0),
    "a2 node 1": ("a2", 2, 1, V23_A2_ENV, {**V23_NODE0, "--headless": None, "--data-parallel-start-rank": "2"}),
}


@pytest.mark.parametrize("case", V23)
def test_v0_23_0_with_the_pages_defects_mended(case, hosts, planned):
    hardware, count, index, env, flags = V23[case]
    result = planned(hosts(count, hardware, vllm_ascend_version="v0.23.0"))
    unit, host = unit_of(result, index)
    own = {key: value for key, value in unit["env"].items() if key not in unit["env_added"]}
    assert own == with_network(env, host["local_ip"])
    assert as_flags(unit["argv"][3:]) == at(flags, "198.51.100.11")
    assert unit["image"].endswith({"a2": ":v0.23.0", "a3": ":v0.23.0-a3"}[hardware])
    assert unit["start"]["ld_library_path"] == ["/usr/local/lib"]
