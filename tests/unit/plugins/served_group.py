# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A served group as its API behaves, on a real port. While nothing is broken it answers everything as it should; a test breaks one thing of it.

Python 3.8 and the standard library only, as the code under test.
"""

from __future__ import annotations

import json

COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"
MODEL = "deepseek_r1"
WORDS = [" bright", " and", " wide", " as", " the", " sea", " is", " deep", "\n", " for", " all", " who", " sail"]


class Group:
    """Answers for web_server(). C(break_at): name of a question (path, or path and ' stream') -> function (asked, answer) -> another answer."""

    def __init__(self, model=MODEL, key=None, ranks=4, words=None):
        self.model, self.key, self.ranks, self.words = model, key, ranks, list(words or WORDS)
        self.names = [model]
        self.requests = 0
        self.metrics = b"vllm:num_requests_running 0\nvllm:num_requests_waiting 0\n"
        self.broken, self.counts = {}, {}
        #: Seconds between two chunks.
        self.pause = 0.0

    def breaks(self, question, answer):
        """Have a question answered by C(answer), or, when that is a function, by what it makes of (number of the question, answer)."""
        self.broken[question] = answer
        return self

    def __call__(self, asked):
        """Answer one request."""
        question, answer = self.whole(asked)
        self.counts[question] = self.counts.get(question, 0) + 1
        if question in self.broken:
            other = self.broken[question]
            return other(self.counts[question], answer) if callable(other) else other
        return answer

    def whole(self, asked):
        """Return (question, answer) while nothing is broken."""
        if asked.path == "/metrics":
            return "/metrics", (200, self.metrics)
        if self.key and asked.headers["Authorization"] != "Bearer " + self.key:
            return "no key" if asked.headers["Authorization"] is None else "wrong key", (401, {"error": "Unauthorized"})
        if asked.path == "/v1/models":
            return "/v1/models", (200, {"data": [{"id": name} for name in self.names]})
        body = asked.json()
        if body["model"] not in self.names:
            return asked.path, (404, {"error": {"message": "The model `%s` does not exist." % body["model"]}})
        rank = asked.headers["X-data-parallel-rank"]
        question = asked.path + (" stream" if body.get("stream") else "") + ("" if rank is None else " rank %s" % rank)
        words = self.words[:body["max_tokens"]]
        return question, self.streamed(asked.path, words, self.pause) if body.get("stream") else (200, self.answer(asked.path, words))

    def answer(self, path, words, **change):
        """Return an answer without a stream."""
        text = "".join(words)
        choice = {"text": text} if path == COMPLETIONS else {"message": {"role": "assistant", "content": text}}
        choice["finish_reason"] = "length"
        usage = {"prompt_tokens": 6, "completion_tokens": len(words)}
        return dict({"model": self.model, "choices": [choice], "usage": usage}, **change)

    def chunks(self, path, words):
        """Return the chunks of a stream, as data."""
        found = [{"delta": {"role": "assistant", "content": ""}}] if path == CHAT else []
        found += [{"text": word} if path == COMPLETIONS else {"delta": {"content": word}} for word in words]
        found[-1] = dict(found[-1], finish_reason="length")
        return [{"model": self.model, "choices": [dict({"finish_reason": None}, **choice)]} for choice in found]

    def streamed(self, path, words, pause=0.0, end=True):
        """Return a stream as a server of HTTP/1.1 sends it; without C(end) the connection is closed before [DONE]."""
        return sending([json.dumps(chunk) for chunk in self.chunks(path, words)] + (["[DONE]"] if end else []), pause)


def sending(events, pause=0.0, closed=True, forever=None, then=None):
    """Return what sends these events, each as a chunk of its own.

    Without C(closed) the server says nothing more afterwards, with C(forever) it goes on with this event. C(then) is called after each event.
    """
    def send(handler):
        handler.close_connection = True
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for event in events:
            chunk(handler, event)
            if then:
                then()
            handler.server.over.wait(pause)
        while forever is not None and not handler.server.over.is_set():
            chunk(handler, forever)
            handler.server.over.wait(pause)
        if not closed:
            handler.server.over.wait(30)
        if events and events[-1] == "[DONE]":
            handler.wfile.write(b"0\r\n\r\n")

    def chunk(handler, event):
        text = b"data: " + event.encode() + b"\n\n"
        handler.wfile.write(b"%x\r\n%s\r\n" % (len(text), text))
        handler.wfile.flush()

    return send
