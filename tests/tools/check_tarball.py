# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check what a built tarball holds, against what git knows. Usage: check_tarball.py TARBALL, in the top directory.

Everything a deployment needs must be in it, and nothing that git does not know (caches, reports, an environment).
"""

from __future__ import annotations

import subprocess
import sys
import tarfile

# What a deployment reads, or its operator.
SHIPPED = ("data/", "docs/", "inventories/", "meta/", "playbooks/", "plugins/", "roles/", "README.md", "LICENSE", "CHANGELOG.rst", "requirements.txt")
# What builds and tests the collection.
NOT_SHIPPED = (".ci/", ".config/", "molecule/", "requirements/", "tests/", "Makefile")
MADE_BY_GALAXY = {"FILES.json", "MANIFEST.json"}


def faults(members, known):
    """Return what is wrong, as a list of sentences, given the names in the tarball and those that git knows."""
    members = set(members) - MADE_BY_GALAXY
    found = ["%s is in the tarball, but git does not know it" % name for name in sorted(members - set(known))]
    found += ["%s is missing from the tarball" % name for name in sorted(set(known) - members) if name.startswith(SHIPPED)]
    found += ["%s does not belong in the tarball" % name for name in sorted(members) if name.startswith(NOT_SHIPPED)]
    found += ["nothing of %s is in the tarball" % start for start in SHIPPED if not any(name.startswith(start) for name in members)]
    return found


def main():
    """Print the faults, or one line saying how many files there are."""
    with tarfile.open(sys.argv[1]) as archive:
        members = [member.name for member in archive.getmembers() if not member.isdir()]
    listed = subprocess.run(["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
                            check=True, capture_output=True, text=True).stdout
    deleted = subprocess.run(["git", "-c", "safe.directory=*", "ls-files", "-z", "--deleted"], check=True, capture_output=True, text=True).stdout
    found = faults(members, (set(listed.split("\0")) - set(deleted.split("\0"))) - {""})
    for text in found:
        print("tarball: %s" % text, file=sys.stderr)
    if found:
        return 1
    print("tarball: %d files, all known to git" % len(members))
    return 0


if __name__ == "__main__":
    sys.exit(main())
