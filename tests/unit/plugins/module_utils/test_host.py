# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a node says about itself, from texts and from folders made for the test."""

from __future__ import annotations

import http.server
import json
import os
import shutil
import socket
import socketserver
import tempfile
import threading
import time

import pytest

from ansible_collections.ascend.vllm.plugins.module_utils import host

IP_JSON = json.dumps(
    [
        {
            "ifindex": 1, "ifname": "lo", "flags": ["LOOPBACK", "UP", "LOWER_UP"], "mtu": 65536, "operstate": "UNKNOWN",
            "addr_info": [{"family": "inet", "local": "127.0.0.1", "prefixlen": 8}, {"family": "inet6", "local": "::1", "prefixlen": 128}],
        },
        {
            "ifindex": 2, "link_index": 5, "ifname": "enp67s0f0-1", "flags": ["BROADCAST", "UP", "LOWER_UP"], "mtu": 9000, "operstate": "UP",
            "addr_info": [
                {"family": "inet", "local": "198.51.100.11", "prefixlen": 24, "scope": "global"},
                {"family": "inet", "local": "198.51.100.111", "prefixlen": 24, "scope": "global", "secondary": True},
            ],
        },
        {"ifindex": 3, "ifname": "eth1", "flags": ["NO-CARRIER", "BROADCAST", "UP"], "mtu": 1500, "operstate": "DOWN", "addr_info": []},
        {"ifindex": 4, "ifname": "dummy0", "flags": ["BROADCAST"], "mtu": 1500, "operstate": "UNKNOWN"},
        {},
    ]
)


def test_ip_json():
    assert host.parse_ip_json(IP_JSON) == [
        {"name": "lo", "up": True, "mtu": 65536, "addresses": ["127.0.0.1/8"]},
        {"name": "enp67s0f0-1", "up": True, "mtu": 9000, "addresses": ["198.51.100.11/24", "198.51.100.111/24"]},
        {"name": "eth1", "up": False, "mtu": 1500, "addresses": []},
        {"name": "dummy0", "up": False, "mtu": 1500, "addresses": []},
    ]


@pytest.mark.parametrize("text", ["", "Option \"-j\" is unknown", "{}x", "[1, 2]", "12", '[{"ifname": "a", "addr_info": [{"family": "inet", "local": "x"}]}]'])
def test_ip_json_not_understood(text):
    assert host.parse_ip_json(text) is None


def test_ip_oneline():
    text = (
        "1: lo    inet 127.0.0.1/8 scope host lo\\       valid_lft forever preferred_lft forever\n"
        "2: eth0@if9    inet 198.51.100.11/24 brd 198.51.100.255 scope global eth0\\       valid_lft forever\n"
        "2: eth0@if9    inet 198.51.100.111/24 scope global secondary eth0:1\\       valid_lft forever\n"
        "7: ppp0    inet 10.0.0.1 peer 10.0.0.2/32 scope global ppp0\n"
        "rubbish\n"
    )
    assert host.parse_ip_oneline(text) == {
        "lo": ["127.0.0.1/8"],
        "eth0": ["198.51.100.11/24", "198.51.100.111/24"],
        "ppp0": ["10.0.0.1/32"],
    }


def test_sys_interfaces(tmp_path):
    links = (
        ("eth0", "up", "1500", "0x1003"),
        ("lo", "unknown", "65536", "0x9"),
        ("eth1", "down", "x", "0x1003"),
        ("eth2", "unknown", "1500", "0x1002"),
    )
    for name, state, mtu, flags in links:
        (tmp_path / name).mkdir()
        for leaf, value in (("operstate", state), ("mtu", mtu), ("flags", flags)):
            (tmp_path / name / leaf).write_text(value + "\n")
    (tmp_path / "bonding_masters").write_text("")
    found = host.sys_interfaces({"eth0": ["198.51.100.11/24"]}, str(tmp_path))
    assert [(i["name"], i["up"], i["mtu"], i["addresses"]) for i in found] == [
        ("eth0", True, 1500, ["198.51.100.11/24"]),
        ("eth1", False, None, []),
        ("eth2", False, 1500, []),
        ("lo", True, 65536, []),
    ]
    assert host.sys_interfaces({}, str(tmp_path / "none")) == []


