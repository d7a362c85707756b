# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""artefact_info: images, containers and weights as a node has them, or as their sources have them."""

from __future__ import annotations

import os

import pytest

from ansible_collections.ascend.vllm.plugins.module_utils import ask_artefacts, manifest, weights
from ansible_collections.ascend.vllm.plugins.modules import artefact_info
from ansible_collections.ascend.vllm.tests.unit.plugins.servers import closed_port, FakeEngine, inspected, quiet_proxies, unix_server, web_server

LAYERS = ["sha256:" + "a" * 64, "sha256:" + "b" * 64]


@pytest.fixture
def ask(run_module, tmp_path, monkeypatch):
    """A function (engine or None, **parameters) -> the module's result."""
    quiet_proxies(monkeypatch)

    def run(engine, **parameters):
        path = str(tmp_path / "d.sock")
        if engine is None:
            return run_module(artefact_info, docker_socket=path, **parameters)
        with unix_server(path, engine):
            return run_module(artefact_info, docker_socket=path, **parameters)

    return run


@pytest.fixture
def wanted(tmp_path):
    """Weights as a plan states them."""
    return {"kind": "modelscope", "id": "vllm-ascend/DeepSeek-R1-W8A8", "revision": "master", "endpoint": "http://127.0.0.1:1", "dir": str(tmp_path / "w")}


def fill(wanted):
    """Have the weights whole and marked."""
    os.mkdir(wanted["dir"])
    with open(os.path.join(wanted["dir"], "config.json"), "w") as stream:
        stream.write("{}")
    hashed = dict(weights.hash_file(os.path.join(wanted["dir"], "config.json")), path="config.json")
    manifest.write_manifest(wanted["dir"], manifest.manifest_of(wanted, {"config.json": hashed}))


def hub(status=200, success=True):
    """Return a hub that lists one file."""
    return lambda asked: (status, {"Success": success, "Message": "no such model", "Data": {"Files": [{"Path": "config.json", "Size": 2}]}})


def test_nothing_asked(ask):
    result = ask(FakeEngine())
    assert not result["failed"] and result["changed"] is False
    assert (result["images"], result["weights"], result["containers"], result["docker_error"]) == ({}, [], {}, None)


def test_an_image_that_is_there_is_not_looked_for_elsewhere(ask):
    with web_server(lambda asked: (200,)) as registry:
        name = "127.0.0.1:%d/ascend/vllm-ascend:v0.13.0" % registry.port
        image = {"Id": "sha256:1", "Architecture": "arm64", "RootFS": {"Layers": LAYERS}, "Size": 17, "Config": {"Env": ["SOC_VERSION=ascend910b1"]}}
        result = ask(FakeEngine(images={name: image}), images=[name])
        assert result["images"] == {name: {"present": True, "id": "sha256:1", "layers": LAYERS, "architecture": "arm64", "registry": None,
                                           "env": ["SOC_VERSION=ascend910b1"], "size": 17, "source": None, "failed": []}}
        assert registry.asked == []


@pytest.mark.parametrize("status, exists", [(200, True), (404, False), (500, None)])
def test_an_image_that_is_not_there_is_looked_for_in_its_registry(ask, status, exists):
    with web_server(lambda asked: (status,)) as registry:
        name = "127.0.0.1:%d/ascend/vllm-ascend:v0.13.0" % registry.port
        result = ask(FakeEngine(), images=[name])["images"][name]
        assert (result["present"], result["id"], result["layers"], result["env"], result["size"]) == (False, None, [], [], None)
        assert (result["registry"]["bytes"], result["registry"]["architectures"]) == (None, None)
        assert result["registry"]["exists"] is exists and str(registry.port) in result["registry"]["url"]
        assert (result["registry"]["error"] is None) == (exists is not None)


def test_sources_are_asked_in_their_order_until_one_has_it(ask):
    with web_server(lambda asked: (404,)) as empty, web_server(lambda asked: (200, b"", {"Docker-Content-Digest": "sha256:2"})) as full:
        sources = ["127.0.0.1:%d/a:1" % port for port in (closed_port(), empty.port, full.port, 1)]
        result = ask(FakeEngine(), images=["q/a:1"], image_sources={"q/a:1": sources})["images"]["q/a:1"]
        assert (result["source"], result["registry"]["digest"]) == (sources[2], "sha256:2")
        assert [(entry["source"], entry["exists"]) for entry in result["failed"]] == [(sources[0], None), (sources[1], False)]
        assert "Connection refused" in result["failed"][0]["error"] and "has no such image" in result["failed"][1]["error"]


