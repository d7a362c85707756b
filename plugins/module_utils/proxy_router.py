# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Questions to a proxy in front of replicas, or of prefill and decode ranks, and its list of backends while it runs.

What vllm-router answers is read from the source of 0.1.17 (src/server.rs, src/routers/http/router.rs, pd_router.rs, vllm_pd_router.rs):

- it starts as soon as one of its backends answers C(/health), and takes all of them for healthy then, until its own checks have failed three
  times: C(/readiness) counts a backend that never was there. So each backend is asked by the node as well.
- C(POST /add_worker) answers when the backend's C(/health) says 200, at most after ten minutes, and 400 for one that it has;
  C(POST /remove_worker) answers 200 for any address. Requests that a removed backend has go on to their end.
- without backends C(/readiness) says 503, but C(/health) says 200.
- in front of prefill and decode C(POST /remove_worker) works alike, but C(POST /add_worker) answers 400 for whatever it is asked: what was taken out
  comes back with a start of the router only. It tries no request again elsewhere, and sends the backends a key of its own, not the client's.
- none of this wants a key.

What vllm-ascend's C(load_balance_proxy_server_example.py) answers is read from its source at v0.13.0 and of August 2026: C(GET /healthcheck) counts the
instances that it has, healthy or not; C(POST /instances/add) and C(/instances/remove) answer with the list. The newer one goes on to list an instance
that it was asked to remove, and sends nobody there, until no request is left anywhere; it does not take that one back meanwhile.
"""

from __future__ import annotations

import json
import urllib.parse

from ansible_collections.ascend.vllm.plugins.module_utils import plain_http
from ansible_collections.ascend.vllm.plugins.module_utils.serve_api import Api

#: Seconds until an answer that takes no computation counts as none.
QUICK_S = 5.0
#: What a proxy of the plan may be.
KINDS = ("vllm-router", "vllm-ascend")


class RouterError(Exception):
    """The router answered what it should not; the text says what."""


def is_refused(error):
    """Return whether a port refused the connection: nobody listens there."""
    return isinstance(plain_http.cause(error), ConnectionRefusedError)


def compare(wanted, workers):
    """Return C({up, down, missing, other}), each a list of addresses, of the backends that are wanted and those that a router has.

    C(workers): address -> whether the router takes it for healthy. up, down: wanted and there; missing: wanted and not there; other: there and
    not wanted.
    """
    return {
        "up": [url for url in wanted if workers.get(url)],
        "down": [url for url in wanted if url in workers and not workers[url]],
        "missing": [url for url in wanted if url not in workers],
        "other": [url for url in workers if url not in wanted],
    }


class Router:
    """The vllm-router behind one base URL. Every method raises C(OSError) when there is no HTTP answer in time, RouterError for one that is odd."""

    def __init__(self, url, api_key=None):
        self.url = url.rstrip("/")
        self.headers = {"Authorization": "Bearer " + api_key} if api_key else {}

    def _ask(self, path, method="GET", timeout=QUICK_S):
        """Return (HTTP status, text)."""
        status, dummy, body = plain_http.request(self.url + path, method, b"" if method == "POST" else None, self.headers, timeout)
        return status, body.decode("utf-8", "replace")

    def readiness(self):
        """Return C({status, healthy, total}): the HTTP status, and how many backends it has and takes for healthy, null where it does not say."""
        status, text = self._ask("/readiness")
        try:
            said = json.loads(text)
        except ValueError:
            said = None
        said = said if isinstance(said, dict) else {}
        sides = [said[side] for side in ("prefill", "decode") if isinstance(said.get(side), dict)]
        if sides:
            return dict({"status": status}, **dict((key, sum(int(side.get(key) or 0) for side in sides)) for key in ("healthy", "total")))
        healthy = said.get("healthy_workers", 0 if status == 503 and "total_workers" in said else None)
        return {"status": status, "healthy": healthy, "total": said.get("total_workers")}

    def workers(self):
        """Return address -> whether the router takes it for healthy, of all its backends."""
        status, text = self._ask("/workers")
        try:
            return dict((str(worker["url"]), bool(worker["is_healthy"])) for worker in json.loads(text)["workers"])
        except (ValueError, KeyError, TypeError) as error:
            raise RouterError("%s/workers answered HTTP %d and no list of backends: %s" % (self.url, status, " ".join(text.split())[:200])) from error

    def add(self, backend, timeout):
        """Put a backend in; one that does not answer C(/health) makes this wait until the time is over. One that is in is left as it is."""
        status, text = self._ask("/add_worker?" + urllib.parse.urlencode({"url": backend}), "POST", timeout)
        if status != 200 and not (status == 400 and "already exists" in text):
            raise RouterError("%s did not take in %s: HTTP %d: %s" % (self.url, backend, status, " ".join(text.split())[:200]))

    def remove(self, backend):
        """Take a backend out: no new request is sent there. What it has is not touched."""
        status, text = self._ask("/remove_worker?" + urllib.parse.urlencode({"url": backend}), "POST")
        if status != 200:
            raise RouterError("%s did not let go of %s: HTTP %d: %s" % (self.url, backend, status, " ".join(text.split())[:200]))


class Example(Router):
    """vllm-ascend's example proxy behind one base URL."""

    def readiness(self):
        """Return C({status, healthy, total}) as Router does; it takes all of its instances for healthy."""
        status, text = self._ask("/healthcheck")
        try:
            total = sum(int(json.loads(text)["%s_instances" % side]) for side in ("prefill", "decode"))
        except (ValueError, KeyError, TypeError):
            total = None
        return {"status": status, "healthy": total, "total": total}

    def _change(self, how, side, instances):
        """Ask for a change of the list of one side; return all addresses that it has then, without a scheme."""
        url = "%s/instances/%s" % (self.url, how)
        status, answer, text = plain_http.post_json(url, {"type": side, "instances": instances}, self.headers, QUICK_S)
        try:
            return [str(entry) for name in ("current_prefill_instances", "current_decode_instances") for entry in answer[name]]
        except (KeyError, TypeError) as error:
            raise RouterError("%s answered HTTP %d and no list of instances: %s" % (url, status, " ".join(text.split())[:200])) from error

    def workers(self):
        """Return address -> true, of all its backends, those that it was asked to remove and still has requests for among them."""
        # Nothing added is how the list is asked for.
        return dict(("http://" + place, True) for place in self._change("add", "prefill", []))

    def add(self, backend, timeout):
        """It does not take back an instance that it was asked to remove while it still lists that one."""
        raise NotImplementedError

    def remove(self, backend):
        """Take a backend out: no new request is sent there. What it has is not touched."""
        for side in ("prefill", "decode"):
            self._change("remove", side, [urllib.parse.urlsplit(backend).netloc])


