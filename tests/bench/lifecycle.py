# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the verbs of day two cost beside what the engine itself takes, on the lab's pair with the real engine.

    lifecycle.py [--times N]

The engine's own restart is that of both containers at once, by the Docker API alone: stop, an equal container anew (as an upgrade has it, whose
caches are empty), until a completion comes back. Everything else is measured against it, the upgrade with the same client that asks all the time.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor

from measure import Sample, median, table

PROJECT = pathlib.Path(__file__).resolve().parents[2]
LAB = PROJECT / "tests" / "lab" / "lab"
RUN = pathlib.Path(os.environ.get("ASCEND_VLLM_LAB_DIR", "/var/lib/ascend-vllm-lab")) / "run"
API = "http://198.51.100.11:8000/v1/completions"
NODES = ("a2-node0", "a2-node1")
REPORTS = tempfile.mkdtemp(prefix="ascend-vllm-bench-")
LIMIT_S = 600
#: On a node: stop a container, remove it, make an equal one and start that.
RENEW = r"""
import http.client, json, socket, sys

class Docker(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect("/var/run/docker.sock")

def ask(method, path, body=None):
    docker = Docker("docker")
    docker.request(method, path, json.dumps(body) if body else None, {"Content-Type": "application/json"})
    answer = docker.getresponse()
    text = answer.read()
    assert answer.status < 300, text
    return json.loads(text) if text else None

place = "/containers/" + sys.argv[1]
old = ask("GET", place + "/json")
ask("POST", place + "/stop?t=60")
ask("DELETE", place)
ask("POST", "/containers/create?name=" + sys.argv[1], {**old["Config"], "HostConfig": old["HostConfig"]})
ask("POST", place + "/start")
"""


def lab(*words) -> str:
    """Run one command of the lab."""
    return subprocess.run([str(LAB), *words], check=True, capture_output=True, text=True).stdout.strip()


def answers() -> bool:
    """Return whether a completion comes back."""
    body = json.dumps({"model": "deepseek_r1", "prompt": "The future of AI is", "max_tokens": 1}).encode()
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(urllib.request.Request(API, data=body, headers={"Content-Type": "application/json"}), timeout=10) as answer:
            return bool(json.load(answer)["choices"])
    except OSError:
        return False


def until_it_answers(start: float) -> float:
    """Return the seconds from ``start`` until a completion comes back."""
    while not answers():
        assert time.monotonic() - start < LIMIT_S, "no completion"
        time.sleep(0.5)
    return time.monotonic() - start


def argv(name, *args) -> dict:
    """Return how a playbook is run with the settings that an operator gets, without pings."""
    settings = dict(os.environ, ANSIBLE_CONFIG=str(PROJECT / "inventories" / "ansible.cfg"), ANSIBLE_NOCOLOR="1", PYTHONUNBUFFERED="1")
    return {"argv": ["ansible-playbook", str(name), "-i", "a2_pair", "-e", f"@{RUN / 'vars.yml'}", "-e", "preflight_mesh=off",
                     "-e", f"vllm_report_dir={REPORTS}", *args], "cwd": PROJECT / "inventories", "env": settings}


def run(name, *args, rc=0) -> Sample:
    """Run a playbook and return its sample."""
    sample = Sample(**argv(name, *args))
    assert sample.rc == rc, f"{name}:\n{sample.out[-3000:]}"
    return sample


def own_restart() -> float:
    """Restart the engine by itself, and return how long it takes from the start of the new containers until a completion comes back."""
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda rank: lab("exec", NODES[rank], "--", "python3", "-c", RENEW, f"vllm-rank{rank}"), range(len(NODES))))
    return until_it_answers(time.monotonic())


def nobody_served_during(action) -> float:
    """Return the longest time without a completion, in seconds, as a client sees it that asks for one after the other while ``action`` runs."""
    over, served = threading.Event(), [time.monotonic()]

    def client():
        while not over.wait(0.2):
            if answers():
                served.append(time.monotonic())

    asks = threading.Thread(target=client)
    asks.start()
    action()
    over.set()
    asks.join()
    return max(later - earlier for earlier, later in zip(served, served[1:]))


def told_of_a_death() -> float:
    """Return the seconds from a container's death while its group starts until the run names it on the terminal."""
    run("ascend.vllm.stop")
    command = argv("site.yml")
    process = subprocess.Popen(command.pop("argv"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **command)
    died, told = None, None
    for line in process.stdout:
        if died is None and "of at most" in line and "a2-node1" in line:
            lab("exec", NODES[1], "--", "docker", "kill", "vllm-rank1")
            died = time.monotonic()
        if died and told is None and "exited with status" in line:
            told = time.monotonic()
    process.wait()
    assert died and told, "the death was not named"
    return told - died


def main() -> int:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--times", type=int, default=3)
    times = options.parse_args().times
    lab("up", "--replace", "--nodes", "2", "--generation", "a2", "--packet-interval", "0.02")
    try:
        run("site.yml")
        again = [run("site.yml") for _count in range(times)]
        assert all("changed=0" in line for line in again[0].out.splitlines() if re.match(r"a2-node\d +:", line)), again[0].out[-2000:]
        naive = [Sample(**{**argv(PROJECT / "tests" / "bench" / "naive_preflight.yml")}) for _count in range(times)]
        assert all(sample.rc == 0 for sample in naive), naive[0].out[-3000:]
        own_start = statistics.median(own_restart() for _count in range(times))
        own = statistics.median(nobody_served_during(own_restart) for _count in range(times))
        cold = []
        for _count in range(times):
            run("ascend.vllm.stop")
            cold.append(run("site.yml").seconds)
        deaths = [told_of_a_death() for _count in range(times)]
        run("site.yml")
        down = []
        for count in range(times):
            other = json.dumps({"vllm_extra_args": {"seed": 2000 + count}})
            down.append(nobody_served_during(lambda other=other: run("ascend.vllm.upgrade", "-e", other)))
    finally:
        lab("down")
    tasks, second = len(re.findall(r"^TASK ", again[0].out, re.MULTILINE)), median(again)
    rows = [["day two on the pair, real engine on the CPU, no mesh", "median s", ""],
            ["nobody served during the engine's own restart", f"{own:.1f}", "stop, new containers, until a completion"],
            ["second site.yml, changed=0", f"{second:.1f}", f"{tasks} tasks; {second / median(naive):.2f} of the checks alone as one task per command"],
            ["site.yml on a stopped pair", f"{statistics.median(cold):.1f}", f"{statistics.median(cold) - own_start:.1f} s more than the engine's own start"],
            ["from a death in the start to its name on the terminal", f"{statistics.median(deaths):.1f}", "wanted: at most 10"],
            ["nobody served during an upgrade", f"{statistics.median(down):.1f}",
             f"{statistics.median(down) / own:.2f} of the engine's own restart (wanted: at most 1.2)"]]
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
