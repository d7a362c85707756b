# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs of clients against an engine whose containers and commands are real processes: begun, joined, refused, ended, read back."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import sys
import tarfile
import tempfile
import time

import pytest

from ansible_collections.ascend.vllm.plugins.module_utils import client_guard, client_runs, docker_engine
from ansible_collections.ascend.vllm.plugins.module_utils.client_engine import ClientEngine, Refused
from ansible_collections.ascend.vllm.plugins.modules import client_progress
from ansible_collections.ascend.vllm.tests.unit.plugins.engine_processes import Processes, serving

IMAGE = "ascend-vllm-client/lm_eval:1"
WRITES = "import os; os.makedirs('out/m'); open('out/m/results_1.json', 'w').write('{\"score\": 1}'); print('5/7 [')"
WAITS = "import time; print('here', flush=True); time.sleep(60)"
ME = "%d:%d" % (os.getuid(), os.getgid())


@pytest.fixture
def engine(tmp_path, monkeypatch):
    """C(with engine(kind) as (fake, given, run)): an engine, options, and a function that makes the run of options."""
    monkeypatch.setattr(client_runs, "SECRETS", str(tmp_path / "run"))
    monkeypatch.setattr(client_runs, "LOCK", str(tmp_path / "lock"))
    monkeypatch.setattr(client_runs, "PAUSE_S", 0.05)
    # Longer than the time between two signs.
    monkeypatch.setattr(client_runs, "STILL_S", 2.5)

    @contextlib.contextmanager
    def make(kind, code=WRITES, **more):
        serving_container = {"Id": "s", "Config": {"Labels": {client_runs.GROUP: "vllm"}}, "State": {"Running": True, "ExitCode": 0},
                             "Mounts": [{"Source": str(tmp_path / "etc"), "Destination": "/run/ascend-vllm"}]}
        fake = Processes({IMAGE: {"Config": {"User": ""}}}, {"vllm-rank0": serving_container} if kind == "exec" else {})
        with tempfile.TemporaryDirectory(dir="/tmp") as folder, serving(tmp_path / "d.sock", fake):
            given = {name: entry.get("default") for name, entry in client_runs.SPEC.items()}
            given.update(kind=kind, name="vllm-rank0" if kind == "exec" else "vllm-client", group="vllm", run_id="r-" + os.path.basename(folder),
                         image=IMAGE if kind == "container" else "", argv=[sys.executable, "-c", code], results_dir=folder + "/r", limit_s=60, min_free_mb=1,
                         docker_socket=str(tmp_path / "d.sock"), collect=["out/**/*.json"], user=ME if kind == "container" else "", **more)
            try:
                yield fake, given, lambda **other: client_runs.of(dict(given, **other), ClientEngine(str(tmp_path / "d.sock")))
            finally:
                fake.end()

    return make


def until(what, seconds=15):
    deadline = time.monotonic() + seconds
    while not what() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert what()


def deafen(given):
    """From now on the client's guard cannot write its state, as on a full disk."""
    way = os.path.join(given["results_dir"], client_guard.STATE + ".new")

    def put_in_its_way():
        # The guard may be writing this one.
        with contextlib.suppress(FileExistsError):
            os.mkdir(way)
        return os.path.isdir(way)

    until(put_in_its_way)


@pytest.mark.parametrize("kind", ["container", "exec"])
def test_a_run_begins_ends_and_its_results_come_back(engine, kind):
    with engine(kind) as (fake, dummy, run):
        assert run().begin() is False
        found = run().watch(20)
        assert (found["running"], found["rc"], found["error"]) == (False, 0, None)
        assert run().results() == ({"out/m/results_1.json": '{"score": 1}'}, []) and run().log(found["state"]) == ["5/7 ["]
        # Nobody has taken the results: the next one with this run_id gets them, and another begins anew only afterwards.
        assert run().begin() is True and run().watch(1)["rc"] == 0
        run().done()
        assert run().begin() is False and run().watch(20)["rc"] == 0
        run().done()
        assert list(fake.containers) == (["vllm-rank0"] if kind == "exec" else [])


