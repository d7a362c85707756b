# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Questions to a served group whose answers are judged elsewhere: what came, or why nothing did, never an exception.

An I(answer) is C({answered, status, seconds, timed_out, failure, text, model, usage, finish_reason, path, prompt, max_tokens, expected, matched}):
C(answered) is an HTTP 200 with a text of the model, C(failure) the kind of an error without HTTP answer (see failure_of()), C(text) what came
or why nothing did, and C(matched) whether it has a match of C(expected), null where nothing is expected.

A I(stream) is C({ended, status, seconds, timed_out, failure, error, text, chunks, first_s, spread_s, finish_reason, model, endless, path, same,
stable, unstreamed}): C(ended) is the event [DONE], C(text) all chunks joined, C(first_s) and C(spread_s) seconds until the first chunk and from
there to the last one; C(same) is whether the text is the one without a stream, C(stable) whether those without a stream are all the same.
"""

from __future__ import annotations

import json
import queue
import re
import socket
import ssl
import threading
import time
import uuid

from ansible_collections.ascend.vllm.plugins.module_utils import plain_http
from ansible_collections.ascend.vllm.plugins.module_utils.serve_api import Api

#: Ranks that are asked at the same moment.
AT_ONCE = 16
#: Seconds for the questions for which nothing is computed.
QUICK_S = 5.0
#: Seconds for a request that has to be refused.
REFUSE_S = 30.0
#: A completion of one token, or an error, is kept to so many characters.
TEXT = 300
#: More chunks than this for each token asked for, and a few more, are a stream without an end.
CHUNKS_A_TOKEN, CHUNKS_MORE = 4, 64
#: Seconds that the question under way gets beyond the limit of all of them.
GRACE_S = 2.0
#: Seconds that the ranks get beyond their time, for answers that are on their way; less than what all questions get.
RANKS_GRACE_S = 1.0
COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"
#: Depth -> questions, in their order. The first one tells whether there is any use in the others that are computed.
DEPTHS = {
    "completion": ("completion", "questions"),
    "full": ("models", "requests", "completion", "repeat", "stream", "chat", "chat_stream", "questions", "ranks", "key_refusals"),
}
#: Questions that nothing is computed for.
CHEAP = ("models", "requests", "completion", "key_refusals")


def why(error):
    """Return what a failed question says; a key that no header can carry is not shown."""
    if isinstance(error, OSError):
        return plain_http.reason(error)[:TEXT]
    return "the question could not be sent: the URL, or the API key, has a character that is not allowed there"


def failure_of(error, ca_file=None):
    """Return (kind, text) of a question without an HTTP answer.

    Kinds: C(hung), C(refused) (nobody listens, or the connection is broken off), C(certificate), C(tls), C(ca_file), C(silent).
    """
    cause = plain_http.cause(error)
    if isinstance(cause, socket.timeout):
        return "hung", why(error)
    if isinstance(cause, ssl.SSLCertVerificationError):
        return "certificate", "a certificate that %s does not vouch for: %s" % (ca_file or "the system", cause.verify_message)
    if isinstance(cause, ssl.SSLError):
        return "tls", "no TLS that can be understood: %s" % why(error)
    if isinstance(cause, FileNotFoundError) and ca_file:
        return "ca_file", "no file %s" % ca_file
    return "refused" if isinstance(cause, ConnectionError) else "silent", why(error)


def completion(api, model, timeout, rank=None):
    """Ask for one token within a time. Return C({answered, status, seconds, timed_out, text})."""
    began, timed_out = time.monotonic(), False
    try:
        answered, status, text = api.completion(model, timeout, rank=rank)
    except (OSError, ValueError) as error:
        answered, status, text = False, None, why(error)
        timed_out = failure_of(error)[0] == "hung"
    return {"answered": answered, "status": status, "seconds": round(time.monotonic() - began, 3), "timed_out": timed_out, "text": text[:TEXT]}


def ask_ranks(api, model, ranks, timeout, limit=None, urls=()):
    """Return the completion of every rank, asked at the same moment: of a group whose ranks compute in step, none answers before the others.

    C(urls): where each rank answers by itself, of a group that has no API for all of them. C(timeout): seconds for each completion; C(limit): for
    all of them, by itself a timeout for each AT_ONCE ranks. A rank without an answer then has timed out, whatever its connection does.
    """
    waiting, found, own = queue.Queue(), {}, [api.at(url) for url in urls]
    until = time.monotonic() + (timeout * -(-ranks // AT_ONCE) if limit is None else limit) + RANKS_GRACE_S
    for rank in range(ranks):
        waiting.put(rank)

    def work():
        while time.monotonic() < until:
            try:
                rank = waiting.get_nowait()
            except queue.Empty:
                return
            found[rank] = completion(own[rank], model, timeout) if own else completion(api, model, timeout, rank)

    # Daemons: a server that sends a byte now and then keeps nobody from ending.
    workers = [threading.Thread(target=work, daemon=True) for dummy in range(min(AT_ONCE, ranks))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(max(0.0, until - time.monotonic()))
    known = dict(found)
    over = {"answered": False, "status": None, "seconds": round(timeout, 3), "timed_out": True, "text": "no answer within %g s" % timeout}
    return [dict(known.get(rank, over), rank=rank) for rank in range(ranks)]


def words_of(part):
    """Return the text of a choice of a completion, or of a message or delta of a chat, which a reasoning model begins with its reasoning; or None."""
    if not isinstance(part, dict):
        return None
    if "text" in part:
        return part["text"] if isinstance(part["text"], str) else None
    said = part.get("message") or part.get("delta")
    if not isinstance(said, dict):
        return None
    # One thing under an old and a new name.
    return str(said.get("reasoning") or said.get("reasoning_content") or "") + str(said.get("content") or "")


def choice_of(answer):
    """Return the first choice of a decoded answer, or None."""
    choices = answer.get("choices") if isinstance(answer, dict) else None
    return choices[0] if isinstance(choices, list) and choices else None


def body_of(model, path, prompt, max_tokens):
    """Return the body of a request for a text at temperature 0."""
    asked = {"prompt": prompt} if path == COMPLETIONS else {"messages": [{"role": "user", "content": prompt}]}
    return dict(asked, model=model, max_tokens=max_tokens, temperature=0)


def squeezed(text):
    """Return a text without the blanks that a parser of reasoning may leave or take away."""
    return "".join(text.split())


def one_line(text):
    """Return a server's words on one line, and short."""
    return " ".join(text.split())[:TEXT]


