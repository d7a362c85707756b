# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The log of a server: its phases, its first traceback among those of other processes, and what is left of a long one."""

from __future__ import annotations

import pytest

from ansible_collections.ascend.vllm.plugins.module_utils import serve_log

ENGINE = "(EngineCore_DP0 pid=72) "
WORKER = "(EngineCore_DP0 pid=72) (Worker_TP1 pid=9) "
ERROR = "ERROR 11-23 20:26:09 [core.py:866] "


@pytest.mark.parametrize("line, phase, step", [
    ("(Worker_DP0_TP0 pid=9) Loading safetensors checkpoint shards:  50% Completed | 81/163 [02:06<02:01, 1.5s/it]", "loading", "81/163"),
    ("Loading safetensors checkpoint shards:   0% Completed | 0/163 [00:00<?, ?it/s]", "loading", "0/163"),
    ("Multi-thread loading shards:   2% Completed | 3/163 [00:00<?, ?it/s]", "loading", "3/163"),
    ("(EngineCore_DP0 pid=72) INFO 11-23 20:26:09 [default_loader.py:308] Loading weights took 61.5 seconds", "loading", ""),
    ("INFO 12-15 11:45:15 [model_runner_v1.py:2705] Loading model weights took 15.2684 GB", "loading", ""),
    ("INFO 11-23 20:26:09 [gpu_model_runner.py:5150] Model loading took 12.6 GiB memory and 31.6 seconds", "loading", ""),
    ("INFO 11-23 20:26:09 [core.py:77] Starting to load model /mnt/x...", "loading", ""),
    ("(APIServer pid=1) DEBUG 11-23 20:26:09 [utils.py:862] Waiting for 2 local, 2 remote core engine proc(s) to start.", "waiting", "2 local, 2 remote"),
    ("INFO 11-23 20:26:09 [core.py:403] init engine (profile, create kv cache, warmup model) took 51.60 s", "waiting", ""),
    ("Capturing CUDA graphs (decode, FULL):  20%|##        | 1/5 [00:01<00:04]", "compiling", "1/5"),
    ("Capturing ACL graphs: 100%|##########| 5/5 [00:01<00:00]", "compiling", "5/5"),
    ("INFO 11-23 20:26:09 [model_runner.py:1] Graph capturing finished in 7 secs", "compiling", ""),
    ("INFO 11-23 20:26:09 [backends.py:5] Dynamo bytecode transform time: 9.60 s", "compiling", ""),
    ("INFO 11-23 20:26:09 [monitor.py:34] torch.compile takes 20.1 s in total", "compiling", ""),
    ("INFO 11-23 20:26:09 [monitor.py:34] torch.compile took 20.1 s in total", "compiling", ""),
    ("INFO 11-23 20:26:09 [backends.py:5] Compiling a graph for dynamic shape takes 10 s", "compiling", ""),
    ("INFO:     Application startup complete.", "ready", ""),
])
def test_the_phase_of_a_line(line, phase, step):
    assert serve_log.stage([line]) == {"phase": phase, "step": step}
    assert phase in serve_log.PHASES


@pytest.mark.parametrize("lines", [
    [],
    [""],
    ["(APIServer pid=1) INFO 11-23 20:26:09 [api_server.py:1772] vLLM API server version 0.13.0"],
    # The line that prints the whole configuration is about no phase.
    [ENGINE + "INFO 11-23 20:26:09 [core.py:77] Initializing a V1 LLM engine with config: compilation_config={'cudagraph_capture_sizes': []}"],
])
def test_lines_about_no_phase(lines):
    assert serve_log.stage(lines) is None


def test_the_last_line_about_a_phase_counts_whatever_is_said_behind_it():
    shard = "Loading safetensors checkpoint shards:  50%% Completed | %d/163 [02:06<02:01, 1.5s/it]"
    lines = ["Starting to load model x", shard % 1, "WARNING 11-23 20:26:09 [x.py:1] hm", shard % 2, "WARNING 11-23 20:26:09 [x.py:1] hm", ENGINE]
    assert serve_log.stage(lines) == {"phase": "loading", "step": "2/163"}


