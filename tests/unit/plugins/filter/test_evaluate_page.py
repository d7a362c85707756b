# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter evaluate_page: its name, that it takes lazy mappings, and what it refuses."""

from __future__ import annotations

import json

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.ascend.vllm.plugins.filter import evaluate_page
from ansible_collections.ascend.vllm.tests.unit.plugins.as_ansible import Lazy, filter_of

RECORD = {"kind": "accuracy", "id": "a", "set": "gsm8k", "gate": {"outcome": "pass"}, "score": {"percent": 95.0}}


def test_the_report_is_plain_data_from_lazy_records():
    found = filter_of(evaluate_page)([Lazy(RECORD)], "evaluate", [Lazy({**RECORD, "id": "b"})], "zh", "0.1.0")
    assert json.loads(json.dumps(found)) == found and found["records"] == [RECORD] and found["history"][0]["id"] == "b"
    assert (found["verb"], found["language"], found["version"], found["outcome"]) == ("evaluate", "zh", "0.1.0", "pass")


@pytest.mark.parametrize(("records", "verb", "history", "said"), [
    ("text", "evaluate", [], "records is a text"),
    ({"a": 1}, "evaluate", [], "records is a mapping"), ([1], "evaluate", [], "records is a list with an integer"),
    ([], "evaluate", None, "history is NoneType"), ([], "measure", [], "the verb is 'measure', wanted one of evaluate, benchmark"),
])
def test_what_is_no_record_is_refused(records, verb, history, said):
    with pytest.raises(AnsibleFilterError, match=said) as error:
        filter_of(evaluate_page)(records, verb, history)
    assert "Remedy: " in str(error.value)