@pytest.mark.parametrize(
    "cards, generation",
    [
        ([("0x19e5", "0xd802"), ("0x19e5", "0xd802"), ("0x19e5", "0x1822")], "a2"),
        ([("0x19e5", "0xd803")], "a3"),
        ([("0x19e5", "0xd802"), ("0x19e5", "0xd803")], "unknown"),
        ([("0x8086", "0xd802")], "unknown"),
        ([], "unknown"),
    ],
)
def test_pci_generation(tmp_path, cards, generation):
    for count, (vendor, device) in enumerate(cards):
        (tmp_path / str(count)).mkdir()
        (tmp_path / str(count) / "vendor").write_text(vendor + "\n")
        (tmp_path / str(count) / "device").write_text(device + "\n")
    assert host.pci_generation(str(tmp_path)) == generation
    assert host.pci_generation(str(tmp_path / "none")) == "unknown"


PROC_TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F40 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1111 1 0 100 0 0 10 0
   1: 0B6433C6:1F40 0C6433C6:9C40 01 00000000:00000000 00:00000000 00000000     0        0 2222 1 0 100 0 0 10 0
   2: 00000000:EA60 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 3333 1 0 100 0 0 10 0
   3: rubbish:XXXX 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4444 1 0
"""
PROC_TCP6 = """\
  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000000000000000000000000000:1F41 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 5555 1
   1: 00000000000000000000000001000000:1F40 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 6666 1
"""


@pytest.mark.skipif("__import__('sys').byteorder != 'little'")
def test_proc_tcp():
    assert host.parse_proc_tcp(PROC_TCP) == [
        {"port": 8000, "address": "127.0.0.1", "inode": 1111},
        {"port": 60000, "address": "0.0.0.0", "inode": 3333},
    ]
    assert host.parse_proc_tcp(PROC_TCP6) == [
        {"port": 8001, "address": "::", "inode": 5555},
        {"port": 8000, "address": "::1", "inode": 6666},
    ]


@pytest.mark.skipif("__import__('sys').byteorder != 'little'")
def test_listening_names_the_process(tmp_path):
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "tcp").write_text(PROC_TCP)
    (tmp_path / "net" / "tcp6").write_text(PROC_TCP6)
    (tmp_path / "4711" / "fd").mkdir(parents=True)
    (tmp_path / "4711" / "comm").write_text("vllm\n")
    (tmp_path / "4711" / "cgroup").write_text("12:pids:/docker/%s/system.slice/x.service\n0::/\n" % ("a" * 64))
    os.symlink("socket:[1111]", str(tmp_path / "4711" / "fd" / "7"))
    os.symlink("/dev/null", str(tmp_path / "4711" / "fd" / "0"))
    assert host.listening({8000, 9000}, str(tmp_path)) == [
        {"port": 8000, "address": "127.0.0.1", "pid": 4711, "process": "vllm", "service": "x.service"},
        {"port": 8000, "address": "::1", "pid": None, "process": None, "service": None},
    ]
    assert host.listening(set(), str(tmp_path)) == []
    assert host.listening({8000}, str(tmp_path / "none")) == []


def test_listening_sees_a_real_listener():
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(1)
    port = listener.getsockname()[1]
    try:
        found = host.listening({port})
    finally:
        listener.close()
    assert [(entry["port"], entry["address"], entry["pid"]) for entry in found] == [(port, "127.0.0.1", os.getpid())]
    assert host.listening({port}) == []


A, B = "a" * 64, "b" * 64


def process(proc, pid, name, links, cgroup=""):
    """A process below a /proc of the test's own, with links to what it holds open."""
    (proc / pid / "fd").mkdir(parents=True)
    (proc / pid / "comm").write_bytes(name)
    (proc / pid / "cgroup").write_text(cgroup)
    for number, target in enumerate(links):
        os.symlink(target, str(proc / pid / "fd" / str(number)))


