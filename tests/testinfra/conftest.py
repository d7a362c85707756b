# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests on the lab share: the nodes over SSH, the user's command, and a picture of everything on a node."""

from __future__ import annotations

import os
import pathlib
import re
import subprocess

import pytest
import testinfra
import yaml

PROJECT = pathlib.Path(__file__).resolve().parents[2]
LAB = pathlib.Path(os.environ.get("ASCEND_VLLM_LAB_DIR", "/var/lib/ascend-vllm-lab"))
VARS = LAB / "run" / "vars.yml"
NODES = ("a2-node0", "a2-node1")

#: Everything a deployment could change: files with size and time, images, containers with their state, listeners.
PICTURE = r"""
find /etc /usr/local /mnt/weights /var/log/ascend-vllm /root /opt -xdev -type f -printf '%p %s %T@\n' 2>/dev/null | sort
docker images --no-trunc --format '{{.Repository}}:{{.Tag}} {{.ID}}' | sort
docker ps -aq --no-trunc | xargs -r docker inspect --format '{{.Name}} {{.Id}} {{.State.Status}} {{.State.StartedAt}}' | sort
"""


def pytest_configure(config):
    """Make the mark known."""
    config.addinivalue_line("markers", "extra: a case that another one in `make test` is close to; `make test-all` runs it (CASES=all)")


def pytest_collection_modifyitems(config, items):
    """Leave the extra cases out, unless all are wanted."""
    extra = [item for item in items if item.get_closest_marker("extra") and os.environ.get("CASES") != "all"]
    config.hook.pytest_deselected(items=extra)
    items[:] = [item for item in items if item not in extra]


def no_trust(nodes):
    """Return whether nothing is left on the nodes of the keys by which they copied from each other."""
    left = [node.run("grep -rl rrsync /root/.ssh /home/*/.ssh; ls -d /run/ascend-vllm/copy-*").stdout for node in nodes.values()]
    return not any(left)


class Run:
    """What one run of ansible-playbook said."""

    def __init__(self, done):
        self.rc, self.out = done.returncode, done.stdout + done.stderr
        #: The output on one line: the YAML form of results wraps long texts anywhere between words.
        self.text = " ".join(self.out.split())

    def recap(self, host):
        """Return the counters of a host: ``{ok, changed, unreachable, failed, ...}``."""
        line = re.search(rf"^{re.escape(host)}\s+: (.*)$", self.out, re.M)
        assert line, f"no recap for {host} in:\n{self.out[-3000:]}"
        return {key: int(value) for key, value in re.findall(r"(\w+)=(\d+)", line[1])}


@pytest.fixture(scope="session")
def lab_vars():
    """The variables file that makes the shipped inventory drive the lab."""
    return yaml.safe_load(VARS.read_text())


@pytest.fixture(scope="session")
def playbook():
    """Run ``ansible-playbook`` as the README says: in inventories/, with the shipped inventory and the lab's variables."""

    def run(name="site.yml", *args, inventory="a2_pair"):
        argv = ["ansible-playbook", name, "-i", str(inventory), "-e", f"@{VARS}", *args]
        env = dict(os.environ, ANSIBLE_NOCOLOR="1")
        # molecule's own settings must not reach the user's command
        env = {key: value for key, value in env.items() if not key.startswith(("MOLECULE_", "ANSIBLE_")) or key == "ANSIBLE_NOCOLOR"}
        return Run(subprocess.run(argv, cwd=PROJECT / "inventories", env=env, capture_output=True, text=True, check=False, timeout=900))

    return run


@pytest.fixture(scope="session")
def nodes(lab_vars):
    """The nodes by name, as testinfra hosts over one kept SSH connection each."""
    config = LAB / "run" / "ssh" / "config"
    return {name: testinfra.get_host(f"ssh://{name}", ssh_config=str(config), sudo=True) for name in NODES}


@pytest.fixture
def picture(nodes):
    """Return a function that takes a picture of everything a deployment could change on every node."""

    def take():
        return {name: node.run(PICTURE).stdout for name, node in nodes.items()}

    return take
