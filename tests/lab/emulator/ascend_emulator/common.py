# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What both tools share: the dynamic loader's refusal, output of bytes, and output that a fault spoils."""
from __future__ import annotations

import collections
import os
import sys
import time

# stdout and stderr are str or bytes; code is the exit status.
Out = collections.namedtuple("Out", "stdout stderr code")

# The library each tool is linked to (source-derived for hccn_tool). Without it the loader stops the program.
LIBRARIES = {"npu-smi": "libdcmi.so", "hccn_tool": "libdrvdsmi_host.so"}


def loader_refusal(tool, library_path, library=None):
    """What ld.so does when no folder of LD_LIBRARY_PATH holds the tool's library; None when one does.

    The driver does not register its folders with ldconfig: a login shell sets LD_LIBRARY_PATH, sudo and Ansible
    do not pass it on.
    """
    library = library or LIBRARIES[tool]
    for folder in (library_path or "").split(":"):
        if folder and os.path.isfile(os.path.join(folder, library)):
            return None
    return Out("", "%s: error while loading shared libraries: %s: cannot open shared object file: "
                   "No such file or directory\n" % (tool, library), 127)


def is_root():
    """ASCEND_LAB_AS_ROOT=1 lets unprivileged tests of the emulator pass this check."""
    return os.geteuid() == 0 or os.environ.get("ASCEND_LAB_AS_ROOT") == "1"


def spoil(state, tool, argv, produce):
    """Run produce() -> Out, spoiled where a fault says so: garbled, huge, non-utf8, empty output or a hang.

    state["output"]: [{"tool", "verb" (any word of argv, or "" for all), "kind", "seconds"}].
    """
    for rule in (state or {}).get("output", []):
        if rule["tool"] != tool or (rule.get("verb") and rule["verb"] not in argv):
            continue
        if rule["kind"] == "hang":
            time.sleep(float(rule.get("seconds") or 86400))
            continue
        out = produce()
        if rule["kind"] == "empty":
            return Out("", "", 0)
        text = out.stdout if isinstance(out.stdout, str) else out.stdout.decode("utf-8", "replace")
        if rule["kind"] == "garbled":
            # Every second character lost, as from a serial console: right length order, wrong words.
            return Out("\n".join(line[::2] for line in text.split("\n")), out.stderr, out.code)
        if rule["kind"] == "non-utf8":
            return Out(b"\xff\xfe\x80" + text.encode("utf-16-le") + b"\xc3\x28\n", out.stderr, out.code)
        if rule["kind"] == "huge":
            filler = "[drv] interrupt storm, register dump 0123456789abcdef 0123456789abcdef 0123456789abcdef\n"
            return Out(filler * int(rule.get("lines") or 60000) + text, out.stderr, out.code)
    return produce()


def finish(out):
    """Write an Out as bytes and exit with its status."""
    for stream, text in ((sys.stdout, out.stdout), (sys.stderr, out.stderr)):
        data = text if isinstance(text, bytes) else text.encode("utf-8")
        try:
            stream.buffer.write(data)
            stream.flush()
        except BrokenPipeError:  # the reader left: the real tools die of SIGPIPE without a word
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    sys.exit(out.code)