class Questions:
    """The questions of verify to one group. C(said) grows with every answer, so that what is known is known when the time is over."""

    def __init__(self, options):
        """C(options): those of the module serve_answers."""
        self.options = options
        self.api = Api(options["url"], options["api_key"], options["ca_file"])
        self.until = time.monotonic() + options["limit_s"]
        unwanted = {"questions": not options["questions"], "key_refusals": not options["api_key"]}
        self.names = [name for name in DEPTHS[options["depth"]] if not unwanted.get(name)]
        self.said = {}

    def run(self):
        """Return (answers by the name of the question, names of questions that were not asked, whether the time was over)."""
        broken = []

        def work():
            try:
                self.ask_all()
            except Exception as error:  # pylint: disable=broad-except
                broken.append(error)

        # A daemon: a server that sends a byte now and then does not keep the module from ending.
        worker = threading.Thread(target=work, daemon=True)
        worker.start()
        worker.join(self.left() + GRACE_S)
        if broken:
            raise broken[0]
        said = dict(self.said)
        missing = [name for name in self.names if name not in said]
        return said, missing, bool(missing) and self.left() <= 0

    def left(self):
        """Return the seconds that are left for all questions."""
        return max(0.0, self.until - time.monotonic())

    def ask_all(self):
        """Ask one question after the other while there is time."""
        for name in self.names:
            if self.left() <= 0:
                return
            if name in CHEAP or self.worth_asking(name):
                found = getattr(self, name)()
                if found is not None:
                    self.said[name] = found

    def worth_asking(self, name):
        """Return whether a question that is computed has a chance; where one hangs or fails, some ranks may still answer."""
        first = self.said["completion"]
        return first["answered"] or (name == "ranks" and (first["timed_out"] or (first["status"] or 0) >= 500))

    def time_for(self, most=None):
        """Return the seconds that one request gets."""
        return max(0.1, min(self.left(), most or self.options["timeout_s"]))

    def answer(self, path, prompt=None, max_tokens=None, expected="", api=None, most=None):
        """Ask for one text. Return an answer."""
        prompt = self.options["prompt"] if prompt is None else prompt
        max_tokens = max_tokens or self.options["max_tokens"]
        said = dict.fromkeys(("status", "failure", "model", "usage", "finish_reason", "matched"))
        said.update(answered=False, timed_out=False, text="", path=path, prompt=prompt, max_tokens=max_tokens, expected=expected)
        began = time.monotonic()
        try:
            said["status"], answer, text = (api or self.api).post(path, body_of(self.options["model"], path, prompt, max_tokens), self.time_for(most))
        except (OSError, ValueError) as error:
            said["failure"], said["text"] = failure_of(error, self.options["ca_file"]) if isinstance(error, OSError) else ("silent", why(error))
            said["timed_out"] = said["failure"] == "hung"
        else:
            choice = choice_of(answer)
            words = words_of(choice)
            said.update(answered=said["status"] == 200 and words is not None, text=one_line(text))
            if said["answered"]:
                usage = answer.get("usage")
                said.update(text=words, model=answer.get("model"), usage=usage if isinstance(usage, dict) else None, finish_reason=choice.get("finish_reason"))
                said["matched"] = bool(re.search(expected, words)) if expected else None
        said["seconds"] = round(time.monotonic() - began, 3)
        return said

    def streamed(self, path):
        """Ask for one text as a stream. Return a stream without what it is compared with."""
        said = dict.fromkeys(("status", "failure", "error", "first_s", "spread_s", "finish_reason", "model"))
        said.update(ended=False, timed_out=False, endless=False, text="", chunks=0, path=path)
        most = CHUNKS_A_TOKEN * self.options["max_tokens"] + CHUNKS_MORE
        texts, moments, data, began = [], [], "", time.monotonic()
        body = dict(body_of(self.options["model"], path, self.options["prompt"], self.options["max_tokens"]), stream=True)
        try:
            for said["status"], data in self.api.stream(path, body, self.time_for()):
                if said["status"] != 200:
                    said["error"] = one_line(data)
                    break
                if data == "[DONE]":
                    said["ended"] = True
                    break
                chunk = json.loads(data)
                if chunk.get("error") or chunk.get("object") == "error":
                    said["error"] = one_line(data)
                    break
                choice = choice_of(chunk) or {}
                said["finish_reason"] = choice.get("finish_reason") or said["finish_reason"]
                said["model"] = chunk.get("model") or said["model"]
                words = words_of(choice)
                if words:
                    texts.append(words)
                    moments.append(time.monotonic())
                # Empty ones never end, either.
                said["chunks"] += 1
                if said["chunks"] > most:
                    said["endless"] = True
                    break
        except OSError as error:
            said["failure"], said["error"] = failure_of(error, self.options["ca_file"])
            said["timed_out"] = said["failure"] == "hung"
        except (ValueError, AttributeError, TypeError):
            said["error"] = "an event that is no chunk: %s" % one_line(data)
        said.update(text="".join(texts), chunks=len(texts), seconds=round(time.monotonic() - began, 3))
        if moments:
            said.update(first_s=round(moments[0] - began, 3), spread_s=round(moments[-1] - moments[0], 3))
        return said

    def compared(self, path, plain):
        """Return a stream with C(same), C(stable) and C(unstreamed). Texts that differ are asked for once more, streamed and not: a service that is
        not deterministic has no broken stream. C(plain): the answers without a stream so far."""
        alike = squeezed if path == CHAT else str
        texts, stream = [entry["text"] for entry in plain if entry["answered"]], self.streamed(path)
        streams = [stream]
        if stream["ended"] and texts and alike(stream["text"]) not in map(alike, texts) and self.left() > 0:
            again = self.answer(path)
            texts += [again["text"]] if again["answered"] else []
            streams += [self.streamed(path)]
        known = set(map(alike, texts))
        stream.update(same=any(entry["ended"] and alike(entry["text"]) in known for entry in streams) if texts else None,
                      stable=len(known) < 2, unstreamed=texts[0] if texts else None)
        return stream

    def models(self):
        """Return C({status, names}) of /v1/models, or None where nobody answers."""
        try:
            status, names = self.api.models(self.time_for(QUICK_S))
        except (OSError, ValueError):
            return None
        return {"status": status, "names": names}

    def requests(self):
        """Return C({running, waiting}), the requests of others, or C({}) where the metrics do not say it."""
        try:
            return self.api.requests(self.time_for(QUICK_S)) or {}
        except (OSError, ValueError):
            return {}

    def completion(self):
        """Return the answer to the tutorial's request."""
        return self.answer(COMPLETIONS, expected=self.options["expected"])

    def repeat(self):
        """Return the answer to the same request once more."""
        return self.answer(COMPLETIONS)

    def stream(self):
        """Return the stream of the same request."""
        return self.compared(COMPLETIONS, [self.said["completion"], self.said["repeat"]])

    def chat(self):
        """Return the answer to the prompt as a chat."""
        return self.answer(CHAT)

    def chat_stream(self):
        """Return the stream of the chat."""
        return self.compared(CHAT, [self.said["chat"]])

    def questions(self):
        """Return the answers to the operator's questions, or None when there was no time for all of them."""
        found = []
        for entry in self.options["questions"]:
            if self.left() <= 0:
                return None
            found.append(self.answer(CHAT if entry["chat"] else COMPLETIONS, entry["prompt"], entry["max_tokens"], entry["expected"]))
        return found

    def ranks(self):
        """Return a completion of every rank; that of one rank alone is the first one."""
        if self.options["ranks"] == 1:
            first = self.said["completion"]
            return [dict(((key, first[key]) for key in ("answered", "status", "seconds", "timed_out")), text=first["text"][:TEXT], rank=0)]
        return ask_ranks(self.api, self.options["model"], self.options["ranks"], self.time_for(), self.left(), self.options["rank_urls"])

    def key_refusals(self):
        """Return C({wrong, none}): what a request with another key, and one without a key, gets; None where nobody listens."""
        first = self.said["completion"]
        if first["status"] is None and not first["timed_out"]:
            return None
        found = {}
        for name, key in (("wrong", "not-the-key-%s" % uuid.uuid4().hex), ("none", None)):
            api = Api(self.options["url"], key, self.options["ca_file"])
            found[name] = self.answer(COMPLETIONS, max_tokens=1, api=api, most=min(REFUSE_S, self.options["timeout_s"]))
        return found
