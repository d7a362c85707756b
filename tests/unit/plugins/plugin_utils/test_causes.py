# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The shipped causes (data/causes) are complete, every known failure is explained by its own, and of several the root is told first."""

from __future__ import annotations

import os
import re
import sys
import time

import pytest

from ansible_collections.ascend.vllm.plugins.plugin_utils import causes, data
from ansible_collections.ascend.vllm.tests.unit.plugins.plugin_utils import test_checks_data

KNOWN = causes.load()
FILES = sorted((data.BUNDLED / "causes").glob("*.yml"))
CODES = [f"EI{number:04d}" for number in range(1, 21)] + [f"EJ{number:04d}" for number in range(1, 5)]
#: The keys of an entry, and whether each has to be there.
KEYS = {"source": True, "patterns": True, "cause": True, "remedy": True, "rank": False, "consequence": False}
PREFIX = "(EngineCore_DP0 pid=72) ERROR 11-23 20:26:09 [core.py:866] "


def names(*lines, known=None):
    """Return the names of what explains these lines, in the order told."""
    return [cause["name"] for cause in causes.explain(lines, known or KNOWN)["causes"]]


# The data


def problems(entries):
    """Return what is wrong with entries, a line each."""
    found = []
    for name, entry in entries.items():
        found += test_checks_data.key_problems(name, entry, KEYS)
        groups = set()
        for pattern in entry.get("patterns") or []:
            try:
                groups |= set(re.compile(pattern).groupindex)
            except re.error as error:
                found.append(f"{name}: {pattern}: {error}")
        for part in ("cause", "remedy"):
            found += test_checks_data.text_problems(f"{name} {part}", entry.get(part), fills=True)
            for text in (entry.get(part) or {}).values():
                found += [f"{name} {part}: no pattern has the group {word}" for word in sorted(test_checks_data.placeholders(text) - groups)]
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_shipped_causes_are_complete_in_every_language(path):
    assert problems(data.read_yaml(path)) == []


@pytest.mark.parametrize(("change", "words"), [
    ({}, None),
    ({"source": ""}, "x: no source"),
    ({"hint": 1}, "x: nobody reads 'hint'"),
    ({"patterns": ["("]}, "x: (: missing ), unterminated subpattern at position 0"),
    ({"cause": {"en": "a"}}, "x cause: no text in zh"),
    ({"remedy": {"en": "see {b}", "zh": "查看 {b}"}}, "x remedy: no pattern has the group b"),
    ({"remedy": {"en": "set HCCL_IF_IP", "zh": "设置"}}, "x remedy: other commands in zh than in en: ['HCCL_IF_IP']"),
])
def test_an_entry_that_lacks_something_is_named(change, words):
    entry = {"source": "s", "patterns": ["a(?P<a>.)"], "cause": {"en": "x {a}", "zh": "某 {a}"}, "remedy": {"en": "do", "zh": "做"}}
    found = problems({"x": {**entry, **change}})
    assert words in found if words else found == []


def test_the_shipped_causes_load_and_every_code_is_one():
    read = [name for path in FILES for name in data.read_yaml(path)]
    assert len(read) == len(set(read)) and set(read) == set(KNOWN)
    assert list(data.read_yaml(data.BUNDLED / "causes" / "hccl.yml")) == CODES
    assert any(entry.get("consequence") for entry in KNOWN.values())


# What is known


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("line", [
    "{code}: The message. Reason: x",
    "RuntimeError: {code}: [PID: 2322] 2025-09-04-09:44:05.909.517 The message",
    "{code}: 2024-04-24-06:32:27.781.599 The message",
    "[PID: 2103452] 2025-11-03-20:18:46.447.213 Some_Title({code}): The message",
    "[PID:3729526]2025-10-23-17:30:40.098.984Some Title({code}): The message",
    PREFIX + "[rank1]: Ascend Error Message:{code}: The message",
])
def test_every_code_in_every_shape_of_a_line_is_explained_by_its_own_entry(code, line):
    assert names(line.format(code=code)) == [code]
    assert code in causes.explain([line.format(code=code)], KNOWN)["causes"][0]["cause"]
    assert names(line.format(code="X" + code), line.format(code=code + "7")) == []


