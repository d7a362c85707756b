# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The parts of the lab's command that need no lab: who is in it, what it writes, what it caches, how it fails."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import os
import pathlib
import socketserver
import subprocess
import sys
import tarfile
import threading
from http.server import BaseHTTPRequestHandler

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[3]
LAB = ROOT / "tests" / "lab"
sys.path.insert(0, str(LAB))
sys.path.insert(0, str(LAB / "engine"))

import mkmodel  # noqa: E402
from lablib import access, bringup, cli, engine_image, host, layers, node_image, nodes, places, rootfs, shape  # noqa: E402
from lablib.say import LabError, run_logged  # noqa: E402


# -- who is in the lab


def test_names_and_addresses_of_a_pair():
    lab = shape.Shape("a2", 2)
    assert [(node.name, node.address, node.index) for node in lab.nodes] == [("a2-node0", "198.51.100.11", 0), ("a2-node1", "198.51.100.12", 1)]
    assert (lab.npus, str(lab)) == (8, "2 a2 nodes")


def test_names_and_addresses_of_a_single_a3():
    lab = shape.Shape("a3", 1)
    assert [(node.name, node.address) for node in lab.nodes] == [("a3-node0", "198.51.100.31")]
    assert (lab.npus, str(lab)) == (16, "1 a3 node")


def test_no_address_is_used_twice_whatever_the_shapes():
    addresses = [node.address for generation in shape.GENERATIONS for node in shape.Shape(generation, shape.MAX_NODES).nodes]
    assert len({*addresses, shape.GATEWAY, shape.SERVICES_ADDRESS}) == len(addresses) + 2
    assert all(shape.contains(shape.SERVICE_NETWORK, address) for address in addresses)


@pytest.mark.parametrize(("generation", "size", "light"), [("a9", 2, False), ("a2", 0, False), ("a2", 17, False), ("a2", -1, False), ("a2", 33, True)])
def test_impossible_shapes_are_refused(generation, size, light):
    with pytest.raises(ValueError, match="generation|nodes"):
        shape.Shape(generation, size, light)


def test_a_light_lab_is_another_shape_has_more_nodes_and_no_services():
    lab = shape.Shape("a2", 32, light=True)
    assert len({node.address for node in lab.nodes} - {shape.GATEWAY, shape.SERVICES_ADDRESS}) == 32
    assert shape.Shape("a2", 2, light=True) != shape.Shape("a2", 2)
    assert str(shape.Shape("a2", 2, light=True)) == "2 light a2 nodes"
    assert bringup.Running(lab, host.Engine(None, False), "x").service_containers == []
    assert len(bringup.Running(shape.Shape("a2", 2), host.Engine(None, False), "x").service_containers) == 3


@pytest.mark.parametrize(("inventory", "generation", "size"), [("a2_pair", "a2", 2), ("a2_quad", "a2", 4), ("a3_single", "a3", 1)])
def test_the_lab_has_the_hosts_of_the_shipped_inventories(inventory, generation, size):
    folder = ROOT / "inventories" / inventory
    assert folder.is_dir(), f"{folder} is shipped"
    text = "\n".join(path.read_text() for path in sorted(folder.rglob("*")) if path.is_file())
    for node in shape.Shape(generation, size).nodes:
        assert node.name in text
        assert node.address in text


def test_a_node_is_described_to_the_emulator():
    lab = shape.Shape("a2", 2)
    assert nodes.description(lab, lab.nodes[1]) == {
        "hostname": "a2-node1",
        "generation": "a2",
        "node_index": 1,
        "nodes": 2,
        "npus": 8,
        "roce_interface": "roce0",
        "service_address": "198.51.100.12",
        "management_address": "198.18.113.12",
    }


# -- what it writes for the controller


def test_the_variables_are_strict_about_host_keys():
    variables = access.variables()
    assert "StrictHostKeyChecking=yes" in variables["ansible_ssh_common_args"]
    assert variables["ansible_user"] == "ops"
    assert variables["vllm_image_registries"] == ["198.51.100.2:5000"]
    assert variables["vllm_weights_source"]["endpoint"] == "http://198.51.100.2:8090"
    assert all(isinstance(value, str) for value in variables["vllm_extra_env"].values())


