# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The opt-in playbook that installs what a node lacks, against a package source that the node has: a folder of real packages."""

from __future__ import annotations

import hashlib
import subprocess

import pytest

# preflight is a fixture
from conftest import LAB_TOOL
from test_faults import not_passed, preflight  # noqa: F401  pylint: disable=unused-import

NODE = "a2-node1"
# What ansible.builtin.package asks apt for on its own (python3-apt and what that needs), beside the package under test
PACKAGES = ("rsync", "python3-apt", "python-apt-common", "distro-info-data")


def put(path, content):
    """Write a file in the node."""
    argv = [str(LAB_TOOL), "exec", NODE, "sh", "-c", f"mkdir -p {path.rpartition('/')[0]} && cat > {path}"]
    subprocess.run(argv, input=content, check=True, capture_output=True, timeout=60)


def index(package):
    """Return the entry of a package in the index of a folder of packages."""
    control = subprocess.run(["dpkg-deb", "--field", str(package)], check=True, capture_output=True, text=True).stdout
    content = package.read_bytes()
    return f"{control.strip()}\nFilename: ./{package.name}\nSize: {len(content)}\nSHA256: {hashlib.sha256(content).hexdigest()}\n\n"


@pytest.mark.extra
def test_what_is_missing_is_named_and_installed_on_request(nodes, playbook, preflight, tmp_path):  # noqa: F811
    """rsync is purged: preflight names it and installs nothing; the playbook installs it, and changes nothing when it is run again."""
    subprocess.run(["apt-get", "download", *PACKAGES], cwd=tmp_path, check=True, capture_output=True, timeout=120)
    packages = sorted(tmp_path.glob("*.deb"))
    assert len(packages) == len(PACKAGES)
    for package in packages:
        put(f"/srv/packages/{package.name}", package.read_bytes())
    put("/srv/packages/Packages", "".join(index(package) for package in packages).encode())
    node = nodes[NODE]
    node.check_output("mkdir -p /root/sources && find /etc/apt/sources.list* -type f -exec mv -t /root/sources {} +")
    put("/etc/apt/sources.list", b"deb [trusted=yes] file:/srv/packages ./\n")
    node.check_output("dpkg --purge --force-depends rsync")

    _run, report, _page = preflight()
    assert [(check["host"], check["check"], check["status"]) for check in not_passed(report)] == [(NODE, "rsync", "warn")]
    assert "apt-get install rsync" in not_passed(report)[0]["remedy"]
    assert not node.exists("rsync")

    run = playbook("ascend.vllm.prerequisites")
    assert run.rc == 0, run.out[-3000:]
    assert node.exists("rsync") and "rsync  version" in node.check_output("rsync --version")
    assert (run.recap(NODE)["changed"], run.recap("a2-node0")["changed"]) == (1, 0)
    again = playbook("ascend.vllm.prerequisites")
    assert (again.rc, again.recap(NODE)["changed"]) == (0, 0)
    _run, report, _page = preflight()
    assert not_passed(report) == []
