# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: make the report of an evaluation or a benchmark."""

from __future__ import annotations

from ansible.errors import AnsibleFilterError

from ansible_collections.ascend.vllm.plugins.plugin_utils.messages import is_list, is_mapping, type_name
from ansible_collections.ascend.vllm.plugins.plugin_utils.results_page import VERBS, build


def evaluate_page(records, verb, history=(), language="en", version=None):
    """Return the report of a run of ``evaluate`` or ``benchmark``. Raises AnsibleFilterError where the records are none."""
    for name, listed in (("records", records), ("history", history)):
        if not is_list(listed) or not all(is_mapping(entry) for entry in listed):
            wrong = next((type_name(entry) for entry in listed if not is_mapping(entry)), "") if is_list(listed) else ""
            raise AnsibleFilterError(f"evaluate_page: {name} is {'a list with ' + wrong if wrong else type_name(listed)}, wanted a list of records. "
                                     "Remedy: hand over what the filter evaluate_record gives.")
    if verb not in VERBS:
        raise AnsibleFilterError(f"evaluate_page: the verb is {str(verb)!r}, wanted one of {', '.join(VERBS)}. Remedy: correct it.")
    return build(records, verb, history, language, version)


class FilterModule:
    """The filters of this file."""

    def filters(self):
        """Map each filter's name to its function."""
        return {"evaluate_page": evaluate_page}
