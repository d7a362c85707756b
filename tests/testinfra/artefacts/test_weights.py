# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Weights with the real client against the lab's hub: what is fetched, proved, resumed, and never marked complete when it is not."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
import time
import urllib.request

import pytest

from conftest import LAB, PROJECT, VARS, no_trust

HUB = "http://198.51.100.2:8090"
DIR = "/mnt/weights/DeepSeek-R1-W8A8"
MARKER = ".ascend-vllm-weights.json"
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
ACCESS_LOG = LAB / "run" / "services" / "hub-access.jsonl"
#: Straight to the hub, whatever proxy this machine has.
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Hub:
    """The lab's model hub."""

    def __init__(self):
        self._since = 0.0

    def post(self, page, /, **value):
        """Set or clear faults."""
        request = urllib.request.Request(HUB + page, data=json.dumps(value).encode(), method="POST")
        with OPENER.open(request, timeout=10) as answer:
            assert answer.status == 200

    def fault(self, kind, path="*.safetensors", **more):
        """From here on this goes wrong."""
        self.post("/_lab/fault", kind=kind, path=path, **more)

    def mark(self):
        """Count requests that begin from here on: one that stalled is in the log only when it ends."""
        self._since = time.time()

    def sent(self):
        """Return path -> bytes sent since the mark."""
        counted = {}
        for line in ACCESS_LOG.read_text().splitlines():
            entry = json.loads(line)
            if entry["file"] and entry["method"] == "GET" and entry["began"] >= self._since:
                counted[entry["file"]] = counted.get(entry["file"], 0) + entry["bytes"]
        return counted


def is_marked(weights):
    """Return whether the directory says of itself that it is complete."""
    return (weights / MARKER).exists()


@pytest.fixture
def hub():
    """The hub without a fault, before and after the test."""
    found = Hub()
    found.post("/_lab/clear")
    found.mark()
    yield found
    found.post("/_lab/clear")


@pytest.fixture
def head(nodes):
    """The head node."""
    return nodes["a2-node0"]


@pytest.fixture
def weights(head):
    """The directory as a path of this machine, empty before the test."""
    # The nodes share one folder of this machine. What they do in it, they do as root.
    folder = pathlib.Path(LAB / "run" / "weights" / pathlib.Path(DIR).name)
    head.check_output(f"rm -rf {DIR}")
    return folder


@pytest.fixture
def whole(weights, fetch):
    """The directory with every file in it, proved."""
    run = fetch()
    assert run.rc == 0, run.out[-3000:]
    return weights


@pytest.fixture
def fetch(playbook):
    """Return a function that runs the verb as the README says."""

    def run(*args):
        return playbook("ascend.vllm.fetch", "-e", "preflight_mesh=off", *args)

    return run


def flip(path):
    """Turn one bit in the middle of a file, and leave its time as it was."""
    seen = path.stat()
    with path.open("r+b") as stream:
        stream.seek(seen.st_size // 2)
        byte = stream.read(1)
        stream.seek(-1, os.SEEK_CUR)
        stream.write(bytes([byte[0] ^ 1]))
    os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))


def test_every_file_is_fetched_once_proved_and_never_again(weights, fetch, hub):
    run = fetch()
    assert run.rc == 0, run.out[-3000:]
    content = json.loads((weights / MARKER).read_text())
    sizes = {entry["path"]: entry["size"] for entry in content["files"]}
    assert content["schema"] == 2 and set(SHARDS) <= set(sizes) and hub.sent() == sizes
    hub.mark()
    again = fetch()
    assert (again.rc, hub.sent()) == (0, {}) and all(again.recap(host)["changed"] == 0 for host in ("a2-node0", "a2-node1"))


def test_check_mode_fetches_nothing(weights, fetch, hub):
    run = fetch("--check")
    assert run.rc == 0, run.out[-3000:]
    assert "would be downloaded to" in run.text and hub.sent() == {} and not weights.exists()


@pytest.mark.parametrize("damage", [
    pytest.param(lambda path: os.truncate(path, 1000), marks=pytest.mark.extra), pytest.param(lambda path: path.unlink(), marks=pytest.mark.extra),
    lambda path: (flip(path), os.utime(path)),
], ids=["truncated", "missing", "written-to"])
def test_damage_is_seen_and_only_the_damaged_file_is_fetched_again(whole, fetch, hub, damage):
    damage(whole / SHARDS[0])
    size = {entry["path"]: entry["size"] for entry in json.loads((whole / MARKER).read_text())["files"]}[SHARDS[0]]
    hub.mark()
    run = fetch()
    assert run.rc == 0, run.out[-3000:]
    assert hub.sent() == {SHARDS[0]: size} and is_marked(whole)