def test_the_variables_file_is_yaml_and_says_the_same(tmp_path, monkeypatch):
    yaml = pytest.importorskip("yaml")
    monkeypatch.setattr(access, "VARIABLES", tmp_path / "vars.yml")
    access.write_variables()
    assert yaml.safe_load((tmp_path / "vars.yml").read_text()) == access.variables()


def test_known_hosts_has_name_and_address_of_every_node(tmp_path, monkeypatch):
    for name, path in (("SSH", tmp_path), ("KNOWN_HOSTS", tmp_path / "known_hosts"), ("CONFIG", tmp_path / "config")):
        monkeypatch.setattr(access, name, path)
    lab = shape.Shape("a2", 2)
    access.write_ssh(lab.nodes, {node.name: f"ssh-ed25519 AAAA{node.index} a comment" for node in lab.nodes})
    assert (tmp_path / "known_hosts").read_text() == (
        "a2-node0,198.51.100.11,a2-node0-mgmt,198.18.113.11 ssh-ed25519 AAAA0\na2-node1,198.51.100.12,a2-node1-mgmt,198.18.113.12 ssh-ed25519 AAAA1\n"
    )
    config = (tmp_path / "config").read_text()
    assert "Host a2-node1 198.51.100.12\n    HostName 198.51.100.12\n" in config
    assert "Host a2-node1-mgmt 198.18.113.12\n    HostName 198.18.113.12\n" in config
    assert "StrictHostKeyChecking yes" in config


@pytest.mark.parametrize(("lab", "node", "address", "management"), [
    (shape.Shape("a2", 2), "a2-node1", "198.51.100.12", "198.18.113.12"),
    (shape.Shape("a3", 1), "a3-node0", "198.51.100.31", "198.18.113.31"),
    (shape.Shape("a2", 32, light=True), "a2-node31", "198.51.100.42", "198.18.113.42"),
])  # fmt: skip
def test_the_inventories_have_every_node_by_either_network(tmp_path, monkeypatch, lab, node, address, management):
    yaml = pytest.importorskip("yaml")
    for name, path in (("RUN", tmp_path), ("INVENTORY", tmp_path / "inventory.yml"), ("MANAGEMENT_INVENTORY", tmp_path / "management.yml")):
        monkeypatch.setattr(access, name, path)
    access.write_inventories(lab)
    for file, reached_at in (("inventory.yml", address), ("management.yml", management)):
        hosts = yaml.safe_load((tmp_path / file).read_text())["vllm"]["hosts"]
        assert list(hosts) == [entry.name for entry in lab.nodes]
        assert hosts[node] == {"ansible_host": reached_at, "vllm_local_ip": address}
    group = yaml.safe_load((tmp_path / "group_vars" / "vllm.yml").read_text())
    assert (group["vllm_hardware"], group["vllm_npus"], group["ansible_become"]) == (lab.generation, lab.npus, True)
    assert group["vllm_report_dir"] == str(tmp_path / "reports")


# -- the cache


def test_the_key_follows_names_bytes_and_x_bits(tmp_path):
    (tmp_path / "tree").mkdir()
    file = tmp_path / "tree" / "a"
    file.write_text("one")
    keys = [places.content_key("x", tmp_path / "tree")]
    file.write_text("two")
    keys.append(places.content_key("x", tmp_path / "tree"))
    file.chmod(0o755)
    keys.append(places.content_key("x", tmp_path / "tree"))
    file.rename(tmp_path / "tree" / "b")
    keys.append(places.content_key("x", tmp_path / "tree"))
    keys.append(places.content_key("y", tmp_path / "tree"))
    assert len(set(keys)) == 5
    assert places.content_key("y", tmp_path / "tree") == keys[-1]


def test_parts_of_a_key_do_not_run_together():
    assert places.content_key("ab", "c") != places.content_key("a", "bc")


