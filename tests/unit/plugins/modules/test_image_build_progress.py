# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""image_build_progress when a build is to stop: of its stages nothing stays, or it is said. Builds themselves are in test_image_builds."""

from __future__ import annotations

import json

import pytest

from ansible_collections.ascend.vllm.plugins.module_utils import background
from ansible_collections.ascend.vllm.plugins.modules import image_build_progress
from ansible_collections.ascend.vllm.tests.unit.plugins.servers import unix_server

TAG = "ascend-vllm-client/lm_eval:0123456789ab"


@pytest.mark.parametrize(("answer", "stays"), [((200, {}), False), ((500, {"message": "busy"}), True)])
def test_a_build_that_is_stopped_leaves_no_stages(run_module, monkeypatch, tmp_path, answer, stays):
    """The login of a package index may be in them."""
    monkeypatch.setattr(background, "FOLDER", str(tmp_path / "run"))
    with unix_server(tmp_path / "d.sock", lambda asked: answer) as server:
        found = run_module(image_build_progress, name=TAG, dir=str(tmp_path), stop=True, docker_socket=str(tmp_path / "d.sock"), slice_s=0.2)
        (asked,) = server.asked
    assert asked.path == "/images/prune" and json.loads(asked.query["filters"])["label"] == ["ascend.vllm.stage=%s" % TAG]
    assert ("the stages of the build stay on the node" in found["error"]) == stays