@pytest.mark.parametrize("kind", ["container", "exec"])
def test_a_run_that_goes_on_is_joined_and_another_is_refused(engine, kind):
    with engine(kind, WAITS) as (fake, given, run):
        run().begin()
        assert run().watch(0.3)["running"] and run().begin() is True
        with pytest.raises(client_runs.RunError, match="the same run %s with other settings.*Remedy" % given["run_id"]):
            run(argv=["another"]).begin()
        with pytest.raises(client_runs.RunError, match="the client of another run, %s" % given["run_id"]):
            run(run_id="other", results_dir=given["results_dir"] + "2").begin()
        # It is still there, and is ended alone.
        assert run().watch(0.2)["running"]
        run().end()
        found = run().watch(20)
        assert (found["running"], found["rc"], found["error"]) == (False, 143, "it was ended from outside")
        assert kind == "container" or fake.containers["vllm-rank0"]["State"]["Running"]


@pytest.mark.parametrize("kind", ["container", "exec"])
def test_a_client_that_its_guard_does_not_end_is_ended(engine, kind, monkeypatch):
    with engine(kind, WAITS) as (dummy, given, run):
        run().begin()
        monkeypatch.setattr(client_runs, "LATE_S", -1000)
        found = run().watch(5)
        assert not found["running"] and found["state"]["timed_out"] and "its limit" in found["error"]
        until(lambda: not client_guard.marked(given["run_id"]))


@pytest.mark.parametrize("kind", ["container", "exec"])
def test_a_limit_holds_without_anybody_watching(engine, kind):
    with engine(kind, WAITS) as (dummy, given, run):
        run(limit_s=1).begin()
        until(lambda: (run().state() or {}).get("rc") is not None)
        found = run().watch(5)
        assert (found["rc"], found["state"]["timed_out"]) == (124, True)
        until(lambda: not client_guard.marked(given["run_id"]))


@pytest.mark.parametrize("kind", ["container", "exec"])
def test_secrets_reach_the_client_and_come_back_nowhere(engine, kind, tmp_path):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "api_key").write_text("key-of-the-service\n")
    code = ("import os, json; os.mkdir('out'); k = os.environ['OPENAI_API_KEY']; print('asked with', k);"
            "json.dump({'key': k, 'max_token': 5}, open('out/a.json', 'w'))")
    with engine(kind, code, secrets={"OPENAI_API_KEY": str(tmp_path / "etc" / "api_key")}) as (fake, options, run):
        run().begin()
        given = json.dumps([fake.containers, fake.execs], default=str)
        found = run().watch(20)
        assert found["rc"] == 0 and "key-of-the-service" not in given
        assert run().results()[0] == {"out/a.json": '{"key": "[removed]", "max_token": 5}'}
        assert run().log(found["state"]) == ["asked with [removed]"]
        run().done()
        if kind == "container":
            kept = pathlib.Path(options["results_dir"], "out", "a.json")
            assert kept.read_text() == '{"key": "[removed]", "max_token": 5}'
    assert not (tmp_path / "run" / "client-vllm-client").exists()


@pytest.mark.parametrize("kind", ["container", "exec"])
def test_a_secret_that_is_not_there_is_said_before_anything_is_begun(engine, kind, tmp_path):
    with engine(kind, secrets={"A": str(tmp_path / "none")}) as (fake, dummy, run):
        with pytest.raises(client_runs.RunError, match="no file .*none; wanted the value of A. Remedy: "):
            run().begin()
        assert not fake.started
    (tmp_path / "none").write_text("x")
    with engine("exec", secrets={"A": str(tmp_path / "none")}) as (fake, dummy, run):
        with pytest.raises(client_runs.RunError, match="is not mounted into the container"):
            run().begin()
        assert not fake.started


