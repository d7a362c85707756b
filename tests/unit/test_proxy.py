# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role proxy: what its container may do, where its key is, and that every verb keeps the order in which no request fails."""

from __future__ import annotations

import subprocess
from pathlib import Path

import jinja2
import pytest
import yaml

from ansible_collections.ascend.vllm.tests.unit.plugins import router_process
from ansible_collections.ascend.vllm.tests.unit.plugins.servers import closed_port, quiet_proxies

TOP = Path(__file__).resolve().parents[2]
TASKS = TOP / "roles" / "proxy" / "tasks"
CONTAINER = next(task["community.docker.docker_container"] for task in yaml.safe_load((TASKS / "run.yml").read_text())
                 if "community.docker.docker_container" in task)


def run_of(name):
    """Return what a task file has run."""
    return next(task["vars"]["proxy_run"] for task in yaml.safe_load((TASKS / name).read_text()) if "proxy_run" in task.get("vars", {}))


def names(path, key="name"):
    """Return a key of every task, or play, of a file, in its order."""
    found = []
    for entry in yaml.safe_load(path.read_text()):
        found.append(entry.get(key) if key != "name" else entry["name"])
        for part in ("block", "rescue", "always"):
            found += [task["name"] for task in entry.get(part) or []] if key == "name" else []
    return found


def start(folder, secret_env, *command):
    """Run the start script with a command: the finished process."""
    environment = jinja2.Environment(trim_blocks=True, keep_trailing_newline=True)
    environment.filters.update(comment=lambda text: "# " + text, quote=lambda text: "'%s'" % text)
    text = environment.from_string((TOP / "roles" / "proxy" / "templates" / "start.sh.j2").read_text()).render(
        ansible_managed="managed", proxy_one={"secret_env": secret_env})
    (folder / "start.sh").write_text(text)
    if command:
        (folder / "command").write_text("\n".join(command) + "\n")
    return subprocess.run(["sh", str(folder / "start.sh"), str(folder / "command")], capture_output=True, text=True, check=False)


def test_the_container_has_no_rights_and_comes_back_by_itself():
    assert CONTAINER["cap_drop"] == ["ALL"] and CONTAINER["read_only"] is True and "no-new-privileges" in CONTAINER["security_opts"]
    assert CONTAINER["restart_policy"] == "{{ proxy_run.restart_policy }}" and CONTAINER["network_mode"] == "host"
    # The one beside it has its time.
    assert [run_of(name)["restart_policy"] for name in ("container.yml", "beside.yml")] == ["unless-stopped", "no"]
    assert not {"privileged", "devices", "cap_add", "capabilities"} & set(CONTAINER)
    # What makes it one of ours for every check of occupancy.
    assert "ascend.vllm.group" in CONTAINER["labels"] and "ascend.vllm.purpose" not in CONTAINER["labels"]


def test_the_key_is_read_from_a_file_when_it_starts(tmp_path):
    (tmp_path / "api_key").write_text("s3cret\n")
    secret_env = {"OPENAI_API_KEY": str(tmp_path / "api_key")}
    assert start(tmp_path, secret_env, "sh", "-c", 'echo "$OPENAI_API_KEY"').stdout == "s3cret\n"
    assert "s3cret" not in (tmp_path / "start.sh").read_text() and "api_key" not in str(CONTAINER["env"])
    (tmp_path / "api_key").unlink()
    done = start(tmp_path, secret_env, "true")
    assert done.returncode == 78 and "api_key cannot be read" in done.stderr


