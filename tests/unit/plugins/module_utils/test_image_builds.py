# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A build against an engine on a real socket: what it is sent, how far it is, how it ends, and that nothing of its stages stays."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile

import pytest

from ansible_collections.ascend.vllm.plugins.module_utils import image_builds
from ansible_collections.ascend.vllm.plugins.module_utils.client_engine import ClientEngine, Refused, context
from ansible_collections.ascend.vllm.plugins.modules import image_build_progress
from ansible_collections.ascend.vllm.tests.unit.plugins.engine_processes import serving

TAG = "ascend-vllm-client/lm_eval:0123456789ab"
SAID = [{"stream": "Step 1/9 : FROM base AS build\n"}, {"stream": " ---> 0123\n"}, {"stream": "Step 7/9 : RUN python3 -m pip\n"},
        {"stream": "Collecting torch\nInstalling torch\n"}, {"aux": {"ID": "sha256:1"}}, {"stream": "Successfully built 1\n"}]


class Builder:
    """An engine that builds: C(events) are what it says; C(has): whether it has the image afterwards."""

    def __init__(self, events=None, status=200, has=True, root="/tmp"):
        self.events, self.status, self.has, self.root = SAID if events is None else events, status, has, root
        self.files, self.query, self.pruned = {}, {}, []

    def __call__(self, asked):
        if asked.path == "/info":
            return 200, {"DockerRootDir": self.root}
        if asked.path == "/build":
            self.query = asked.query
            with tarfile.open(fileobj=io.BytesIO(asked.body)) as archive:
                self.files = {member.name: archive.extractfile(member).read() for member in archive}
            if self.status != 200:
                return self.status, {"message": "dockerfile parse error"}
            return 200, b"".join(json.dumps(event).encode() + b"\r\n" for event in self.events)
        if asked.path == "/images/prune":
            self.pruned.append(json.loads(asked.query["filters"]))
            return 200, {}
        return (200, {"Id": "sha256:1"}) if self.has else (404, {})


@pytest.fixture
def places(tmp_path):
    """Folders of a build, with a wheel that is a link; C({dir, wheels, socket, run})."""
    for name in ("build", "wheels", "store"):
        (tmp_path / name).mkdir()
    (tmp_path / "build" / "Dockerfile").write_text("ARG BASE\nFROM ${BASE}\n")
    (tmp_path / "build" / "empty").write_text("")
    (tmp_path / "store" / "torch.whl").write_bytes(b"w" * 1500)
    (tmp_path / "wheels" / "torch.whl").symlink_to(tmp_path / "store" / "torch.whl")
    return {"dir": str(tmp_path / "build"), "wheels": str(tmp_path / "wheels"), "socket": str(tmp_path / "d.sock"), "run": str(tmp_path / "run")}


class Teller:
    """What carry_on tells."""

    def __init__(self):
        self.states = []

    def tell(self, state):
        self.states.append(json.loads(json.dumps(state)))


def carry(places, fake, **more):
    teller = Teller()
    given = dict({"name": TAG, "dir": places["dir"], "folders": {"wheels": places["wheels"]}, "args": {"BASE": "b"}, "labels": {"l": "1"},
                  "network": "host"}, **more)
    with serving(places["socket"], fake):
        image_builds.carry_on(teller, ClientEngine(places["socket"]), given)
    return teller.states[-1]


def test_the_engine_gets_all_files_and_its_stages_are_removed(places):
    fake = Builder()
    state = carry(places, fake)
    assert (state["done"], state["error"], state["step"], state["events"]) == (True, None, "Step 7/9 : RUN python3 -m pip", 6)
    assert state["said"][-3:] == ["Collecting torch", "Installing torch", "Successfully built 1"]
    assert fake.files == {"Dockerfile": b"ARG BASE\nFROM ${BASE}\n", "empty": b"", "wheels/torch.whl": b"w" * 1500}
    assert (fake.query["t"], fake.query["networkmode"]) == (TAG, "host")
    assert json.loads(fake.query["buildargs"]) == {"BASE": "b", "STAGE": TAG} and json.loads(fake.query["labels"]) == {"l": "1"}
    assert fake.pruned == [{"dangling": ["true"], "label": ["ascend.vllm.stage=%s" % TAG]}]


def test_the_same_files_are_the_same_to_the_engine(places, tmp_path):
    first = b"".join(context(places["dir"]))
    os.utime(str(tmp_path / "build" / "Dockerfile"), (1, 1))
    (tmp_path / "build" / "Dockerfile").chmod(0o600)
    assert b"".join(context(places["dir"])) == first