def test_an_image_without_a_source_is_asked_of_nobody(ask):
    result = ask(FakeEngine(), images=["q/a:1"], image_sources={"q/a:1": []})["images"]["q/a:1"]
    assert (result["present"], result["registry"], result["source"], result["failed"]) == (False, None, None, [])


def test_the_engines_proxy_is_used_for_registry_and_hub(ask, wanted, monkeypatch):
    def answer(asked):
        return (502,) if asked.method == "CONNECT" else hub()(asked)

    with web_server(answer) as engines, web_server(lambda asked: (418,)) as environments:
        quiet_proxies(monkeypatch, environments.url)
        info = {"HttpProxy": engines.url, "HttpsProxy": engines.url, "RegistryConfig": {"IndexConfigs": {"hub.example.test:5000": {"Secure": False}}}}
        image = "hub.example.test:5000/a/b:1"
        result = ask(FakeEngine(info), images=[image], weights=[dict(wanted, endpoint="http://hub.example.test")])
        assert result["images"][image]["registry"]["exists"] is True
        assert result["weights"][0]["hub"]["exists"] is True
        assert [asked.target.split("?")[0] for asked in engines.asked] == [
            # Whether it is there, and how big it is.
            "hub.example.test:5000", "http://hub.example.test:5000/v2/a/b/manifests/1", "http://hub.example.test:5000/v2/a/b/manifests/1",
            "http://hub.example.test/api/v1/models/vllm-ascend/DeepSeek-R1-W8A8/repo/files"]
        assert environments.asked == []


def test_containers(ask):
    engine = FakeEngine(containers={"vllm-rank0": inspected(), "vllm-rank1": inspected(False, ExitCode=1)})
    found = ask(engine, containers=["vllm-rank0", "vllm-rank1", "vllm-rank2"])["containers"]
    # The engine says that this very process is the container's first.
    assert os.getpid() in found["vllm-rank0"].pop("pids")
    assert found == {
        "vllm-rank0": {"exists": True, "running": True, "pid": os.getpid(), "labels": {"ascend.vllm.group": "vllm"}},
        "vllm-rank1": {"exists": True, "running": False, "pid": None, "pids": [], "labels": {"ascend.vllm.group": "vllm"}},
        "vllm-rank2": {"exists": False, "running": False, "pid": None, "pids": [], "labels": {}},
    }


def test_a_container_without_labels(ask):
    bare = dict(inspected(), Config={"Labels": None})
    assert ask(FakeEngine(containers={"x": bare}), containers=["x"])["containers"]["x"]["labels"] == {}


def test_an_image_of_this_nodes_architecture_has_a_size(ask, monkeypatch):
    monkeypatch.setattr(ask_artefacts.platform, "machine", lambda: "aarch64")
    index = {"manifests": [{"digest": "sha256:%s" % arch, "platform": {"os": "linux", "architecture": arch}} for arch in ("amd64", "arm64")]}
    bodies = {"1": index, "sha256:amd64": {"layers": [{"size": 1}]}, "sha256:arm64": {"layers": [{"size": 20}, {"size": 22}]}}
    with web_server(lambda asked: (200, bodies[asked.path.rpartition("/")[2]])) as registry:
        name = "127.0.0.1:%d/a/b:1" % registry.port
        found = ask(FakeEngine(), images=[name])["images"][name]["registry"]
        assert (found["exists"], found["bytes"], found["architectures"]) == (True, 42, ["amd64", "arm64"])


def test_running_containers_that_may_use_npus(ask):
    def container(running=True, **more):
        return dict(inspected(running), **more)

    given = {"Devices": [{"PathOnHost": "/dev/davinci%s" % leaf} for leaf in ("10", "9", "_manager")] + [{"PathOnHost": "/dev/fuse"}]}
    engine = FakeEngine(containers={
        "b": container(Name="/b", HostConfig=given),
        "a": container(Name="/a", HostConfig={"Privileged": True}, Config={"Labels": None}),
        "ended": container(False, HostConfig=given),
        "plain": container(HostConfig={"Devices": None, "Privileged": False}),
        "bare": container(),
    })
    first, second = ask(engine)["device_containers"]
    assert os.getpid() in first.pop("pids") and os.getpid() in second.pop("pids")
    assert first == {"name": "a", "id": "c0ffee", "devices": [], "privileged": True, "labels": {}}
    assert second == {"name": "b", "id": "c0ffee", "privileged": False, "labels": {"ascend.vllm.group": "vllm"},
                      "devices": ["/dev/davinci9", "/dev/davinci10", "/dev/davinci_manager"]}


