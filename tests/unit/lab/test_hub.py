# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's model hub, over HTTP on the loopback address. (The real client against it is a case of the lab.)"""

from __future__ import annotations

import hashlib
import http.client
import json
import pathlib
import re
import socket
import sys
import threading

import pytest

LAB = pathlib.Path(__file__).resolve().parents[3] / "tests" / "lab"
sys.path.insert(0, str(LAB))

import hub  # noqa: E402

MODEL = "vllm-ascend/DeepSeek-R1-W8A8"
PREFIX = f"/api/v1/models/{MODEL}"
WEIGHTS = bytes(range(256)) * 10


@pytest.fixture
def served(tmp_path):
    """A hub with one model of three files; yields (address, access log)."""
    folder = tmp_path / "model"
    (folder / "extra" / "deep").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "weights.safetensors").write_bytes(WEIGHTS)
    (folder / "extra" / "deep" / "note.txt").write_text("a note")
    log = tmp_path / "access.jsonl"
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels" / "typing_extensions-4.16.0-py3-none-any.whl").write_bytes(b"a wheel")
    (tmp_path / "wheels" / "torch-2.13.0+cpu-py3-none-any.whl").write_bytes(b"another")
    (tmp_path / "x.whl").write_bytes(b"none of its packages")
    server = hub.Hub(("127.0.0.1", 0), {MODEL: hub.scan(folder)}, log, tmp_path / "wheels")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server.server_address, log
    server.shutdown()
    thread.join()
    server.server_close()


def ask(address, path, method="GET", headers=None):
    connection = http.client.HTTPConnection(*address, timeout=5)
    connection.request(method, path, headers=headers or {})
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer, body


def entries(log, expected):
    """The lines of the access log once there are as many as expected (a line follows its answer)."""
    for _attempt in range(200):
        lines = log.read_text().splitlines()
        if len(lines) >= expected:
            break
        threading.Event().wait(0.01)
    return [json.loads(line) for line in lines]


def test_lists_every_file_with_its_size_and_checksum(served):
    answer, body = ask(served[0], f"{PREFIX}/repo/files?Revision=master&Recursive=True")
    blob = json.loads(body)
    assert (answer.status, blob["Code"], blob["Success"]) == (200, 200, True)
    files = {entry["Path"]: entry for entry in blob["Data"]["Files"] if entry["Type"] == "blob"}
    assert sorted(files) == ["config.json", "extra/deep/note.txt", "weights.safetensors"]
    weights = files["weights.safetensors"]
    assert weights["Size"] == len(WEIGHTS)
    assert weights["Sha256"] == hashlib.sha256(WEIGHTS).hexdigest()
    assert set(weights) == {"Name", "Path", "Type", "Size", "Sha256", "Revision", "IsLFS", "Mode", "CommittedDate"}


@pytest.mark.parametrize(
    ("query", "paths"),
    [
        ("Recursive=False", ["config.json", "extra", "weights.safetensors"]),
        ("Recursive=True", ["config.json", "extra", "extra/deep", "extra/deep/note.txt", "weights.safetensors"]),
        ("Recursive=True&Root=extra", ["extra/deep", "extra/deep/note.txt"]),
        ("Recursive=False&Root=extra", ["extra/deep"]),
        ("Recursive=True&Root=nowhere", []),
    ],
)
def test_lists_folders_as_they_were_asked_for(served, query, paths):
    _answer, body = ask(served[0], f"{PREFIX}/repo/files?Revision=master&{query}")
    assert sorted(entry["Path"] for entry in json.loads(body)["Data"]["Files"]) == paths


def test_sends_a_whole_file(served):
    answer, body = ask(served[0], f"{PREFIX}/repo?Revision=master&FilePath=weights.safetensors")
    assert (answer.status, body) == (200, WEIGHTS)
    assert answer.getheader("Accept-Ranges") == "bytes"


@pytest.mark.parametrize(
    ("header", "first", "last"),
    [("bytes=0-0", 0, 0), ("bytes=100-199", 100, 199), ("bytes=2500-", 2500, 2559), ("bytes=-10", 2550, 2559),
     ("bytes=2000-9999", 2000, 2559), ("bytes=-9999", 0, 2559)],
)
def test_answers_a_range_with_206(served, header, first, last):
    answer, body = ask(served[0], f"{PREFIX}/repo?FilePath=weights.safetensors", headers={"Range": header})
    assert answer.status == 206
    assert answer.getheader("Content-Range") == f"bytes {first}-{last}/2560"
    assert body == WEIGHTS[first : last + 1]


@pytest.mark.parametrize("header", ["bytes=2560-", "bytes=9999-10000", "bytes=5-4", "bytes=-0"])
def test_refuses_a_range_outside_the_file(served, header):
    answer, body = ask(served[0], f"{PREFIX}/repo?FilePath=weights.safetensors", headers={"Range": header})
    assert (answer.status, body) == (416, b"")
    assert answer.getheader("Content-Range") == "bytes */2560"


