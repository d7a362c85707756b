# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""On a pair that site.yml has deployed to: what runs, that it answers, and that nothing is done twice."""

from __future__ import annotations

import json
import subprocess
import urllib.error

import pytest

from conftest import NODES, PROJECT, ask, inspect


@pytest.mark.parametrize("rank", [0, 1])
def test_container_is_as_planned(nodes, rank):
    """Unprivileged, on the host's network, with the tutorial's devices and mounts, its log rotated, never restarted alone."""
    container = inspect(nodes[NODES[rank]], f"vllm-rank{rank}")
    host = container["HostConfig"]
    assert container["State"]["Running"]
    assert not host["Privileged"]
    assert not host["CapAdd"]
    assert host["NetworkMode"] == "host"
    assert host["ShmSize"] == 1 << 30
    assert host["RestartPolicy"]["Name"] in ("", "no")
    assert host["LogConfig"] == {"Type": "json-file", "Config": {"max-size": "100m", "max-file": "5"}}
    devices = [device["PathOnHost"] for device in host["Devices"]]
    assert sorted(devices) == ["/dev/davinci0", "/dev/davinci_manager", "/dev/devmm_svm", "/dev/hisi_hdc"]
    mounts = {mount["Destination"]: mount for mount in container["Mounts"]}
    for path in ("/etc/hccn.conf", "/usr/local/bin/npu-smi", "/usr/local/Ascend/driver/tools/hccn_tool", "/etc/ascend_install.info",
                 "/usr/local/dcmi", "/usr/local/Ascend/driver/version.info"):
        assert path in mounts, path
    assert not mounts["/mnt/weights/DeepSeek-R1-W8A8"]["RW"]
    assert mounts["/root/ascend/log"]["Source"] == f"/var/log/ascend-vllm/vllm-rank{rank}"


@pytest.mark.parametrize("rank", [0, 1])
def test_server_is_process_one_with_the_environment_of_the_image(nodes, rank):
    """The start script sourced both set_env.sh, preloaded jemalloc as the bashrc would, and handed process 1 over."""
    node = nodes[NODES[rank]]
    said = node.check_output("docker exec %s sh -c %s", f"vllm-rank{rank}", "tr '\\0' '\\n' < /proc/1/environ; tr '\\0' ' ' < /proc/1/cmdline")
    assert "vllm serve /mnt/weights/DeepSeek-R1-W8A8" in said
    assert "start.sh" not in said
    for words in ("ASCEND_TOOLKIT_HOME=", "ATB_HOME_PATH=", "libjemalloc.so.2", "HCCL_IF_IP=198.51.100.1", "HCCL_SOCKET_IFNAME=eth0"):
        assert words in said, words
    assert f"HCCL_IF_IP=198.51.100.1{rank + 1}\n" in said
    assert "no_proxy=198.51.100.11,198.51.100.12" in said


def test_command_lines_are_the_tutorials(nodes):
    """The head has the API, the other node is headless with start rank 1; both have the head's address and the rpc port."""
    head = inspect(nodes["a2-node0"], "vllm-rank0")["Config"]["Cmd"]
    other = inspect(nodes["a2-node1"], "vllm-rank1")["Config"]["Cmd"]
    for command in (head, other):
        assert command[:3] == ["vllm", "serve", "/mnt/weights/DeepSeek-R1-W8A8"]
        assert command[command.index("--data-parallel-address") + 1] == "198.51.100.11"
        assert command[command.index("--data-parallel-rpc-port") + 1] == "13389"
        assert command[command.index("--quantization") + 1] == "ascend"
    assert "--headless" not in head
    assert "--headless" in other
    assert other[other.index("--data-parallel-start-rank") + 1] == "1"


def test_a_completion_comes_back_and_both_engines_serve():
    """The tutorial's request is answered, and requests reach the engine of either node."""
    body = {"model": "deepseek_r1", "prompt": "The future of AI is", "max_tokens": 50, "temperature": 0}
    answer = ask("/v1/completions", body)
    assert answer["model"] == "deepseek_r1"
    assert answer["usage"]["completion_tokens"] == 50
    assert answer["choices"][0]["text"]
    again = [ask("/v1/completions", dict(body, max_tokens=2)) for dummy in range(4)]
    assert all(entry["choices"] for entry in again)
    served = {line.split('engine="')[1][0] for line in ask("/metrics").splitlines()
              if line.startswith("vllm:generation_tokens_total{") and float(line.split()[-1]) > 0}
    assert served == {"0", "1"}