def test_ranks_of_a_group_are_found_whatever_their_names(ask):
    """With other sizes a group's ranks have other numbers; a client that runs for it is none of them, nor is the rank of another group."""
    def container(running=True, **labels):
        return dict(inspected(running), HostConfig={"Devices": [{"PathOnHost": "/dev/davinci0"}]}, Config={"Labels": {"ascend.vllm.group": "vllm", **labels}})

    engine = FakeEngine(containers={
        "vllm-rank0": dict(container(), Name="/vllm-rank0"), "vllm-rank2": dict(container(), Name="/vllm-rank2"),
        "ended": dict(container(False), Name="/ended"),
        "client": dict(container(**{"ascend.vllm.purpose": "client"}), Name="/client"),
        "other": dict(container(**{"ascend.vllm.group": "other"}), Name="/other")})
    found = ask(engine, containers=["vllm-rank0"], group="vllm")["containers"]
    assert list(found) == ["vllm-rank0", "vllm-rank2"] and found["vllm-rank2"]["running"] and os.getpid() in found["vllm-rank2"]["pids"]
    assert list(ask(engine, containers=["vllm-rank0"])["containers"]) == ["vllm-rank0"]


def test_a_container_that_ends_while_it_is_looked_at(ask):
    def answer(asked):
        known = {"/info": {}, "/containers/json": [{"Id": "gone"}, {}, 5]}
        return (200, known[asked.path]) if asked.path in known else (404, {"message": "No such container: gone"})

    result = ask(answer)
    assert result["device_containers"] == [] and result["docker_error"] is None


def test_whole_weights_are_not_looked_for_elsewhere(ask, wanted):
    fill(wanted)
    with web_server(hub()) as server:
        found = ask(FakeEngine(), weights=[dict(wanted, endpoint=server.url)])["weights"][0]
        assert (found["complete"], found["hub"], found["dir"], found["files"]) == (True, None, wanted["dir"], 1)
        assert server.asked == []


@pytest.mark.parametrize("answer, exists", [(hub(), True), (hub(404, False), False), (hub(500), None)])
def test_weights_that_are_not_there_are_looked_for_on_the_hub(ask, wanted, answer, exists):
    with web_server(answer) as server:
        found = ask(FakeEngine(), weights=[dict(wanted, endpoint=server.url)])["weights"][0]
        assert (found["exists"], found["complete"]) == (False, False)
        assert found["hub"]["exists"] is exists and sorted(found["hub"]) == ["bytes", "error", "exists", "url"]
        assert found["hub"]["bytes"] == (2 if exists else 0) and (found["hub"]["error"] is None) == (exists is True)


def test_weights_of_another_kind_have_no_hub(ask, wanted):
    found = ask(FakeEngine(), weights=[dict(wanted, kind="local")])["weights"][0]
    assert (found["complete"], found["hub"]) == (False, None)


def test_without_an_engine_the_weights_are_still_answered(ask, wanted):
    fill(wanted)
    result = ask(None, images=["quay.io/a/b:1"], containers=["x"], weights=[wanted])
    assert not result["failed"] and result["weights"][0]["complete"] is True
    assert "d.sock: No such file or directory" in result["docker_error"]
    assert (result["images"], result["containers"], result["device_containers"]) == ({}, {}, [])


def test_an_engine_that_talks_nonsense_is_an_error_and_no_crash(ask):
    result = ask(lambda asked: (200, b"<html>"), images=["quay.io/a/b:1"])
    assert not result["failed"] and "answered no object to /info" in result["docker_error"]


def test_check_mode_does_the_same(ask, wanted):
    fill(wanted)
    result = ask(FakeEngine(containers={"x": inspected()}), containers=["x"], weights=[wanted], check=True)
    assert result["containers"]["x"]["running"] is True and result["weights"][0]["complete"] is True
