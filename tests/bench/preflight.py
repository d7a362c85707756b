# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long preflight takes on emulated nodes, against the same questions asked one by one, against a bare shell, and with more nodes.

    preflight.py [pair] [mesh] [scale] [--times N]
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

from measure import Sample, in_turn, median, table

PROJECT = pathlib.Path(__file__).resolve().parents[2]
BENCH = PROJECT / "tests" / "bench"
LAB = PROJECT / "tests" / "lab" / "lab"
RUN = pathlib.Path(os.environ.get("ASCEND_VLLM_LAB_DIR", "/var/lib/ascend-vllm-lab")) / "run"
CONFIG = RUN / "ssh" / "config"
#: Seconds between two packets of the emulated pings; the real tool takes one a second.
PACKET_INTERVAL = "0.1"
REPORTS = pathlib.Path(tempfile.mkdtemp(prefix="ascend-vllm-bench-"))


def lab(*words) -> str:
    """Run one command of the lab."""
    return subprocess.run([str(LAB), *words], check=True, capture_output=True, text=True).stdout.strip()


def play(name, inventory, *args, config=PROJECT / "inventories" / "ansible.cfg") -> dict:
    """Return how a playbook is run, by default with the settings that an operator gets."""
    settings = dict(os.environ, ANSIBLE_CONFIG=str(config), ANSIBLE_NOCOLOR="1")
    argv = ["ansible-playbook", str(name), "-i", str(inventory), "-e", f"@{RUN / 'vars.yml'}", "-e", f"vllm_report_dir={REPORTS}", *args]
    return {"argv": argv, "cwd": PROJECT / "inventories", "env": settings}


def hang_up() -> None:
    """Close the connections that an earlier run keeps open for a minute: each run is a first one, however long the one before it took."""
    for path in (RUN / "ssh" / "cp").glob("*"):
        subprocess.run(["ssh", "-O", "exit", "-S", str(path), "node"], check=False, capture_output=True)


def pair(times: int) -> list:
    """The pair's whole preflight without the mesh, against the naive playbook and the bare shell."""
    lab("up", "--replace", "--nodes", "2", "--generation", "a2", "--packet-interval", PACKET_INTERVAL)
    commands = {
        "preflight": play("ascend.vllm.preflight", "a2_pair", "-e", "preflight_mesh=off"),
        "one task per command, Ansible's own settings": play(BENCH / "naive_preflight.yml", "a2_pair", config=BENCH / "ansible.cfg"),
        "one task per command, our ansible.cfg": play(BENCH / "naive_preflight.yml", "a2_pair"),
        "bare ssh script": {"argv": [str(BENCH / "ssh_preflight.sh"), str(CONFIG), "a2-node0", "a2-node1"]},
    }
    samples = in_turn(commands, times)
    for name, runs in samples.items():
        assert all(sample.rc == 0 for sample in runs), f"{name}:\n{runs[0].out[-3000:]}"
    ours, naive, tuned, bare = (median(samples[name]) for name in commands)
    names = list(commands)
    return [
        ["pair, no mesh", "median s", "preflight takes"],
        ["preflight", f"{ours:.2f}", ""],
        [names[1], f"{naive:.2f}", f"{ours / naive:.3f} of it (wanted: at most 0.15)"],
        [names[2], f"{tuned:.2f}", f"{ours / tuned:.3f} of it"],
        [names[3], f"{bare:.2f}", f"{ours / bare:.2f} times it (wanted: at most 3)"],
    ]


def mesh(times: int) -> list:
    """The full mesh of the pair, against the number of its calls times the time of one call."""
    lab("up", "--nodes", "2", "--generation", "a2", "--packet-interval", PACKET_INTERVAL)
    loop = (
        "lib=/usr/local/Ascend/driver/lib64; export LD_LIBRARY_PATH=$lib:$lib/common:$lib/driver; "
        "for count in 1 2 3 4 5 6 7 8; do /usr/local/Ascend/driver/tools/hccn_tool -i 0 -ping -g address 10.20.2.10 || exit 1; done"
    )
    single = {"argv": ["ssh", "-F", str(CONFIG), "a2-node0", "sudo", "sh", "-c", f"'{loop}'"]}
    empty = {"argv": ["ssh", "-F", str(CONFIG), "a2-node0", "sudo", "true"]}
    samples = in_turn({"eight": single, "none": empty}, times)
    assert all(sample.rc == 0 for sample in samples["eight"]), samples["eight"][0].out
    call = (median(samples["eight"]) - median(samples["none"])) / 8
    seconds = []
    for _count in range(times):
        run = Sample(**play("ascend.vllm.preflight", "a2_pair", "-e", "preflight_mesh=full"))
        assert run.rc == 0, run.out[-3000:]
        seconds.append(json.loads((REPORTS / "preflight.json").read_text())["mesh"]["seconds"])
    taken, least = sorted(seconds)[len(seconds) // 2], 64 * call
    return [
        ["full mesh of the pair", "median s", ""],
        ["one call of the tool", f"{call:.3f}", f"3 packets, one each {PACKET_INTERVAL} s (emulated)"],
        ["64 calls a node, both nodes at once", f"{taken:.2f}", f"{taken / least:.2f} times calls x tool time (wanted: at most 1.20)"],
    ]


def scale(times: int) -> list:
    """The whole preflight with more and more light nodes (SSH and tools only), beside the bare shell, which shows what the machine itself costs."""
    rows = [["light nodes", "median s", "s for each added", "bare ssh s", "s for each added", "times bare", "processor s", "for each added", "controller MB",
             "for each added"]]
    before = None
    for count in (2, 8, 32):
        lab("up", "--replace", "--light", "--nodes", str(count), "--packet-interval", PACKET_INTERVAL)
        names = [f"a2-node{number}" for number in range(count)]
        preflight = play("ascend.vllm.preflight", lab("inventory"), "-e", "preflight_mesh=off", "-e", f"vllm_data_parallel_size={count}")
        samples = in_turn({"preflight": dict(preflight, before=hang_up), "bare": {"argv": [str(BENCH / "ssh_preflight.sh"), str(CONFIG), *names]}}, times)
        # The nodes have no Docker engine, which is found; the report is there all the same.
        report = json.loads((REPORTS / "preflight.json").read_text())
        assert len(report["nodes"]) == count and all(node["npus"] for node in report["nodes"].values()), samples["preflight"][0].out[-3000:]
        watched = Sample(**dict(preflight, watch=True))
        now = (count, median(samples["preflight"]), median(samples["bare"]), median(samples["preflight"], "busy_seconds"), watched.peak_mb)
        added = [f"{(now[place] - before[place]) / (count - before[0]):.2f}" for place in (1, 2, 3, 4)] if before else [""] * 4
        rows.append([count, f"{now[1]:.2f}", added[0], f"{now[2]:.2f}", added[1], f"{now[1] / now[2]:.2f}", f"{now[3]:.1f}", added[2], f"{now[4]:.0f}",
                     added[3]])
        before = now
    lab("down")
    return rows


def main() -> int:
    """Measure what was asked for and print one table each."""
    parts = {"pair": pair, "mesh": mesh, "scale": scale}
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("parts", nargs="*", choices=[*parts, []], default=[])
    options.add_argument("--times", type=int, default=5)
    chosen = options.parse_args()
    for name in chosen.parts or parts:
        print(f"\n{table(parts[name](chosen.times))}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
