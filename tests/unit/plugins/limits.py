# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Limits that what hangs reaches soon, while all that has to answer beside it has plenty of time, on a busy machine, too.

Python 3.8 and the standard library only, as the code under test.
"""

from __future__ import annotations

import functools

from ansible_collections.ascend.vllm.plugins.module_utils import tools
from ansible_collections.ascend.vllm.plugins.module_utils.serve_api import Api

#: The part of its limit that something gets of which it is known that it hangs.
PART = 0.025


def of_tools(monkeypatch, hangs):
    """Give a call of a tool that hangs a part of its limit. C(hangs): a function (arguments) -> whether it does."""
    real = tools.run_tool

    def run_tool(argv, timeout, *more, **words):
        return real(argv, timeout * PART if hangs(argv[1:]) else timeout, *more, **words)

    monkeypatch.setattr(tools, "run_tool", run_tool)
    monkeypatch.setattr(tools, "PatientRunner", functools.partial(tools.PatientRunner, run=run_tool))


def of_questions(monkeypatch, hangs):
    """Give a question to an API that hangs a part of its limit. C(hangs): a function (question, key) -> whether it does.

    A question is named as by served_group.Group: its path, C( stream) and C( rank 1).
    """
    post, stream = Api.post, Api.stream

    def limit(api, question, timeout):
        return timeout * PART if hangs(question, api.api_key) else timeout

    def posted(self, path, body, timeout, rank=None):
        return post(self, path, body, limit(self, path + ("" if rank is None else " rank %s" % rank), timeout), rank)

    def streamed(self, path, body, timeout):
        return stream(self, path, body, limit(self, path + " stream", timeout))

    monkeypatch.setattr(Api, "post", posted)
    monkeypatch.setattr(Api, "stream", streamed)


class Clock:
    """Takes the place of the module C(time) in code that reads C(monotonic()): it stands still where it was put."""

    def __init__(self, now=0.0):
        self.now = now

    def monotonic(self):
        """Return the time."""
        return self.now

    def at(self, now, answer):
        """Be put to a time by an answer that is on its way."""
        self.now = now
        return answer
