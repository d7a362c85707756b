# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An answer that arrives bit by bit: a JSON request that goes straight to the service, and the server-sent events that come back."""

from __future__ import annotations

import http.client
import json
import socket
import time
import urllib.parse

from ansible_collections.ascend.vllm.plugins.module_utils import plain_http

#: Bytes that are read at once.
PART = 65536


def parts(url, value, headers=None, timeout=10.0, ca_file=None):
    """Yield (HTTP status, bytes) whenever a part of the answer has arrived.

    C(timeout) is for all of it, in seconds, and not for each part. C(ca_file): as in plain_http.request(). Raises C(OSError):
    C(socket.timeout) when the time is over, C(ConnectionError) for an answer that breaks off in the middle of a chunk.
    """
    until, place = time.monotonic() + timeout, urllib.parse.urlsplit(url)
    if place.scheme == "https":
        context = plain_http.verifying(ca_file) if ca_file else None
        connection = http.client.HTTPSConnection(place.hostname, place.port, timeout=timeout, context=context)
    else:
        connection = http.client.HTTPConnection(place.hostname, place.port, timeout=timeout)
    given = {"Content-Type": "application/json", "Accept": "text/event-stream"}
    given.update(headers or {})
    try:
        connection.connect()
        # The connection forgets its socket when the server is to close it after the answer.
        wire = connection.sock
        connection.request("POST", place.path, json.dumps(value).encode(), given)
        answer = connection.getresponse()
        while True:
            left = until - time.monotonic()
            if left <= 0:
                raise socket.timeout("timed out")
            wire.settimeout(left)
            part = answer.read1(PART)
            if not part:
                return
            yield answer.status, part
    except http.client.IncompleteRead as error:
        raise ConnectionError("the answer broke off") from error
    except http.client.HTTPException as error:
        raise OSError("no valid HTTP answer: %s" % plain_http.reason(error)) from error
    finally:
        connection.close()


def events(arriving):
    """Yield (HTTP status, text of one event's C(data)) of what parts() yields; of an answer that is no HTTP 200 the whole text, once."""
    rest, refused = b"", None
    for status, part in arriving:
        rest += part
        if status != 200:
            refused = status
            continue
        *whole, rest = rest.split(b"\n")
        for line in whole:
            if line.startswith(b"data:"):
                yield status, line[5:].strip().decode("utf-8", "replace")
    if refused is not None:
        yield refused, rest.decode("utf-8", "replace")