@pytest.mark.parametrize(("fake", "said"), [
    (Builder(SAID + [{"errorDetail": {}, "error": "The command returned a non-zero\n code: 1"}]), "The command returned a non-zero code: 1"),
    (Builder(status=400), "the engine answered 400: dockerfile parse error"),
    (Builder(has=False), "has no image"),
    (lambda asked: b"no HTTP\r\n\r\n", "gave no valid"),
    (lambda asked: (200, b"no JSON\r\n"), "gave no valid answer"),
], ids=["step", "400", "no-image", "no-http", "no-json"])
def test_an_engine_that_cannot_is_quoted_and_its_stages_are_removed(places, fake, said):
    """The login of a package index may be in them."""
    state = carry(places, fake)
    assert not state["done"] and said in state["error"]
    if isinstance(fake, Builder):
        assert len(fake.pruned) == 1 and "stay on the node" not in state["error"]


def test_stages_that_stay_are_said_beside_what_failed(places):
    fake = Builder(status=400)
    state = carry(places, lambda asked: (500, {"message": "busy"}) if asked.path == "/images/prune" else fake(asked))
    assert state["error"].startswith("the engine answered 400: dockerfile parse error") and "stay on the node: the engine answered 500: busy" in state["error"]


def test_stages_that_stay_are_no_failure(places):
    fake = Builder()
    state = carry(places, lambda asked: (500, {"message": "busy"}) if asked.path == "/images/prune" else fake(asked))
    assert state["done"] and "stay on the node: the engine answered 500: busy" in state["said"][-1]


def test_a_folder_that_vanishes_is_said(places):
    assert "No such file" in carry(places, Builder(), folders={"wheels": "/no/such"})["error"]


#: A caller that ends at once, as a module does; the build is a process of its own.
CALLER = """
import sys
from ansible.module_utils.service import fork_process
from ansible_collections.ascend.vllm.plugins.module_utils import image_builds
from ansible_collections.ascend.vllm.plugins.module_utils.client_engine import ClientEngine
job = image_builds.job(sys.argv[1], sys.argv[4])
given = {"name": sys.argv[1], "dir": sys.argv[3], "folders": {}, "args": {}, "labels": {}, "network": "host"}
print(job.start(fork_process, lambda: image_builds.carry_on(job, ClientEngine(sys.argv[2]), given), image_builds.fresh(sys.argv[1])))
"""


def test_a_build_outlives_its_caller_and_is_joined(places):
    def begin():
        done = subprocess.run([sys.executable, "-c", CALLER, TAG, places["socket"], places["dir"], places["run"]], capture_output=True, text=True,
                              check=True, timeout=30)
        return done.stdout.strip()

    job = image_builds.job(TAG, places["run"])
    with serving(places["socket"], lambda asked: None):
        assert begin() == "True" and begin() == "False" and job.look()[1]
        job.stop()
        assert not job.watch(20)[1]
    with serving(places["socket"], Builder()):
        assert begin() == "True"
        state, running = job.watch(20)
        assert (state["done"], running) == (True, False)


@pytest.mark.parametrize(("given", "said"), [
    ({"dir": "/no/such"}, "no folder /no/such"), ({"folders": {"wheels": "/no/wheels"}}, "no folder /no/wheels"), ({"need_mb": 1 << 40}, "MB free at /tmp"),
])
def test_what_would_make_a_build_fail_is_said_before(places, given, said):
    with serving(places["socket"], Builder()):
        found = image_build_progress.obstacle(ClientEngine(places["socket"]), dict({"dir": places["dir"], "folders": {}, "need_mb": 1}, **given))
        assert said in found[0]
        assert image_build_progress.obstacle(ClientEngine(places["socket"]), {"dir": places["dir"], "folders": {}, "need_mb": 1}) is None


def test_a_refusal_has_status_and_words(places):
    with serving(places["socket"], lambda asked: (409, {"message": "in use"})):
        with pytest.raises(Refused, match="the engine answered 409: in use") as raised:
            ClientEngine(places["socket"]).remove("a")
    assert (raised.value.status, raised.value.words) == (409, "in use")
    with serving(places["socket"], lambda asked: (404, {})) as server:
        ClientEngine(places["socket"]).remove("../a?force=1")
        assert server.asked[0].target == "/containers/..%2Fa%3Fforce%3D1?v=1"
