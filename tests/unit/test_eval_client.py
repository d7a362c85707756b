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

ROLE = Path(__file__).resolve().parents[2] / "roles" / "eval_client"
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
