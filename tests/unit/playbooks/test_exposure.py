# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tasks that bring secrets to a node and that ask the API, run by Ansible itself on this machine, in folders of the test."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ansible_collections.ascend.vllm.plugins.plugin_utils import plan, request
from ansible_collections.ascend.vllm.tests.unit.plugins import certificates
from ansible_collections.ascend.vllm.tests.unit.plugins.served_group import Group
from ansible_collections.ascend.vllm.tests.unit.plugins.servers import web_server

BIN = Path(sys.executable).parent
KEY = "k3y-of-the-service"
PASSWORD = "opens-the-vault"
ANSWER = {"model": "deepseek_r1", "choices": [{"text": " bright", "finish_reason": "length"}], "usage": {"prompt_tokens": 6, "completion_tokens": 50}}


@pytest.fixture
def files(tmp_path):
    """Files of a controller: the API key and the private key encrypted with Ansible Vault."""
    (tmp_path / "password").write_text(PASSWORD)
    texts = {"crt": certificates.SIGNED, "key": certificates.SIGNED_KEY, "ca": certificates.AUTHORITY, "api": KEY + "\n"}
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    subprocess.run([BIN / "ansible-vault", "encrypt", "--vault-password-file", tmp_path / "password", tmp_path / "key", tmp_path / "api"],
                   check=True, capture_output=True)
    return {"vllm_tls_certificate_file": str(tmp_path / "crt"), "vllm_tls_key_file": str(tmp_path / "key"),
            "vllm_tls_ca_file": str(tmp_path / "ca"), "vllm_api_key_file": str(tmp_path / "api")}


@pytest.fixture
def play(tmp_path):
    """A function (tasks, variables) -> (exit status, output at its most verbose, the changed items); everything runs on this machine."""

    def run(tasks, variables):
        given = {**variables, "ansible_python_interpreter": sys.executable}
        content = [{"hosts": "localhost", "connection": "local", "gather_facts": False, "vars": given, "tasks": tasks}]
        (tmp_path / "play.yml").write_text(json.dumps(content))
        command = [BIN / "ansible-playbook", "-i", "localhost,", "--vault-password-file", tmp_path / "password", "--diff", "-vvv", tmp_path / "play.yml"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False,
                              env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "ANSIBLE_HOME": str(tmp_path / ".ansible"), "LC_ALL": "C.UTF-8"})
        return done.returncode, done.stdout + done.stderr

    return run


def planned(files):
    """Return the plan of a pair."""
    pair = {f"n{index}": {"vllm_hardware": "a2", "vllm_npus": 8, "vllm_local_ip": f"198.51.100.1{index}", "vllm_nic_name": "eth0", **files}
            for index in (1, 2)}
    result = plan.compute(request.build({"vllm": list(pair)}, pair))
    assert result["checks"] == []
    return result["plan"]


def include(role, entry="main", **variables):
    """Return the task that runs a role's task file."""
    return {"name": "Run", "ansible.builtin.include_role": {"name": f"ascend.vllm.{role}", "tasks_from": entry, "public": True}, "vars": variables}


def write(path, text):
    """Return the task that writes a file of the controller anew."""
    return {"name": "Write", "ansible.builtin.copy": {"content": text, "dest": str(path), "mode": "0600"}}