def test_device_holders(tmp_path):
    (tmp_path / "self").mkdir()
    (tmp_path / "self" / "cgroup").write_text("0::/system.slice/docker-%s.scope/user.slice\n" % B)
    process(tmp_path, "900", b"python3\n", ["/dev/davinci3", "/dev/davinci3", "/dev/davinci10"], "0::/system.slice/docker-%s.scope\n" % A)
    process(tmp_path, "80", b"stray\n", ["/dev/davinci3", "/dev/davinci_manager", "/tmp/dev/davinci4"], "0::/user.slice\n")
    process(tmp_path, "81", b"\xff", ["/dev/davinci5 (deleted)"], "0::/docker/%s/docker/%s\n" % (B, A))
    process(tmp_path, "82", b"bash\n", ["/dev/null", "socket:[1]"], "")
    process(tmp_path, "83", b"node\n", ["/dev/davinci6"], "12:devices:/docker/%s\n0::/\n" % B)
    # One that vanishes between two looks leaves an empty folder, or one without what is read last.
    (tmp_path / "84").mkdir()
    (tmp_path / "85" / "fd").mkdir(parents=True)
    os.symlink("/dev/davinci7", str(tmp_path / "85" / "fd" / "0"))
    assert host.device_holders(str(tmp_path)) == [
        {"path": "/dev/davinci3", "pid": 80, "process": "stray", "container": None},
        {"path": "/dev/davinci3", "pid": 900, "process": "python3", "container": A},
        {"path": "/dev/davinci5", "pid": 81, "process": None, "container": A},
        {"path": "/dev/davinci6", "pid": 83, "process": "node", "container": None},
        {"path": "/dev/davinci7", "pid": 85, "process": None, "container": None},
        {"path": "/dev/davinci10", "pid": 900, "process": "python3", "container": A},
    ]
    assert host.device_holders(str(tmp_path / "none")) == []


@pytest.mark.parametrize(
    "cgroup, found",
    [
        ("0::/system.slice/docker-%s.scope\n" % A, A),
        ("12:devices:/docker/%s\n11:memory:/docker/%s\n0::/system.slice/containerd.service\n" % (A, A), A),
        ("0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice/cri-containerd-%s.scope\n" % A, A),
        ("0::/docker/%s\n" % ("a" * 65), None),
        ("0::/user.slice/user-0.slice/session-1.scope\n", None),
        ("", None),
    ],
)
def test_container_of(tmp_path, cgroup, found):
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "cgroup").write_text(cgroup)
    assert host.container_of(7, str(tmp_path)) == found


def test_device_holders_looks_at_this_machine_without_raising():
    assert [entry for entry in host.device_holders() if entry["pid"] == os.getpid()] == []


def test_connections_are_counted_while_an_answer_may_be_waited_for():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert host.connections([port]) == 0
        with socket.create_connection(server.getsockname()) as client:
            # The kernel's list may lack one while others come and go, as those of other tests do.
            assert 1 in [host.connections([1, port]) for dummy in range(5)]
            taken, dummy = server.accept()
            client.shutdown(socket.SHUT_WR)
            # It may still read.
            assert 1 in [host.connections([port]) for dummy in range(5)]
            taken.close()
        assert host.connections([port]) == 0
    assert host.connections([port], proc="/nowhere") is None


def test_free_port_can_be_bound_and_is_none_of_those_to_avoid():
    port = host.free_port("127.0.0.2")
    with socket.socket() as probe:
        probe.bind(("127.0.0.2", port))
    assert port not in range(60000, 60064)


class Offers:
    """Sockets that are offered one port after the other, as the kernel would."""

    def __init__(self, *ports):
        self.ports, self.open, self.bound = list(ports), 0, []

    def __call__(self, *dummy):
        self.open += 1
        return self

    def bind(self, address):
        self.bound.append(address)
        if not self.ports:
            raise OSError("no port is left")

    def getsockname(self):
        return "127.0.0.2", self.ports.pop(0)

    def close(self):
        self.open -= 1


