# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long it takes until every node has its own copy of a directory, over links of one stated rate, against the ways that are usual.

    copies.py [--nodes N] [--gigabytes N] [--mbit N] [--times N] [--only NAME]

The head has the files, N more nodes want them. Each node's link, and the controller's, sends no more than the stated rate (a token bucket);
receiving is not limited. Real weights are about 160 files of one size, so that is what is copied. All nodes share the processors of this
machine: the rate is to be one that leaves them idle time (two processors are busy with four copies at 200 Mbit/s).
"""

from __future__ import annotations

import argparse
import os
import pathlib
import subprocess
import sys

from measure import in_turn, median, table

PROJECT = pathlib.Path(__file__).resolve().parents[2]
LAB = PROJECT / "tests" / "lab" / "lab"
RUN = pathlib.Path(os.environ.get("ASCEND_VLLM_LAB_DIR", "/var/lib/ascend-vllm-lab")) / "run"
PLAYBOOK = PROJECT / "tests" / "testinfra" / "artefacts" / "fan_out.yml"
DIR = "/srv/ascend-vllm-bench"
FILES = 160
#: The controller's side of the service network.
BRIDGE = "avl-service"


def lab(*words) -> str:
    """Run one command of the lab."""
    return subprocess.run([str(LAB), *words], check=True, capture_output=True, text=True).stdout.strip()


def on(node: str, command: str) -> str:
    """Run a shell command as root on a node."""
    return lab("exec", node, "--", "sh", "-c", command)


def bucket(device: str, mbit: int) -> str:
    """Return the command that lets a device send so many Mbit a second. As at a switch's port, no more than some milliseconds wait."""
    return f"tc qdisc replace dev {device} root tbf rate {mbit}mbit burst 256kb latency 20ms"


def prepare(names: list, size: int, mbit: int):
    """Have the files on the head and in a folder of this machine, a key by which the head reaches the others, and the links slow."""
    head = names[0]
    on(head, f"mkdir -p {DIR}/tree && cd {DIR}/tree && for n in $(seq {FILES}); do head -c {size // FILES} /dev/urandom >part-$(printf %03d $n); done")
    local = RUN / "bench-tree"
    subprocess.run(["rm", "-rf", str(local)], check=True)
    subprocess.run(["rsync", "-a", "-e", f"ssh -F {RUN / 'ssh' / 'config'}", f"{head}:{DIR}/tree/", str(local)], check=True)
    on(head, "mkdir -p /root/.ssh && ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/bench")
    public = on(head, "cat /root/.ssh/bench.pub")
    for name in names[1:]:
        on(name, f"mkdir -p /root/.ssh && echo '{public}' >>/root/.ssh/authorized_keys && chmod 700 /root/.ssh")
        on(head, f"ssh-keyscan -t ed25519 {name} >>/root/.ssh/known_hosts 2>/dev/null")
    for name in names:
        on(name, bucket("eth0", mbit))
    subprocess.run(bucket(BRIDGE, mbit).split(), check=True)
    return local


def play(path, names: list, there: str, *args) -> dict:
    """Return how a playbook is run with the settings that an operator gets; before it, the nodes have no such folder."""
    argv = ["ansible-playbook", str(path), "-i", lab("inventory"), "-e", f"@{RUN / 'vars.yml'}", *args]
    settings = dict(os.environ, ANSIBLE_CONFIG=str(PROJECT / "inventories" / "ansible.cfg"), ANSIBLE_NOCOLOR="1")
    return cleaned(argv, names, there, env=settings, cwd=PROJECT / "inventories")


def cleaned(argv: list, names: list, there: str, **more) -> dict:
    """Return a command with what is done before it, which does not count: the folder is removed where it is to come."""
    return {"argv": argv, "before": lambda: [on(name, f"rm -rf {DIR}/{there}") for name in names[1:]], **more}


def loop(names: list) -> list:
    """Return the argv of rsync from the head to one node after the other."""
    each = "; ".join(f"rsync -a -e 'ssh -i /root/.ssh/bench -o Compression=no' {DIR}/tree/ root@{name}:{DIR}/copy/ || exit 1" for name in names[1:])
    mkdirs = "; ".join(f"ssh -i /root/.ssh/bench root@{name} mkdir -p {DIR}" for name in names[1:])
    return [str(LAB), "exec", names[0], "--", "sh", "-c", f"{mkdirs}; {each}"]


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=4)
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--mbit", type=int, default=100)
    parser.add_argument("--times", type=int, default=1)
    parser.add_argument("--only", choices=["ours", "one", "loop", "copy"], action="append")
    given = parser.parse_args()
    size, names = int(given.gigabytes * 1e9), [f"a2-node{number}" for number in range(given.nodes + 1)]
    lab("up", "--replace", "--light", "--nodes", str(len(names)))
    try:
        local = prepare(names, size, given.mbit)
        ours = ["-e", f"fan_out_dir={DIR}/tree"]
        # After a download the head's files are proved: that is no part of the copying.
        proved = play(PLAYBOOK, names, "tree", *ours, "-e", "fan_out_part=hash")
        subprocess.run(proved["argv"], env=proved["env"], cwd=proved["cwd"], check=True, capture_output=True)
        commands = {
            "ours": play(PLAYBOOK, names, "tree", *ours, "-e", "fan_out_part=copy"),
            "one": cleaned(loop(names[:2]), names[:2], "copy"),
            "loop": cleaned(loop(names), names, "copy"),
            "copy": play(PROJECT / "tests" / "bench" / "naive_copy.yml", names, "copy", "-e", f"bench_from={local}", "-e", f"bench_to={DIR}/copy"),
        }
        samples = in_turn({name: command for name, command in commands.items() if not given.only or name in given.only}, given.times)
        for name, runs in samples.items():
            assert all(sample.rc == 0 for sample in runs), f"{name}:\n{runs[0].out[-3000:]}"
        sums = {on(name, f"cd {DIR}/tree && sha256sum part-* | sha256sum") for name in names} if "ours" in samples else {""}
        assert len(sums) == 1, sums
    finally:
        subprocess.run(["tc", "qdisc", "del", "dev", BRIDGE, "root"], check=False)
        subprocess.run(["rm", "-rf", str(RUN / "bench-tree")], check=False)
        lab("down")
    line = size * 8 / given.mbit / 1e6
    ours = median(samples["ours"]) if "ours" in samples else None
    rows = [[f"{given.gigabytes:g} GB in {FILES} files to {given.nodes} nodes, {given.mbit} Mbit/s a link", "median s", ""],
            ["one copy at the line rate (computed)", f"{line:.1f}", ""]]
    for name, words in (("one", "rsync to one node"), ("ours", "ours, each file hashed"), ("loop", "rsync to one node after the other"),
                        ("copy", "ansible.builtin.copy from the controller")):
        if name in samples:
            taken = median(samples[name])
            note = f"{line / taken:.2f} of the line rate (wanted: at least 0.8)" if name == "ours" else f"{taken / ours:.1f} times ours" if ours else ""
            if name == "one" and ours:
                note = f"ours to all takes {ours / taken:.2f} times it (wanted: at most 1.3)"
            rows.append([words, f"{taken:.1f}", note])
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