@pytest.mark.extra
def test_a_silent_bit_is_found_by_a_full_verification_and_mended_by_the_next_run(whole, fetch, hub):
    flip(whole / SHARDS[1])
    hub.mark()
    run = fetch()
    assert (run.rc, hub.sent()) == (0, {})
    run = fetch("-e", "weights_sync_verify=full")
    assert run.rc == 0, run.out[-3000:]
    assert f"{SHARDS[1]} has sha256" in run.text and set(hub.sent()) == {SHARDS[1]}
    assert (whole / ".ascend-vllm-bad" / SHARDS[1]).exists() and is_marked(whole)


@pytest.mark.extra
def test_a_shard_that_nobody_knows_stops_the_run(whole, fetch):
    (whole / "model-00003-of-00002.safetensors").write_bytes((whole / SHARDS[0]).read_bytes())
    run = fetch()
    assert run.rc != 0 and "model-00003-of-00002.safetensors" in run.text and "wanted no such file" in run.text


def test_a_client_that_is_killed_goes_on_where_it_was(weights, fetch, hub, head):
    hub.fault("slow", rate=4_000_000)
    argv = ["ansible-playbook", "ascend.vllm.fetch", "-i", "a2_pair", "-e", f"@{VARS}", "-e", "preflight_mesh=off"]
    # An environment without molecule's settings, as the fixture has it.
    env = {key: value for key, value in os.environ.items() if not key.startswith(("MOLECULE_", "ANSIBLE_"))}
    first = subprocess.Popen(argv, cwd=PROJECT / "inventories", env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    deadline = time.monotonic() + 120
    while sum(hub.sent().values()) == 0 and partly(head) < 5_000_000:
        assert time.monotonic() < deadline and first.poll() is None, first.communicate()[0][-3000:]
        time.sleep(0.2)
    head.check_output("docker kill vllm-weights")
    out, _err = first.communicate(timeout=120)
    assert first.returncode != 0 and "was not downloaded" in " ".join(out.split()) and not is_marked(weights)
    assert head.check_output("docker ps -aq --filter label=ascend.vllm.purpose=weights") == ""
    kept = {path.name: path.stat().st_size for path in weights.glob("*.safetensors")}
    hub.post("/_lab/clear")
    hub.mark()
    run = fetch()
    assert run.rc == 0, run.out[-3000:]
    assert is_marked(weights) and not set(kept) & set(hub.sent())


def partly(head):
    """Return how many bytes lie in the directory, whole or not."""
    return int(head.check_output(f"du -sb {DIR} 2>/dev/null | cut -f1 || true") or 0)


@pytest.mark.parametrize(("fault", "said"), [
    pytest.param({"kind": "status", "status": 404}, "no such model, revision or file", marks=pytest.mark.extra),
    pytest.param({"kind": "status", "status": 429}, "the hub wants fewer requests", marks=pytest.mark.extra),
    ({"kind": "wrong_byte"}, None),
], ids=["404", "429", "wrong-byte"])
def test_a_hub_that_never_gives_the_right_bytes_marks_nothing(weights, fetch, hub, fault, said):
    hub.fault(**fault)
    run = fetch()
    assert run.rc != 0 and not is_marked(weights)
    assert (said or SHARDS[0]) in run.text and "Remedy" in run.text


@pytest.mark.parametrize("fault", [
    pytest.param({"kind": "status", "status": 500, "times": 1}, marks=pytest.mark.extra),
    {"kind": "cut", "after_bytes": 3_000_000, "times": 1}], ids=["500", "cut"])
def test_what_goes_wrong_once_is_tried_again(weights, fetch, hub, fault):
    hub.fault(**fault)
    run = fetch()
    assert run.rc == 0, run.out[-3000:]
    assert is_marked(weights)


@pytest.mark.extra
def test_a_hub_that_falls_silent_is_given_up(weights, fetch, hub):
    hub.fault("stall", after_bytes=1_000_000)
    run = fetch("-e", "weights_sync_stall_s=10")
    assert run.rc != 0 and "no byte has come for 10 s" in run.text and not is_marked(weights)


@pytest.mark.extra
def test_a_second_controller_joins_the_download(weights, fetch, hub, head):
    hub.fault("slow", rate=4_000_000)
    argv = ["ansible-playbook", "ascend.vllm.fetch", "-i", "a2_pair", "-e", f"@{VARS}", "-e", "preflight_mesh=off"]
    env = {key: value for key, value in os.environ.items() if not key.startswith(("MOLECULE_", "ANSIBLE_"))}
    runs = [subprocess.Popen(argv, cwd=PROJECT / "inventories", env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for _number in range(2)]
    said = [run.communicate(timeout=300)[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], said[0][-2000:] + said[1][-2000:]
    sizes = {entry["path"]: entry["size"] for entry in json.loads((weights / MARKER).read_text())["files"]}
    assert hub.sent() == sizes


def test_a_directory_that_is_not_shared_is_named(weights, fetch, nodes):
    nodes["a2-node1"].check_output("mount -t tmpfs none /mnt/weights")
    try:
        run = fetch()
        assert run.rc != 0 and "a2-node1" in run.text and "weights_shared" in run.text and not is_marked(weights)
    finally:
        nodes["a2-node1"].check_output("umount /mnt/weights")


#: Binds a directory on itself so that root acts there as nobody, as an NFS server with root_squash has it: on the disk its files are nobody's,
#: and what others own it may not change. (An idmapped mount; Linux 5.12.)
SQUASH = """
import ctypes, os, subprocess, sys
libc, path = ctypes.CDLL(None, use_errno=True), sys.argv[1].encode()
class Attributes(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "userns")]
def call(*arguments):
    done = libc.syscall(*arguments)
    assert done >= 0, os.strerror(ctypes.get_errno())
    return done
holder = subprocess.Popen(["unshare", "--user", "sh", "-c", "echo; read line"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
holder.stdout.readline()
for name in ("uid_map", "gid_map"):
    open("/proc/%d/%s" % (holder.pid, name), "w").write("65534 0 1")
tree = call(428, -100, path, 1)
attributes = Attributes(0x100000, 0, 0, os.open("/proc/%d/ns/user" % holder.pid, os.O_RDONLY))
call(442, tree, b"", 0x1000, ctypes.byref(attributes), ctypes.sizeof(attributes))
call(429, tree, b"", -100, path, 4)
holder.communicate()
"""


@pytest.mark.extra
def test_a_server_that_takes_root_s_rights_away_is_said_with_its_remedy(weights, fetch, head, tmp_path):
    """What root_squash does, on the head: the directory is root's, and root is nobody there."""
    head.check_output(f"mkdir -p {DIR} && cat >/run/squash.py <<'END'\n{SQUASH}\nEND\npython3 /run/squash.py {DIR}")
    try:
        run = fetch()
        assert run.rc != 0 and "weights_shared" in run.text and "Permission denied" in run.text and "no_root_squash" in run.text, run.out[-3000:]
        assert "a2-node0" in run.text and not is_marked(weights)
    finally:
        head.check_output(f"umount {DIR}")


@pytest.mark.extra
def test_a_node_with_an_older_copy_of_its_own_is_named(whole, fetch, nodes):
    """The directory is not shared, and what lies there on node 1 was whole once."""
    node = nodes["a2-node1"]
    node.check_output(
        f"mkdir -p /srv/older && cp -a {DIR} /srv/older/ && mount --bind /srv/older /mnt/weights && cd {DIR} && echo >>config.json && python3 -c '"
        "import json, os; path = \"MARKER\"; said = json.load(open(path)); seen = os.stat(\"config.json\")\n"
        "for entry in said[\"files\"]:\n"
        "  if entry[\"path\"] == \"config.json\": entry.update(size=seen.st_size, mtime_ns=seen.st_mtime_ns, sha256=\"0\" * 64)\n"
        "json.dump(said, open(path, \"w\"))'".replace("MARKER", MARKER))
    try:
        run = fetch()
        assert run.rc != 0 and "weights_equal" in run.text and "a2-node1" in run.text and "mount the same directory" in run.text, run.out[-3000:]
    finally:
        node.check_output("umount /mnt/weights && rm -rf /srv/older")


def test_a_group_is_not_started_on_weights_that_are_not_proved(whole, playbook, head):
    """Whatever runs before a launch: the launch looks for itself."""
    (whole / MARKER).unlink()
    run = playbook(str(PROJECT / "tests" / "testinfra" / "artefacts" / "launch.yml"), "-e", "preflight_mesh=off")
    assert run.rc != 0 and "weights_complete" in run.text and "no marker" in run.text and "run site.yml" in run.text
    assert head.check_output("docker ps -aq --filter label=ascend.vllm.group=vllm") == ""


COPY = "/srv/ascend-vllm-test/DeepSeek-R1-W8A8"


@pytest.fixture
def copies(nodes):
    """Each node's own directory as a function of the node's name, empty before the test."""
    for name in ("a2-node0", "a2-node1"):
        nodes[name].check_output(f"rm -rf {COPY}")

    def sums(name):
        return nodes[name].check_output(f"cd {COPY} && sha256sum *")

    yield sums
    for name in ("a2-node0", "a2-node1"):
        nodes[name].check_output(f"rm -rf {COPY}")


LOCAL = ("-e", "vllm_weights_target=local", "-e", f"vllm_weights_dir={COPY}")


def test_a_copy_on_every_node_is_downloaded_once_and_no_key_stays(copies, fetch, hub, nodes):
    run = fetch(*LOCAL)
    assert run.rc == 0, run.out[-3000:]
    sizes = {name: int(nodes["a2-node0"].check_output(f"stat -c %s {COPY}/{name}")) for name in SHARDS}
    assert {name: hub.sent()[name] for name in SHARDS} == sizes
    assert copies("a2-node0") == copies("a2-node1") and no_trust(nodes)
    again = fetch(*LOCAL)
    assert again.rc == 0 and all(again.recap(name)["changed"] == 0 for name in nodes) and no_trust(nodes), again.out[-3000:]


@pytest.mark.extra
def test_a_silent_bit_in_a_copy_is_found_and_mended_from_the_other_node(copies, fetch, hub, nodes):
    assert fetch(*LOCAL).rc == 0
    node, shard = nodes["a2-node1"], f"{COPY}/{SHARDS[0]}"
    node.check_output(f"cp -p {shard} /srv/keep && printf x | dd of={shard} bs=1 seek=2000 conv=notrunc && touch -r /srv/keep {shard} && rm /srv/keep")
    hub.mark()
    assert copies("a2-node0") != copies("a2-node1")
    run = fetch(*LOCAL, "-e", "weights_sync_verify=full")
    assert run.rc == 0, run.out[-3000:]
    assert copies("a2-node0") == copies("a2-node1") and no_trust(nodes) and not set(hub.sent()) & set(SHARDS)


@pytest.mark.extra
def test_a_node_that_cannot_be_written_to_is_named_and_the_key_goes(copies, fetch, nodes):
    node = nodes["a2-node1"]
    node.check_output(f"mkdir -p {COPY} && mount -t tmpfs -o size=64k none {COPY}")
    try:
        run = fetch(*LOCAL)
        assert run.rc != 0 and "disk_weights" in run.text and "a2-node1" in run.text and not nodes["a2-node0"].file(f"{COPY}/{MARKER}").exists
        run = fetch(*LOCAL, "-e", "preflight_accept=disk_weights@a2-node1")
        assert run.rc != 0 and "a2-node1" in run.text and "are free, wanted" in run.text and no_trust(nodes)
        assert not node.file(f"{COPY}/{MARKER}").exists
    finally:
        node.check_output(f"umount {COPY}")
    assert fetch(*LOCAL).rc == 0 and copies("a2-node0") == copies("a2-node1")


@pytest.mark.extra
def test_a_disk_that_fills_while_downloading_is_named_and_the_next_run_goes_on(copies, hub, nodes, playbook):
    head = nodes["a2-node0"]
    head.check_output(f"mkdir -p {COPY} && mount -t tmpfs -o size=2G none {COPY}")
    hub.fault("slow", rate=4_000_000)
    argv = ["ansible-playbook", "ascend.vllm.fetch", "-i", "a2_pair", "-e", f"@{VARS}", "-e", "preflight_mesh=off", *LOCAL]
    env = {key: value for key, value in os.environ.items() if not key.startswith(("MOLECULE_", "ANSIBLE_"))}
    try:
        run = subprocess.Popen(argv, cwd=PROJECT / "inventories", env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        deadline = time.monotonic() + 120
        while int(head.check_output(f"du -sb {COPY} | cut -f1")) < 1_000_000:
            assert time.monotonic() < deadline and run.poll() is None, run.communicate()[0][-3000:]
            time.sleep(0.2)
        # The file system ends where the download is.
        head.run(f"dd if=/dev/zero of={COPY}/.filler bs=64k")
        text = " ".join(run.communicate(timeout=120)[0].split())
        assert run.returncode != 0 and "the disk is full" in text and "a2-node0" in text and "make room" in text, text[-3000:]
        assert not any(node.file(f"{COPY}/{MARKER}").exists for node in nodes.values()) and no_trust(nodes)
        head.check_output(f"rm {COPY}/.filler")
        hub.post("/_lab/clear")
        again = playbook("ascend.vllm.fetch", "-e", "preflight_mesh=off", *LOCAL)
        assert again.rc == 0 and copies("a2-node0") == copies("a2-node1"), again.out[-3000:]
    finally:
        head.check_output(f"umount {COPY}")


@pytest.mark.extra
def test_the_other_hub_s_client_fetches_once_and_every_file_is_proved(whole, fetch, hub):
    """Hugging Face's own client, as it is in the serving image; its small files have no hash but git's."""
    first = contents(whole)
    for path in whole.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    hub.mark()
    given = ("-e", json.dumps({"vllm_weights_source": {"kind": "huggingface", "id": "vllm-ascend/DeepSeek-R1-W8A8", "revision": "main", "endpoint": HUB}}))
    run = fetch(*given)
    assert run.rc == 0, run.out[-3000:]
    sizes = {entry["path"]: entry["size"] for entry in json.loads((whole / MARKER).read_text())["files"]}
    assert contents(whole) == first and {name: hub.sent()[name] for name in SHARDS} == {name: sizes[name] for name in SHARDS}
    flip(whole / SHARDS[0])
    os.utime(whole / SHARDS[0])
    hub.mark()
    run = fetch(*given)
    assert run.rc == 0 and contents(whole) == first and set(hub.sent()) == {SHARDS[0]}, run.out[-3000:]


@pytest.fixture
def source(whole, tmp_path):
    """The model with its hashes in a folder of the controller; the directory of the nodes is empty."""
    folder = tmp_path / "DeepSeek-R1-W8A8"
    shutil.copytree(whole, folder, ignore=shutil.ignore_patterns(".*"))
    sums = subprocess.run(["sha256sum", *sorted(path.name for path in folder.iterdir())], cwd=folder, capture_output=True, text=True, check=True).stdout
    (folder / "SHA256SUMS").write_text(sums)
    for path in whole.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return folder


def contents(folder):
    """Return name -> content of the weights in a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".")}


#: The larger shards go one by one.
LARGE = ("-e", "weights_sync_large_bytes=1000000")


@pytest.mark.extra
def test_weights_of_the_controller_are_copied_and_proved(source, whole, fetch, hub):
    hub.mark()
    given = ("-e", json.dumps({"vllm_weights_source": {"kind": "controller", "id": str(source)}}), *LARGE)
    flip(source / SHARDS[0])
    run = fetch(*given)
    assert run.rc != 0 and f"{SHARDS[0]} has sha256" in run.text and not is_marked(whole)
    flip(source / SHARDS[0])
    run = fetch(*given)
    assert run.rc == 0 and f"of 2: {SHARDS[0]}" in run.text, run.out[-3000:]
    assert contents(whole) == contents(source) and is_marked(whole) and hub.sent() == {}
    again = fetch(*given)
    assert again.rc == 0 and all(again.recap(host)["changed"] == 0 for host in ("a2-node0", "a2-node1"))


@pytest.mark.extra
def test_weights_of_another_host_are_copied_by_the_stated_key_and_host_key_only(source, whole, fetch, nodes, head, tmp_path):
    other = nodes["a2-node1"]
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "ascend-vllm-test", "-f", str(tmp_path / "key")], check=True)
    public = (tmp_path / "key.pub").read_text().strip()
    subprocess.run(["cp", "-a", str(source), str(LAB / "run" / "weights" / "source")], check=True)
    scanned = subprocess.run(["ssh-keyscan", "-t", "ed25519", "198.51.100.12"], capture_output=True, text=True, check=True).stdout
    stated = {"kind": "rsync", "id": "ops@198.51.100.12:/mnt/weights/source", "host_key": scanned.strip().partition(" ")[2]}
    given = (*LARGE, "-e", f"vllm_weights_token_file={tmp_path / 'key'}", "-e", f"vllm_weights_dir={DIR}")
    other.check_output(f"install -d -o ops -m 700 ~ops/.ssh && echo '{public}' >>~ops/.ssh/authorized_keys")
    try:
        run = fetch(*given, "-e", json.dumps({"vllm_weights_source": dict(stated, host_key=public)}))
        assert run.rc != 0 and "Host key verification failed" in run.text and "a2-node0: ops@198.51.100.12" in run.text and not is_marked(whole)
        run = fetch(*given, "-e", json.dumps({"vllm_weights_source": stated}))
        assert run.rc == 0, run.out[-3000:]
        assert contents(whole) == contents(source) and is_marked(whole)
        # Images that were pulled have their progress in the same folder, and groups their lock.
        left = [name for name in head.run("ls /run/ascend-vllm").stdout.split() if not name.startswith(("pull-", "group-", "weights-"))]
        assert left == [] and "PRIVATE" not in run.out
    finally:
        other.check_output("sed -i /ascend-vllm-test/d ~ops/.ssh/authorized_keys && rm -rf /mnt/weights/source")