NEEDED = ("        HCCL_BUFFSIZE is too SMALL, maxBs = 64, h = 6144,NEEDED_HCCL_BUFFSIZE((moeExpertNum * maxBs * (h * 2 + 64) + 404 * 1024 * 1024)) = "
          "600MB, HCCL_BUFFSIZE=256MB.[FUNC:CheckActualWinSize][FILE:moe_distribute_combine_v2_tiling.cpp][LINE:104]")
CACHE = ("ValueError: To serve at least one request with the models's max seq len (16384), (9.41 GiB KV cache is needed, which is larger than the "
         "available KV cache memory (3.05 GiB). Based on the available memory, the estimated maximum model length is 5248.")
#: A line as it is logged, the entry that explains it, and words that cause and remedy have to hold.
LINES = [
    ("ascend.vllm start: /etc/hccn.conf is not in this container", "hccn_not_in_container", "/etc/hccn.conf is not in the container"),
    # How a group of vLLM fails.
    ("TimeoutError: Timed out waiting for engine core processes to start. Waited 600s", "engines_never_started", "VLLM_ENGINE_READY_TIMEOUT_S"),
    ("TimeoutError: Timed out waiting for engines to send initial message on input socket.", "engines_never_started", "other nodes"),
    ("RuntimeError: Did not receive response from front-end process within 5 minutes", "front_end_silent", "--data-parallel-address"),
    ("zmq.error.ZMQError: Address already in use (addr='tcp://198.51.100.11:13389')", "zmq_port_in_use", "tcp://198.51.100.11:13389"),
    ("zmq.error.ZMQError: Address already in use", "zmq_port_in_use", "vllm_data_parallel_rpc_port"),
    ("RuntimeError: HELLO message from remote engine 0, expected it to be local", "start_rank_taken", "rank 0 came from a remote engine"),
    ("ValueError: data_parallel_rank (2) must be in the range [0, 2)", "rank_out_of_range", "rank 2, but the group has only 2"),
    ("RuntimeError: Configuration mismatch detected for engine 1. All DP workers must have identical", "flags_differ", "rank 1 was started with other flags"),
    ("RuntimeError: [enforce fail at gloo/transport/tcp/device.cc:84] ifa != nullptr. Unable to find address for: eth9", "nic_unknown", "eth9 is not on this"),
    ("RuntimeError: Message from engine with unexpected data parallel rank: 5", "rank_unexpected", "rank 5"),
    ("RuntimeError: Remote engine 1 must use --headless unless in external or hybrid dp lb mode", "headless_differs", "rank 1"),
    ("RuntimeError: Gloo connectFullMesh failed with [../gloo/transport/tcp/pair.cc:144] no error", "nodes_do_not_meet", "preflight"),
    # Memory.
    ("RuntimeError: NPU out of memory. Tried to allocate 3.47 GiB (NPU 0; 60.97 GiB total capacity;", "npu_out_of_memory", "3.47 GiB more"),
    ("torch.OutOfMemoryError: NPU out of memory. Tried to allocate 72.00 MiB (NPU 0;", "npu_out_of_memory", "72.00 MiB"),
    ("ValueError: Free memory on device (8.1/60.97 GiB) on startup is less than desired GPU memory utilization (0.92, 56.1 GiB).",
     "npu_memory_taken", "only 8.1 of 60.97 GiB"),
    ("ValueError: Free memory on device npu:0 (8/64 GiB) on startup is less than desired GPU", "npu_memory_taken", "npu-smi info"),
    ("EL0004: [PID: 316198] 2025-09-28-07:22:29.827.496 Failed to allocate memory.", "npu_allocation_failed", "HCCL_BUFFSIZE"),
    ("EL0009: Stream resources are insufficient", "streams_exhausted", "FULL_DECODE_ONLY"),
    (CACHE, "cache_too_small", "16384 tokens needs 9.41 GiB of KV cache, and only 3.05"),
    ("ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization`", "cache_none", "KV cache"),
    ("killed by the kernel: out of memory", "host_out_of_memory", "dmesg -T"),
    ("OSError: [Errno 12] Cannot allocate memory", "host_out_of_memory", "node's own memory"),
    ("ERROR: Unexpected bus error encountered in worker. This might be caused by insufficient shared memory (shm).", "shared_memory_small", "/dev/shm"),
    # NPUs, driver, image.
    ("dcmi module initialize failed. ret is -8005", "device_in_use", "code -8005"),
    ("dcmi model initialized failed, because the device is used. ret is -8020", "device_in_use", "code -8020"),
    ("[Error]: Failed to start the device.", "device_start_failed", "npu-smi info"),
    ("AssertionError: local_world_size (8) must be less than or equal to the number of visible devices (0).", "devices_missing", "needs 8 NPUs"),
    ("RuntimeError: Current device type: AscendDeviceType.A3 does not match the installed version's device type: AscendDeviceType.A2, please check",
     "device_type_differs", "this node has AscendDeviceType.A3, the image was built for AscendDeviceType.A2"),
    ("ImportError: libascend_hal.so: cannot open shared object file: No such file or directory", "npu_libraries_missing", "libascend_hal.so"),
    ("dlopen: libdcmi.so: cannot open shared object file: No such file or directory", "npu_libraries_missing", "/usr/local/dcmi"),
    ("ImportError: libatb.so: cannot open shared object file: No such file or directory", "toolkit_libraries_missing", "set_env.sh"),
    ("ImportError: libnuma.so.1: cannot open shared object file: No such file or directory", "libnuma_missing", "libnuma1"),
    ("ImportError: ascend_transport.so: cannot open shared object file: No such file", "library_missing", "ascend_transport.so"),
    ("RuntimeError: Failed to infer device type, please set VLLM_LOGGING_LEVEL=DEBUG", "platform_not_found", "torch_npu"),
    ("NPU function error: call aclnnMoeDistributeDispatchV3 failed, error code is 561000", "driver_too_old_for_experts", "driver"),
    ("Nnopbase fails to invoke the HcclAllocComResourceByTiling function of the hccl module. ret = 4, comm = 0xfffcc6ed27a0.", "back_to_back", "switch"),
    ("NPU function error: aclrtSynchronizeStream, error code is 507014", "npu_operator_failed", "507014"),
    (NEEDED, "hccl_buffsize", "256 MB, needed are 600 MB"),
    ("HCCL_BUFFSIZE is too SMALL, m = 1, k = 2, topK = 8 NEEDED_HCCL_BUFFSIZE is ((m * k * topK * sizeof(int8_t)) * 3 + 3MB)= 301MB, HCCL_BUFFSIZE=200MB.",
     "hccl_buffsize", "200 MB, needed are 301 MB"),
    ("hccl buffer is too small", "hccl_buffsize", "needed are ? MB"),
    ("The DDR address of the MTE instruction is out of range", "mte_out_of_range", "HCCL_BUFFSIZE"),
    ('Config_Error(EI0016): Value Disable for config "tls" is invalid. Expected Value:"All ranks are consistent.', "tls_differs", "hccn_tool -i 0 -tls"),
    # Weights and quantization.
    ("ValueError: Cannot find the config file for ascend", "quantization_file_missing", "quant_model_description.json"),
    ("NotImplementedError: There is no available ascend quantizer.", "quantizer_missing", "W8A8"),
    ("ValueError: Unknown quantization method: ascend. Must be one of ['awq'].", "quantization_unknown", "(ascend)"),
    ("vllm serve: error: argument --quantization/-q: invalid choice: 'ascend' (choose from 'aqlm', 'awq')", "quantization_unknown", "(ascend)"),
    ("ValueError: Quantization method specified in the model config (fp8) does not match the quantization method specified in the `quantization` "
     "argument (ascend).", "quantization_differs", "quantized as fp8, and --quantization says ascend"),
    ("safetensors_rust.SafetensorError: Error while deserializing header: HeaderTooLarge", "weights_corrupt", "HeaderTooLarge"),
    ("RuntimeError: Error while deserializing header: incomplete metadata, file not fully covered", "weights_corrupt", "incomplete metadata"),
    ("FileNotFoundError: Weight files referenced in index but missing: {'/w/model-00002-of-00163.safetensors'}", "weights_file_missing", "model-00002-of"),
    ('FileNotFoundError: No such file or directory: "/w/model-00002-of-00163.safetensors"', "weights_file_missing", "/w/model-00002-of-00163.safetensors"),
    ("RuntimeError: Cannot find any model weights with `/w`", "weights_none", "in /w on"),
    ("ValueError: Following weights were not initialized from checkpoint: {'model.layers.61.x'}", "weights_incomplete", "model.layers.61.x"),
    ("ValueError: Invalid repository ID or local directory specified: '/w'.", "config_missing", "config.json: /w"),
    ("OSError: /w does not appear to have a file named config.json.", "config_missing", "config.json: /w"),
    ("huggingface_hub.errors.HFValidationError: Repo id must be in the form 'repo_name' or 'namespace/repo_name': '/w/x'. Use `repo_type`",
     "config_missing", "config.json: /w/x"),
    ("OSError: We couldn't connect to 'https://huggingface.co' to load the files", "hub_out_of_reach", "ascend.vllm.fetch"),
    ("ValueError: Model architectures ['XForCausalLM'] are not supported for now.", "model_unknown", "XForCausalLM"),
    ("ValueError: Please pass the argument `trust_remote_code=True` to allow custom code to be run.", "remote_code_refused", "trust-remote-code"),
    ("numHeads / numKvHeads = 8, MLA only support {32, 64, 128}", "heads_do_not_divide", "8 attention heads"),
    # Flags, files, the node.
    ("vllm: error: unrecognized arguments: --no-such-option 1", "arguments_unrecognized", "--no-such-option 1"),
    ("vllm serve: error: argument --max-model-len: Value x cannot be converted", "argument_wrong", "--max-model-len has a value"),
    ("OSError: [Errno 98] Address already in use", "api_port_in_use", "vllm_port"),
    ("ERROR:    [Errno 98] error while attempting to bind on address ('0.0.0.0', 8000): address already in use", "api_port_in_use", "port: 8000"),
    ("RuntimeError: The server socket has failed to listen on any local network address. code: -98, name: EADDRINUSE,", "store_port_in_use", "ss -ltnp"),
    ("OSError: [Errno 28] No space left on device: '/root/.cache/vllm'", "disk_full", "df -h"),
    ("OSError: [Errno 116] Stale file handle", "storage_lost", "mount"),
    ("PermissionError: [Errno 13] Permission denied: '/w/config.json'", "permission_denied", "/w/config.json"),
    ("RuntimeError: can't start new thread", "limits_reached", "TasksMax"),
    ("OSError: [Errno 24] Too many open files: '/dev/shm/x'", "limits_reached", "LimitNOFILE"),
    ('exec: "/etc/ascend-vllm/start": stat /etc/ascend-vllm/start: no such file or directory', "program_missing", "serve_launch_etc"),
    ("exec /usr/bin/bash: exec format error", "wrong_architecture", "aarch64"),
    # The proxy.
    ('RuntimeError: Timeout 600s waiting for hosts ["http://198.51.100.11:8000"] to become healthy. Please set --router-worker-startup-timeout-secs',
     "router_backends_silent", "http://198.51.100.11:8000"),
    ('pyo3_runtime.PanicException: failed to install Prometheus metrics exporter: FailedToCreateHTTPListener("Address already in use (os error 98)")',
     "router_metrics_port_in_use", "prometheus_port"),
    ("Error starting router: Address already in use (os error 98)", "router_port_in_use", "vllm_proxy"),
    # How it ended, and what follows.
    ("ERROR 11-23 20:26:09 [multiproc_executor.py:227] Worker proc VllmWorker-1 died unexpectedly (exit code: -9), shutting down executor.",
     "process_killed", "SIGKILL"),
    ("Fatal Python error: Segmentation fault", "process_crashed", "/root/ascend/log"),
    ("exited with status 137", "container_killed", "docker events"),
    ("exited with status 143", "container_stopped", "SIGTERM"),
    ("exited with status 0", "container_stopped", "SIGTERM"),
    ("RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}", "engine_failed_earlier", "first error"),
    ("RuntimeError: [../gloo/transport/tcp/pair.cc:534] Connection closed by peer [198.51.100.11]:4711", "peer_gone", "ended first"),
    ("INFO 11-23 20:26:09 [shm_broadcast.py:501] No available shared memory broadcast block found in 60 seconds.", "broadcast_waits", "hangs"),
]