def test_byte_code_does_not_count(tmp_path):
    (tmp_path / "a.py").write_text("1")
    before = places.content_key(tmp_path)
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "a.pyc").write_text("2")
    assert places.content_key(tmp_path) == before


def test_something_cached_is_made_once_and_replaces_its_elders(tmp_path, monkeypatch):
    monkeypatch.setattr(places, "CACHE", tmp_path)
    made = []

    def make(folder):
        made.append(folder.name)
        (folder / "result").write_text("done")

    assert (places.cached("kind", "one", make) / "result").read_text() == "done"
    places.cached("kind", "one", make)
    places.cached("other", "one", make)
    places.cached("kind", "two", make)
    assert made == ["one.part", "one.part", "two.part"]
    assert sorted(p.name for p in (tmp_path / "kind").iterdir()) == ["two"]
    assert (tmp_path / "other" / "one").is_dir()


def test_an_interrupted_build_is_not_taken_for_a_result(tmp_path, monkeypatch):
    monkeypatch.setattr(places, "CACHE", tmp_path)

    def break_off(folder):
        (folder / "half").write_text("")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        places.cached("kind", "one", break_off)
    folder = places.cached("kind", "one", lambda part: (part / "whole").write_text(""))
    assert [p.name for p in folder.iterdir()] == ["whole"]


# -- the engine image


@pytest.fixture
def layer(tmp_path):
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "hello").write_text("hello\n")
    folder = tmp_path / "layer"
    folder.mkdir()
    layers.make_layer(folder, layers.tar_of(tree))
    return layers.Layer.load(folder)


def test_a_layer_knows_both_its_digests(layer):
    packed = layer.path.read_bytes()
    assert layer.digest == f"sha256:{hashlib.sha256(packed).hexdigest()}"
    assert layer.diff_id == f"sha256:{hashlib.sha256(gzip.decompress(packed)).hexdigest()}"
    assert layer.size == len(packed)
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        assert tar.getmember("./hello").uname == ""
        assert tar.extractfile("./hello").read() == b"hello\n"


def fake_layer(tmp_path, content):
    path = tmp_path / hashlib.sha256(content).hexdigest()[:8]
    path.write_bytes(content)
    return layers.Layer(path, f"sha256:{hashlib.sha256(content).hexdigest()}", "sha256:" + "d" * 64, len(content))


def test_the_manifest_names_config_and_layers_in_order(tmp_path):
    stack = [fake_layer(tmp_path, b"bottom"), fake_layer(tmp_path, b"top")]
    config = layers.image_config(stack, {"Env": ["A=1"]})
    manifest = json.loads(layers.image_manifest(stack, config))
    assert [entry["digest"] for entry in manifest["layers"]] == [entry.digest for entry in stack]
    assert manifest["config"]["digest"] == f"sha256:{hashlib.sha256(config).hexdigest()}"
    assert json.loads(config)["rootfs"]["diff_ids"] == [entry.diff_id for entry in stack]
    assert layers.image_config(stack, {"Env": ["A=1"]}) == config


class FakeRegistry(BaseHTTPRequestHandler):
    """As much of a registry as ``push`` talks to; it checks digests as the real one does."""

    protocol_version = "HTTP/1.1"
    blobs: dict = {}
    manifests: dict = {}
    requests: list = []

    def do_HEAD(self):
        kind, name = self.path.rsplit("/", 2)[1:]
        store = self.blobs if kind == "blobs" else self.manifests
        found = store.get(name)
        self.answer(200 if found else 404, {"Docker-Content-Digest": "sha256:" + hashlib.sha256(found).hexdigest()} if found else {})

    def do_POST(self):
        self.answer(202, {"Location": f"http://{self.headers['Host']}{self.path}1?_state=x"})

    def do_PUT(self):
        self.requests.append(self.path.split("?")[0])
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if "/manifests/" in self.path:
            self.manifests[self.path.rsplit("/", 1)[1]] = body
        else:
            digest = self.path.rsplit("digest=", 1)[1]
            if digest != "sha256:" + hashlib.sha256(body).hexdigest():
                return self.answer(400)
            self.blobs[digest] = body
        self.answer(201)

    def answer(self, status, headers=None):
        self.send_response(status)
        for name, value in {"Content-Length": "0", **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format, *args):
        pass


