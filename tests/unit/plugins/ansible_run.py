# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""ansible-playbook for tests, with the settings of the tests alone."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

from ansible_collections.ascend.vllm.tests.unit.plugins.servers import short_folder

#: Of the environment that the tests run in, and not of whoever comes first in PATH.
PROGRAM = str(Path(sys.executable).parent / "ansible-playbook")


@contextlib.contextmanager
def ansible_playbook(folder):
    """Yield a function (arguments, **variables of the environment) -> the finished process, which runs in C(folder); its C(tmpdir) is TMPDIR there.

    Neither settings of Ansible nor proxies of the person who runs the tests reach it.
    """
    with short_folder() as short:
        clean = {key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_") and "proxy" not in key.lower()}
        clean.update(ANSIBLE_NOCOLOR="1", ANSIBLE_INJECT_FACT_VARS="0", ANSIBLE_PYTHON_INTERPRETER=sys.executable, ANSIBLE_HOME=str(folder / "home"),
                     TMPDIR=short, COLUMNS="4000")

        def run(*arguments, **environ):
            return subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, cwd=folder, env={**clean, **environ}, timeout=300, check=False)

        run.tmpdir = Path(short)
        yield run