def test_secrets_reach_the_nodes_that_need_them_once_root_only_and_unseen(play, files, tmp_path):
    """Decrypted on the way; a later run changes only what is new; another certificate is a change that restarts the group, another CA is not.

    Until the start that reads them nothing is written: whoever ends in between finds them different again.
    """
    made, etc = planned(files), tmp_path / "etc"
    head, other = (made["hosts"][host]["units"] for host in ("n1", "n2"))
    variables = {"serve_launch_groups": made["groups"], "serve_launch_units": head, "serve_launch_etc": str(etc), "serve_launch_log": str(tmp_path / "log"),
                 "serve_launch_group": made["groups"]["vllm"], "serve_launch_mine": head}

    def secrets(dry, mine="{{ serve_launch_units }}"):
        return include("serve_launch", "secrets", serve_launch_dry=dry, serve_launch_mine=mine)

    restarts = {"ansible.builtin.debug": {"msg": "restarts: {{ serve_launch_key.changed }}"}}
    launch = [include("serve_launch", "files"), secrets(True), secrets(True), restarts,
              secrets(False), include("serve_launch", "vouch"), secrets(True), restarts]
    tasks = [
        *launch,
        write(tmp_path / "ca", certificates.AUTHORITY + certificates.OTHER), *launch,
        write(tmp_path / "crt", certificates.SIGNED + certificates.AUTHORITY), *launch,
        include("serve_launch", "files", serve_launch_units=other), secrets(False, other),
    ]
    status, said = play(tasks, variables)
    assert status == 0, said
    assert KEY not in said and "PRIVATE KEY" not in said
    assert re.findall(r"restarts: (\w+)", said) == ["True", "False", "False", "False", "True", "False"]
    rounds = [re.findall(r"^changed: ", part, re.MULTILINE) for part in said.split("restarts: ")]
    # Folders, start script, and three secrets twice that would be other ones; those, and what vouches. Then the new file and its copy only.
    assert [len(changed) for changed in rounds[:6]] == [9, 4, 1, 1, 3, 1], said
    found = {path.name: path for path in (etc / head[0]["name"]).iterdir()}
    assert set(found) == {"start.sh", "api_key", "tls.crt", "tls.key", "tls_ca.pem"}
    assert {found[name].stat().st_mode & 0o777 for name in found if name != "start.sh"} == {0o600}
    assert found["start.sh"].parent.stat().st_mode & 0o777 == 0o700
    assert found["tls.key"].read_text() == certificates.SIGNED_KEY and found["api_key"].read_text() == KEY + "\n"
    assert found["tls.crt"].read_text() == certificates.SIGNED + certificates.AUTHORITY
    assert found["tls_ca.pem"].read_text() == certificates.AUTHORITY + certificates.OTHER
    assert {path.name for path in (etc / other[0]["name"]).iterdir()} == {"start.sh", "api_key"}


def test_a_group_with_key_and_tls_is_verified_and_the_key_is_unseen(play, files, tmp_path):
    made = planned(files)
    with web_server(lambda asked: (200, ANSWER), tls=certificates.SIGNED + certificates.SIGNED_KEY) as server:
        tasks = [include("serve_verify", serve_verify_expected="bright"), include("serve_verify", serve_verify_expected="dark")]
        status, said = play(tasks, verified(made, url=server.url, ca_file=str(tmp_path / "ca")))
        assert status == 2 and "completion:  bright" in said and "tokens: 6 + 50" in said, said
        assert "answer_expected: found ' bright', wanted a match of 'dark' after 'The future of AI is'. Remedy: the engines compute" in said, said
        assert not re.search("^changed: ", said, re.MULTILINE) and KEY not in said
        assert [asked.headers["Authorization"] for asked in server.asked] == [f"Bearer {KEY}"] * 2


def test_a_group_is_verified_in_full_and_all_its_faults_are_shown_at_once(play, files):
    """With an API key that opens without being right, one rank that does not answer, and a stream that is cut off; one group serves well."""
    made = planned(files)
    bad = Group(key=KEY).breaks("no key", (200, {})).breaks("/v1/completions rank 3", (500, b"dead"))
    bad.breaks("/v1/completions stream", lambda number, answer: bad.streamed("/v1/completions", [" cut"], end=False))
    with web_server(Group(key=KEY)) as server, web_server(bad) as other:
        variables = verified(made, url=server.url)
        good = [include("serve_verify", serve_verify_depth="full", serve_verify_questions=[{"prompt": "1 + 1 =", "expected": "sea", "max_tokens": 9}])]
        status, said = play(good, variables)
        assert status == 0 and "completion:  bright" in said and "14 checks: none failed." in said, said
        assert "[pass] localhost vllm: verify_whole: found 10 of 10 questions asked" in said and KEY not in said
        variables["serve_verify_groups"]["other"] = {**variables["serve_verify_groups"]["vllm"], "api": {"url": other.url}}
        status, said = play([include("serve_verify", serve_verify_depth="full")], variables)
    assert status == 2 and KEY not in said, said
    failed = said[said.index("fatal: "):]
    assert re.findall(r"\[fail\] localhost (other[^:]*): (\w+): found", failed) == [
        ("other /v1/completions", "stream_answers"), ("other rank 3", "rank_answers"), ("other no key", "api_key_refused")], said


def verified(made, **api):
    """Return the variables of serve_verify for a group whose head is this machine."""
    made["groups"]["vllm"].update(head="localhost", hosts=["localhost"], api=api)
    return {"serve_verify_groups": made["groups"], "serve_verify_hosts": {"localhost": made["hosts"]["n1"]}}