@pytest.fixture
def registry():
    FakeRegistry.blobs, FakeRegistry.manifests, FakeRegistry.requests = {}, {}, []
    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), FakeRegistry)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_an_image_is_pushed_once_and_its_second_tag_shares_the_layers(tmp_path, registry):
    stack = [fake_layer(tmp_path, b"bottom"), fake_layer(tmp_path, b"top")]
    assert layers.push(registry, "ascend/vllm-ascend", "v1", stack, {"Env": ["A=1"]}) is True
    assert set(FakeRegistry.blobs) >= {entry.digest for entry in stack}
    assert len(FakeRegistry.requests) == 4
    assert layers.push(registry, "ascend/vllm-ascend", "v1", stack, {"Env": ["A=1"]}) is False
    assert layers.push(registry, "ascend/vllm-ascend", "v1-a3", stack, {"Env": ["A=2"]}) is True
    assert len(FakeRegistry.requests) == 6


def test_a_changed_image_is_pushed_again(tmp_path, registry):
    assert layers.push(registry, "r", "v1", [fake_layer(tmp_path, b"one")], {}) is True
    assert layers.push(registry, "r", "v1", [fake_layer(tmp_path, b"two")], {}) is True


def test_a_registry_that_refuses_or_is_not_there_is_named(tmp_path, registry):
    broken = layers.Layer(fake_layer(tmp_path, b"one").path, "sha256:" + "0" * 64, "sha256:" + "0" * 64, 3)
    with pytest.raises(LabError, match=f"{registry} refused a blob.*400"):
        layers.push(registry, "r", "v1", [broken], {})
    with pytest.raises(LabError, match="127.0.0.1:1 does not answer"):
        layers.push("127.0.0.1:1", "r", "v1", [], {})


def test_the_images_tell_what_they_are_and_differ_by_hardware():
    a2, a3 = engine_image.config("v0.13.0"), engine_image.config("v0.13.0-a3")
    assert "CPU" in a2["Labels"]["org.opencontainers.image.title"]
    assert "SOC_VERSION=ascend910b1" in a2["Env"]
    assert "SOC_VERSION=ascend910_9391" in a3["Env"]
    assert {"TASK_QUEUE_ENABLE=1", "OMP_NUM_THREADS=1"} < set(a2["Env"])
    assert a2["WorkingDir"] == "/workspace"


@pytest.mark.parametrize(
    ("script", "variable"),
    [("ascend-toolkit", "ASCEND_TOOLKIT_HOME"), ("nnal/atb", "ATB_HOME_PATH")],
)
def test_the_environment_scripts_have_an_effect_and_die_of_set_u(script, variable):
    path = LAB / "engine" / "files" / "usr/local/Ascend" / script / "set_env.sh"
    environment = {"PATH": os.environ["PATH"]}
    good = subprocess.run(["bash", "-c", f"set -e; . {path}; echo ${variable}"], env=environment, capture_output=True, text=True, check=False)
    assert (good.returncode, good.stdout[:18]) == (0, "/usr/local/Ascend/")
    bad = subprocess.run(["bash", "-c", f"set -u; . {path}"], env=environment, capture_output=True, text=True, check=False)
    assert bad.returncode != 0
    assert "unbound variable" in bad.stderr


def test_the_packages_of_node_and_base_are_read_without_their_comments():
    assert "docker.io" in rootfs.node_packages()
    assert "python3" in rootfs.base_packages()
    assert not [name for name in rootfs.node_packages() + rootfs.base_packages() if "#" in name or " " in name]


# -- the model


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    mkmodel.write_model(folder)
    return folder


def read_header(path):
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + size]), len(data) - 8 - size


