# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A service that speaks as much of the OpenAI API as evaluation clients ask for, and knows the answers of one data set.

    mock_service.py --port N --questions FILE [--wrong N] [--fails one|all] [--cut] [--silent] [--model NAME]

What it gets wrong is chosen: so many wrong answers, one question or all that end with an HTTP error, answers that are cut off, or none at all.
Standard library only.
"""

from __future__ import annotations

import argparse
import json
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Service(ThreadingHTTPServer):
    """Knows the questions and what goes wrong."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, options: argparse.Namespace):
        super().__init__(("0.0.0.0", options.port), Handler)
        self.options = options
        with open(options.questions, encoding="utf-8") as lines:
            self.rows = [json.loads(line) for line in lines]

    def answer(self, prompt: str) -> tuple[int, str, str]:
        """Return (number of the question that stands last in a prompt, the answer, finish_reason); -1 for a prompt without any."""
        places = [prompt.rfind(row["question"]) for row in self.rows]
        number = max(range(len(places)), key=places.__getitem__)
        if places[number] < 0:
            return -1, " yes", "stop"
        if self.options.cut:
            return number, " Let us think step by step. First we", "length"
        right = self.rows[number]["answer"].rpartition("####")[2].strip()
        value = "999" if number < self.options.wrong else right
        return number, f" We count. The answer is \\boxed{{{value}}}. #### {value}", "stop"


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    server: Service

    def _send(self, status: int, body: dict) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self) -> None:
        if self.path == "/v1/models":
            return self._send(200, {"object": "list", "data": [{"id": self.server.options.model, "object": "model", "max_model_len": 8192}]})
        self._send(200 if self.path == "/health" else 404, {})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        options = self.server.options
        if asked["model"] != options.model:
            message = f"The model `{asked['model']}` does not exist."
            return self._send(404, {"error": {"message": message, "type": "NotFoundError", "param": "model", "code": 404}})
        if options.silent:
            time.sleep(3600)
        chat = "messages" in asked
        if self.path != ("/v1/chat/completions" if chat else "/v1/completions"):
            return self._send(404, {})
        if asked.get("stream"):
            return self._send(400, {"error": {"message": "this service does not stream", "type": "BadRequestError", "param": "stream", "code": 400}})
        prompts = ["\n".join(entry["content"] for entry in asked["messages"])] if chat else asked["prompt"]
        answers = [self.server.answer(prompt) for prompt in ([prompts] if isinstance(prompts, str) else prompts)]
        if options.fails == "all" or (options.fails == "one" and any(number == 1 for number, *_rest in answers)):
            message = "EngineCore encountered an issue. See stack trace (above) for the root cause."
            return self._send(500, {"error": {"message": message, "type": "InternalServerError", "param": None, "code": 500}})
        choices = []
        for index, (_number, text, reason) in enumerate(answers):
            said = {"message": {"role": "assistant", "content": text}} if chat else {"text": text, "logprobs": None}
            choices.append({"index": index, "finish_reason": reason, **said})
        tokens = sum(len(text.split()) for _number, text, _reason in answers)
        self._send(200, {"id": "mock", "object": "chat.completion" if chat else "text_completion", "created": int(time.time()), "model": options.model,
                         "choices": choices, "usage": {"prompt_tokens": 100, "completion_tokens": tokens, "total_tokens": 100 + tokens}})

    def log_message(self, format: str, *args) -> None:
        """Clients tell what failed."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--questions", required=True)
    parser.add_argument("--model", default="deepseek_r1")
    parser.add_argument("--wrong", type=int, default=0)
    parser.add_argument("--fails", choices=("one", "all"))
    parser.add_argument("--cut", action="store_true")
    parser.add_argument("--silent", action="store_true")
    Service(parser.parse_args()).serve_forever()


if __name__ == "__main__":
    main()
