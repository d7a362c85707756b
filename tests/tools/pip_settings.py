# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write the pip settings in force, from every file and from the environment, into one file. Usage: pip_settings.py FILE.

ansible-test hands no PIP_* variable on, and sanity gives it another home: a mirror or a certificate that pip needs here
would be lost on both ways. Run it with the Python whose pip is meant.
"""

from __future__ import annotations

import ast
import configparser
import subprocess
import sys
from pathlib import Path


def settings(listed, cache):
    """Return a parser holding what ``pip config list`` printed and the cache directory; the environment wins, as with pip."""
    parser = configparser.RawConfigParser()
    parser.read_dict({"global": {}})
    lines = sorted(line for line in listed.splitlines() if "=" in line)
    for from_environment in (False, True):
        for line in lines:
            if line.startswith(":env:") is not from_environment:
                continue
            name, value = line.split("=", 1)
            section, option = ("global", name.removeprefix(":env:.")) if from_environment else name.split(".", 1)
            if not parser.has_section(section):
                parser.add_section(section)
            parser.set(section, option, ast.literal_eval(value))
    parser.set("global", "cache-dir", cache)
    return parser


def main():
    """Ask pip, and write."""
    def pip(*words):
        return subprocess.run([sys.executable, "-m", "pip", *words], check=True, capture_output=True, text=True).stdout

    target = Path(sys.argv[1])
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("w") as out:
        settings(pip("config", "list"), pip("cache", "dir").strip()).write(out)


if __name__ == "__main__":
    main()