@pytest.mark.parametrize(("line", "name", "words"), LINES, ids=[f"{number}-{entry[1]}" for number, entry in enumerate(LINES)])
def test_every_known_failure_is_explained_by_its_own_entry(line, name, words):
    for shape in (line, "(EngineCore_DP0 pid=7) ERROR 11-23 20:26:09 [core.py:866] " + line, "\x1b[1;36m(Worker pid=7)\x1b[0;0m " + line, line.encode()):
        if name.startswith("container_") and shape not in (line, line.encode()):
            continue
        told = causes.explain([b"\xff\xfe not text", shape], KNOWN)["causes"]
        assert [cause["name"] for cause in told][:1] == [name]
        assert words in told[0]["cause"] + " " + told[0]["remedy"]
        assert told[0]["lines"] and "{" not in told[0]["remedy"]
        zh = causes.explain([shape], KNOWN, "zh")["causes"][0]
        assert test_checks_data.HAN.search(zh["cause"]) and test_checks_data.HAN.search(zh["remedy"])


def test_no_entry_is_without_a_line_that_it_explains():
    assert {entry[1] for entry in LINES} | set(CODES) == set(KNOWN)


@pytest.mark.parametrize("line", [
    "WARNING 10-09 01:30:00 [_custom_ops.py:20] Failed to import from vllm._C with ImportError('libcudart.so.12: cannot open shared object file: No such')",
    "WARNING 10-09 01:30:00 [x.py:1] Failed to import from vllm._C_extra with ImportError('libfoo.so.1: cannot open shared object file')",
    "INFO 11-23 20:26:09 [core.py:77] Initializing a V1 LLM engine with config: quantization=ascend, compilation_config={'mode': 0}",
    "INFO 11-23 20:26:09 [utils.py:253] non-default args: {'data_parallel_rpc_port': 13389, 'headless': True}",
    "(APIServer pid=1) DEBUG 11-23 20:26:09 [utils.py:862] Waiting for 2 local, 2 remote core engine proc(s) to start.",
    "the container exited with status 137 of its own",
    "Found ulimit of 20000 and failed to automatically increase with error current limit exceeds maximum limit. This can cause fd limit errors like "
    "`OSError: [Errno 24] Too many open files`. Consider increasing with ulimit -n",
    "",
])
def test_harmless_lines_are_no_cause(line):
    assert causes.explain([line], KNOWN) == {"causes": [], "traceback": [], "unexplained": False}