@pytest.mark.parametrize("offers, port", [((60000, 60063, 13389, 60064), 60064), ((59999,), 59999), ((60031, 13389), None), ((60001,) * 1000, None)])
def test_free_port_leaves_out_hccls_ports_and_the_asked(monkeypatch, offers, port):
    kernel = Offers(*offers)
    monkeypatch.setattr(host.socket, "socket", kernel)
    assert host.free_port("127.0.0.2", {13389, 8000}) == port
    # Nothing stays open, and the address given was the one tried.
    assert kernel.open == 0 and set(kernel.bound) == {("127.0.0.2", 0)}


@pytest.mark.parametrize("address", ["198.51.100.250", "not an address", "", "a" * 70])
def test_free_port_of_an_address_that_is_not_ours(address):
    port = host.free_port(address)
    # An empty address is every address of the node.
    assert port is None if address else port > 1023


@pytest.mark.parametrize(
    "text, addresses, error",
    [
        ('{"version": "2.0", "rank_addr_list": [{"addr": "10.20.1.10"}, {"addr": "10.20.1.2", "more": ["10.20.1.10", "x", 5, null]}]}',
         ["10.20.1.10", "10.20.1.2"], None),
        ('{"server_list": [{"server_id": "198.51.100.11", "device": [{"device_ip": "10.20.1.10"}]}], "10.9.9.9": "300.1.1.1"}',
         ["198.51.100.11", "10.20.1.10"], None),
        ("{}", [], None),
        ('"10.20.1.10"', ["10.20.1.10"], None),
        ('{"server_list": [', [], "not JSON"),
        ("", [], "not JSON"),
        ("[" * 100000, [], "not JSON"),
        ('["10.20.1.10", "%s"]' % ("x" * 1100000), [], "larger than"),
    ],
)
def test_rootinfo(tmp_path, text, addresses, error):
    path = tmp_path / "hccl_rootinfo.json"
    path.write_text(text)
    found = host.read_rootinfo(str(path))
    assert (found["exists"], found["type"], found["addresses"]) == (True, "file", addresses)
    assert found["errors"] == [] if error is None else error in found["errors"][0]


def test_rootinfo_that_is_no_file(tmp_path):
    assert host.read_rootinfo(str(tmp_path / "none")) == {"exists": False, "type": None, "addresses": [], "errors": []}
    found = host.read_rootinfo(str(tmp_path))
    assert (found["exists"], found["type"], found["addresses"]) == (True, "directory", []) and "directory" in found["errors"][0]


def test_describe_path(tmp_path):
    (tmp_path / "file").write_text("12345")
    os.symlink(str(tmp_path / "file"), str(tmp_path / "link"))
    os.symlink(str(tmp_path / "gone"), str(tmp_path / "dangling"))
    os.mkfifo(str(tmp_path / "pipe"))
    kinds = {}
    for name in ("file", "link", "dangling", "pipe", "none", "file/below"):
        kinds[name] = host.describe_path(str(tmp_path / name))
    kinds["folder"] = host.describe_path(str(tmp_path))
    kinds["char"] = host.describe_path("/dev/null")
    assert dict((name, (kind["exists"], kind["type"])) for name, kind in kinds.items()) == {
        "file": (True, "file"),
        "link": (True, "file"),
        "dangling": (False, None),
        "pipe": (True, "other"),
        "none": (False, None),
        "file/below": (False, None),
        "folder": (True, "directory"),
        "char": (True, "char"),
    }
    assert kinds["file"]["size"] == 5
    assert kinds["link"]["target"] == os.path.realpath(str(tmp_path / "file"))
    assert kinds["dangling"]["error"] == "a link to nothing" and kinds["none"]["error"] is None


