# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A program that has vLLM's own parser read command lines: JSON lists of words come in, the number of those that were read goes out."""

from __future__ import annotations

PARSE = """
import importlib, json, sys
import vllm.platforms
from vllm.platforms.cpu import CpuPlatform
vllm.platforms._current_platform = CpuPlatform()
from vllm.utils.argparse_utils import FlexibleArgumentParser
# The first is where releases up to 0.13 have it.
for place in ("vllm.entrypoints.openai.cli_args", "vllm.entrypoints.launchers.cli_args"):
    try:
        found = importlib.import_module(place)
    except ImportError:
        continue
parser = found.make_arg_parser(FlexibleArgumentParser())
lines = json.load(sys.stdin)
for argv in lines:
    parser.parse_args(argv[2:])
print(len(lines), "lines read")
"""