def test_a_container_of_a_client_has_no_rights(engine, tmp_path):
    with engine("container", mounts=["/tmp:/mnt:ro"], shm_size="1g", env={"A": 1}) as (fake, given, run):
        run(user="").begin()
        config = fake.containers["vllm-client"]["Config"]
        assert config["User"] == "10001:10001"
        host = config["HostConfig"]
        assert (host["CapDrop"], host["SecurityOpt"], host["Devices"], host["NetworkMode"]) == (["ALL"], ["no-new-privileges"], [], "host")
        assert host["Binds"] == ["/tmp:/mnt:ro", "%s:%s" % (given["results_dir"], given["results_dir"])] and host["ShmSize"] == 1 << 30
        assert not host.get("Privileged") and config["Env"] == ["A=1", "HOME=%s" % given["results_dir"]]
        assert (os.stat(given["results_dir"]).st_uid, os.stat(given["results_dir"]).st_mode & 0o777) == (10001, 0o700)
    with engine("container", devices=["/dev/davinci0"]) as (fake, given, run):
        run(user="").begin()
        host = fake.containers["vllm-client"]["Config"]["HostConfig"]
        assert fake.containers["vllm-client"]["Config"]["User"] == "0:0" and "CapDrop" not in host
        assert host["Devices"] == [{"PathOnHost": "/dev/davinci0", "PathInContainer": "/dev/davinci0", "CgroupPermissions": "rwm"}]


@pytest.mark.parametrize(("more", "said"), [
    ({"image": "none:1"}, "found no image none:1 on this node"),
    ({"image": ""}, "found no image .none stated."),
    ({"mounts": ["/no/such/weights:/w:ro"]}, "found no /no/such/weights on this node; wanted what the client is to read"),
    ({"user": "somebody"}, "found user somebody; wanted numbers"),
    ({"shm_size": "much"}, "'much' is no size"),
    ({"min_free_mb": 1 << 40}, "MB free at .*; wanted .* MB for the client's results"),
])
def test_what_keeps_a_container_from_being_begun(engine, more, said):
    with engine("container") as (fake, dummy, run):
        with pytest.raises(client_runs.RunError, match=said + ".*Remedy: "):
            run(**more).begin()
        assert not fake.containers


def test_a_folder_of_somebody_is_not_emptied(engine, tmp_path):
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "kept").write_text("kept")
    with engine("container") as (fake, dummy, run):
        with pytest.raises(client_runs.RunError, match="no client of this collection wrote"):
            run(results_dir=str(tmp_path / "theirs")).begin()
    assert (tmp_path / "theirs" / "kept").exists()


def test_a_stranger_s_container_is_left_alone(engine):
    for labels in ({}, {client_runs.PURPOSE: "client", client_runs.GROUP: "other"}, {client_runs.GROUP: "vllm"}):
        with engine("container") as (fake, dummy, run):
            fake.containers["vllm-client"] = {"Config": {"Labels": labels}, "State": {"Running": False, "ExitCode": 0}}
            with pytest.raises(client_runs.RunError, match="a container of this name that no client of group vllm is"):
                run().begin()
            run().end()
            run().done()
            assert "vllm-client" in fake.containers and not fake.started


def test_an_engine_that_makes_no_container_is_quoted(engine, tmp_path):
    with engine("container") as (fake, dummy, run):
        fake.refuse_create = 400, {"message": "invalid mount config"}
        with pytest.raises(client_runs.RunError, match="the engine answered 400: invalid mount config; wanted a container of .*Remedy"):
            run().begin()
        fake.refuse_create = 409, {"message": "Conflict"}
        with pytest.raises(client_runs.RunError, match="run again to join it"):
            run().begin()


def test_a_container_that_was_killed_is_no_success_and_is_not_joined(engine):
    with engine("container", WAITS) as (fake, dummy, run):
        run().begin()
        until(lambda: (run().state() or {}).get("pid"))
        fake.started[0].kill()
        found = run().watch(5)
        assert (found["running"], found["rc"]) == (False, 137) and "its container ended with 137 before the client did" in found["error"]
        assert run().begin() is False
        client_guard.end(run().given["run_id"], 0.5)


