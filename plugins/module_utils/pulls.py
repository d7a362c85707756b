# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One pull of an image by the Docker engine, in a process of its own that writes down how far it is.

An engine gives up a pull when its client is gone, and it tells only its client how far it is. So the client is a process that goes on
without the controller, and whoever wants to know reads its file.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import signal
import time

from .docker_engine import DEFAULT_SOCKET, DockerEngine
from .plain_http import login_for, split_image

#: Where the file and the lock of a pull lie: gone when the node restarts, and the pull with them.
FOLDER = "/run/ascend-vllm"
#: Seconds between two writes of the file.
WRITE_S = 0.5
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


def _place(reference, folder, ending):
    return os.path.join(folder, "pull-%s.%s" % (hashlib.sha256(reference.encode("utf-8")).hexdigest()[:12], ending))


def _write(path, state):
    """Write a state so that a reader has it whole or not at all."""
    with open(path + ".new", "w", encoding="utf-8") as stream:
        json.dump(state, stream)
    os.replace(path + ".new", path)


def follow(events, path, state, clock=time.monotonic):
    """Write down what an engine says until it has said all; what it did not say in the end is an error."""
    written = clock()
    try:
        for event in events:
            fold(state, event)
            if clock() - written >= WRITE_S:
                _write(path, state)
                written = clock()
        state["done"] = state["error"] is None
    except OSError as error:
        state["error"] = str(error)
    _write(path, state)


def _lock(path, tries=1):
    """Return an open lock file that this process holds, or None when another has it."""
    stream = open(path, "a+", encoding="utf-8")
    for number in range(tries):
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return stream
        except OSError:
            # A reader holds it for a moment only.
            time.sleep(0.1 if number + 1 < tries else 0)
    stream.close()
    return None


def start(reference, fork, logins=None, docker_socket=DEFAULT_SOCKET, folder=FOLDER):
    """Begin a pull, unless one of the same image goes on here already; returns whether it was begun.

    C(fork) returns 0 in a process of its own, which the caller's end does not end. C(logins): the C(auths) of a Docker config.json;
    they are kept in memory only.
    """
    os.makedirs(folder, mode=0o755, exist_ok=True)
    lock = _lock(_place(reference, folder, "lock"), tries=5)
    if lock is None:
        return False
    path, state = _place(reference, folder, "json"), fresh(reference)
    _write(path, state)
    if fork() != 0:
        # The other process holds the lock by the same open file.
        lock.close()
        return True
    try:
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        registry = split_image(reference)[0]
        follow(DockerEngine(docker_socket).pull(reference, registry, login_for(registry, logins)), path, state)
    finally:
        # Whatever the caller would do at its end is not this process's to do.
        os._exit(0)
    return True


def look(reference, folder=FOLDER):
    """Return C({running, done, error, bytes, layers, layers_done, events}) of a pull."""
    # Asked in this order, a pull that ends meanwhile is still seen as running, and as done the next time.
    lock = _lock(_place(reference, folder, "lock"))
    if lock is not None:
        lock.close()
    try:
        with open(_place(reference, folder, "json"), encoding="utf-8") as stream:
            state = json.load(stream)
    except (OSError, ValueError) as error:
        state = dict(fresh(reference), error="nothing is known of a pull here: %s" % error)
    running = lock is None
    if not running and not state["done"] and not state["error"]:
        state["error"] = "the process that pulled was ended"
    layers = state["layers"].values()
    return {"running": running, "done": state["done"], "error": state["error"], "bytes": sum(layer["bytes"] for layer in layers),
            "layers": len(layers), "layers_done": sum(1 for layer in layers if layer["done"]), "events": state["events"]}


def stop(reference, folder=FOLDER):
    """End the pull that goes on, if there is one: the engine keeps the layers that are whole."""
    path = _place(reference, folder, "lock")
    lock = _lock(path)
    if lock is not None:
        lock.close()
        return
    with open(path, encoding="utf-8") as stream:
        word = stream.read().strip()
    if word.isdigit():
        os.kill(int(word), signal.SIGTERM)


def watch(reference, seconds, folder=FOLDER, clock=time.monotonic, pause=time.sleep):
    """Return what look() says after so many seconds, or as soon as the pull has ended."""
    deadline = clock() + seconds
    while True:
        found = look(reference, folder)
        if not found["running"] or clock() >= deadline:
            return found
        pause(min(WRITE_S, max(0.0, deadline - clock())))
