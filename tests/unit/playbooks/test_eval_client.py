# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The client images: lock files that pin everything, a Dockerfile that the engine's own builder takes, and where packages come from."""

from __future__ import annotations

import configparser
import re
import subprocess
from pathlib import Path

import jinja2
import pytest
import yaml

from ansible_collections.ascend.vllm.plugins.plugin_utils import proxies
from ansible_collections.ascend.vllm.tests.unit.plugins.ansible_run import ansible_playbook
from ansible_collections.ascend.vllm.tests.unit.plugins.overlay import overlay

ROLE = Path(__file__).resolve().parents[3] / "roles" / "eval_client"
TOOLS = yaml.safe_load((ROLE / "meta" / "argument_specs.yml").read_text())["argument_specs"]["main"]["options"]["eval_client_tool"]["choices"]
DOCKERFILE = (ROLE / "files" / "Dockerfile").read_text()
DEFAULTS = yaml.safe_load((ROLE / "defaults" / "main.yml").read_text())


def pins(tool):
    """Return {name: version} of a tool's lock file."""
    lines = (ROLE / "files" / f"{tool}.lock").read_text().splitlines()
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+( --hash=sha256:[0-9a-f]{64})*", line) for line in lines), "a line that pins nothing"
    assert lines == sorted(lines, key=str.lower) and len(lines) == len(set(lines))
    return dict(line.split(" ")[0].lower().split("==") for line in lines)


@pytest.mark.parametrize("tool", TOOLS)
def test_a_lock_file_pins_the_tool_and_nothing_for_cuda(tool):
    locked = pins(tool)
    assert locked.get("torch", "+cpu").endswith("+cpu") and not [name for name in locked if re.match("nvidia|triton|cuda", name)]
    known = yaml.safe_load((ROLE.parents[1] / "data" / "clients" / "clients.yml").read_text())
    wanted = {"vllm_router": proxies.PACKAGE.split("==")[1], **{name: entry.get("version") for name, entry in known.items()}}
    assert locked[{"lm_eval": "lm_eval", "aisbench": "ais_bench_benchmark", "vllm_router": "vllm-router"}[tool]] == wanted[tool]


def test_what_clients_of_the_whole_network_reach_is_locked_by_its_hashes():
    """One wheel for both architectures, or one for each of them."""
    lines = (ROLE / "files" / "vllm_router.lock").read_text().splitlines()
    assert {line.count("--hash=") for line in lines} == {1, 2}
    assert all(line.count("--hash=") == 2 for line in lines if re.match("vllm-router|orjson|pydantic_core|aiohttp", line))


def test_aisbench_has_what_a_plain_install_breaks():
    locked = pins("aisbench")
    assert int(locked["pyarrow"].split(".")[0]) < 21 and int(locked["setuptools"].split(".")[0]) < 81 and locked["numpy"].startswith("1.")


def test_every_tool_is_checked_by_its_build():
    tasks = (ROLE / "tasks" / "build.yml").read_text()
    assert all(re.search(rf"^      {tool}: .*--help && python -c", tasks, re.M) for tool in TOOLS)


def test_the_engine_s_own_builder_takes_the_dockerfile():
    assert "--mount" not in DOCKERFILE and "<<" not in DOCKERFILE and "# syntax" not in DOCKERFILE
    last = DOCKERFILE[DOCKERFILE.rindex("\nFROM "):]
    # The last stage has no files of the build: neither wheels nor an index with a login.
    assert "COPY ." not in last and "/context" not in last and "\nUSER 10001:10001\n" in last


def test_the_steps_are_shell():
    for step in re.findall(r"^RUN (.*)$", DOCKERFILE.replace("\\\n", ""), re.M):
        assert subprocess.run(["sh", "-n", "-c", step], capture_output=True, check=False).returncode == 0, step


def test_the_base_image_is_pinned():
    assert re.fullmatch(r"\S+:3\.11[^@]*@sha256:[0-9a-f]{64}", DEFAULTS["eval_client_base_image"])


@pytest.mark.parametrize(("given", "wanted"), [
    ({}, {}), ({"index_url": "https://u:p@i/simple"}, {"index-url": "https://u:p@i/simple"}),
    ({"find_links": "/w"}, {"no-index": "true", "find-links": "/context/wheels"}),
    ({"find_links": "/w", "index_url": "i", "extra_index_urls": ["a", "b"], "trusted_hosts": ["h"]},
     {"find-links": "/context/wheels", "index-url": "i", "extra-index-url": "a b", "trusted-host": "h"}),
])
def test_where_packages_come_from(given, wanted):
    environment = jinja2.Environment(trim_blocks=True)
    environment.filters["comment"] = lambda text: "# " + text
    values = dict(DEFAULTS, ansible_managed="x", **{f"eval_client_{key}": value for key, value in given.items()})
    parser = configparser.RawConfigParser()
    parser.read_string(environment.from_string((ROLE / "templates" / "pip.conf.j2").read_text()).render(values))
    assert dict(parser["global"]) == wanted


FAKE = """
from ansible.plugins.action import ActionBase

class ActionModule(ActionBase):
    def run(self, tmp=None, task_vars=None):
        return {"docker_error": None, "images": {name: {"present": False, "id": None} for name in self._task.args["images"]}}
"""


def test_which_image_a_proxy_gets_and_from_where(tmp_path):
    """An archive of the router is nobody else's: vllm-ascend's proxy is in the groups' image, with their archive."""
    router, group = {"kind": "vllm-router"}, {"kind": "vllm-ascend", "image": "quay.io/ascend/vllm-ascend:v0.13.0"}
    cases = [
        (router, {}, "build"), (router, {"vllm_router": "/r.tar"}, "archive"), (dict(router, image="r:1"), {}, "pull"),
        (dict(router, image="r:1"), {"vllm_router": "/r.tar"}, "archive"), (group, {"vllm_router": "/r.tar"}, "pull"),
        (dict(group, image_archive="/g.tar"), {}, "archive"), (dict(group, image_archive="/g.tar"), {"vllm_router": "/r.tar"}, "archive"),
    ]
    entries = [{"proxy": {"name": "vllm-proxy", "host": "localhost", "image": None, "image_archive": None, **proxy}, "archives": archives}
               for proxy, archives, dummy in cases]
    tasks = [{"ansible.builtin.include_role": {"name": "ascend.vllm.proxy", "tasks_from": "image"}, "loop": entries, "loop_control": {"loop_var": "entry"},
              "vars": {"proxy_all": {"p": "{{ entry.proxy }}"}, "eval_client_archives": "{{ entry.archives }}"}}]
    (tmp_path / "play.yml").write_text(yaml.safe_dump([{"hosts": "localhost", "gather_facts": False, "tasks": tasks}]))
    collections = overlay(tmp_path, {"plugins/action/artefact_info.py": FAKE})
    with ansible_playbook(tmp_path) as run_playbook:
        done = run_playbook("-i", "localhost,", "-c", "local", "play.yml", "--check", ANSIBLE_COLLECTIONS_PATH=str(collections))
    ways = re.findall(r'"?msg"?: "?(\S+) is not here; way to have it: (\w+)', done.stdout)
    assert done.returncode == 0 and [way for dummy, way in ways] == [way for dummy, dummy2, way in cases], done.stdout + done.stderr
    assert [name for name, dummy in ways[4:]] == [group["image"]] * 3 and ways[0][0].startswith("ascend-vllm-client/vllm_router:")