@pytest.mark.parametrize(("change", "said"), [
    (lambda found: found.clear(), "no container of this name that runs"),
    (lambda found: found["vllm-rank0"]["State"].update(Running=False), "no container of this name that runs"),
    (lambda found: found["vllm-rank0"]["Config"].update(Labels={}), "not of group vllm"),
])
def test_only_the_group_s_serving_container_is_gone_into(engine, change, said):
    with engine("exec") as (fake, dummy, run):
        change(fake.containers)
        with pytest.raises(client_runs.RunError, match=said):
            run().begin()
        assert not fake.started


@pytest.mark.parametrize(("more", "said"), [
    ({"results_dir": "/etc/x"}, "below /tmp"), ({"results_dir": "/tmp/../etc"}, "below /tmp"), ({"mounts": ["/a:/b"]}, "use kind=container"),
    ({"devices": ["/dev/davinci0"]}, "use kind=container"),
])
def test_what_an_exec_cannot_have(engine, more, said):
    with engine("exec") as (fake, dummy, run):
        with pytest.raises(client_runs.RunError, match=said):
            run(**more).begin()
        assert not fake.started


def test_a_serving_image_without_python_is_said(engine, monkeypatch):
    with engine("exec") as (dummy, dummy2, run):
        monkeypatch.setattr(client_runs.ExecRun, "_command", lambda self, what, given: {"Cmd": ["sh", "-c", "echo 'python3: not found'; exit 127"]})
        with pytest.raises(client_runs.RunError, match="python3 ended with 127: python3: not found; wanted a python3 in the serving image"):
            run().begin()


def test_a_serving_container_that_stops_ends_the_wait(engine, monkeypatch):
    with engine("exec", WAITS) as (fake, given, run):
        run().begin()
        fake.containers["vllm-rank0"]["State"]["Running"] = False
        found = run().watch(5)
        assert (found["running"], found["rc"], found["error"]) == (False, None, "the serving container does not run any more")
        fake.containers["vllm-rank0"]["State"]["Running"] = True
        # However old its last sign is, one that gives signs is heard.
        monkeypatch.setattr(client_runs, "SILENT_S", -1.0)
        assert run().watch(0)["running"] and client_guard.marked(given["run_id"])
        deafen(given)
        assert "nothing was heard of the client" in run().watch(5)["error"]
        # It would go on asking the service.
        until(lambda: not client_guard.marked(given["run_id"]))


def test_results_are_not_removed_while_their_client_has_the_lock(engine, monkeypatch):
    """One that has not been heard of for a while is still there."""
    with engine("exec", WRITES + "; " + WAITS) as (dummy, given, run):
        run().begin()
        result = given["results_dir"] + "/out/m/results_1.json"
        until(lambda: os.path.exists(result))
        deafen(given)
        monkeypatch.setattr(client_runs, "SILENT_S", -1.0)
        with pytest.raises(client_runs.RunError, match="another client that runs here; wanted none. Remedy: run again when it has ended"):
            run(run_id="other").begin()
        assert os.path.exists(result) and client_guard.marked(given["run_id"])
        run().end()


class Away(ClientEngine):
    """An engine that gives no answer to the next C(failures) questions."""

    failures, error = 0, OSError("d.sock: Connection refused")

    def container(self, name):
        """Return the inspected container."""
        self._fail()
        return super().container(name)

    def files(self, name, path, wanted, most):
        """Return the files."""
        self._fail()
        return super().files(name, path, wanted, most)

    def _fail(self):
        self.failures -= 1
        if self.failures >= 0:
            raise self.error