def test_every_machine_makes_the_same_model(model):
    digest = hashlib.sha256()
    for path in sorted(model.iterdir()):
        digest.update(path.name.encode() + path.read_bytes())
    assert digest.hexdigest() == "d61e2b3db7e9b750ce55f0d089e8b8588c7b92b0a4e5a000616078802216c985"


def test_the_shards_hold_what_the_index_says(model):
    index = json.loads((model / "model.safetensors.index.json").read_text())
    found, total = {}, 0
    for path in sorted(model.glob("*.safetensors")):
        header, size = read_header(path)
        header.pop("__metadata__")
        assert max(entry["data_offsets"][1] for entry in header.values()) == size
        found.update(dict.fromkeys(header, path.name))
        total += size
    assert found == index["weight_map"]
    assert total == index["metadata"]["total_size"]
    assert len(set(found.values())) == 2


def test_the_model_has_a_dense_layer_then_experts_then_one_mtp_layer(model):
    names = json.loads((model / "model.safetensors.index.json").read_text())["weight_map"]
    assert "model.layers.0.mlp.gate_proj.weight" in names
    assert "model.layers.0.mlp.gate.weight" not in names
    assert "model.layers.1.mlp.experts.15.down_proj.weight" in names
    assert "model.layers.3.eh_proj.weight" in names
    assert "model.layers.4.input_layernorm.weight" not in names


def test_the_vocabulary_can_write_any_byte_and_its_merges_lead_to_words():
    vocabulary, merges = mkmodel.build_vocabulary()
    assert sorted(vocabulary.values()) == list(range(1024))
    assert set(mkmodel.byte_alphabet()) < set(vocabulary)
    assert len(set(mkmodel.byte_alphabet())) == 256
    for left, right in merges:
        assert {left, right, left + right} <= set(vocabulary)
    assert len(mkmodel.word_tokens(vocabulary)) == len(set(mkmodel.WORDS))


def test_only_words_can_be_likeliest():
    vocabulary, _merges = mkmodel.build_vocabulary()
    words = mkmodel.word_tokens(vocabulary)
    head = mkmodel.tensor_bytes("lm_head.weight", (1024, 4), words)
    rows = [head[8 * token : 8 * token + 8] for token in range(1024)]
    assert [token for token, row in enumerate(rows) if any(row)] == sorted(words)
    assert mkmodel.tensor_bytes("model.layers.3.shared_head.head.weight", (1024, 4), words) == head


# -- the command


