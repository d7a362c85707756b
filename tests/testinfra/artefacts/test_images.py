# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The image from real registries, with and without a login, and from an archive: which source, the same everywhere, no secret left.

A small image stands in for the serving one: nothing is started here, and the weights are there already.
"""

from __future__ import annotations

import base64
import json
import pathlib

import pytest

from conftest import no_trust

REGISTRY, PRIVATE, NOBODY = "198.51.100.2:5000", "198.51.100.2:5001", "198.51.100.2:5999"
PATH = "small/ascend/vllm-ascend:v0.13.0"
LOGIN = ("lab", "lab-secret-of-the-registry")
MAKE = "echo {word} > /tmp/small && tar c -C /tmp small | docker import - {name}"


@pytest.fixture(scope="module")
def registry(nodes, playbook):
    """A small image in the lab's registry, under the path that a release has there, and weights that are there already; returns its digest."""
    run = playbook("ascend.vllm.fetch", "-e", "preflight_mesh=off")
    assert run.rc == 0, run.out[-3000:]
    head = nodes["a2-node0"]
    head.check_output(MAKE.format(word="first", name=f"{REGISTRY}/{PATH}"))
    said = head.check_output(f"docker push {REGISTRY}/{PATH}")
    return said.rpartition("digest: ")[2].split()[0]


@pytest.fixture
def clean(nodes, registry):
    """Nodes that have none of the small images."""
    for node in nodes.values():
        # By its id: a name with a digest is not listed as one that docker rmi takes.
        node.run("docker images --no-trunc --format '{{.ID}} {{.Repository}}' | grep /small | cut -d' ' -f1 | sort -u | xargs -r docker rmi -f")


@pytest.fixture
def fetch(playbook, clean):
    """Return a function that runs the verb; weights are the site's own and were proved before."""

    def run(*args, registries=None):
        given = [word for value in (registries and {"vllm_image_registries": registries},) if value for word in ("-e", json.dumps(value))]
        return playbook("ascend.vllm.fetch", "-e", "preflight_mesh=off", *given, *args)

    return run


def identity(node, name):
    """Return the id of an image on a node."""
    return node.check_output("docker image inspect --format '{{.Id}}' " + name)


def auth_file(folder, password):
    """Write logins as Docker keeps them, and return the file's path."""
    word = base64.b64encode(f"{LOGIN[0]}:{password}".encode()).decode()
    path = pathlib.Path(folder) / "config.json"
    path.write_text(json.dumps({"auths": {PRIVATE: {"auth": word}}}))
    return path, word


def test_the_next_registry_is_used_and_the_first_one_reported(fetch, nodes, registry):
    run = fetch(registries=[f"{NOBODY}/small", f"{REGISTRY}/small"])
    assert run.rc == 0, run.out[-3000:]
    assert "image_exists" in run.text and f"{NOBODY}" in run.text and f"found as {REGISTRY}/{PATH}" in run.text
    # The containers' name for it, whichever source it came from, and one image everywhere.
    assert len({identity(node, f"{NOBODY}/{PATH}") for node in nodes.values()}) == 1
    assert all(f"{REGISTRY}/small/ascend/vllm-ascend@{registry}" in node.check_output(
        "docker image inspect --format '{{json .RepoDigests}}' " + f"{NOBODY}/{PATH}") for node in nodes.values())
    again = fetch(registries=[f"{NOBODY}/small", f"{REGISTRY}/small"])
    assert again.rc == 0 and all(again.recap(host)["changed"] == 0 for host in nodes)


@pytest.mark.extra
def test_no_registry_has_it(fetch):
    run = fetch(registries=[f"{NOBODY}/small", f"{REGISTRY}/none"])
    assert run.rc != 0 and "Nothing was changed" in run.text and NOBODY in run.text and f"{REGISTRY}/v2/none" in run.text


def test_a_login_opens_a_private_registry_and_is_gone_afterwards(fetch, nodes, tmp_path):
    path, word = auth_file(tmp_path, LOGIN[1])
    run = fetch("-e", f"vllm_registry_auth_file={path}", "-v", registries=[f"{PRIVATE}/small"])
    assert run.rc == 0, run.out[-3000:]
    assert len({identity(node, f"{PRIVATE}/{PATH}") for node in nodes.values()}) == 1
    assert word not in run.out and LOGIN[1] not in run.out
    for node in nodes.values():
        assert node.run(f"grep -rlF '{word}' /run /tmp /root /home /var/tmp /etc /var/lib/ascend-vllm 2>/dev/null").stdout == ""


@pytest.mark.parametrize(("password", "said"), [
    ("wrong", "it refuses the login"), pytest.param(None, "it wants a login", marks=pytest.mark.extra)])
