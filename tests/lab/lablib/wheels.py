# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The middle layer of the engine image: vLLM for the CPU and everything it needs, from a lock file.

A file of its own because this is the slow one: it is built again only when the lock file or this file changes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from lablib.layers import Layer, make_layer, tar_of
from lablib.places import LAB_SOURCE, LOGS, cached, content_key, remove_later
from lablib.say import LabError, run_logged, say, step

# Where Debian's own python3.11 looks: no PYTHONPATH needed, which a start script might overwrite.
SITE = "usr/local/lib/python3.11/dist-packages"
_LOCK = LAB_SOURCE / "engine" / "requirements.lock"
TORCH_INDEX = "https://download.pytorch.org/whl/cpu"
# Not read by a server: 0.1 GB that every node would pull.
_UNUSED = ("bin", "torch/include", "torch/test", "torch/share")

# A server imports a third of the modules. Compiled ahead are those, roughly; the others would cost 0.1 GB.
_NOT_COMPILED = r"/tests?/|/testing/|/transformers/models/(?!auto|deepseek|llama|qwen)|/modelscope/(models|pipelines|trainers|preprocessors)/|/sympy/physics/"


def wheel_layer() -> Layer:
    """vLLM and everything it needs, from the lock file. Needs no root file system: it can be built beside one."""
    return Layer.load(cached("layer-wheels", content_key(_LOCK, Path(__file__)), _make_wheel_layer))


def _make_wheel_layer(part: Path) -> None:
    log = LOGS / "engine-wheels.log"
    log.unlink(missing_ok=True)
    tree = part / "tree"
    site = tree / SITE
    python = find_python()
    with step("engine image: pip install of vLLM for the CPU (about 600 MB to download)"):
        _pip_install(python, site, log)
    scripts = tree / "usr/local/bin"
    scripts.mkdir(parents=True)
    for name in ("vllm", "modelscope", "hf"):
        shutil.move(site / "bin" / name, scripts / name)
        _set_interpreter(scripts / name)
    for pattern in _UNUSED:
        for path in site.glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    with step("engine image: compile the Python files"):
        # A file that does not compile is a template for another version; it is no module.
        subprocess.run(
            [python, "-m", "compileall", "-qq", "-j", "0", "-x", _NOT_COMPILED, "--invalidation-mode", "unchecked-hash", str(site)],
            check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
    with step("engine image: layer 2, vLLM"):
        make_layer(part, tar_of(tree))
    remove_later(tree)


def _pip_install(python: str, site: Path, log: Path) -> None:
    command = [python, "-m", "pip", "install", "--no-deps", "--no-compile", "--only-binary=:all:", "--disable-pip-version-check", "--no-warn-conflicts",
               "--root-user-action=ignore", "--quiet", "--target", str(site), "--requirement", str(_LOCK)]  # fmt: skip
    try:
        run_logged(command, log)
    except LabError:
        # PyPI itself has no CPU-only torch: where no local wheel is configured, PyTorch's own index has it.
        if "No matching distribution found for torch" not in log.read_text(errors="replace"):
            raise
        say(f"engine image: no CPU wheel of torch in the configured indexes, trying {TORCH_INDEX}")
        shutil.rmtree(site, ignore_errors=True)
        run_logged([*command, "--extra-index-url", TORCH_INDEX], log)


def find_python() -> str:
    """A Python 3.11 with pip: the wheels are for the 3.11 that Debian 12 has."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    candidates = [sys.executable, *map(str, sorted(pyenv.glob("3.11.*/bin/python3"))), "/usr/bin/python3.11", shutil.which("python3.11") or ""]
    check = "import sys, pip; sys.exit(sys.version_info[:2] != (3, 11))"
    for candidate in filter(None, candidates):
        if os.access(candidate, os.X_OK) and subprocess.run([candidate, "-c", check], capture_output=True, check=False).returncode == 0:
            return candidate
    if Path("/usr/bin/python3.11").exists() and shutil.which("apt-get"):
        run_logged(["apt-get", "-q", "install", "-y", "--no-install-recommends", "python3-pip"], LOGS / "apt.log", {"DEBIAN_FRONTEND": "noninteractive"})
        return "/usr/bin/python3.11"
    raise LabError("no Python 3.11 with pip found (the wheels of the engine are for 3.11): install python3.11 and its pip")


def _set_interpreter(script: Path) -> None:
    """pip wrote this machine's Python into the script; in the image it is Debian's."""
    lines = script.read_text().splitlines(keepends=True)
    script.write_text("".join(["#!/usr/bin/python3\n", *lines[1:]]))
    script.chmod(0o755)