def proxy_of(given):
    """Return what asks a proxy; C(given) has C(kind), C(url) and C(api_key)."""
    return {"vllm-router": Router, "vllm-ascend": Example}[given["kind"]](given["url"], given["api_key"])


def running(given):
    """Return (its kind, what asks it, its backends) of the proxy that runs there, which may still be of another kind than C(given) says.

    Whoever launches the proxy replaces such a one; till then it understands its own words only. Raises as Router.workers, in the words of the kind
    that was given.
    """
    refused = None
    for kind in sorted(KINDS, key=lambda kind: kind != given["kind"]):
        proxy = proxy_of(dict(given, kind=kind))
        try:
            return kind, proxy, proxy.workers()
        except RouterError as error:
            refused = refused or error
    raise refused


def unreachable(backends):
    """Return address -> why its C(/health) does not say 200 to this node, of those backends for which that is so."""
    found = {}
    for backend in backends:
        try:
            status = Api(backend).health(QUICK_S)
        except (OSError, ValueError) as error:
            found[backend] = plain_http.reason(error)
            continue
        if status != 200:
            found[backend] = "HTTP %d" % status
    return found


def state_of(router, backends, also=()):
    """Return C({answers, error, readiness, up, down, missing, other, unreachable, ready}) of a router that should have these backends.

    ready: it has exactly these, takes all of them for healthy, and each answers this node, too. C(also): backends that it may have beside these, in
    whatever state.
    """
    found = dict({"answers": False, "error": None, "readiness": None, "unreachable": {}, "ready": False}, **compare(backends, {}))
    try:
        found["readiness"] = router.readiness()
        found.update(compare(backends, router.workers()))
        found["answers"] = True
    except OSError as error:
        found["error"] = "%s: %s" % (router.url, plain_http.reason(error))
    except RouterError as error:
        found["error"] = str(error)
    found["other"] = [url for url in found["other"] if url not in also]
    found["unreachable"] = unreachable(backends)
    counted = found["readiness"] or {}
    # The router's own numbers are of all that it has.
    counts = also or counted.get("healthy") == counted.get("total") == len(backends)
    found["ready"] = bool(
        found["answers"] and counted["status"] == 200 and counts and len(found["up"]) == len(backends) and not found["other"] and not found["unreachable"])
    return found
