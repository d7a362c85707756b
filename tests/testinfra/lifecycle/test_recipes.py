# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""On a pair that serves: vLLM's own parser, in the head's container, reads every command line of every shipped recipe and inventory."""

from __future__ import annotations

import json
import os
import subprocess

import pytest
import yaml

from conftest import LAB, PROJECT

PARSE = """
import importlib, json, sys
from vllm.utils.argparse_utils import FlexibleArgumentParser
# The first is where releases up to 0.13 have it.
for place in ("vllm.entrypoints.openai.cli_args", "vllm.entrypoints.launchers.cli_args"):
    try:
        found = importlib.import_module(place)
    except ImportError:
        continue
parser = found.make_arg_parser(FlexibleArgumentParser())
lines = json.load(sys.stdin)
for argv in lines:
    parser.parse_args(argv[2:])
print(len(lines), "lines read")
"""
#: Hosts of each hardware, as many as the largest recipe needs; everything stated, so that no node is asked.
NPUS = {"a2": 8, "a3": 16}


def recipes():
    """Return (recipe, hardware, release, NPUs) of every shipped recipe."""
    for path in sorted((PROJECT / "data" / "recipes").glob("*.yml")):
        for name, entry in yaml.safe_load(path.read_text()).items():
            for hardware, needed in (entry.get("hardware") or {}).items():
                for release in entry.get("releases") or {}:
                    yield name, hardware, release, needed["npus_needed"]


def planned(place, inventory, *args):
    """Return the command lines of a plan that asks nobody."""
    target = place / "plan.json"
    argv = ["ansible-playbook", "ascend.vllm.plan", "-i", str(inventory), "-e", f"plan_file={target}", *args]
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("MOLECULE_", "ANSIBLE_"))}
    done = subprocess.run(argv, cwd=PROJECT / "inventories", env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    return [unit["argv"] for host in json.loads(target.read_text())["hosts"].values() for unit in host["units"]]


@pytest.mark.extra
def test_vllms_own_parser_reads_every_command_line(tmp_path, nodes):
    lines, seen = [], set()
    for inventory in ("a2_pair", "a2_quad", "a2_replicas", "a3_single", "pd_2p1d", "pd_1p1d"):
        lines += planned(tmp_path, inventory)
    for name, hardware, release, needed in recipes():
        seen.add(name)
        count = needed // NPUS[hardware]
        hosts = {f"n{number}": {"vllm_hardware": hardware, "vllm_npus": NPUS[hardware], "vllm_local_ip": f"198.51.100.{number + 11}", "vllm_nic_name": "eth0"}
                 for number in range(count)}
        inventory = tmp_path / f"{name}-{hardware}-{release}.yml"
        inventory.write_text(yaml.safe_dump({"vllm": {"hosts": hosts, "vars": {"vllm_model": name, "vllm_ascend_version": release}}}))
        lines += planned(tmp_path, inventory)
    assert len(seen) >= 10 and len(lines) > 60
    ssh = ["ssh", "-F", str(LAB / "run" / "ssh" / "config"), "a2-node0", "sudo docker exec -i vllm-rank0 python3 -c " + "'" + PARSE + "'"]
    done = subprocess.run(ssh, input=json.dumps(lines), capture_output=True, text=True, check=False, timeout=300)
    assert f"{len(lines)} lines read" in done.stdout, done.stderr[-3000:]
