# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make a virtual environment with pinned packages and collections, and this checkout linked in as ascend.vllm.

Run by the Python the environment is for; standard library only. A stamp inside the environment holds a hash of every
input: as long as it matches nothing is done. Anything else makes the environment anew, because an upgrade in place would
leave the packages that a new lock no longer names.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
REQUIREMENTS = TOP / "requirements"
NAMESPACE, NAME = "ascend", "vllm"
# Python -> (environment, lock). Only the controllers get collections.
ENVIRONMENTS = {
    "3.11": (".venv", "controller-2.19"),
    "3.12": (".venv312", "controller-2.21"),
    "3.8": (".venv38", "node-3.8"),
}


def say(text):
    """Tell the person what is going on; flushed, since output is often piped."""
    print("setup: %s" % text, flush=True)


def collections_wanted(lock):
    """Return ``(package, [collection, ..])`` for a lock, from collections.txt; ``(None, [])`` for one without."""
    package, names = None, []
    for line in (REQUIREMENTS / "collections.txt").read_text().splitlines():
        fields = line.split("#")[0].split()
        if not fields:
            continue
        if fields[0] == "collection":
            names.append(fields[1])
        elif fields[0] == lock:
            package = fields[1]
    return package, names if package else []


def inputs_hash(lock):
    """Hash of everything the environment is made from, this file and the Python included."""
    digest = hashlib.sha256(sys.version.encode())
    for path in (Path(__file__), REQUIREMENTS / (lock + ".txt"), REQUIREMENTS / "collections.txt"):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def site_packages(venv):
    """The directory of the environment that packages go to."""
    return venv / "lib" / ("python%d.%d" % sys.version_info[:2]) / "site-packages"


def link_checkout(venv):
    """Make ``ansible_collections/ascend/vllm`` of the environment a link to this checkout (relative: a moved tree works)."""
    link = site_packages(venv) / "ansible_collections" / NAMESPACE / NAME
    target = os.path.relpath(TOP, link.parent.resolve())
    if link.is_symlink() and os.readlink(link) == target:
        return
    link.parent.mkdir(parents=True, exist_ok=True)
    if link.is_symlink() or link.exists():
        link.unlink()
    link.symlink_to(target)


def pip(venv, *words):
    """Run the environment's pip; its own words say what went wrong."""
    command = [str(venv / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", *words]
    if subprocess.run(command, check=False).returncode != 0:
        sys.exit("setup: this failed: %s\nsetup: the package index that pip uses has to be reachable: PyPI, or the one that pip config names"
                 % " ".join(command))


def install_packages(venv, lock):
    """Install the lock as it stands: it is complete, so nothing is left for pip to resolve."""
    pip(venv, "install", "-qq", "--no-deps", "-r", str(REQUIREMENTS / (lock + ".txt")))
    pip(venv, "-q", "check")


def install_collections(venv, package, names):
    """Take the named collections and what they depend on, and no others, out of the `ansible` package (4 MB instead of 470)."""
    with tempfile.TemporaryDirectory() as scratch:
        pip(venv, "download", "-qq", "--no-deps", "-d", scratch, package)
        with zipfile.ZipFile(next(Path(scratch).glob("ansible-*.whl"))) as archive:
            left, done = list(names), set()
            while left:
                name = left.pop()
                if name in done:
                    continue
                done.add(name)
                prefix = "ansible_collections/%s/" % name.replace(".", "/")
                members = [member for member in archive.namelist() if member.startswith(prefix)]
                if not members:
                    sys.exit("setup: %s does not hold %s" % (package, name))
                archive.extractall(site_packages(venv), members)
                left += json.loads(archive.read(prefix + "MANIFEST.json"))["collection_info"]["dependencies"]


def make(venv, lock):
    """Make the environment from nothing."""
    started = time.monotonic()
    say("making %s with Python %s (about a minute)" % (venv.name, sys.version.split()[0]))
    if venv.exists():
        shutil.rmtree(venv)
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    say("installing the packages of requirements/%s.txt" % lock)
    install_packages(venv, lock)
    package, names = collections_wanted(lock)
    if package:
        say("taking %s out of %s" % (", ".join(names), package))
        install_collections(venv, package, names)
    say("%s made in %.0f s" % (venv.name, time.monotonic() - started))


def main():
    """Make or keep the environment for the running Python."""
    version = "%d.%d" % sys.version_info[:2]
    if len(sys.argv) != 2 or sys.argv[1] != version or version not in ENVIRONMENTS:
        sys.exit("usage: make_venv.py VERSION, run by a Python of that version, one of %s" % ", ".join(ENVIRONMENTS))
    name, lock = ENVIRONMENTS[version]
    venv = TOP / name
    cache = TOP / ".cache"
    cache.mkdir(exist_ok=True)
    with (cache / ("setup%s.lock" % name)).open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        stamp, wanted = venv / "setup.stamp", inputs_hash(lock)
        if not (stamp.is_file() and stamp.read_text() == wanted and (venv / "bin" / "python").exists()):
            make(venv, lock)
            stamp.write_text(wanted)
        if lock.startswith("controller"):
            link_checkout(venv)
    say("%s is ready" % name)


if __name__ == "__main__":
    main()