@pytest.mark.parametrize("header", ["bytes=0-1,5-6", "lines=1-2", "bytes=-", "nonsense"])
def test_sends_everything_for_a_range_it_does_not_understand(served, header):
    answer, body = ask(served[0], f"{PREFIX}/repo?FilePath=weights.safetensors", headers={"Range": header})
    assert (answer.status, body) == (200, WEIGHTS)


def test_head_has_the_headers_and_no_body(served):
    answer, body = ask(served[0], f"{PREFIX}/repo?FilePath=weights.safetensors", method="HEAD")
    assert (answer.status, answer.getheader("Content-Length"), body) == (200, "2560", b"")
    answer, body = ask(served[0], f"{PREFIX}/repo/files?Revision=master&Recursive=True", method="HEAD")
    assert (answer.status, body) == (200, b"")


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/models/nobody/nothing/repo/files?Revision=master&Recursive=True",
        "/api/v1/models/nobody/nothing",
        f"{PREFIX}/repo/files?Revision=v9&Recursive=True",
        f"{PREFIX}/repo?Revision=master&FilePath=absent.bin",
        f"{PREFIX}/repo?Revision=master&FilePath=../../../etc/passwd",
        f"{PREFIX}/elsewhere",
        "/",
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_answers_404_in_the_hubs_own_shape(served, path, method):
    answer, body = ask(served[0], path, method=method)
    assert answer.status == 404
    if method == "GET":
        blob = json.loads(body)
        assert blob["Code"] == 10010205001
        assert blob["Success"] is False
        assert blob["Message"]


def test_names_the_model_it_does_not_have(served):
    _answer, body = ask(served[0], "/api/v1/models/nobody/nothing/repo/files?Revision=master&Recursive=True")
    assert "nobody/nothing" in json.loads(body)["Message"]


def test_tells_about_model_revisions_and_acceleration(served):
    _answer, body = ask(served[0], PREFIX)
    assert json.loads(body)["Data"]["StorageSize"] == len(WEIGHTS) + len("{}") + len("a note")
    _answer, body = ask(served[0], f"{PREFIX}/revisions")
    assert json.loads(body)["Data"]["RevisionMap"]["Branches"] == [{"Revision": "master"}]
    _answer, body = ask(served[0], "/api/v1/repos/internalAccelerationInfo")
    assert json.loads(body)["Success"] is True


def test_keeps_a_connection_for_several_requests(served):
    connection = http.client.HTTPConnection(*served[0], timeout=5)
    for _time in range(3):
        connection.request("GET", f"{PREFIX}/repo?FilePath=config.json")
        assert connection.getresponse().read() == b"{}"
        first = connection.sock
    assert connection.sock is first
    connection.close()


def test_the_access_log_counts_the_bytes_of_each_file(served):
    address, log = served
    # A line is written after its answer was sent: each is waited for, or the next may overtake it.
    ask(address, f"{PREFIX}/repo?FilePath=weights.safetensors")
    entries(log, 1)
    ask(address, f"{PREFIX}/repo?FilePath=weights.safetensors", headers={"Range": "bytes=0-9"})
    entries(log, 2)
    ask(address, f"{PREFIX}/repo?FilePath=weights.safetensors", method="HEAD")
    entries(log, 3)
    ask(address, f"{PREFIX}/repo?FilePath=absent")
    lines = entries(log, 4)
    assert [(line["file"], line["status"], line["bytes"], line["range"]) for line in lines[:3]] == [
        ("weights.safetensors", 200, 2560, None),
        ("weights.safetensors", 206, 10, "bytes=0-9"),
        ("weights.safetensors", 200, 0, None),
    ]
    assert (lines[3]["file"], lines[3]["status"]) == (None, 404)
    assert {line["client"] for line in lines} == {"127.0.0.1"}