def test_weights_are_complete_and_the_proof_left_nothing(nodes):
    """The marker lists every file, and no token of the shared-directory proof is left."""
    for node in nodes.values():
        marker = json.loads(node.check_output("cat /mnt/weights/DeepSeek-R1-W8A8/.ascend-vllm-weights.json"))
        assert marker["id"] == "vllm-ascend/DeepSeek-R1-W8A8"
        names = {entry["path"] for entry in marker["files"]}
        assert {"config.json", "quant_model_description.json", "model.safetensors.index.json"} <= names
        assert node.check_output("find /mnt/weights -name '.ascend-vllm-token*'") == ""
        assert node.check_output("docker ps -aq --filter label=ascend.vllm.purpose=weights") == ""


def test_a_second_run_changes_and_restarts_nothing(playbook, picture):
    """changed=0 on every host, and the same containers since the same second."""
    before = picture()
    run = playbook()
    assert run.rc == 0, run.out
    assert [run.recap(name)["changed"] for name in NODES] == [0, 0]
    assert picture() == before
    assert "completion: " in run.text


def test_check_mode_on_a_served_pair_changes_nothing(playbook, picture):
    """--check --diff ends well with changed=0, and says that nothing was verified."""
    before = picture()
    run = playbook("site.yml", "--check", "--diff")
    assert run.rc == 0, run.out
    assert [run.recap(name)["changed"] for name in NODES] == [0, 0]
    assert "serve_verify was not run" in run.text
    assert picture() == before


def test_a_benchmark_makes_the_baseline_of_its_load_and_is_judged_by_it(playbook, tmp_path):
    """vllm bench serve in the head's container; the second run, against a baseline that the site cannot reach, fails."""
    load = ("-e", "benchmark_request_rates=inf", "-e", "benchmark_num_prompts=6", "-e", "benchmark_input_len=16", "-e", "benchmark_output_len=8",
            "-e", f"vllm_report_dir={tmp_path}")
    run = playbook("ascend.vllm.benchmark", *load)
    assert run.rc == 0, run.out[-4000:]
    (record,) = json.loads((tmp_path / "benchmark.json").read_text())["records"]
    assert (record["samples"]["done"], record["samples"]["failed"]) == (6, 0) and record["performance"]["output_throughput"] > 0
    store = tmp_path / "results" / "vllm" / "baselines.json"
    (baseline,) = json.loads(store.read_text()).items()
    store.write_text(json.dumps({baseline[0]: {**baseline[1], "value": baseline[1]["value"] * 1000}}))
    run = playbook("ascend.vllm.benchmark", *load)
    assert run.rc != 0 and "below" in run.text and "Remedy" in run.text, run.out[-4000:]


def test_the_built_tarball_by_name_from_an_empty_directory(picture):
    """ansible-playbook ascend.vllm.site from the installed tarball finds everything as it should be."""
    before = picture()
    done = subprocess.run([PROJECT / "tests" / "tools" / "package-run.sh", "--lab"], capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert picture() == before


def test_a_group_with_a_dead_member_is_started_as_a_whole_now_with_a_key(playbook, nodes, tmp_path):
    """One node's container is killed: site.yml restarts both. The API key given meanwhile is asked for, and shown nowhere."""
    key = "lab-key-7f3a"
    (tmp_path / "key").write_text(key + "\n")
    started = {name: inspect(nodes[name], f"vllm-rank{rank}")["State"]["StartedAt"] for rank, name in enumerate(NODES)}
    nodes["a2-node1"].check_output("docker kill vllm-rank1")
    run = playbook("site.yml", "--diff", "-vv", "-e", f"vllm_api_key_file={tmp_path / 'key'}")
    assert run.rc == 0, run.out[-4000:]
    assert key not in run.out
    for rank, name in enumerate(NODES):
        container = inspect(nodes[name], f"vllm-rank{rank}")
        assert container["State"]["StartedAt"] != started[name]
        assert key not in json.dumps(container)
        assert key not in nodes[name].check_output("docker logs %s 2>&1", container["Name"].lstrip("/"))
        secret = nodes[name].file(f"/etc/ascend-vllm/vllm-rank{rank}/api_key")
        assert (secret.mode, secret.user) == (0o600, "root")
    body = {"model": "deepseek_r1", "prompt": "The future of AI is", "max_tokens": 2}
    with pytest.raises(urllib.error.HTTPError, match="401"):
        ask("/v1/completions", body)
    assert ask("/v1/completions", body, {"Authorization": f"Bearer {key}"})["choices"]
