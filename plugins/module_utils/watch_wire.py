# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The messages between the watches of a group: small JSON bodies over HTTP, both directions signed with the group's key.

A request is C({group, unit, nonce, challenge, report}), its answer C({nonce, challenge, accepted, ..}); the header C(X-Ascend-MAC) is
HMAC-SHA256 over the direction and the body. An answer repeats the random nonce of its request, so an old answer, or one of a head
without the key, is refused. A request has to repeat the challenge of the head's last answer to this unit, which is used once, so an old
request is refused; clocks need not agree. What is refused changes nothing, so that repeating old messages disturbs nobody.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import http.server
import json
import secrets
import socketserver
import threading

MAC_HEADER = "X-Ascend-MAC"
PATH = "/watch"
#: No message is longer.
LONGEST = 65536
#: Seconds for one message.
TIMEOUT_S = 5.0
REQUEST, ANSWER = b"request\n", b"answer\n"


def sign(key, direction, body):
    """Return the signature of a body (bytes) in one direction, as hexadecimal text."""
    return hmac.new(key, direction + body, hashlib.sha256).hexdigest()


def opened(key, direction, body, mac):
    """Return the mapping in a signed body, or None if it is not signed with this key, or is no mapping."""
    if not hmac.compare_digest(sign(key, direction, body).encode(), (mac or "").encode("utf-8", "replace")):
        return None
    try:
        found = json.loads(body.decode("utf-8"))
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


class Desk:
    """The head's side. C(hear): a function (unit, report) -> what to answer, both mappings; called by one thread at a time."""

    def __init__(self, key, group, units, hear):
        self.key = key
        self.group = group
        self.hear = hear
        self.challenges = {unit: secrets.token_hex(16) for unit in units}
        self.lock = threading.Lock()

    def handle(self, body, mac):
        """Return (HTTP status, body, signature) for a request."""
        found = opened(self.key, REQUEST, body, mac)
        ours = found is not None and found.get("group") == self.group and str(found.get("unit")) in self.challenges
        if not ours or not isinstance(found.get("report"), dict):
            return 403, b"", ""
        with self.lock:
            unit, answer = str(found["unit"]), {"accepted": False}
            if found.get("challenge") == self.challenges[unit]:
                self.challenges[unit] = secrets.token_hex(16)
                answer = dict(self.hear(unit, found["report"]), accepted=True)
            answer.update(nonce=found.get("nonce"), challenge=self.challenges[unit])
        said = json.dumps(answer).encode("utf-8")
        return 200, said, sign(self.key, ANSWER, said)


class Link:
    """A headless unit's side. C(post): a function (body, signature) -> (HTTP status, body, signature) that raises C(OSError)."""

    def __init__(self, key, group, unit, post):
        self.key = key
        self.group = group
        self.unit = unit
        self.post = post
        self.challenge = ""

    def exchange(self, report):
        """Give a report to the head and return its answer; raise C(OSError) if there is none that can be believed."""
        # The first message after a start of either side has no challenge that counts, and is answered with one.
        for dummy in range(2):
            nonce = secrets.token_hex(16)
            body = json.dumps({"group": self.group, "unit": self.unit, "nonce": nonce, "challenge": self.challenge, "report": report}).encode("utf-8")
            status, said, mac = self.post(body, sign(self.key, REQUEST, body))
            if status != 200:
                raise OSError("the head answered HTTP %d%s" % (status, ": it has another key, or this unit is not of its group" if status == 403 else ""))
            answer = opened(self.key, ANSWER, said, mac)
            if answer is None or answer.get("nonce") != nonce:
                raise OSError("an answer that was not signed by the head")
            self.challenge = answer.get("challenge")
            if answer.get("accepted") is True:
                return answer
        raise OSError("the head does not take the message")


def poster(address, port):
    """Return the C(post) of a Link to a real head."""

    def post(body, mac):
        connection = http.client.HTTPConnection(address, port, timeout=TIMEOUT_S)
        try:
            connection.request("POST", PATH, body, {MAC_HEADER: mac, "Content-Type": "application/json"})
            answer = connection.getresponse()
            return answer.status, answer.read(LONGEST), answer.headers.get(MAC_HEADER) or ""
        except http.client.HTTPException as error:
            raise OSError("no valid HTTP answer: %s" % (str(error) or type(error).__name__)) from error
        finally:
            connection.close()

    return post


class _Handler(http.server.BaseHTTPRequestHandler):
    """Hands a request to the desk."""

    timeout = TIMEOUT_S

    def do_POST(self):  # pylint: disable=invalid-name
        """Answer one message."""
        size = self.headers.get("Content-Length") or ""
        if self.path != PATH or not size.isdigit() or int(size) > LONGEST:
            self.send_error(404)
            return
        status, said, mac = self.server.desk.handle(self.rfile.read(int(size)), self.headers.get(MAC_HEADER))
        self.send_response(status)
        self.send_header(MAC_HEADER, mac)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *args):  # pylint: disable=arguments-differ
        """Say nothing: every unit asks every two seconds."""


class Server(socketserver.ThreadingTCPServer):
    """The head's port. Not http.server's own class, which asks the resolver for the host's name before it listens."""

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False

    def __init__(self, address, port, desk):
        super().__init__((address, port), _Handler)
        self.desk = desk
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.2}, daemon=True).start()

    def handle_error(self, request, client_address):
        """Say nothing of a client that hung up."""

    def close(self):
        """Listen no more."""
        self.shutdown()
        self.server_close()