def test_a_client_that_goes_away_is_counted_for_what_it_got(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    size = 64 << 20
    with (folder / "big").open("wb") as big:
        big.truncate(size)
    log = tmp_path / "access.jsonl"
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels" / "typing_extensions-4.16.0-py3-none-any.whl").write_bytes(b"a wheel")
    server = hub.Hub(("127.0.0.1", 0), {MODEL: hub.scan(folder)}, log, tmp_path / "wheels")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        with socket.create_connection(server.server_address) as client:
            client.sendall(f"GET {PREFIX}/repo?FilePath=big HTTP/1.1\r\nHost: hub\r\n\r\n".encode())
            client.recv(1000)
        line = entries(log, 1)[0]
        assert line["status"] == 200
        assert line["bytes"] < size
        assert ask(server.server_address, "/api/v1/repos/internalAccelerationInfo")[0].status == 200
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_the_command_needs_a_folder_with_files(tmp_path, capsys):
    with pytest.raises(SystemExit):
        hub.main(["--port", "0", "--model", f"{MODEL}={tmp_path}"])
    assert "no files" in capsys.readouterr().err


def post(address, path, value):
    connection = http.client.HTTPConnection(*address, timeout=5)
    connection.request("POST", path, body=json.dumps(value))
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status


FILE = f"{PREFIX}/repo?Revision=master&FilePath=weights.safetensors"


def test_a_fault_of_the_lab_happens_as_often_as_stated_and_to_its_file_only(served):
    address, _log = served
    assert post(address, "/_lab/fault", {"kind": "status", "path": "*.safetensors", "status": 429, "times": 2}) == 200
    other = f"{PREFIX}/repo?Revision=master&FilePath=config.json"
    assert [ask(address, path)[0].status for path in (FILE, other, FILE, FILE)] == [429, 200, 429, 200]
    assert post(address, "/_lab/nothing", {}) == 404


def test_a_wrong_byte_leaves_the_length(served):
    address, _log = served
    post(address, "/_lab/fault", {"kind": "wrong_byte", "path": "weights*"})
    _answer, body = ask(address, FILE)
    assert len(body) == len(WEIGHTS) and [place for place in range(len(body)) if body[place] != WEIGHTS[place]] == [0]
    post(address, "/_lab/clear", {})
    assert ask(address, FILE)[1] == WEIGHTS


def test_a_cut_and_a_stall_end_in_the_middle(served):
    address, _log = served
    post(address, "/_lab/fault", {"kind": "cut", "after_bytes": 0})
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        ask(address, FILE)
    post(address, "/_lab/clear", {})
    post(address, "/_lab/fault", {"kind": "stall"})
    with pytest.raises(TimeoutError):
        ask(address, FILE)
    post(address, "/_lab/clear", {})


def test_the_other_protocol_lists_and_gives_the_same_files(served):
    address, _log = served
    answer, body = ask(address, f"/api/models/{MODEL}/revision/main")
    info = json.loads(body)
    assert answer.status == 200 and len(info["sha"]) == 40 and {entry["rfilename"] for entry in info["siblings"]} == {
        "config.json", "weights.safetensors", "extra/deep/note.txt"}
    listed = {entry["path"]: entry for entry in json.loads(ask(address, f"/api/models/{MODEL}/tree/main?recursive=true")[1])}
    # The id of a blob, as git counts it.
    assert listed["config.json"]["oid"] == hashlib.sha1(b"blob 2\0{}").hexdigest() and "lfs" not in listed["config.json"]
    answer, body = ask(address, f"/{MODEL}/resolve/{info['sha']}/extra/deep/note.txt", headers={"Range": "bytes=2-"})
    assert (answer.status, body) == (206, b"note")
    assert (answer.headers["X-Repo-Commit"], answer.headers["X-Linked-Etag"]) == (info["sha"], None)
    assert answer.headers["ETag"] == f'"{listed["extra/deep/note.txt"]["oid"]}"'


def test_a_large_file_is_kept_by_its_hash_in_the_other_protocol(tmp_path):
    (tmp_path / "large.safetensors").write_bytes(b"x" * (2 << 20))
    entry = hub.tree_entry(hub.scan(tmp_path)["large.safetensors"])
    assert entry["lfs"]["oid"] == hashlib.sha256(b"x" * (2 << 20)).hexdigest() and entry["lfs"]["size"] == entry["size"] == 2 << 20


@pytest.mark.parametrize(("path", "code"), [
    ("/api/models/none/such/revision/main", "RepoNotFound"),
    (f"/api/models/{MODEL}/tree/v9", "RevisionNotFound"), (f"/{MODEL}/resolve/main/none", "EntryNotFound")])
def test_what_the_other_protocol_does_not_have_is_said_with_its_code(served, path, code):
    answer, _body = ask(served[0], path)
    assert (answer.status, answer.headers["X-Error-Code"]) == (404, code)


def test_packages_are_found_as_pip_asks_for_them(served):
    address, dummy = served
    for name in ("typing-extensions", "typing_extensions", "Typing.Extensions"):
        answer, page = ask(address, f"/simple/{name}/")
        assert answer.status == 200 and b'href="/packages/typing_extensions-4.16.0-py3-none-any.whl"' in page
    assert ask(address, "/packages/typing_extensions-4.16.0-py3-none-any.whl")[1] == b"a wheel"
    # A name is asked for as the page has it.
    (link,) = re.findall(r'href="([^"]+)"', ask(address, "/simple/torch/")[1].decode())
    assert ask(address, link)[1] == b"another"
    for path in ("/simple/typing/", "/packages/other-1-py3-none-any.whl", "/packages/..%2Fx.whl"):
        assert ask(address, path)[0].status == 404
