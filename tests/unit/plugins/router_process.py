# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real vllm-router process for the tests of what is asked of it, in front of backends in threads."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time

from ansible_collections.ascend.vllm.plugins.module_utils import plain_http
from ansible_collections.ascend.vllm.plugins.module_utils.proxy_router import Router
from ansible_collections.ascend.vllm.tests.unit.plugins.servers import free_port, web_server

#: Seconds from its start until it listens; it takes less than one on a quiet machine.
START_S = 60.0


def program():
    """Return the path of vllm-router, or None (on Python 3.8 it is not installed)."""
    return shutil.which("vllm-router")


class Backend:
    """What one vLLM answers: its health, a completion that names it, and its numbers of requests. C(health) and C(load) may change while it runs."""

    def __init__(self, name, health=200, load=(0, 0)):
        self.name, self.health, self.load = name, health, load

    def __call__(self, asked):
        """Answer one request."""
        if asked.path == "/health":
            return (self.health,)
        if asked.path == "/metrics":
            return 200, b'vllm:num_requests_running{engine="0"} %d\nvllm:num_requests_waiting{engine="0"} %d\n' % self.load
        return 200, {"model": "m", "choices": [{"text": self.name}]}, {"Content-Type": "application/json"}


@contextlib.contextmanager
def routed(*backends, more=(), also=(), pd=0, environ=None):
    """Run the router in front of these backends; yields (Router, its port, [server of each backend]).

    C(also): further addresses; C(environ): variables over those of this process. C(pd): how many of the backends, the first ones, are prefill
    ranks; the others are decode ranks then.
    """
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(web_server(backend)) for backend in backends]
        port = free_port()
        argv = [program(), "--host", "127.0.0.1", "--port", str(port), "--prometheus-host", "127.0.0.1", "--prometheus-port", str(free_port()),
                *_behind([server.url for server in servers] + list(also), pd), "--policy", "round_robin", "--worker-startup-check-interval", "1", *more]
        process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**os.environ, **(environ or {})})
        stack.callback(_end, process)
        router, end = Router("http://127.0.0.1:%d" % port), time.monotonic() + START_S
        while True:
            try:
                router.readiness()
                break
            except OSError:
                assert process.poll() is None, process.stdout.read().decode()
                assert time.monotonic() < end, "it does not listen"
                time.sleep(0.05)
        yield router, port, servers


def _behind(urls, pd):
    """Return the options that say what is behind the router, as the plan has them."""
    if not pd:
        return ["--worker-urls", *urls]
    sides = [word for place, url in enumerate(urls) for word in ("--prefill" if place < pd else "--decode", url)]
    return ["--vllm-pd-disaggregation", *sides, "--kv-connector", "nixl"]


def _end(process):
    process.terminate()
    try:
        process.communicate(timeout=10)
    finally:
        process.kill()


def ask(router):
    """Return the name of the backend that a completion comes from."""
    status, answer, text = plain_http.post_json(router.url + "/v1/completions", {"model": "m", "prompt": "x"}, {"Authorization": "Bearer client"})
    assert status == 200, text
    return answer["choices"][0]["text"]