@pytest.mark.parametrize("kind", ["container", "exec"])
def test_an_engine_that_is_away_for_a_while_ends_no_watch(engine, kind, monkeypatch):
    with engine(kind) as (dummy, given, run):
        run().begin()
        monkeypatch.setattr(docker_engine, "AGAIN_S", 0.01)
        away = Away(given["docker_socket"])
        watcher = client_runs.of(given, away)
        away.failures = 3
        assert watcher.watch(20)["rc"] == 0 and away.failures < 0
        if kind == "exec":
            # After hours its results are not lost either.
            away.failures = 3
            assert watcher.results()[0]
        away.failures, away.error = 1, Refused(500, "no")
        with pytest.raises(Refused):
            watcher.watch(0)
        monkeypatch.setattr(docker_engine, "AWAY_S", 0.1)
        away.failures, away.error = 10 ** 6, Away.error
        with pytest.raises(OSError, match="Connection refused"):
            watcher.watch(0)


@pytest.mark.parametrize("step_s", [-7200, 7200])
@pytest.mark.parametrize("kind", ["container", "exec"])
def test_a_clock_that_is_set_ends_no_client(engine, kind, step_s):
    with engine(kind, WAITS) as (dummy, given, run):
        run().begin()
        until(lambda: (run().state() or {}).get("pid"))
        known = ClientEngine(given["docker_socket"])
        watcher = client_runs.of(given, known, wall=lambda: time.time() + step_s)
        assert watcher.watch(0)["running"] and watcher.begin() is True
        # Nor does one of which only that clock is known, as long as it gives signs: it is asked for again.
        state = dict(run().state(), up=None)
        assert watcher.silent_s(state) > 7000 and run().silent_s(state) < 60
        # What nobody sets still ends one whose guard hangs.
        late = client_runs.of(given, known, clock=lambda: time.monotonic() + 7200, wall=lambda: time.time() + 7200)
        found = late.watch(0)
        assert not found["running"] and found["state"]["timed_out"]
        until(lambda: not client_guard.marked(given["run_id"]))


def test_a_state_that_is_missing_for_a_moment_is_waited_for(engine):
    """It is what a client that has just been begun has not written yet, too."""
    with engine("exec", WAITS) as (dummy, given, run):
        run().begin()
        state = os.path.join(given["results_dir"], client_guard.STATE)
        for looks in (lambda: run().watch(0)["running"], lambda: run().begin()):
            until(lambda: os.path.exists(state))
            os.remove(state)
            assert looks() is True and client_guard.marked(given["run_id"])
        run().end()


def test_a_serving_container_that_stops_while_its_client_is_listened_for_is_said(engine, monkeypatch):
    with engine("exec", WAITS) as (fake, given, run):
        run().begin()
        deafen(given)
        monkeypatch.setattr(client_runs, "SILENT_S", -1.0)

        def pause(seconds):
            fake.containers["vllm-rank0"]["State"]["Running"] = False
            time.sleep(seconds)

        found = client_runs.of(given, ClientEngine(given["docker_socket"]), pause=pause).watch(0)
        assert (found["running"], found["error"]) == (False, "the serving container does not run any more")


def ends_early(archive):
    """What comes when the new file is shorter than the one that was looked at."""
    return archive[:tarfile.BLOCKSIZE + 20]


def of_another_size(archive):
    """What comes when it is longer: as much of it as the old one had."""
    size = int(archive[124:135], 8)
    return archive[:tarfile.BLOCKSIZE + size - 5] + b"\0" * 5 + archive[tarfile.BLOCKSIZE + size:]


@pytest.mark.parametrize("tears", [[ends_early], [of_another_size], [ends_early, of_another_size] * 3])
def test_a_state_that_is_replaced_while_it_is_packed_is_asked_for_again(engine, tears):
    """The client would be ended as one of which nothing was heard."""
    with engine("exec", WAITS) as (fake, given, run):
        run().begin()
        fake.tears = list(tears)
        found = run().watch(0)
        assert not fake.tears and (found["running"], found["error"]) == (True, None) and client_guard.marked(given["run_id"])
        run().end()


@pytest.mark.parametrize(("tear", "said"), [
    (ends_early, "gave no valid archive of .*state.json: "), (of_another_size, "what the engine packed of .*state.json is no state")])
