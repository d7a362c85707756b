# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: the judged record of a run of a client."""

from __future__ import annotations

from ansible.errors import AnsibleFilterError

from ansible_collections.ascend.vllm.plugins.plugin_utils import data, records
from ansible_collections.ascend.vllm.plugins.plugin_utils.lines import check_lines
from ansible_collections.ascend.vllm.plugins.plugin_utils.messages import is_mapping, plain, type_name


def evaluate_record(run, job, deployment, data_dirs=(), kept=None, group=None):
    """Return the record of a run; C(kept): the baselines of its group. Raises AnsibleFilterError for what cannot be judged at all."""
    for name, value in (("the run", run), ("the job", job), ("the deployment", deployment)):
        if not is_mapping(value):
            raise AnsibleFilterError(f"evaluate_record: {name} is {type_name(value)}, wanted a mapping. Remedy: hand over what client_run, client_jobs and "
                                     "deployment_facts give.")
    known, problems = data.load_all([str(folder) for folder in data_dirs], data.CLIENT_KINDS)
    if problems:
        raise AnsibleFilterError(f"evaluate_record: {' '.join(check_lines(problems))}")
    try:
        return records.make(plain(run), plain(job), plain(deployment), known, plain(kept), None if group is None else str(group))
    except records.RecordError as error:
        raise AnsibleFilterError(f"evaluate_record: {error}") from error


class FilterModule:
    """The filters of this file."""

    def filters(self):
        """Map each filter's name to its function."""
        return {"evaluate_record": evaluate_record}
