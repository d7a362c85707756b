# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The verb logs from end to end without a network: this machine as one node, and a node at a port where nobody listens."""

from __future__ import annotations

import sys
import tarfile

import pytest
import yaml

from ansible_collections.ascend.vllm.tests.unit.plugins.ansible_run import ansible_playbook

SECRETS = ("Zq9xWv7-api", "Nd6Yh2Gs", "Hf0Kj3-word")


@pytest.fixture
def deployment(tmp_path):
    """Return a function that runs the verb in a deployment of two nodes: the finished process."""
    for folder in ("etc/vllm-rank0", "log/vllm-rank0", "tmp", "reports", "weights"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "api_key").write_text(SECRETS[0] + "\n")
    (tmp_path / "etc/vllm-rank0/api_key").write_text(SECRETS[1] + "\n")
    (tmp_path / "log/vllm-rank0/plog-1.log").write_text(
        f"[ERROR] EI0006: {SECRETS[0]} {SECRETS[1]} HF_TOKEN={SECRETS[2]} Getting socket times out. Reason: x\n")
    (tmp_path / "reports/preflight.json").write_text('{"said": "%s"}' % SECRETS[0])
    local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable, "vllm_local_ip": "198.51.100.11"}
    gone = {"ansible_host": "127.0.0.1", "ansible_port": 1, "vllm_local_ip": "198.51.100.12"}
    variables = {
        "vllm_hardware": "a2", "vllm_npus": 8, "vllm_nic_name": "eth0", "vllm_weights_dir": str(tmp_path / "weights"),
        "vllm_report_dir": str(tmp_path / "reports"),
        "vllm_api_key_file": str(tmp_path / "api_key"), "logs_collect_log": str(tmp_path / "log"), "logs_collect_etc": str(tmp_path / "etc"),
        "logs_collect_tmp": str(tmp_path / "tmp"),
    }
    inventory = tmp_path / "hosts.yml"
    inventory.write_text(yaml.safe_dump({"vllm": {"hosts": {"a2-node0": local, "a2-node1": gone}, "vars": variables}}))

    def run(*arguments):
        return run_playbook("ascend.vllm.logs", "-i", str(inventory), *arguments)

    with ansible_playbook(tmp_path) as run_playbook:
        (tmp_path / "controller").symlink_to(run_playbook.tmpdir)
        yield run


def left(folder):
    """Return what is left in a folder, but for Ansible's own."""
    return [path.name for path in folder.iterdir() if path.name.startswith("ascend-vllm")]


def test_a_bundle_of_the_node_that_answers_names_the_one_that_does_not(deployment, tmp_path):
    ran = deployment("-vvv")
    said = ran.stdout + ran.stderr
    assert ran.returncode == 2, said
    bundles = list((tmp_path / "reports").glob("logs-vllm-*.tar.gz"))
    assert len(bundles) == 1 and f"bundle: {bundles[0]}" in said and bundles[0].stat().st_mode & 0o777 == 0o600
    assert "a2-node1 gave nothing: " in said and "Remedy: mend the way to the node" in said and "(EI0006)" in said
    with tarfile.open(bundles[0]) as tar:
        files = {member.name.partition("/")[2]: tar.extractfile(member).read() for member in tar.getmembers()}
    assert next(iter(files)) == "SUMMARY.txt" and b"NOT IN THE BUNDLE: a2-node1: " in files["SUMMARY.txt"] and b"(EI0006)" in files["SUMMARY.txt"]
    assert {"plan.json", "reports/preflight.json", "a2-node0/MANIFEST.json", "a2-node0/plog/vllm-rank0/plog-1.log"} < set(files)
    everything = b"".join(files.values()) + said.encode()
    assert not [secret for secret in SECRETS if secret.encode() in everything]
    assert left(tmp_path / "tmp") == [] and left(tmp_path / "controller") == []
    assert "changed=1" not in said


def test_check_mode_says_what_it_would_take_and_makes_nothing(deployment, tmp_path):
    ran = deployment("--check")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "docker logs vllm-rank0" in ran.stdout and f"CANN logs in {tmp_path / 'log/vllm-rank0'}" in ran.stdout
    assert sorted(path.name for path in (tmp_path / "reports").iterdir()) == ["preflight.json"]
    assert left(tmp_path / "tmp") == [] and left(tmp_path / "controller") == []
