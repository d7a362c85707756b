# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Questions to the API of a group: what it serves, whether it answers, how many requests it has."""

from __future__ import annotations

import json
import math
import re

from ansible_collections.ascend.vllm.plugins.module_utils import event_stream, plain_http

#: The tutorial's prompt.
PROMPT = "The future of AI is"
#: One line of a Prometheus text: a name, labels, a value.
_SAMPLE = re.compile(r"^([A-Za-z_:][A-Za-z0-9_:]*)(?:\{(.*)\})?\s+(\S+)")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
#: vLLM's gauges of requests that are computed and of those that wait for it, one sample an engine.
RUNNING, WAITING = "vllm:num_requests_running", "vllm:num_requests_waiting"
#: vLLM's counters of tokens that were read and written.
TOKENS = ("vllm:prompt_tokens_total", "vllm:generation_tokens_total")

#: What of KV transfer -> the counters that say it, the first one that there is. Since a rank started, of v0.13.0 and later: those of NIXL are not there
#: with another connector; vllm-ascend's has none of its own (vllm/v1/metrics/loggers.py, kv_connector/v1/nixl and mooncake_connector.py).
#: The first one, of later releases, counts what has arrived; the one beside it what a request was admitted with.
TRANSFERS = {
    "tokens": (("vllm:prompt_tokens_by_source_total", "external_kv_transfer"), ("vllm:external_prefix_cache_hits_total", None)),
    "asked": (("vllm:external_prefix_cache_queries_total", None),),
    "transfers": (("vllm:nixl_bytes_transferred_count", None),),
    "bytes": (("vllm:nixl_bytes_transferred_sum", None),),
    "failed": (("vllm:nixl_num_failed_transfers_total", None),),
    "expired": (("vllm:nixl_num_kv_expired_reqs_total", None),),
}


def samples(text):
    """Return C([(name, {label: value}, number)]) of a Prometheus text; lines that are none are left out."""
    found = []
    for line in text.splitlines():
        match = _SAMPLE.match(line)
        if match:
            try:
                found.append((match.group(1), dict(_LABEL.findall(match.group(2) or "")), float(match.group(3))))
            except ValueError:
                continue
    return found


class Api:
    """The API behind one base URL. Every method raises C(OSError) when there is no HTTP answer in time."""

    def __init__(self, url, api_key=None, ca_file=None):
        """C(ca_file): the certificates that vouch for an C(https) service."""
        self.url, self.api_key = url.rstrip("/"), api_key
        self.headers = {"Authorization": "Bearer " + api_key} if api_key else {}
        self.ca_file = ca_file

    def at(self, url):
        """Return the same at another base URL."""
        return Api(url, self.api_key, self.ca_file)

    def get(self, path, timeout=5.0):
        """Return (HTTP status, text) of a question that asks for nothing to be computed."""
        status, dummy, body = plain_http.request(self.url + path, headers=self.headers, timeout=timeout, ca_file=self.ca_file)
        return status, body.decode("utf-8", "replace")

    def health(self, timeout=2.0):
        """Return the HTTP status of C(/health). It goes on saying 200 with a peer dead or its link down: only a completion shows that a group works."""
        return self.get("/health", timeout)[0]

    def models(self, timeout=5.0):
        """Return (HTTP status, names that are served)."""
        status, text = self.get("/v1/models", timeout)
        try:
            entries = json.loads(text).get("data") or []
            return status, [str(entry["id"]) for entry in entries if isinstance(entry, dict) and "id" in entry]
        except (ValueError, AttributeError, TypeError):
            return status, []

    def post(self, path, body, timeout, rank=None):
        """Return (HTTP status, decoded answer or None, its text) of one request; C(rank) as for completion()."""
        headers = dict(self.headers)
        if rank is not None:
            headers["X-data-parallel-rank"] = str(rank)
        return plain_http.post_json(self.url + path, body, headers, timeout, self.ca_file)

    def stream(self, path, body, timeout):
        """Yield (HTTP status, text of one event's C(data)) as they arrive; see event_stream. C(timeout) is for all of them."""
        return event_stream.events(event_stream.parts(self.url + path, body, self.headers, timeout, self.ca_file))

    def completions(self, model, timeout, rank=None, max_tokens=1, prompt=PROMPT):
        """Return (HTTP status, decoded answer or None, its text) of one request to C(/v1/completions); C(rank) as for completion()."""
        return self.post("/v1/completions", {"model": model, "prompt": prompt, "max_tokens": max_tokens, "temperature": 0}, timeout, rank)

    def completion(self, model, timeout, rank=None, max_tokens=1, prompt=PROMPT):
        """Return (answered, HTTP status, text of the completion, or of what came instead).

        C(rank): the data-parallel rank that is to compute it (header C(X-data-parallel-rank), vLLM 0.11 and newer).
        """
        status, answer, text = self.completions(model, timeout, rank, max_tokens, prompt)
        choices = answer.get("choices") if isinstance(answer, dict) else None
        if status == 200 and choices and isinstance(choices[0], dict):
            return True, status, str(choices[0].get("text") or "")
        return False, status, text

    def serves(self, model, timeout=5.0):
        """Return (whether C(/health) says 200 and the model is served, HTTP status, what came): what may be asked of a decode rank by itself."""
        health = self.health(timeout)
        status, names = self.models(timeout) if health == 200 else (health, [])
        return model in names, status, "/v1/models has %s" % (", ".join(names) or "no model")

    def load(self, timeout=5.0):
        """Return (C({running, waiting}), tokens computed since the start), summed over the engines; None where the metrics do not say it."""
        status, text = self.get("/metrics", timeout)
        counted = {}
        if status == 200:
            for name, dummy, value in samples(text):
                if name in (RUNNING, WAITING) + TOKENS and math.isfinite(value):
                    counted[name] = counted.get(name, 0) + int(value)
        requests = {"running": counted[RUNNING], "waiting": counted[WAITING]} if RUNNING in counted and WAITING in counted else None
        tokens = [counted[name] for name in TOKENS if name in counted]
        return requests, sum(tokens) if tokens else None

    def transfers(self, timeout=5.0):
        """Return what the metrics say of KV transfer since the rank started: TRANSFERS' names to numbers, None for what they do not say."""
        status, text = self.get("/metrics", timeout)
        counted = {}
        for name, labels, value in samples(text) if status == 200 else []:
            if math.isfinite(value):
                key = (name, labels.get("source"))
                counted[key] = counted.get(key, 0) + int(value)
        return dict((what, next((counted[key] for key in keys if key in counted), None)) for what, keys in TRANSFERS.items())

    def requests(self, timeout=5.0):
        """Return C({running, waiting}), summed over the engines, or None where the metrics do not say it."""
        return self.load(timeout)[0]


class Several:
    """Several APIs of a node, whose load is counted as one."""

    def __init__(self, apis):
        self.apis = apis

    def requests(self, timeout=5.0):
        """Return what Api.requests() returns, added up."""
        return self.load(timeout)[0]

    def load(self, timeout=5.0):
        """Return what Api.load() returns, added up; None for what one of them does not say. One at which nobody listens has no request."""
        counted, refused = [], None
        for api in self.apis:
            try:
                counted.append(api.load(timeout))
            except OSError as error:
                if not isinstance(plain_http.cause(error), ConnectionRefusedError):
                    raise
                refused = error
        if refused and not counted:
            raise refused
        requests, tokens = zip(*counted)
        summed = dict((key, sum(entry[key] for entry in requests)) for key in ("running", "waiting")) if all(requests) else None
        return summed, sum(tokens) if None not in tokens else None