# Samples of real logs, where a folder of them is at hand (ASCEND_VLLM_SAMPLES names it)


def samples_folder():
    stated = os.environ.get("ASCEND_VLLM_SAMPLES")
    if stated:
        return stated
    here = os.path.dirname(os.path.realpath(__file__))
    return os.path.normpath(os.path.join(here, "..", "..", "..", "..", "..", "shared", "samples"))


FOLDER = samples_folder()
SAMPLES = sorted(name for name in os.listdir(FOLDER) if re.match(r"hccl-error-E\w\d{4}\.txt$", name)) if os.path.isdir(FOLDER) else []
#: Words of the explanation that come from the sample itself.
SAID = {
    "EI0001": "HCCL_RDMA_SL is 1000, expected is range[0, 7]",
    "EI0002": "remote rank 0",
    "EI0004": "The ranktable config devId is inconsistent with the local devId",
    "EI0005": "count: here 16512, there 8320",
    "EI0013": "server 127.0.0.1, device ID 0, device IP 127.10.0.1 to server 127.0.0.2, device ID 1, device IP 127.10.0.2",
}


@pytest.mark.parametrize("name", SAMPLES or [None])
def test_every_sample_of_a_code_is_explained(name, capsys):
    if name is None:
        with capsys.disabled():
            sys.stderr.write("\nNOT RUN: causes on real HCCL errors (samples folder absent: %s)\n" % FOLDER)
        return
    code = name[len("hccl-error-"):-len(".txt")]
    with open(os.path.join(FOLDER, name), encoding="utf-8", errors="replace") as handle:
        lines = handle.read().splitlines()
    told = causes.explain(lines, KNOWN)["causes"]
    assert told[0]["name"] == code and code in told[0]["lines"][0]
    assert SAID.get(code, code) in told[0]["cause"]


