# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""weights_dir: what is asked of a real hub, said in words, and never marked without proof."""

from __future__ import annotations

import os

import pytest

from ansible_collections.ascend.vllm.plugins.module_utils.manifest import BAD, MARKER
from ansible_collections.ascend.vllm.plugins.modules import weights_dir
from ansible_collections.ascend.vllm.tests.unit.plugins.model_dir import SHARDS, fill, flip, listing
from ansible_collections.ascend.vllm.tests.unit.plugins.servers import closed_port, quiet_proxies, web_server


def modelscope(asked):
    """Answer as a ModelScope hub that has the model."""
    return 200, {"Success": True, "Data": {"Files": [
        {"Path": entry["path"], "Size": entry["size"], "Sha256": entry["sha256"], "Type": "blob"} for entry in listing()]}}


@pytest.fixture
def wanted(tmp_path, monkeypatch):
    """Weights as a plan states them, with every file there and no manifest."""
    quiet_proxies(monkeypatch)
    return {"kind": "modelscope", "id": "vllm-ascend/DeepSeek-R1-W8A8", "revision": "master", "endpoint": "http://127.0.0.1:1",
            "dir": fill(tmp_path / "w"), "requirements": {"quantization": "ascend", "mtp": True}}


def is_marked(wanted):
    """Return whether the manifest is there."""
    return os.path.exists(os.path.join(wanted["dir"], MARKER))


def test_reading_says_what_is_there_and_asks_nobody(run_module, wanted):
    with web_server(modelscope) as hub:
        found = run_module(weights_dir, weights=dict(wanted, endpoint=hub.url))
        assert hub.asked == []
    assert (found["failed"], found["changed"], found["exists"], found["complete"], found["files"]) == (False, False, True, False, 7)
    assert not is_marked(wanted)


def test_a_directory_that_is_not_there_can_be_read_too(run_module, wanted):
    found = run_module(weights_dir, weights=dict(wanted, dir="/nonexistent/w"))
    assert not found["failed"] and (found["exists"], found["complete"], found["fingerprint"]) == (False, False, None)


def test_a_whole_directory_is_verified_once(run_module, wanted):
    with web_server(modelscope) as hub:
        given = dict(wanted, endpoint=hub.url)
        first = run_module(weights_dir, weights=given, state="verified")
        assert (first["failed"], first["changed"], first["done"], first["complete"], first["differences"]) == (False, True, True, True, [])
        again = run_module(weights_dir, weights=given, state="verified")
        assert (again["changed"], again["hashed_bytes"], again["fingerprint"]) == (False, 0, first["fingerprint"])
        assert len(hub.asked) == 1


def test_check_mode_says_it_would_and_writes_nothing(run_module, wanted):
    with web_server(modelscope) as hub:
        found = run_module(weights_dir, weights=dict(wanted, endpoint=hub.url), state="verified", check=True)
    assert (found["failed"], found["changed"]) == (False, True) and found["left_bytes"] == found["bytes"] and not is_marked(wanted)


def test_a_wrong_file_is_named_and_set_aside_on_request(run_module, wanted):
    flip(wanted["dir"], SHARDS[0])
    with web_server(modelscope) as hub:
        given = dict(wanted, endpoint=hub.url)
        found = run_module(weights_dir, weights=given, state="verified")
        assert not found["failed"] and found["discarded"] == [] and [line.split()[0] for line in found["differences"]] == [SHARDS[0]]
        found = run_module(weights_dir, weights=given, state="verified", discard=True)
    assert found["discarded"] == [SHARDS[0]] and os.path.exists(os.path.join(wanted["dir"], BAD, SHARDS[0])) and not is_marked(wanted)


@pytest.mark.parametrize("answer, wanted_text", [
    ((404, {"Success": False, "Message": "no such model"}), "HTTP 404: no such model"),
    ((500, b"oops"), "HTTP 500"),
    ((200, {"Success": True}), "no file is listed"),
    ((200, b"<html>"), "no file list but <html>"),
])
def test_without_a_file_list_of_the_hub_nothing_is_marked(run_module, wanted, answer, wanted_text):
    with web_server(lambda asked: answer) as hub:
        found = run_module(weights_dir, weights=dict(wanted, endpoint=hub.url), state="verified")
    assert found["failed"] and wanted_text in found["msg"] and "vllm_weights_source" in found["msg"] and wanted["dir"] in found["msg"]
    assert not is_marked(wanted)


def test_without_a_hub_nothing_is_marked(run_module, wanted):
    found = run_module(weights_dir, weights=dict(wanted, endpoint="http://127.0.0.1:%d" % closed_port()), state="verified")
    assert found["failed"] and "Connection refused" in found["msg"] and not is_marked(wanted)


def test_the_token_reaches_the_hub_and_no_text(run_module, wanted, tmp_path):
    (tmp_path / "token").write_text("ms-very-secret\n")
    seen = []

    def guarded(asked):
        seen.append(asked.headers.get("Cookie"))
        return 403, {"Success": False, "Message": "ms-very-secret may not read this"}

    with web_server(guarded) as hub:
        found = run_module(weights_dir, weights=dict(wanted, endpoint=hub.url), state="verified", token_file=str(tmp_path / "token"))
    assert seen == ["m_session_id=ms-very-secret"] and found["failed"] and "very-secret" not in str(found)


@pytest.mark.parametrize("content", [None, b"", b"two words", b"\xff"])
def test_a_token_file_of_no_use_is_said_without_its_content(run_module, wanted, tmp_path, content):
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)
    found = run_module(weights_dir, weights=wanted, state="verified", token_file=str(path))
    assert found["failed"] and str(path) in found["msg"] and "two words" not in found["msg"]


def test_a_manifest_that_cannot_be_written_fails_in_words(run_module, wanted):
    os.mkdir(os.path.join(wanted["dir"], MARKER))
    with web_server(modelscope) as hub:
        found = run_module(weights_dir, weights=dict(wanted, endpoint=hub.url), state="verified")
    assert found["failed"] and "cannot write" in found["msg"] and MARKER in found["msg"] and "Remedy" in found["msg"]


def test_weights_without_kind_or_id_are_refused(run_module, wanted):
    assert "weights has no kind, id" in run_module(weights_dir, weights={"dir": wanted["dir"]})["msg"]