def test_describe_disk_measures_the_nearest_parent(tmp_path):
    found = host.describe_disk(str(tmp_path / "weights" / "DeepSeek-R1"))
    assert found["path"] == str(tmp_path) and found["error"] is None
    assert 0 <= found["free_bytes"] <= found["total_bytes"]


@pytest.fixture
def short_path():
    """A folder with a short name: a unix socket's path has room for 107 bytes."""
    folder = tempfile.mkdtemp(dir="/tmp")
    yield folder
    shutil.rmtree(folder)


class Engine(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


def serve(path, answers):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            status, body = answers.get(self.path, (404, b"{}"))
            if status is None:
                time.sleep(3)
                return
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *dummy):
            pass

        def address_string(self):
            return "client"

    server = Engine(path, Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


VERSION = json.dumps({"Version": "20.10.24", "ApiVersion": "1.41"}).encode()
INFO = json.dumps(
    {
        "DockerRootDir": "/usr/lib/docker-data",
        "DefaultRuntime": "runc",
        "HttpProxy": "http://user:secret@198.51.100.9:3128",
        "HttpsProxy": "",
        "NoProxy": "localhost,198.51.100.0/24",
        "RegistryConfig": {
            "InsecureRegistryCIDRs": ["127.0.0.0/8"],
            "IndexConfigs": {"docker.io": {"Secure": True}, "198.51.100.2:5000": {"Secure": False}},
        },
    }
).encode()


def ask_engine(folder, answers, timeout=5):
    path = os.path.join(folder, "docker.sock")
    server = serve(path, answers)
    try:
        return host.describe_docker("unix://" + path, timeout)
    finally:
        server.shutdown()
        server.server_close()


def test_docker(short_path):
    found = ask_engine(short_path, {"/version": (200, VERSION), "/info": (200, INFO)})
    disk = found.pop("disk")
    # The folder is not there on this machine: its nearest parent was measured.
    assert disk["path"] == "/usr/lib" and disk["total_bytes"] >= disk["free_bytes"] >= 0 and disk["error"] is None
    assert found == {
        "reachable": True,
        "version": "20.10.24",
        "api_version": "1.41",
        "root_dir": "/usr/lib/docker-data",
        "default_runtime": "runc",
        "insecure_registries": ["127.0.0.0/8", "198.51.100.2:5000"],
        "http_proxy": "http://***@198.51.100.9:3128",
        "https_proxy": None,
        "no_proxy": "localhost,198.51.100.0/24",
        "error": None,
    }


@pytest.mark.parametrize(
    "answers, reachable, words",
    [
        ({"/version": (200, VERSION), "/info": (500, b"broken")}, True, "answered 500 to /info: broken"),
        ({"/version": (200, b"no json")}, False, "docker.sock"),
        ({"/version": (200, b"[1]")}, False, "answered no object"),
        ({"/version": (200, VERSION), "/info": (200, b'{"RegistryConfig": 5}')}, True, None),
        ({"/version": (200, VERSION), "/info": (200, b'{"DockerRootDir": 5}')}, True, None),
        ({"/version": (200, VERSION), "/info": (200, b'{"RegistryConfig": {"IndexConfigs": 5}}')}, True, None),
        ({"/version": (None, b"")}, False, "no answer within 0.5 s"),
    ],
)
def test_docker_that_answers_badly(short_path, answers, reachable, words):
    found = ask_engine(short_path, answers, 0.5)
    assert found["reachable"] == reachable and found["disk"] is None
    assert found["error"] is None if words is None else words in found["error"]


def test_docker_that_is_not_there(short_path):
    missing = host.describe_docker("unix://%s/none.sock" % short_path, 1)
    assert not missing["reachable"] and "No such file" in missing["error"]
    # A socket that nobody serves any more, as a stopped engine leaves it.
    path = os.path.join(short_path, "dead.sock")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.close()
    assert "refused" in host.describe_docker("unix://" + path, 1)["error"].lower()
    assert "is not unix:///path" in host.describe_docker("tcp://127.0.0.1:2375", 1)["error"]