@pytest.mark.parametrize("words", [[], ["upp"], ["up", "--generation", "a9"], ["up", "--nodes", "many"], ["fault", "a2-node0", "break"]])
def test_a_wrong_command_line_is_a_usage_error(words, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(words)
    assert ended.value.code == 2
    assert "usage: lab" in capsys.readouterr().err


def test_a_command_for_a_node_may_have_options_of_its_own():
    options = cli.parser().parse_args(["exec", "a2-node0", "ls", "-l", "--all"])
    assert (options.node, options.words) == ("a2-node0", ["ls", "-l", "--all"])


@pytest.fixture
def no_lab(tmp_path, monkeypatch):
    monkeypatch.setattr(bringup, "_STATE_FILE", tmp_path / "lab.json")
    return tmp_path


@pytest.mark.parametrize("words", [["vars"], ["inventory"], ["faults"], ["exec", "a2-node0", "true"], ["fault", "a2-node0", "list"], ["reboot", "a2-node0"]])
def test_without_a_lab_every_command_says_so_in_one_line(no_lab, words, capsys):
    assert cli.main(words) == 1
    assert capsys.readouterr().err == "lab: no lab is up: `tests/lab/lab up` brings one up\n"


def test_status_without_a_lab_has_an_exit_status_of_its_own(no_lab, capsys):
    assert cli.main(["status"]) == 3
    assert capsys.readouterr().out == "no lab is up\n"


def test_a_lab_whose_engine_is_gone_is_not_up(no_lab, monkeypatch):
    (no_lab / "lab.json").write_text(json.dumps({"generation": "a2", "nodes": 2, "docker_host": "unix:///gone", "own_engine": True, "inputs": "x"}))
    monkeypatch.setattr(host, "answers", lambda engine: False)
    assert bringup.running() is None


def test_what_a_killed_engine_had_is_removed_before_the_nodes_start(no_lab, monkeypatch):
    """The containers of an engine that ends with its machine are there again with the engine: their names are taken."""
    calls, there = [], {"a2-node0", "ascend-vllm-lab"}

    def call(engine, *args, check=True, **_kwargs):
        calls.append(args)
        if args[:2] == ("rm", "--force") or args[:2] == ("network", "rm"):
            there.difference_update(args[2:])
        listed = {"container": "a2-node0", "network": "ascend-vllm-lab"}.get(args[0], "")
        inspected = json.dumps([{"Id": "c0ffee", "Config": {"Labels": {shape.LABEL: "node"}}}])
        out = listed if args[1] == "ls" and listed in there else inspected if args[1] == "inspect" and args[2] in there else ""
        return subprocess.CompletedProcess(args, 0 if out or args[1] == "ls" else 1, out, "")

    def start(run, image, model, unpacked):
        assert not there, calls

    monkeypatch.setattr(host.Engine, "call", call)
    for module, name, value in (
        (bringup, "RUN", no_lab / "run"), (host, "require_machine", lambda light: None), (host, "provide_engine", lambda: host.Engine(None, False)),
        (bringup, "_build_all", lambda: None), (node_image, "load", lambda engine: "image"), (bringup, "_start", start),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, value)
    bringup.up(shape.Shape("a2", 2), replace=False)
    assert ("rm", "--force", "--volumes", "a2-node0") in calls


@pytest.fixture
def pair_up(no_lab, monkeypatch):
    """A running pair, as far as the record and the engine tell."""
    record = {"generation": "a2", "nodes": 2, "docker_host": None, "own_engine": False, "inputs": bringup.inputs_key()}
    (no_lab / "lab.json").write_text(json.dumps(record))
    monkeypatch.setattr(host, "answers", lambda engine: True)
    monkeypatch.setattr(bringup, "tear_down", lambda **_: pytest.fail("the running lab was touched"))


def test_another_shape_is_refused_with_the_way_out(pair_up):
    with pytest.raises(LabError, match="a lab of 2 a2 nodes is up, not of 1 a3 node: .*--replace"):
        bringup.up(shape.Shape("a3", 1), replace=False)


def test_a_healthy_lab_of_the_same_shape_is_kept(pair_up, monkeypatch, capsys):
    monkeypatch.setattr(bringup, "heal", lambda there: [])
    bringup.up(shape.Shape("a2", 2), replace=False)
    assert "a healthy lab of 2 a2 nodes is up already" in capsys.readouterr().out


@pytest.fixture
def paces(pair_up, monkeypatch):
    """The paces that were written to the nodes of a healthy pair."""
    written = []
    monkeypatch.setattr(bringup, "heal", lambda there: [])
    monkeypatch.setattr(nodes, "set_packet_interval", lambda lab, seconds: written.append((lab, seconds)))
    return written


def test_the_pace_of_pings_changes_at_once_on_a_lab_that_is_up(paces):
    assert bringup.running().packet_interval_s == 1
    bringup.up(shape.Shape("a2", 2), replace=False, packet_interval_s=0.05)
    assert paces == [(shape.Shape("a2", 2), 0.05)]
    assert bringup.running().packet_interval_s == 0.05
    bringup.up(shape.Shape("a2", 2), replace=False)
    assert (len(paces), bringup.running().packet_interval_s) == (1, 0.05)


def test_the_pace_of_pings_comes_from_the_option_else_from_the_environment(paces, monkeypatch, capsys):
    monkeypatch.setattr(bringup, "only_one", contextlib.nullcontext)
    monkeypatch.setenv("ASCEND_VLLM_LAB_PACKET_INTERVAL", "0.5")
    assert cli.main(["up"]) == 0
    assert cli.main(["up", "--packet-interval", "0.25"]) == 0
    assert [seconds for dummy, seconds in paces] == [0.5, 0.25]
    assert cli.main(["up", "--packet-interval", "0"]) == 1
    assert "--packet-interval 0: from 0.002 to 60 seconds" in capsys.readouterr().err


def test_an_unhealthy_lab_is_named_and_left_alone(pair_up, monkeypatch):
    monkeypatch.setattr(bringup, "heal", lambda there: ["a2-node1: systemd is degraded, failed: docker.service"])
    with pytest.raises(LabError, match="not healthy .a2-node1: systemd is degraded.*--replace"):
        bringup.up(shape.Shape("a2", 2), replace=False)


def test_an_unknown_node_is_named_with_the_known_ones(pair_up, capsys):
    assert cli.main(["exec", "a2-node7", "true"]) == 1
    assert "no node 'a2-node7': it has a2-node0, a2-node1" in capsys.readouterr().err


def test_who_is_not_root_is_told_in_one_line(monkeypatch, capsys):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert cli.main(["up"]) == 1
    assert capsys.readouterr().err == "lab: the lab needs root (network namespaces, device nodes): run it as root or with sudo\n"


@pytest.mark.parametrize(
    ("attribute", "value", "what"),
    [("_MIN_MEMORY_MB", 10**9, "MB of available memory"), ("_MIN_DISK_MB", 10**9, "MB of free disk")],
)
def test_a_machine_that_is_too_small_is_told_what_it_lacks(tmp_path, monkeypatch, attribute, value, what):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(host, "STATE", tmp_path)
    monkeypatch.setattr(host, attribute, value)
    with pytest.raises(LabError, match=f"needs 1000000000 {what}.* found"):
        host.require_machine()


def test_a_network_that_is_taken_is_named(monkeypatch):
    addresses = [{"ifname": "eth7", "addr_info": [{"local": "198.51.100.200"}]}]
    monkeypatch.setattr(host.shutil, "which", lambda name: "/sbin/ip")
    monkeypatch.setattr(host.subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 0, json.dumps(addresses), ""))
    with pytest.raises(LabError, match="198.51.100.0/24 is in use on this machine: eth7 has 198.51.100.200"):
        host._require_free_network()


