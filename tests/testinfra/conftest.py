# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests on the lab share: the nodes over SSH, the user's command, and a picture of everything on a node."""

from __future__ import annotations

import base64
import collections
import contextlib
import json
import os
import pathlib
import re
import subprocess
import threading
import time
import urllib.request

import pytest
import testinfra
import yaml

PROJECT = pathlib.Path(__file__).resolve().parents[2]
LAB = pathlib.Path(os.environ.get("ASCEND_VLLM_LAB_DIR", "/var/lib/ascend-vllm-lab"))
VARS = LAB / "run" / "vars.yml"
NODES = ("a2-node0", "a2-node1")
#: The command that drives the lab.
LAB_TOOL = PROJECT / "tests" / "lab" / "lab"

#: What root has after a login on a host with the driver, whose tools find neither themselves nor their libraries without it.
LIBRARIES = ":".join(f"/usr/local/Ascend/driver/lib64{folder}" for folder in ("", "/common", "/driver"))
LOGIN = f"export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LD_LIBRARY_PATH={LIBRARIES}"
#: Where the pair answers.
API = "http://198.51.100.11:8000"
MODEL = "deepseek_r1"
PROMPT = "The future of AI is"
#: Where the lab's data set is on the head.
SET = "/var/lib/ascend-vllm/sets/gsm8k_lab"

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


def lab(*words):
    """Run one command of the lab and return what it printed."""
    done = subprocess.run([str(LAB_TOOL), *words], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, f"lab {' '.join(words)}: {done.stdout}{done.stderr}"
    return done.stdout


def inspect(node, name):
    """Return the inspected container."""
    return json.loads(node.check_output("docker inspect %s", name))[0]


def ask(path, body=None, headers=None, timeout=120, api=API):
    """Ask an API from the controller, past any proxy; return what its JSON says, or its text."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    headers = {"Content-Type": "application/json", **(headers or {})}
    request = urllib.request.Request(api + path, data=json.dumps(body).encode() if body else None, headers=headers)
    with opener.open(request, timeout=timeout) as answer:
        text = answer.read().decode()
    return json.loads(text) if text.startswith("{") else text


def complete(tokens=2, timeout=120, api=API, headers=None, prompt=PROMPT):
    """Return the text of one completion."""
    body = {"model": MODEL, "prompt": prompt, "max_tokens": tokens, "temperature": 0}
    return ask("/v1/completions", body, headers, timeout=timeout, api=api)["choices"][0]["text"]


def wait_until(condition, seconds, what):
    """Wait until a condition holds, looking every half second."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {seconds} s"
        time.sleep(0.5)


def in_flight(api=API):
    """Return how many requests are computed now, by vLLM's own count."""
    return sum(float(line.split()[-1]) for line in ask("/metrics", api=api).splitlines() if line.startswith("vllm:num_requests_running{"))


class Requests:
    """Clients that ask for one completion after the other while the block runs.

    C(outcomes): how often a request was answered (C(answered)), never accepted (C(refused)), or accepted and then lost (C(broken)).
    C(answered): whether the block begins with a first answer; else when all of the first requests are computed. C(what): a function to call instead of
    asking for a completion.
    """

    def __init__(self, clients=2, tokens=8, pause=2.0, api=API, answered=True, what=None):
        self.outcomes, self.said, self._pause, self._api, self._answered = collections.Counter(), [], pause, api, answered
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(what or (lambda: complete(tokens, api=api)),), daemon=True) for dummy in range(clients)]

    def _run(self, what):
        while not self._over.is_set():
            try:
                what()
                self.outcomes["answered"] += 1
                # The engines and the run share two processors.
                self._over.wait(self._pause)
            except OSError as error:
                kind = "refused" if isinstance(getattr(error, "reason", error), ConnectionRefusedError) else "broken"
                self.outcomes[kind] += 1
                self.said.append(repr(error))
                self._over.wait(0.5)

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        if self._answered:
            wait_until(lambda: self.outcomes["answered"] > 0, 60, "a first answer")
        else:
            wait_until(lambda: in_flight(self._api) >= len(self._threads), 60, "all requests are computed")
        return self

    def __exit__(self, *error):
        self._over.set()
        for thread in self._threads:
            thread.join(150)


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


@pytest.fixture
def begin():
    """Begin such a run and return its process, whose output is read by ``communicate``; it is ended with the test."""
    begun = []

    def start(name, *args):
        argv = ["ansible-playbook", name, "-i", "a2_pair", "-e", f"@{VARS}", *args]
        env = {key: value for key, value in os.environ.items() if not key.startswith(("MOLECULE_", "ANSIBLE_"))}
        begun.append(subprocess.Popen(argv, cwd=PROJECT / "inventories", env=dict(env, ANSIBLE_NOCOLOR="1"), stdout=subprocess.PIPE,
                                      stderr=subprocess.STDOUT, text=True, start_new_session=True))
        return begun[-1]

    yield start
    for process in begun:
        if process.poll() is None:
            os.killpg(process.pid, 9)
            process.wait()


@pytest.fixture(scope="session")
def nodes(lab_vars):
    """The nodes by name, as testinfra hosts over one kept SSH connection each."""
    config = LAB / "run" / "ssh" / "config"
    return {name: testinfra.get_host(f"ssh://{name}", ssh_config=str(config), sudo=True) for name in NODES}


@pytest.fixture
def reports(tmp_path):
    """Return the arguments that send reports to a directory, and the directory."""
    return ("-e", f"vllm_report_dir={tmp_path}"), tmp_path


@pytest.fixture
def picture(nodes):
    """Return a function that takes a picture of everything a deployment could change on every node."""

    def take():
        return {name: node.run(PICTURE).stdout for name, node in nodes.items()}

    return take


# What the tests of evaluate and benchmark share


def answers():
    """Return whether anybody serves models at the group's address."""
    with contextlib.suppress(OSError):
        return bool(ask("/v1/models", timeout=5))
    return False


def copy(source, node, target):
    """Copy a file of this machine to a node, for root."""
    node.check_output("mkdir -p %s", target.rpartition("/")[0])
    node.check_output("echo %s | base64 -d >%s", base64.b64encode(source.read_bytes()).decode(), target)


@pytest.fixture(scope="session")
def sets(nodes):
    """Have the lab's data set and the mock on the head; return the folder of the set."""
    head, here = nodes["a2-node0"], LAB_TOOL.parent
    for name in ("test.jsonl", "train.jsonl"):
        copy(here / "sets" / "gsm8k_lab" / name, head, f"{SET}/{name}")
    copy(here / "mock_service.py", head, "/opt/mock_service.py")
    return SET


@pytest.fixture(scope="session")
def lm_eval():
    """Have the packages of lm_eval in the lab's index, and the image to build upon in its registry."""
    lab("client", "lm_eval")


@pytest.fixture(scope="session")
def aisbench():
    """The same of AISBench, which is a gigabyte more."""
    lab("client", "aisbench")


@pytest.fixture
def mock(nodes, sets):
    """Return a context manager: a service that gets wrong what its arguments say, where the group's would be."""
    head = nodes["a2-node0"]

    @contextlib.contextmanager
    def serve(*args):
        head.check_output(f"systemd-run --quiet --collect --unit lab-mock python3 /opt/mock_service.py --port 8000 --questions {sets}/test.jsonl "
                          + " ".join(args))
        try:
            wait_until(answers, 20, "the mock answers")
            yield
        finally:
            head.check_output("systemctl stop lab-mock")

    return serve
