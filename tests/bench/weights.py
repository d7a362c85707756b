# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How quick weights are verified: against sha256sum over the same files on the same processors, and again once they are proved.

    weights.py [--times N] [--gigabytes N]

Everything is read once before, so that all commands find it in the page cache: what is measured is hashing, not a disk.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import sys
import tempfile

from measure import in_turn, median, table

PROJECT = pathlib.Path(__file__).resolve().parents[2]
VERIFY = """
import json, sys
from ansible_collections.ascend.vllm.plugins.module_utils import manifest, weights
root, wanted = sys.argv[1], {"kind": "local", "id": "m", "requirements": {}}
if sys.argv[2] == "verify":
    manifest.remove(root, manifest.MARKER, manifest.PARTIAL, manifest.RECORDED)
    found = weights.verify(root, wanted)
    assert found["done"] and not found["differences"], found
else:
    assert manifest.state(root, wanted)["verified"]
"""


def fill(root: pathlib.Path, files: int, size: int):
    """Put a small whole model there, and beside it ``files`` files of ``size`` bytes each."""
    from ansible_collections.ascend.vllm.tests.unit.plugins.model_dir import fill as model

    model(root)
    block = os.urandom(1 << 20)
    for number in range(files):
        with open(root / f"part-{number:05d}.bin", "wb") as stream:
            for dummy in range(size >> 20):
                stream.write(block)
            stream.write(block[: size & ((1 << 20) - 1)])


def command(root: pathlib.Path, what: str) -> dict:
    """Return how our verification is run, in a Python of its own."""
    return {"argv": [sys.executable, "-c", VERIFY, str(root), what]}


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--gigabytes", type=float, default=2.0)
    given = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory(prefix="ascend-vllm-bench-", dir="/var/tmp") as place:
        large, many = pathlib.Path(place, "large"), pathlib.Path(place, "many")
        shards = 16
        fill(large, shards, int(given.gigabytes * (1 << 30) / shards))
        fill(many, 10000, 2048)
        script = f"find {large} -type f ! -name '.*' -print0 | xargs -0 -n 1 -P {cores} sha256sum"
        commands = {
            "verify": command(large, "verify"),
            f"sha256sum, {cores} at a time": {"argv": ["sh", "-c", script]},
            "verify 10,000 files": command(many, "verify"),
            "look again at 10,000 files": command(many, "read"),
        }
        for one in commands.values():
            in_turn({"warm": one}, 1)
        samples = in_turn(commands, given.times)
        for name, runs in samples.items():
            assert all(sample.rc == 0 for sample in runs), f"{name}:\n{runs[0].out[-3000:]}"
        ours, theirs, first, again = (median(samples[name]) for name in commands)
        names = list(commands)
        print(table([
            [f"{given.gigabytes:g} GiB in {shards} files", "median s", "GB/s", "verify takes"],
            ["verify", f"{ours:.2f}", f"{given.gigabytes * 1.0737 / ours:.2f}", ""],
            [names[1], f"{theirs:.2f}", f"{given.gigabytes * 1.0737 / theirs:.2f}", f"{ours / theirs:.2f} of it"],
            ["10,000 small files, first", f"{first:.2f}", "", ""],
            ["the same, proved before", f"{again:.2f}", "", "(wanted: under 3 s)"],
        ]))
        print(json.dumps({"verify_s": ours, "sha256sum_s": theirs, "again_10000_s": again}))


if __name__ == "__main__":
    main()