def test_an_engine_that_packs_nothing_whole_is_named(engine, monkeypatch, tear, said):
    monkeypatch.setattr(docker_engine, "AWAY_S", 0.0)
    with engine("exec", WAITS) as (fake, given, run):
        run().begin()
        monkeypatch.setattr(client_runs, "STILL_S", 0.3)
        fake.tears = [tear] * 999
        with pytest.raises(OSError, match=said):
            run().watch(0)
        assert client_guard.marked(given["run_id"])
        fake.tears = []
        run().end()


def test_results_that_are_too_large_are_named_and_links_are_not_followed(engine, tmp_path):
    (tmp_path / "shadow").write_text("root's")
    code = ("import os; os.mkdir('out'); open('out/big.json', 'w').write('x' * (2 << 20)); open('out/small.json', 'w').write('s'); "
            "os.symlink(%r, 'out/link.json'); os.mkfifo('out/pipe.json')" % str(tmp_path / "shadow"))
    for kind in ("container", "exec"):
        with engine(kind, code, max_mb=1) as (dummy, dummy2, run):
            run().begin()
            run().watch(20)
            files, left = run().results()
            assert files == {"out/small.json": "s"} and "out/big.json" in left


@pytest.mark.parametrize(("pattern", "path", "matches"), [
    ("out/**/results_*.json", "out/results_1.json", True), ("out/**/results_*.json", "out/a/b/results_1.json", True),
    ("out/*/x.csv", "out/a/b/x.csv", False), ("out/*/x.csv", "out/a/x.csv", True), ("*.json", "a/b.json", False), ("**/*", ".client/log", False),
    ("a[1].json", "a[1].json", True), ("a?.json", "ab.json", True),
])
def test_patterns(pattern, path, matches):
    assert client_runs.matcher([pattern])(path) is matches and client_runs.matcher([])(path) is False


@pytest.mark.parametrize(("text", "wanted"), [("16g", 16 << 30), ("64M", 64 << 20), ("1kb", 1024), ("100", 100)])
def test_sizes(text, wanted):
    assert client_runs.size_of(text) == wanted


def test_what_a_client_writes_in_place_of_a_state_is_none(engine):
    with engine("container") as (dummy, given, run):
        for state in ({"run_id": given["run_id"]}, {"run_id": given["run_id"], "rc": "0", "started": 1, "beat": 1, "limit_s": 1, "seconds": 1},
                      {"run_id": given["run_id"], "rc": 0, "started": "x", "beat": 1, "limit_s": 1, "seconds": 1}):
            assert run().own(state) is None
        assert run().own({"run_id": given["run_id"], "rc": 0, "started": 1, "beat": 1.5, "limit_s": 1, "seconds": 1})


@pytest.mark.parametrize("kind", ["container", "exec"])
def test_a_call_of_the_module_has_it_all(engine, kind):
    with engine(kind) as (dummy, given, run):
        before = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        first = client_progress.step(run(), "begin", 20)
        assert before <= first["started"] <= time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        assert first == {"changed": True, "joined": False, "running": False, "rc": 0, "error": None, "timed_out": False, "seconds": first["seconds"],
                         "started": first["started"],
                         "files": {"out/m/results_1.json": '{"score": 1}'}, "left_out": [], "log": ["5/7 ["]}
        again = client_progress.step(run(), "begin", 20)
        # What was begun before says when that was.
        assert (again["changed"], again["joined"], again["rc"], again["started"]) == (False, True, 0, first["started"])
        assert client_progress.step(run(), "done", 20)["changed"] is False
    with engine(kind, WAITS) as (dummy, given, run):
        first = client_progress.step(run(), "begin", 0)
        assert (first["running"], first["rc"], first["files"]) == (True, None, {})
        # It says so with its next sign of life.
        until(lambda: run().log(run().state()) == ["here"], 60)
        for what in ("begin", "watch"):
            found = client_progress.step(run(), what, 0.3)
            assert (found["running"], found["rc"], found["files"], found["log"]) == (True, None, {}, ["here"])
        run().end()
        ended = client_progress.step(run(), "watch", 20)
        assert (ended["running"], ended["rc"]) == (False, 143)