@pytest.mark.parametrize("line, parts", [
    (ENGINE + ERROR + "  File x", (ENGINE, "ERROR", "  File x")),
    (ENGINE + "  File x", (ENGINE, "", "  File x")),
    (WORKER + ERROR + "boom", (WORKER, "ERROR", "boom")),
    ("(RayWorkerWrapper pid=26693, ip=198.51.100.5) ERROR 04-29 13:51:30 [worker_base.py:620]     x",
     ("(RayWorkerWrapper pid=26693, ip=198.51.100.5) ", "ERROR", "    x")),
    ("ERROR 03-11 14:48:04 engine.py:387]         TraceBack", ("", "ERROR", "        TraceBack")),
    ("ERROR 11-23 20:26:09 [v1/engine/core.py:866] boom", ("", "ERROR", "boom")),
    ("[rank3]: Traceback", ("[rank3]: ", "", "Traceback")),
    ("(see above) boom", ("", "", "(see above) boom")),
    ("", ("", "", "")),
])
def test_the_parts_of_a_line(line, parts):
    assert serve_log.split(line) == parts


def test_a_line_is_cleaned():
    assert serve_log.clean("\x1b[1;36m(EngineCore_DP0 pid=7)\x1b[0;0m bo\x07om\u2028x") == "(EngineCore_DP0 pid=7) boomx"
    assert serve_log.clean(b"caf\xe9") == "caf\ufffd"
    assert serve_log.clean("y" * 100000) == "y" * serve_log.WIDTH
    assert serve_log.clean("\tat") == "\tat"


def traceback(prefix, end="ValueError: boom", frames=2):
    """Return the lines of a traceback as one process writes it."""
    lines = ["Traceback (most recent call last):"]
    for number in range(frames):
        lines += ['  File "/x/engine%d.py", line %d, in run' % (number, number), "    self.go(%d)" % number, "    ^^^^^^^"]
    return [prefix + line for line in [*lines, *end.splitlines()]]


def test_the_first_traceback_is_that_of_its_own_process():
    one, other = traceback(ENGINE + ERROR), traceback(WORKER + ERROR, "KeyError: 'x'")
    mixed = ["before"] + [line for pair in zip(one, other) for line in pair] + [ENGINE + "behind"]
    assert [mixed[number] for number in serve_log.first_traceback(mixed)] == one
    assert serve_log.first_traceback(["TraceBack (most recent call last):", "x"]) == []
    assert [one[:3][number] for number in serve_log.first_traceback(one[:3])] == one[:3]


@pytest.mark.parametrize("end, taken", [
    ("ValueError: boom\nbehind", 1),
    ("ValueError:\n  one\n  two\n\n  no more", 3),
    ("RuntimeError: Invalid:\nplease do this", 2),
    ("RuntimeError: EI0006: x\n        Solution: 1\n        TraceBack\nbehind", 3),
    ("RuntimeError: x\n" + " long\n" * 50, 6),
])
def test_what_an_exception_says_over_several_lines(end, taken):
    lines = traceback("", end)
    assert len(serve_log.first_traceback(lines)) == len(traceback("", "")) + taken


def test_what_tells_something_is_kept_once_and_in_its_order():
    lines = [
        "INFO 11-23 20:26:09 [api_server.py:1] vLLM API server version 0.13.0",
        "INFO:     198.51.100.1:4711 - GET /health 503",
        "WARNING 11-23 20:26:09 [x.py:1] careful",
        "Loading safetensors checkpoint shards:  50% Completed | 81/163 [02:06<02:01, 1.5s/it]",
        "Capturing ACL graphs: 100%|##########| 5/5 [00:01<00:00]",
        "",
        *traceback(ENGINE + ERROR, "ValueError: HCCL"),
        *traceback(WORKER + ERROR, "ValueError: HCCL"),
        *traceback(ENGINE, "RuntimeError: Engine core initialization failed."),
        "        Solution: 1. HCCL says so",
        "        HCCL_BUFFSIZE is too SMALL",
    ]
    assert serve_log.telling(lines, 100000) == [
        "WARNING 11-23 20:26:09 [x.py:1] careful",
        *traceback(ENGINE + ERROR, "ValueError: HCCL"),
        ENGINE + "RuntimeError: Engine core initialization failed.",
        "        Solution: 1. HCCL says so",
        "        HCCL_BUFFSIZE is too SMALL",
    ]


def test_too_much_loses_its_middle():
    lines = ["boom %04d" % number for number in range(10000)]
    kept = serve_log.telling(lines, 1000)
    assert kept[0] == lines[0] and kept[-1] == lines[-1] and sum(len(line) + 1 for line in kept) <= 1000
    assert 60 < kept.index(lines[-1]) and len(kept) > 95 and kept == sorted(kept)
    assert serve_log.telling(["x" * 5000], 100) == []
    assert serve_log.telling([], 100) == []