def test_only_a_process_that_is_really_our_engine_counts(tmp_path, monkeypatch):
    pid_file = tmp_path / "dockerd.pid"
    monkeypatch.setattr(host, "_OWN_PID", pid_file)
    assert host.own_engine_pid() is None
    # A recorded pid that now belongs to somebody else: this very test.
    pid_file.write_text(str(os.getpid()))
    assert host.own_engine_pid() is None
    stranger = subprocess.Popen(["sleep", "30"])
    impostor = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(30)", f"--pidfile={pid_file}"])
    try:
        pid_file.write_text(str(stranger.pid))
        assert host.own_engine_pid() is None
        pid_file.write_text(str(impostor.pid))
        assert host.own_engine_pid() == impostor.pid
    finally:
        for process in (stranger, impostor):
            process.kill()
            process.wait()
    assert host.own_engine_pid() is None


def test_only_the_empty_control_groups_of_our_containers_go(tmp_path):
    for name in ("docker/ours/init.scope", "memory/docker/ours/system.slice/a.service", "docker/theirs/init.scope", "docker/busy/init.scope"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "docker/busy/init.scope/cgroup.procs").write_text("1")
    host.remove_cgroups(["ours", "busy", "absent"], tmp_path)
    left = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_dir())
    assert left == ["docker", "docker/busy", "docker/busy/init.scope", "docker/theirs", "docker/theirs/init.scope", "memory", "memory/docker"]


def test_a_failing_command_is_named_with_its_log(tmp_path, capsys):
    with pytest.raises(LabError, match=f"`sh` ended with exit status 3; its whole output is in {tmp_path}/a.log"):
        run_logged(["sh", "-c", "echo last words; exit 3"], tmp_path / "a.log")
    assert "last words" in capsys.readouterr().err
