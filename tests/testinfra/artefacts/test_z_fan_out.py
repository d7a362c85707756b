# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Copies from node to node on four nodes, one of which dies in the middle. Replaces the pair of the other files by four light nodes."""

from __future__ import annotations

import os
import subprocess
import time

import pytest

from conftest import LAB, PROJECT

DIR = "/srv/ascend-vllm-test/fan-out"
MARKER = ".ascend-vllm-weights.json"
HEAD, FIRST, DEAD, LAST = (f"a2-node{number}" for number in range(4))
FILL = f"mkdir -p {DIR} && for n in 1 2 3 4 5 6 7 8; do head -c 8388608 /dev/urandom >{DIR}/part-$n; done"


def lab(*words):
    """Run a command of the lab."""
    done = subprocess.run([PROJECT / "tests" / "lab" / "lab", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def on(node, command):
    """Run a shell command as root on a node, whatever its network is."""
    return lab("exec", node, "--", "sh", "-c", command)


def sums(node):
    """Return the hashes of what a node has, and whether it is marked complete."""
    return on(node, f"cd {DIR} && sha256sum part-*; test -e {MARKER} && echo complete || true")


@pytest.fixture
def fan_out():
    """Start the playbook on four light nodes that have been brought up; the first has the files."""
    lab("up", "--replace", "--light", "--nodes", "4")
    on(HEAD, FILL)
    argv = ["ansible-playbook", PROJECT / "tests" / "testinfra" / "artefacts" / "fan_out.yml", "-i", lab("inventory").strip(),
            "-e", f"@{LAB / 'run' / 'vars.yml'}", "-e", f"fan_out_dir={DIR}"]
    env = {key: value for key, value in os.environ.items() if not key.startswith(("MOLECULE_", "ANSIBLE_"))}

    def start(*args):
        return subprocess.Popen([*argv, *args], cwd=PROJECT / "inventories", env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    return start


@pytest.mark.extra
def test_a_node_that_dies_in_the_middle_is_named_the_others_finish_and_a_rerun_completes_it(fan_out):
    run = fan_out("-e", "fan_out_limit=4000000")
    deadline = time.monotonic() + 120
    while int(on(DEAD, f"du -sb {DIR} 2>/dev/null | cut -f1").strip() or 0) < 10_000_000:
        assert time.monotonic() < deadline and run.poll() is None, run.communicate()[0][-3000:]
        time.sleep(0.2)
    lab("fault", DEAD, "set", "nic-down")
    out, _err = run.communicate(timeout=400)
    text = " ".join(out.split())
    assert run.returncode != 0 and f"{LAST}: {DEAD} is not asked for files any more" in text, out[-3000:]
    assert f"{DEAD} : ok=" in text and "unreachable=1" in text.partition(f"{DEAD} : ok=")[2].partition("a2-node")[0], out[-3000:]
    assert "complete" in sums(HEAD) and sums(FIRST) == sums(HEAD) == sums(LAST) and "complete" not in sums(DEAD)
    lab("fault", DEAD, "clear", "nic-down")
    run = fan_out_again(fan_out)
    assert run[0] == 0 and sums(DEAD) == sums(HEAD), run[1][-3000:]
    # Where nobody could take the key away, it opens nothing but this directory, and nothing at all after a day; the next run removes it then.
    assert [key_left(node) for node in (HEAD, FIRST, LAST)] == [""] * 3
    assert key_left(DEAD).startswith('restrict,expiry-time="2') and "rrsync -ro" in key_left(DEAD)
    on(DEAD, "sed -i 's/expiry-time=\"[0-9]*\"/expiry-time=\"202001010000\"/' ~ops/.ssh/authorized_keys && rm -rf " + DIR)
    run = fan_out_again(fan_out)
    assert run[0] == 0 and sums(DEAD) == sums(HEAD) and key_left(DEAD) == "", run[1][-3000:]


def key_left(node):
    """Return what is left on a node of the keys of a run."""
    return on(node, "grep -rh rrsync /root/.ssh /home/*/.ssh 2>/dev/null; ls -d /run/ascend-vllm/copy-* 2>/dev/null; true").strip()


def fan_out_again(fan_out):
    """Run it to its end."""
    run = fan_out()
    out, _err = run.communicate(timeout=300)
    return run.returncode, out
