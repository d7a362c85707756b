# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""On a pair that nobody has deployed to: check mode, and input that must be refused with nothing changed."""

from __future__ import annotations

import pytest
import yaml

from conftest import NODES, PROJECT


def test_check_mode_reads_everything_and_changes_nothing(playbook, picture):
    """--check --diff ends well, reports image, weights and container as would-change, and says that nothing was verified."""
    before = picture()
    run = playbook("site.yml", "--check", "--diff")
    assert run.rc == 0, run.out
    assert picture() == before
    # image and container on both, the weights on the head
    assert run.recap("a2-node0")["changed"] >= 3
    assert run.recap("a2-node1")["changed"] >= 2
    assert "would be downloaded to /mnt/weights/DeepSeek-R1-W8A8" in run.text
    assert "vllm-rank0 would be started" in run.text
    assert "vllm-rank1 would be started" in run.text
    assert "serve_verify was not run" in run.text
    assert "checks on 2 node(s): none failed" in run.text


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["-e", "vllm_ascend_version=v0.13.1"], ["vllm_ascend_version", "v0.13.1", "v0.13.0"]),
        (["-e", "vllm_port=70000"], ["vllm_port", "70000"]),
        (["--limit", "a2-node0"], ["--limit a2-node0", "Remedy"]),
        (["-e", "vllm_nic_name=eth9"], ["eth9", "a2-node0", "a2-node1", "vllm_nic_name", "Remedy"]),
        (["-e", "vllm_image=198.51.100.2:5000/ascend/vllm-ascend:no-such-tag"], ["no-such-tag", "not in the registry", "vllm_image", "a2-node0", "a2-node1"]),
        (["-e", "{vllm_image_registries: ['198.51.100.2:5999']}"], ["198.51.100.2:5999", "vllm_image_registries", "refused"]),
        (["-e", "{vllm_weights_source: {kind: modelscope, id: nobody/nothing, endpoint: 'http://198.51.100.2:8090'}}"],
         ["nobody/nothing", "vllm_weights_source", "a2-node0"]),
        (["-e", "ansible_user=nobody-here"], ["node_answers", "a2-node0", "a2-node1", "Remedy"]),
        (["-e", "ansible_ssh_private_key_file=/dev/null"], ["node_answers", "a2-node0", "a2-node1", "Permission denied"]),
    ],
    ids=["release", "port", "limit", "nic", "tag", "registry", "model", "user", "key"],
)
def test_bad_input_is_named_and_changes_nothing(playbook, picture, tmp_path_factory, args, said):
    """A fault that can be found before anything is changed is named with what to do, and nothing is changed."""
    before = picture()
    # connections of their own: a kept one would let a wrong key in
    run = playbook("site.yml", "-e", f"ansible_control_path_dir={tmp_path_factory.mktemp('c')}", *args)
    assert run.rc != 0, run.out
    for words in said:
        assert words in run.text, f"{words!r} is not in:\n{run.out[-4000:]}"
    assert picture() == before


def test_a_host_that_cannot_be_reached_is_named_beside_the_others(playbook, picture, tmp_path):
    """The unreachable host is a failed check; the results of the nodes that answer are still there."""
    shipped = yaml.safe_load((PROJECT / "inventories" / "a2_pair" / "hosts.yml").read_text())
    shipped["vllm"]["hosts"]["a2-node1"]["ansible_host"] = "198.51.100.99"
    inventory = tmp_path / "a2_pair"
    (inventory / "group_vars").mkdir(parents=True)
    (inventory / "hosts.yml").write_text(yaml.safe_dump(shipped))
    (inventory / "group_vars" / "vllm.yml").write_text((PROJECT / "inventories" / "a2_pair" / "group_vars" / "vllm.yml").read_text())
    before = picture()
    run = playbook("site.yml", "-e", "ansible_ssh_timeout=3", inventory=inventory)
    assert run.rc != 0
    assert "[fail] a2-node1: node_answers" in run.text, run.out[-4000:]
    assert "[fail] a2-node0" not in run.text
    assert picture() == before
    assert set(before) == set(NODES)
