# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""weights_dir: a directory is marked only when it holds every file that a real hub lists."""

from __future__ import annotations

import os

import pytest

from ansible_collections.ascend.vllm.plugins.module_utils.weights import MARKER
from ansible_collections.ascend.vllm.plugins.modules import weights_dir
from ansible_collections.ascend.vllm.tests.unit.plugins.servers import free_port, quiet_proxies, web_server

FILES = {"config.json": b"{}", "model-1.safetensors": b"x" * 100}


def listing(asked):
    """Answer as a hub that has the model."""
    return 200, {"Success": True, "Data": {"Files": [{"Path": name, "Size": len(content), "Type": "blob"} for name, content in FILES.items()]}}


@pytest.fixture
def wanted(tmp_path, monkeypatch):
    """Weights as a plan states them, with every file there and no marker."""
    quiet_proxies(monkeypatch)
    (tmp_path / "w").mkdir()
    for name, content in FILES.items():
        (tmp_path / "w" / name).write_bytes(content)
    return {"kind": "modelscope", "id": "vllm-ascend/DeepSeek-R1-W8A8", "revision": "master", "endpoint": "http://127.0.0.1:1", "dir": str(tmp_path / "w")}


def is_marked(wanted):
    """Return whether the marker is there."""
    return os.path.exists(os.path.join(wanted["dir"], MARKER))


def test_reading_says_what_is_there_and_asks_nobody(run_module, wanted):
    with web_server(listing) as hub:
        found = run_module(weights_dir, weights=dict(wanted, endpoint=hub.url))
        assert hub.asked == []
    assert not found["failed"] and found["changed"] is False
    assert (found["exists"], found["complete"], found["files"], found["bytes"]) == (True, False, 2, 102)
    assert not is_marked(wanted)


def test_a_directory_that_is_not_there_can_be_read_too(run_module, wanted):
    found = run_module(weights_dir, weights=dict(wanted, dir="/nonexistent/w"))
    assert not found["failed"] and (found["exists"], found["complete"], found["fingerprint"]) == (False, False, None)


def test_a_whole_directory_is_marked_once(run_module, wanted):
    with web_server(listing) as hub:
        given = dict(wanted, endpoint=hub.url)
        first = run_module(weights_dir, weights=given, state="marked")
        assert (first["failed"], first["changed"], first["complete"], first["differences"]) == (False, True, True, [])
        again = run_module(weights_dir, weights=given, state="marked")
        assert (again["changed"], again["complete"], again["fingerprint"]) == (False, True, first["fingerprint"])
        assert len(hub.asked) == 1
    assert run_module(weights_dir, weights=wanted)["complete"] is True


def test_check_mode_says_it_would_and_writes_nothing(run_module, wanted):
    with web_server(listing) as hub:
        found = run_module(weights_dir, weights=dict(wanted, endpoint=hub.url), state="marked", check=True)
    assert (found["failed"], found["changed"]) == (False, True) and not is_marked(wanted)


@pytest.mark.parametrize("name, content, wanted_text", [
    ("config.json", None, "config.json is missing"),
    ("model-1.safetensors", b"x" * 99, "model-1.safetensors has 99 bytes, wanted 100"),
])
def test_a_directory_that_is_not_whole_is_never_marked(run_module, wanted, name, content, wanted_text):
    path = os.path.join(wanted["dir"], name)
    os.remove(path)
    if content is not None:
        with open(path, "wb") as stream:
            stream.write(content)
    with web_server(listing) as hub:
        found = run_module(weights_dir, weights=dict(wanted, endpoint=hub.url), state="marked")
    assert found["failed"] and found["differences"] == [wanted_text] and wanted_text in found["msg"] and "run site.yml again" in found["msg"]
    assert not is_marked(wanted)


def test_a_directory_that_is_not_there_is_not_marked(run_module, wanted):
    with web_server(listing) as hub:
        found = run_module(weights_dir, weights=dict(wanted, endpoint=hub.url, dir="/nonexistent/w"), state="marked")
    assert found["failed"] and "config.json is missing" in found["msg"]


@pytest.mark.parametrize("answer, wanted_text", [
    ((404, {"Success": False, "Message": "no such model"}), "HTTP 404: no such model"),
    ((500, b"oops"), "HTTP 500"),
    ((200, {"Success": True}), "no file is listed"),
    ((200, {"Success": True, "Data": {"Files": []}}), "no file is listed"),
    ((200, b"<html>"), "no file list but <html>"),
])
def test_without_a_file_list_of_the_hub_nothing_is_marked(run_module, wanted, answer, wanted_text):
    with web_server(lambda asked: answer) as hub:
        found = run_module(weights_dir, weights=dict(wanted, endpoint=hub.url), state="marked")
    assert found["failed"] and wanted_text in found["msg"] and "vllm_weights_source" in found["msg"] and wanted["dir"] in found["msg"]
    assert not is_marked(wanted)


def test_without_a_hub_nothing_is_marked(run_module, wanted):
    found = run_module(weights_dir, weights=dict(wanted, endpoint="http://127.0.0.1:%d" % free_port()), state="marked")
    assert found["failed"] and "Connection refused" in found["msg"] and not is_marked(wanted)


def test_the_marker_of_another_revision_is_replaced(run_module, wanted):
    with web_server(listing) as hub:
        given = dict(wanted, endpoint=hub.url)
        run_module(weights_dir, weights=given, state="marked")
        other = dict(given, revision="v2")
        assert run_module(weights_dir, weights=other)["complete"] is False
        assert run_module(weights_dir, weights=other, state="marked")["changed"] is True
        assert run_module(weights_dir, weights=other)["complete"] is True


def test_a_marker_that_cannot_be_written_fails_in_words(run_module, wanted):
    os.mkdir(os.path.join(wanted["dir"], MARKER))
    with web_server(listing) as hub:
        found = run_module(weights_dir, weights=dict(wanted, endpoint=hub.url), state="marked")
    assert found["failed"] and "cannot write the marker in %s" % wanted["dir"] in found["msg"] and "Remedy" in found["msg"]


def test_weights_that_come_from_no_hub_are_whole_or_wrong_but_never_marked(run_module, wanted):
    local = {"kind": "local", "id": "mine", "dir": wanted["dir"]}
    found = run_module(weights_dir, weights=local, state="marked")
    assert found["failed"] and "model.safetensors is missing" in found["msg"] and "put the missing files there" in found["msg"]
    with open(os.path.join(wanted["dir"], "model.safetensors"), "w") as stream:
        stream.write("x")
    found = run_module(weights_dir, weights=local, state="marked")
    assert (found["failed"], found["changed"], found["complete"]) == (False, False, True) and not is_marked(wanted)
