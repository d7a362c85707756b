# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The API's client against a server on a real port."""

from __future__ import annotations

import pytest

from ansible_collections.ascend.vllm.plugins.module_utils.serve_api import Api, Several, samples
from ansible_collections.ascend.vllm.tests.unit.plugins.servers import closed_port, quiet_proxies, web_server

METRICS = b"""# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="deepseek_r1"} 2.0
vllm:num_requests_running{engine="1",model_name="a \\"b\\" c"} 1.0
vllm:num_requests_waiting{engine="0",model_name="deepseek_r1"} 4.0
no sample
process_open_fds NaN
broken{x="1"} many
"""


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    """No proxy of the environment is asked."""
    quiet_proxies(monkeypatch)


def test_samples_have_names_labels_and_numbers():
    found = samples(METRICS.decode())
    assert [(name, value) for name, dummy, value in found[:3]] == [
        ("vllm:num_requests_running", 2.0), ("vllm:num_requests_running", 1.0), ("vllm:num_requests_waiting", 4.0)]
    assert found[0][1] == {"engine": "0", "model_name": "deepseek_r1"} and found[1][1]["model_name"] == r'a \"b\" c'
    assert [name for name, *dummy in found[3:]] == ["process_open_fds"]


@pytest.mark.parametrize(("answer", "wanted"), [
    ((200, METRICS), {"running": 3, "waiting": 4}), ((200, b"vllm:num_requests_running 1\n"), None), ((404, METRICS), None),
])
def test_requests_are_summed_over_the_engines(answer, wanted):
    with web_server(lambda asked: answer) as server:
        assert Api(server.url).requests() == wanted
        assert server.asked[0].path == "/metrics"


ONE = 'vllm:num_requests_running{engine="0"} 1.0\nvllm:num_requests_waiting{engine="0"} 0.0\n'
TOKENS = 'vllm:prompt_tokens_total{engine="%d"} 1.5e+03\nvllm:generation_tokens_total{engine="%d"} 20.0\nvllm:generation_tokens_created{engine="0"} 1.76e+09\n'


@pytest.mark.parametrize(("status", "text", "wanted"), [
    (200, ONE + TOKENS % (0, 0) + TOKENS % (1, 1), ({"running": 1, "waiting": 0}, 3040)),
    (200, ONE, ({"running": 1, "waiting": 0}, None)),
    (200, ONE + "vllm:generation_tokens_total 7\n", ({"running": 1, "waiting": 0}, 7)),
    (200, TOKENS % (0, 0), (None, 1520)),
    (200, "vllm:num_requests_running NaN\nvllm:num_requests_waiting +Inf\n", (None, None)),
    (503, ONE + TOKENS % (0, 0), (None, None)),
    (200, "", (None, None)),
])
def test_load_is_requests_and_tokens(status, text, wanted):
    with web_server(lambda asked: (status, text.encode())) as server:
        assert Api(server.url, api_key="k3y").load() == wanted
        assert [(asked.path, asked.headers["Authorization"]) for asked in server.asked] == [("/metrics", "Bearer k3y")]


def test_load_of_an_api_that_is_late_is_an_error_of_the_system():
    with web_server(lambda asked: None) as server, pytest.raises(OSError):
        Api(server.url).load(timeout=0.2)


@pytest.mark.parametrize(("answer", "wanted"), [
    ((200, {"data": [{"id": "deepseek_r1"}, {"name": "x"}, 7]}), (200, ["deepseek_r1"])), ((401, {"error": "Unauthorized"}), (401, [])),
    ((200, b"<html>"), (200, [])), ((200, [1]), (200, [])), ((200, {"data": 5}), (200, [])),
])
def test_models(answer, wanted):
    with web_server(lambda asked: answer) as server:
        assert Api(server.url + "/", api_key="k3y").models() == wanted
        assert server.asked[0].headers["Authorization"] == "Bearer k3y"


@pytest.mark.parametrize(("answer", "wanted"), [
    ((200, {"choices": [{"text": " bright"}]}), (True, 200, " bright")), ((200, {"choices": []}), (False, 200, '{"choices": []}')),
    ((200, {"choices": [4]}), (False, 200, '{"choices": [4]}')), ((500, b"oops"), (False, 500, "oops")),
])
def test_a_completion_of_one_rank(answer, wanted):
    with web_server(lambda asked: answer) as server:
        assert Api(server.url).completion("m", 5, rank=1, max_tokens=3, prompt="Hi") == wanted
        assert server.asked[0].headers["X-data-parallel-rank"] == "1" and "Authorization" not in server.asked[0].headers
        assert server.asked[0].json() == {"model": "m", "prompt": "Hi", "max_tokens": 3, "temperature": 0}


def test_no_answer_is_an_error_of_the_system():
    with pytest.raises(OSError):
        Api("http://127.0.0.1:%d" % closed_port()).health()


class Counted:
    """An API that has this load, or raises it."""

    def __init__(self, load):
        self.said = load

    def load(self, dummy):
        """Return it."""
        if isinstance(self.said, Exception):
            raise self.said
        return self.said


ONE, TWO = ({"running": 1, "waiting": 2}, 10), ({"running": 3, "waiting": 0}, 5)


@pytest.mark.parametrize(("loads", "wanted"), [
    ([ONE], ONE),
    ([ONE, TWO], ({"running": 4, "waiting": 2}, 15)),
    ([ONE, (None, 5)], (None, 15)),
    ([ONE, ({"running": 0, "waiting": 0}, None)], ({"running": 1, "waiting": 2}, None)),
    # A rank that has ended has no request, and does not keep those of the others from being waited for.
    ([ONE, ConnectionRefusedError("refused")], ONE),
])
def test_the_load_of_several_apis_is_added_up(loads, wanted):
    assert Several([Counted(load) for load in loads]).load() == wanted


@pytest.mark.parametrize("loads", [[ONE, TimeoutError("timed out")], [ConnectionRefusedError("refused")] * 2])
def test_what_several_apis_do_not_say_is_not_none(loads):
    with pytest.raises(OSError):
        Several([Counted(load) for load in loads]).load()
