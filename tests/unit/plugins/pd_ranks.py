# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ranks of prefill and decode groups as their connector behaves: answers for web_server(). Python 3.8 and the standard library only."""

from __future__ import annotations


class Rank:
    """What every rank answers; C(longest): C(max_model_len)."""

    def __init__(self, longest=None):
        self.longest = longest
        self.load = (0, 0)

    def __call__(self, asked):
        """Answer one request."""
        if asked.path == "/health":
            return (200,)
        if asked.path == "/metrics":
            return 200, b'vllm:num_requests_running{engine="0"} %d\nvllm:num_requests_waiting{engine="0"} %d\n' % self.load
        if asked.path == "/v1/models":
            return 200, {"data": [dict({"id": "m"}, **({"max_model_len": self.longest} if self.longest else {}))]}, {"Content-Type": "application/json"}
        answer = self.completion(asked.json())
        return answer + ({"Content-Type": "application/json"},)

    def completion(self, body):
        """Return (status, answer)."""
        raise NotImplementedError

    @staticmethod
    def text(text, **more):
        """Return a completion."""
        return 200, dict({"model": "m", "choices": [{"text": text, "finish_reason": "length"}], "usage": {"prompt_tokens": 6, "completion_tokens": 1}}, **more)


class Prefill(Rank):
    """Keeps the KV cache where it is asked to, under its name; without a name it has no connector."""

    def __init__(self, name, **more):
        super().__init__(**more)
        self.name = name

    def completion(self, body):
        """Return (status, answer)."""
        params = body.get("kv_transfer_params") or {}
        salt = body.get("cache_salt", "")
        if len(salt) > 128 or any(character in salt for character in "@/\\\0"):
            # As vLLM 0.32.0 does.
            return 400, {"error": {"message": "Parameter 'cache_salt' must be at most 128 characters and must not contain '@', '/', '\\\\', or NUL."}}
        if not params.get("do_remote_decode") or self.name is None:
            return self.text(" bright")
        return self.text(" b", kv_transfer_params={"do_remote_prefill": True, "do_remote_decode": False, "remote_engine_id": self.name,
                                                   "remote_block_ids": [1], "remote_host": "127.0.0.1", "remote_port": 28000})


class Decode(Rank):
    """Fetches what a prefill rank kept. The first C(failures) handshakes fail, those with C(deaf_to) always do; C(garbles): so often what comes
    is wrong."""

    def __init__(self, failures=0, deaf_to=None, garbles=0, **more):
        super().__init__(**more)
        self.failures, self.deaf_to, self.garbles = failures, deaf_to, garbles

    def completion(self, body):
        """Return (status, answer)."""
        params = body.get("kv_transfer_params")
        if not params:
            return self.text(" bright")
        self.failures -= 1
        if self.failures >= 0 or params["remote_engine_id"] == self.deaf_to:
            return 500, {"error": "handshake with %s failed" % params["remote_engine_id"]}
        self.garbles -= 1
        return self.text(" %%%" if self.garbles >= 0 else " bright")
