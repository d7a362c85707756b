# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A pull in a process of its own against an engine on a real socket: how far it is, how it ends, and that there is one of it at a time."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from ansible_collections.ascend.vllm.plugins.module_utils import pulls
from ansible_collections.ascend.vllm.plugins.module_utils.docker_engine import DockerEngine
from ansible_collections.ascend.vllm.tests.unit.plugins.servers import unix_server

IMAGE = "registry.example:5000/ascend/vllm-ascend@sha256:" + "a" * 64
#: As an engine says it; the ids of layers are short.
SAID = [
    {"status": "Pulling from ascend/vllm-ascend", "id": "sha256:aaa"},
    {"status": "Pulling fs layer", "progressDetail": {}, "id": "l1"},
    {"status": "Already exists", "progressDetail": {}, "id": "l0"},
    {"status": "Downloading", "progressDetail": {"current": 40, "total": 100}, "id": "l1"},
    {"status": "Pulling fs layer", "progressDetail": {}, "id": "l2"},
    {"status": "Downloading", "progressDetail": {"current": 30, "total": 900}, "id": "l2"},
    {"status": "Download complete", "progressDetail": {}, "id": "l1"},
    {"status": "Extracting", "progressDetail": {"current": 5, "total": 100}, "id": "l1"},
    {"status": "Pull complete", "progressDetail": {}, "id": "l1"},
]


def lines(*events):
    return b"".join(json.dumps(event).encode() + b"\r\n" for event in events)


def test_a_state_counts_bytes_and_layers():
    state = pulls.fresh(IMAGE)
    for event in SAID:
        pulls.fold(state, event)
    assert state["layers"] == {"l0": {"bytes": 0, "total": 0, "done": True}, "l1": {"bytes": 100, "total": 100, "done": True},
                               "l2": {"bytes": 30, "total": 900, "done": False}}
    assert (state["events"], state["error"]) == (len(SAID), None)
    pulls.fold(state, {"errorDetail": {"message": "x"}, "error": "write /x: no space\n left on device"})
    assert state["error"] == "write /x: no space left on device"


def pulling(said, here=True):
    """Return how an engine answers that says C(said) of a pull, and then has the image or not."""
    def answer(asked):
        if asked.path == "/images/create":
            return said
        return (200, {"Id": "sha256:b"}) if here and asked.path == "/images/%s/json" % IMAGE else (404, {"message": "No such image"})

    return answer


def wait(folder, image=IMAGE):
    """Return what is known of a pull once it has ended."""
    found = pulls.watch(image, 20.0, folder)
    assert not found["running"]
    return found


#: A caller that ends at once, as a module does; the pull is a process of its own.
CALLER = """
import sys
from ansible.module_utils.service import fork_process
from ansible_collections.ascend.vllm.plugins.module_utils import pulls
image, socket, folder, logins = sys.argv[1], sys.argv[2], sys.argv[3], {"registry.example:5000": {"auth": sys.argv[4]}} if sys.argv[4] else {}
print(pulls.start(image, fork_process, logins, socket, folder))
"""


def begin(path, folder, login=""):
    """Begin a pull as a module does, and return whether it was begun."""
    done = subprocess.run([sys.executable, "-c", CALLER, IMAGE, path, folder, login], capture_output=True, text=True, check=True, timeout=30)
    return done.stdout.strip()


def test_a_pull_outlives_its_caller_and_is_joined(tmp_path):
    path, folder = str(tmp_path / "d.sock"), str(tmp_path / "run")
    with unix_server(path, lambda asked: None) as server:
        assert begin(path, folder) == "True" and begin(path, folder) == "False"
        found = pulls.watch(IMAGE, 0.0, folder)
        assert (found["running"], found["done"], found["error"]) == (True, False, None)
        deadline = time.monotonic() + 10
        while not server.asked and time.monotonic() < deadline:
            time.sleep(0.02)
        assert [(asked.method, asked.path, asked.query) for asked in server.asked] == [("POST", "/images/create", {"fromImage": IMAGE})]
        pulls.stop(IMAGE, folder)
        found = wait(folder)
    assert (found["running"], found["done"], found["error"]) == (False, False, "the process that pulled was ended")
    # There is nothing to end any more, and another can begin.
    pulls.stop(IMAGE, folder)
    with unix_server(path, pulling((200, lines(*SAID)))):
        assert begin(path, folder) == "True"
        found = wait(folder)
    assert (found["done"], found["error"], found["bytes"], found["layers"], found["layers_done"]) == (True, None, 130, 3, 2)


