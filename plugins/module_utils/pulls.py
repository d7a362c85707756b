# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One pull of an image by the Docker engine, in a process of its own that writes down how far it is.

An engine gives up a pull when its client is gone, and it tells only its client how far it is. So the client is a process that goes on
without the controller, and whoever wants to know reads its file.
"""

from __future__ import annotations

import hashlib
import time

from . import background
from .docker_engine import DEFAULT_SOCKET, DockerEngine
from .plain_http import login_for, split_image

#: What an engine says of a layer whose bytes have all come.
_HERE = ("Verifying Checksum", "Download complete", "Extracting", "Pull complete")
#: What it says of one that is where it is wanted.
_DONE = ("Pull complete", "Already exists")


def fresh(reference):
    """Return the state of a pull that has just begun."""
    return {"reference": reference, "layers": {}, "events": 0, "done": False, "error": None}


def fold(state, event):
    """Change a state by what the engine said: layer -> C({bytes, total, done}), bytes as they are loaded (compressed)."""
    state["events"] += 1
    if event.get("error"):
        state["error"] = " ".join(str(event["error"]).split())
    status, name = event.get("status") or "", event.get("id")
    # Every layer is announced before anything comes of it; words about the tag have an id, too, which is the tag's.
    if name and (status in ("Pulling fs layer", "Already exists", "Waiting") or name in state["layers"]):
        layer = state["layers"].setdefault(name, {"bytes": 0, "total": 0, "done": False})
        detail = event.get("progressDetail") or {}
        layer["total"] = max(layer["total"], int(detail.get("total") or 0))
        if status == "Downloading":
            layer["bytes"] = max(layer["bytes"], int(detail.get("current") or 0))
        elif status in _HERE:
            layer["bytes"] = max(layer["bytes"], layer["total"])
        layer["done"] = layer["done"] or status in _DONE


def _job(reference, folder):
    return background.Job("pull-%s" % hashlib.sha256(reference.encode("utf-8")).hexdigest()[:12], folder)


def carry_on(own, engine, reference, logins=None, clock=time.monotonic):
    """Pull and tell the job C(own) how far it is. C(logins): as for start()."""
    state = fresh(reference)

    def events():
        registry = split_image(reference)[0]
        return engine.pull(reference, registry, login_for(registry, logins))

    def missing():
        return None if engine.image(reference) else "the engine ended the pull without a word, and has no image %s" % reference

    background.follow(own, state, events, fold, missing, clock)
    own.tell(state)


def start(reference, fork, logins=None, docker_socket=DEFAULT_SOCKET, folder=None):
    """Begin a pull, unless one of the same image goes on here already; returns whether it was begun.

    C(fork) returns 0 in a process of its own, which the caller's end does not end. C(logins): the C(auths) of a Docker config.json;
    they are kept in memory only.
    """
    job = _job(reference, folder)
    return job.start(fork, lambda: carry_on(job, DockerEngine(docker_socket), reference, logins), fresh(reference))


def _seen(reference, state, running):
    """Return C({running, done, error, bytes, layers, layers_done, events}) of what a job says."""
    state = state or dict(fresh(reference), error="nothing is known of a pull here")
    error = state["error"]
    if not running and not state["done"] and not error:
        error = "the process that pulled was ended"
    layers = state["layers"].values()
    return {"running": running, "done": state["done"], "error": error, "bytes": sum(layer["bytes"] for layer in layers),
            "layers": len(layers), "layers_done": sum(1 for layer in layers if layer["done"]), "events": state["events"]}


def stop(reference, folder=None):
    """End the pull that goes on, if there is one: the engine keeps the layers that are whole."""
    _job(reference, folder).stop()


def watch(reference, seconds, folder=None):
    """Return how far a pull is after so many seconds, or as soon as it has ended."""
    return _seen(reference, *_job(reference, folder).watch(seconds))
