# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Watch until an API has no request left: what a drain and a proxy that lets go of a backend both wait for."""

from __future__ import annotations

import time

from ansible_collections.ascend.vllm.plugins.module_utils import plain_http

LOOK_S = 0.5
#: The API counts a request with the first step that computes it, which takes a moment: so long nothing has to be there.
QUIET_S = 3.0
#: So many times in a row nobody listens, or the metrics do not count requests: then there is nothing to watch.
MISSES = 3
#: Requests of an API that did not answer: it may be busy with them.
NO_ANSWER = {}


def look(api):
    """Return (requests, tokens) as the API says them now; None for what it does not say, or where nobody listens, and C(NO_ANSWER) if no answer came."""
    try:
        return api.load()
    except OSError as error:
        return None if isinstance(plain_http.cause(error), ConnectionRefusedError) else NO_ANSWER, None


def watch(api, slice_s, clock=time.monotonic, pause=time.sleep, alone=lambda: False):
    """Look until no request was there for a while, nobody listens several times, or the slice is over.

    C(alone): says whether nobody is connected, nor can be any more; then no request does not need a while.
    Returns (requests, tokens, whether no request was there for C(QUIET_S) seconds, or is any more).
    """
    end, quiet, missed = clock() + slice_s, None, 0
    while True:
        # Before the look, which is a connection of its own.
        nobody = alone()
        requests, tokens = look(api)
        now = clock()
        missed = missed + 1 if requests is None else 0
        if not requests or any(requests.values()) or (quiet and quiet[1] != tokens):
            quiet = None
        elif quiet is None:
            quiet = (now, tokens)
        drained = quiet is not None and (nobody or now - quiet[0] >= QUIET_S)
        # What has begun is seen to its end, also in a slice that is shorter.
        over = now + LOOK_S >= end and quiet is None and not missed
        if drained or missed >= MISSES or over:
            return requests, tokens, drained
        pause(LOOK_S)