# Which is told first


def test_the_root_is_told_before_what_follows_from_it_and_the_specific_before_the_general():
    lines = [
        "RuntimeError: Engine core initialization failed. See root cause above.",
        "EI0006: Getting socket times out. (the TLS configurations are inconsistent.)",
        "Nnopbase fails to invoke the HcclAllocComResourceByTiling function of the hccl module. ret = 4, comm",
        'Value Disable for config "tls" is invalid',
    ]
    assert names(*lines) == ["tls_differs", "EI0006", "back_to_back", "engine_failed_earlier"]


def test_of_two_that_rank_alike_the_one_that_was_said_first_is_told_first():
    full, lost = "OSError: [Errno 28] No space left on device: '/x'", "OSError: [Errno 116] Stale file handle"
    assert names(full, lost) == ["disk_full", "storage_lost"]
    assert names(lost, full) == ["storage_lost", "disk_full"]


def test_what_a_better_cause_explains_is_not_told_again():
    line = "[PID: 1] 2025-01-01-00:00:00.000.000 Config_Error(EI0016): Value Disable for config \"tls\" is invalid."
    assert names(line) == ["tls_differs"]
    assert names(line, "EI0016: something else") == ["tls_differs", "EI0016"]


def test_lines_behind_a_cause_are_few_short_and_each_of_them_once():
    lines = [f"(Worker_TP{number % 8} pid={number}) EI0006: text {number // 8} " + "x" * 5000 for number in range(80)]
    found = causes.explain(lines, KNOWN)["causes"][0]["lines"]
    assert [line[:14] for line in found] == ["EI0006: text 0", "EI0006: text 1", "EI0006: text 2"] and {len(line) for line in found} == {causes.WIDTH}