@pytest.mark.skipif(router_process.program() is None, reason="vllm-router is not installed for this Python")
def test_backends_are_asked_straight_whatever_proxy_is_set(monkeypatch):
    quiet_proxies(monkeypatch)
    elsewhere = {name: f"http://127.0.0.1:{closed_port()}" for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY")}
    straight = {name: value for name, value in CONTAINER["env"].items() if name.lower() == "no_proxy"}
    with router_process.routed(router_process.Backend("east"), environ={**elsewhere, **straight}) as (router, dummy, dummy):
        assert router_process.ask(router) == "east"


@pytest.mark.parametrize("name", ["again", "alone", "halt", "run"])
def test_the_engine_is_waited_for_as_long_as_requests_may_take_to_end(name):
    """Its client gives up after 60 s by itself, and the proxy would be left half stopped."""
    [line] = [line for line in (TASKS / f"{name}.yml").read_text().splitlines() if line.strip().startswith("timeout:")]
    assert jinja2.Environment().compile_expression(line.split('"{{', 1)[1].split("}}", 1)[0])(proxy_stop_timeout_s="300") == 360


def test_without_a_key_it_just_starts_what_the_file_says_word_by_word(tmp_path):
    assert start(tmp_path, {}, "printf", "%s|", "on", "a b", "*", "\\n", "it's").stdout == "on|a b|*|\\n|it's|"
    (tmp_path / "command").unlink()
    done = start(tmp_path, {})
    assert done.returncode == 78 and "command cannot be read" in done.stderr


def test_another_list_of_backends_starts_no_other_container():
    assert "command" not in CONTAINER and "backends" not in str(CONTAINER["env"]) + str(CONTAINER["volumes"])
    assert CONTAINER["labels"]["ascend.vllm.command"] == "{{ proxy_run.words }}" and run_of("container.yml")["words"] == "{{ proxy_one.command }}"


def test_another_proxy_has_the_new_requests_while_one_starts_anew():
    order = names(TASKS / "again.yml")
    steps = ["Have another one that takes new requests", "Start it anew, once the requests that it has have ended", "Wait until it has what it is to have",
             "Send new requests to it alone"]
    assert [order.index(step) for step in steps] == sorted(order.index(step) for step in steps)
    beside = names(TASKS / "beside.yml")
    assert beside.index("Wait until it has what it is to have") < beside.index("Send new requests to it") == len(beside) - 1
    # Whatever happens, nobody is sent on for longer, and what was sent on may end. Who does not get the lock touches nothing of whoever has it.
    [block] = [task for task in yaml.safe_load((TASKS / "again.yml").read_text()) if "block" in task]
    assert block["always"][0]["ansible.builtin.include_tasks"] == "alone.yml"
    assert order.index("Let nobody else act on it meanwhile") < order.index(block["name"])
    assert names(TASKS / "alone.yml")[:2] == [
        "Send new requests to the proxy itself", "Stop the other one, once the requests that it has have ended, and remove it"]
    # It is asked for where new connections are not sent on, or a proxy that never came would seem to be there.
    assert "own_url" in block["block"][-1]["vars"]["proxy_place"]


def test_a_group_leaves_the_proxy_before_its_requests_are_let_end():
    order = names(TOP / "roles" / "serve_stop" / "tasks" / "halt.yml")
    places = [order.index(name) for name in (
        "Let the proxy send nobody there any more", "Let requests end", "Stop the containers, and prove that nothing is left")]
    assert places == sorted(places)


def test_on_the_way_back_groups_that_serve_are_drained_and_one_that_failed_is_not():
    back = (TOP / "roles" / "serve_switch" / "tasks" / "back.yml").read_text()
    wanted = jinja2.Environment().compile_expression(back.split('serve_switch_wait_s: "{{', 1)[1].split("}}", 1)[0])
    assert [wanted(serve_switch_drain_s=300, serve_switch_old={"groups": dict.fromkeys(range(count))}) for count in (1, 2)] == [0, 300]
    stop = (TOP / "roles" / "serve_launch" / "tasks" / "stop.yml").read_text()
    told = jinja2.Environment().compile_expression(stop.split('serve_stop_proxies: "{{', 1)[1].split(' }}"', 1)[0])
    assert [told(serve_launch_proxies={"proxy": 1}, serve_launch_drain_s=seconds) for seconds in ("0", 300)] == [{}, {"proxy": 1}]


def test_a_group_comes_back_when_it_answers():
    assert names(TOP / "roles" / "serve_launch" / "tasks" / "group.yml")[-2:] == [
        "Start the whole group, or wait for a start that goes on", "Let the proxy send requests there again"]


@pytest.mark.parametrize(("verb", "steps"), [
    ("stop", ["steps/proxy_stop.yml", "steps/stop.yml"]),
    ("restart", ["preflight.yml", "steps/restart.yml", "steps/launch.yml", "steps/proxy.yml"]),
    ("upgrade", ["fetch.yml", "steps/switch.yml", "steps/proxy.yml"]),
    ("rollback", ["steps/switch.yml", "steps/proxy.yml"]),
    ("site", ["fetch.yml", "steps/launch.yml", "steps/proxy.yml", "steps/gate.yml"]),
])
def test_every_verb_has_the_proxy_in_its_place(verb, steps):
    order = names(TOP / "playbooks" / (verb + ".yml"), "import_playbook")
    assert [order.index(step) for step in steps] == sorted(order.index(step) for step in steps)