@pytest.mark.parametrize("answer, said", [
    ((200, lines(*SAID, {"error": "unauthorized: authentication required"})), "unauthorized: authentication required"),
    ((404, {"message": "manifest unknown"}), "the engine answered 404: manifest unknown"),
    ((500, b"oops"), "the engine answered 500: oops"),
    ((200, b"no JSON\r\n"), "gave no valid answer"),
    (b"no HTTP\r\n\r\n", "gave no valid answer"),
], ids=["in-the-stream", "404", "500", "no-json", "no-http"])
def test_an_engine_that_cannot_is_quoted(tmp_path, answer, said):
    path, folder = str(tmp_path / "d.sock"), str(tmp_path / "run")
    with unix_server(path, lambda asked: answer):
        begin(path, folder)
        found = wait(folder)
    assert not found["done"] and said in found["error"]


@pytest.mark.parametrize("said", [lines(*SAID[:4]), b""], ids=["in-between", "at-once"])
def test_an_engine_that_ends_a_pull_without_a_word_has_pulled_nothing(tmp_path, said):
    path, folder = str(tmp_path / "d.sock"), str(tmp_path / "run")
    with unix_server(path, pulling((200, said), here=False)):
        begin(path, folder)
        found = wait(folder)
    assert not found["done"] and found["error"] == "the engine ended the pull without a word, and has no image %s" % IMAGE


def test_a_login_that_is_none_is_said(tmp_path):
    folder = str(tmp_path / "run")
    begin(str(tmp_path / "none.sock"), folder, "no-base64!")
    assert wait(folder)["error"] == "the login for registry.example:5000 is no user:password in base64 (config.json of Docker)"


def test_whatever_ends_a_pull_is_said(tmp_path):
    told = []
    pulls.carry_on(SimpleNamespace(tell=told.append), DockerEngine("/none.sock"), IMAGE, {"registry.example:5000": {"auth": 5}})
    assert not told[-1]["done"] and told[-1]["error"].startswith("it ended with TypeError: ")


def test_an_engine_that_is_not_there_is_said(tmp_path):
    begin(str(tmp_path / "none.sock"), str(tmp_path / "run"))
    assert "none.sock: No such file or directory" in wait(str(tmp_path / "run"))["error"]
    assert "nothing is known of a pull here" in pulls.watch("another", 0.0, str(tmp_path / "run"))["error"]


def test_a_login_goes_to_the_engine_and_into_no_file(tmp_path):
    path, folder = str(tmp_path / "d.sock"), str(tmp_path / "run")
    login = base64.b64encode(b"lab:of:the-registry").decode()
    with unix_server(path, pulling((200, lines(*SAID)))) as server:
        begin(path, folder, login)
        wait(folder)
    sent = json.loads(base64.urlsafe_b64decode(server.asked[0].headers["X-Registry-Auth"]))
    assert sent == {"username": "lab", "password": "of:the-registry", "serveraddress": "registry.example:5000"}
    kept = "".join((tmp_path / "run" / name).read_text() for name in os.listdir(folder))
    assert login not in kept and "of:the-registry" not in kept


def test_without_a_login_none_is_sent(tmp_path):
    path = str(tmp_path / "d.sock")
    with unix_server(path, lambda asked: (200, lines(*SAID))) as server:
        assert list(DockerEngine(path).pull(IMAGE)) == SAID
    assert "X-Registry-Auth" not in server.asked[0].headers