def test_a_pattern_that_says_more_gives_the_words_whichever_line_came_first():
    assert "needed are 600 MB" in causes.explain(["hccl buffer is too small", NEEDED], KNOWN)["causes"][0]["cause"]


# What is not known


def traceback(prefix, error, frames=2):
    lines = ["Traceback (most recent call last):"]
    for number in range(frames):
        lines += ['  File "/x/engine.py", line %d, in step%d' % (number, number), "    go()"]
    return [prefix + line for line in [*lines, error]]


def test_an_unknown_error_gives_its_first_traceback_not_its_last_line():
    lines = ["hello", *traceback(PREFIX, "KeyError: 'x'"), *traceback("(APIServer pid=1) ", "RuntimeError: Engine core initialization failed.")]
    found = causes.explain(lines, KNOWN)
    assert found["traceback"] == traceback("", "KeyError: 'x'") and found["unexplained"]
    assert [cause["name"] for cause in found["causes"]] == ["engine_failed_earlier"]


def test_a_traceback_whose_error_is_known_is_explained():
    found = causes.explain(traceback(PREFIX, "ValueError: No available memory for the cache blocks."), KNOWN)
    assert found["causes"][0]["name"] == "cache_none" and found["traceback"] and not found["unexplained"]


def test_a_long_traceback_loses_its_middle():
    found = causes.explain(traceback(PREFIX, "KeyError: 'x'", frames=100), KNOWN)["traceback"]
    assert len(found) == causes.TRACEBACK_HEAD + 1 + causes.TRACEBACK_TAIL
    assert found[0].startswith("Traceback") and found[causes.TRACEBACK_HEAD] == "  ..." and found[-1] == "KeyError: 'x'"


def test_nothing_explains_nothing():
    assert causes.explain([], KNOWN) == {"causes": [], "traceback": [], "unexplained": False}
    assert causes.explain(["EI0006: x"], {})["causes"] == []


def test_a_huge_log_takes_bounded_work_and_keeps_its_ends():
    lines = ["EJ0002: first"] + [f"line {number} " + "(a" * 2000 for number in range(20000)] + ["EJ0001: last"]
    start = time.process_time()
    found = names(*lines)
    # It takes two seconds, and would take minutes if all of it were searched.
    assert time.process_time() - start < 20
    assert found == ["EJ0002", "EJ0001"]


def test_a_cause_in_the_middle_of_a_long_log_is_found():
    told = [f"INFO 11-23 20:26:09 [x.py:1] request {number}" for number in range(20000)]
    assert names(*told[:10000], PREFIX + "EJ0002: port", *told[10000:]) == ["EJ0002"]


# A site's own


def test_a_site_s_cause_is_told_and_text_that_cannot_be_filled_is_shown_as_it_is(tmp_path):
    (tmp_path / "causes").mkdir()
    (tmp_path / "causes" / "site.yml").write_text(
        "ours: {source: us, rank: 1, patterns: ['ours (?P<n>[0-9]+)'], cause: {en: 'n is {n} {m}'}, remedy: {en: 'edit {} {0} {a.b} {'}}\n"
        "EI0006: {source: us, patterns: ['zzz'], cause: {en: a}, remedy: {en: b}}\n", encoding="utf-8")
    known = causes.load([str(tmp_path)])
    assert set(known) == {*KNOWN, "ours"}
    told = causes.explain(["EI0006: x", "ours 5"], known, "zh")["causes"]
    assert [(cause["name"], cause["cause"], cause["remedy"]) for cause in told] == [("ours", "n is 5 ?", "edit {} {0} {a.b} {")]
