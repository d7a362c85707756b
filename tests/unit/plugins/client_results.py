# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kept result files of the clients (tests/unit/fixtures/evaluate) as runs, and the jobs that they are of."""

from __future__ import annotations

import copy
from pathlib import Path

from ansible_collections.ascend.vllm.plugins.plugin_utils import data

FOLDER = Path(__file__).resolve().parents[1] / "fixtures" / "evaluate"
#: How many questions the data sets of the fixtures have.
SIZES = {"gsm8k": 8, "gpqa": 4, "aime2024": 3}
STAMP = "20260502T090000Z"
DEPLOYMENT = {"id": "3", "release": "v0.13.0", "image": "ascend/vllm-ascend:v0.13.0", "image_id": "sha256:1", "recipe": "deepseek_r1_w8a8", "hardware": "a2",
              "data_parallel_size": 4, "tensor_parallel_size": 4, "plan_hash": "1f", "together": None}
ABBR = {"aisbench": "vllm-api-general-chat", "aisbench_perf": "vllm-api-stream-chat"}
#: As much of the configuration of a run as a gate looks at.
CONFIGURED = {
    "lm_eval": {"argv": ["lm_eval", "run", "--model", "local-completions"], "files": {"gsm8k_local.yaml": 'include: "/t/gsm8k/gsm8k.yaml"\n'}},
    "aisbench": {
        "argv": ["ais_bench", "/c/client.py"],
        "files": {"client.py": "temperature=0.6, top_p=0.95 from gsm8k.gsm8k_gen_0_shot_cot_chat_prompt gpqa_gen_0_shot_cot_chat_prompt "
                               "aime2024_gen_0_shot_chat_prompt"},
    },
}


def folders():
    """Return ``tool/situation`` of all that is kept."""
    return sorted(f"{path.parent.parent.name}/{path.parent.name}" for path in FOLDER.glob("*/*/rc.txt"))


def run(name, **change):
    """Return what client_run returned for a kept run (``lm_eval/good``)."""
    folder = FOLDER / name
    found = {str(path.relative_to(folder / "files")): path.read_text(encoding="utf-8") for path in (folder / "files").rglob("*") if path.is_file()}
    return {"rc": int((folder / "rc.txt").read_text(encoding="utf-8")), "timed_out": False, "error": None, "seconds": 12.5, "files": found, "left_out": [],
            "log": (folder / "log.txt").read_text(encoding="utf-8"), "joined": False, "changed": True, **change}


def job(name, **change):
    """Return the job of a kept run, as the filter client_jobs makes it."""
    folder, situation = name.split("/")
    tool = folder.removesuffix("_perf")
    if folder in ("aisbench", "lm_eval"):
        dataset = situation if situation in SIZES else "gsm8k"
        wanted = {"model": "deepseek_r1", "set": dataset, "limit": None, "load": None, "n": SIZES[dataset], "task": f"{dataset}_local"}
        wanted["abbr"] = ABBR.get(folder)
        return {"id": f"{STAMP}-{tool}-{dataset}", "tool": tool, "set": dataset, "load": None, "wanted": wanted, "added": [], "argv": CONFIGURED[tool]["argv"],
                "configuration": copy.deepcopy(CONFIGURED[tool]), **change}
    rate = 20.0 if situation == "rate_20" else None
    load = {"request_rate": rate, "max_concurrency": 4 if rate else None, "output_len": 12, "num_prompts": 8}
    load["input_len"] = None if tool == "aisbench" else 20
    wanted = {"model": "deepseek_r1", "set": "gsm8k" if tool == "aisbench" else None, "limit": None, "load": load, "n": 8, "abbr": ABBR.get(folder)}
    argv = {"vllm_serve": ["--ignore-eos"], "vllm_latency": ["--batch-size", "8", "--num-iters", "5"]}.get(tool, [])
    return {"id": f"{STAMP}-{tool}-rate1", "tool": tool, "set": None, "load": load, "wanted": wanted, "added": [], "argv": argv,
            "configuration": {"argv": argv}, **change}


def known():
    """Return the collection's clients, sets and gates, with sets of the fixtures' sizes and a gate for each."""
    found, checks = data.load_all(kinds=data.CLIENT_KINDS)
    assert checks == []
    found = copy.deepcopy(found)
    for name, size in SIZES.items():
        found["sets"][name]["samples"] = size
        found["gates"][f"small_{name}"] = {"kind": "accuracy", "source": "a test", "set": name, "samples": size, "recipes": ["deepseek_r1_w8a8"],
                                           "tools": {"lm_eval": [], "aisbench": []}, "floor": 80}
    return found