def test_a_wrong_login_is_said_before_anything_is_changed(fetch, tmp_path, password, said):
    args = []
    if password:
        path, word = auth_file(tmp_path, password)
        args = ["-e", f"vllm_registry_auth_file={path}"]
    run = fetch(*args, registries=[f"{PRIVATE}/small"])
    assert run.rc != 0 and said in run.text and "vllm_registry_auth_file" in run.text and "Nothing was changed" in run.text
    assert not password or word not in run.out


def test_an_archive_takes_the_place_of_every_registry(fetch, nodes, tmp_path):
    name, archive = "no.registry.example/small/vllm:1", tmp_path / "image.tar.gz"
    head = nodes["a2-node0"]
    head.check_output(MAKE.format(word="archived", name=name) + f" && docker save {name} | gzip > /tmp/small.tar.gz && docker rmi {name}")
    archive.write_bytes(base64.b64decode(head.check_output("base64 /tmp/small.tar.gz")))
    run = fetch("-e", f"vllm_image={name}", "-e", f"vllm_image_archive={archive}")
    assert run.rc == 0, run.out[-3000:]
    assert len({identity(node, name) for node in nodes.values()}) == 1
    assert all(node.check_output("ls -d /var/tmp/ascend-vllm-image.* 2>/dev/null || true") == "" for node in nodes.values())
    run = fetch("-e", "vllm_image=no.registry.example/small/other:1", "-e", f"vllm_image_archive={archive}")
    assert run.rc != 0 and f"holds {name}" in run.text and "wanted no.registry.example/small/other:1" in run.text


@pytest.mark.extra
def test_a_node_with_another_image_under_the_name_is_named(fetch, nodes):
    nodes["a2-node1"].check_output(MAKE.format(word="stranger", name=f"{REGISTRY}/{PATH}"))
    run = fetch(registries=[f"{REGISTRY}/small"])
    assert run.rc != 0 and "image_equal" in run.text and "a2-node1" in run.text


@pytest.mark.extra
def test_a_digest_that_nobody_has_is_refused(fetch):
    run = fetch("-e", f"vllm_image={REGISTRY}/small/ascend/vllm-ascend@sha256:{'0' * 64}")
    assert run.rc != 0 and "image_exists" in run.text and "Nothing was changed" in run.text


def test_only_the_head_pulls_and_the_other_node_has_it_from_there(fetch, nodes):
    run = fetch("-e", "vllm_image_fanout=head", registries=[f"{REGISTRY}/small"])
    assert run.rc == 0, run.out[-3000:]
    layers = {node.check_output("docker image inspect --format '{{json .RootFS.Layers}}' " + f"{REGISTRY}/{PATH}") for node in nodes.values()}
    assert len(layers) == 1
    # What was pulled knows the digest of its registry, what was loaded does not.
    pulled = {name: "@sha256:" in node.check_output("docker image inspect --format '{{json .RepoDigests}}' " + f"{REGISTRY}/{PATH}")
              for name, node in nodes.items()}
    assert pulled == {"a2-node0": True, "a2-node1": False}
    assert no_trust(nodes) and not any(node.run("ls -d /var/lib/ascend-vllm/image-*").stdout for node in nodes.values())
    again = fetch("-e", "vllm_image_fanout=head", registries=[f"{REGISTRY}/small"])
    assert again.rc == 0 and all(again.recap(host)["changed"] == 0 for host in nodes)


@pytest.mark.extra
def test_old_images_go_on_request_and_those_of_others_never(fetch, nodes):
    name, other = f"{REGISTRY}/{PATH}", "no.registry.example/stranger/small:1"
    node = nodes["a2-node1"]
    assert fetch(registries=[f"{REGISTRY}/small"]).rc == 0
    for host in nodes.values():
        host.check_output(MAKE.format(word="of-a-stranger", name=other))
    node.check_output(f"docker create --name small-in-use {name} /small")
    try:
        kept = fetch()
        assert kept.rc == 0 and all(host.run(f"docker image inspect {name}").rc == 0 for host in nodes.values())
        gone = fetch("-e", "image_pull_prune=true")
        assert gone.rc == 0, gone.out[-3000:]
        assert {key: host.run(f"docker image inspect {name}").rc == 0 for key, host in nodes.items()} == {"a2-node0": False, "a2-node1": True}
        assert all(host.run(f"docker image inspect {other}").rc == 0 for host in nodes.values())
    finally:
        node.check_output("docker rm small-in-use")
    gone = fetch("-e", "image_pull_prune=true")
    assert gone.rc == 0 and all(host.run(f"docker image inspect {name}").rc != 0 and host.run(f"docker image inspect {other}").rc == 0
                                for host in nodes.values())
    again = fetch("-e", "image_pull_prune=true")
    assert again.rc == 0 and all(again.recap(host)["changed"] == 0 for host in nodes)
