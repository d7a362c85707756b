# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One build of an image by the Docker engine, as a background.Job: the engine gives up a build when its client is gone."""

from __future__ import annotations

import hashlib
import re
import time

from ansible_collections.ascend.vllm.plugins.module_utils import background

#: Lines of the build that are kept.
KEPT = 60
#: The label of stages that are not needed once the image is there; its value is the image's name.
STAGE = "ascend.vllm.stage"
#: The options of a build, as an argument_spec.
SPEC = {
    "name": {"type": "str", "required": True},
    "dir": {"type": "path", "required": True},
    "folders": {"type": "dict", "default": {}},
    # The address of a proxy may have a password.
    "args": {"type": "dict", "default": {}, "no_log": True},
    "labels": {"type": "dict", "default": {}},
    "network": {"type": "str", "default": "host"},
    "need_mb": {"type": "int", "default": 0},
    "docker_socket": {"type": "path", "default": "/var/run/docker.sock"},
}
_STEP = re.compile(r"^Step \d+/\d+ : \S+")


def job(tag, folder=None):
    """Return the background.Job that builds an image of this name."""
    return background.Job("build-%s" % hashlib.sha256(tag.encode("utf-8")).hexdigest()[:12], folder)


def fresh(tag):
    """Return the state of a build that has just begun."""
    return {"tag": tag, "step": "", "said": [], "events": 0, "done": False, "error": None}


def fold(state, event):
    """Change a state by what the engine said."""
    state["events"] += 1
    if event.get("error"):
        state["error"] = " ".join(str(event["error"]).split())
    lines = [line.strip() for line in re.split(r"[\r\n]+", str(event.get("stream") or event.get("status") or "")) if line.strip()]
    for line in lines:
        if _STEP.match(line):
            state["step"] = line[:200]
    state["said"] = (state["said"] + [line[:500] for line in lines])[-KEPT:]


def clear(engine, tag):
    """Remove the stages of a build of this name, which may have the login of a package index in them; return why they stay, or None."""
    try:
        engine.prune_images("%s=%s" % (STAGE, tag))
    except OSError as error:
        return "the stages of the build stay on the node: %s" % error
    return None


def carry_on(own, engine, given, clock=time.monotonic):
    """Build and tell the job C(own) how far it is. C(given): C({name, dir, folders, args, labels, network})."""
    state = fresh(given["name"])

    def events():
        return engine.build(given["name"], given["dir"], given["folders"], dict(given["args"], STAGE=given["name"]), given["labels"], given["network"])

    def missing():
        return None if engine.image(given["name"]) else "the engine said nothing of a failure, but has no image %s" % given["name"]

    background.follow(own, state, events, fold, missing, clock)
    problem = clear(engine, given["name"])
    if problem and state["done"]:
        state["said"].append(problem)
    elif problem:
        # Behind the cause, which is looked for in the last lines.
        state["error"] = "%s (%s)" % (state["error"], problem)
    own.tell(state)
