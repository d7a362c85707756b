#!/usr/bin/python
# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin client_run."""

from __future__ import annotations

DOCUMENTATION = r"""
module: client_run
short_description: Run an evaluation or benchmark client on a node, and wait for it, showing progress
description:
  - Runs with M(ascend.vllm.client_progress) in slices of about O(slice_s) seconds, and shows on the terminal how far the client is.
  - The client goes on when the controller is gone, and a later call with the same O(run_id) joins it.
  - A node that is not reached while the client runs is asked again, and is lost after three times in a row.
  - The exit status of a client says little, so one that is not 0 is no failure of this module. Fails only when the client cannot be run.
  - This is an action plugin.
version_added: 0.1.0
author:
  - ascend.vllm contributors (@ascend-vllm)
options:
  progress:
    description:
      - A regular expression with the groups C(done) and C(total), which is looked for in the client's last lines, newest first.
      - While it is empty or does not match, the last line itself is shown.
    type: str
    default: ""
extends_documentation_fragment:
  - ascend.vllm.client_options
  - ascend.vllm.engine_socket
seealso:
  - module: ascend.vllm.client_progress
"""

EXAMPLES = r"""
- name: Ask the first 200 questions of gsm8k
  ascend.vllm.client_run:
    name: vllm-client
    group: vllm
    run_id: lm_eval-gsm8k-0f5a
    image: ascend-vllm-client/lm_eval:0123456789ab
    argv: [lm_eval, run, --model, local-completions, --tasks, gsm8k_local, --output_path, /var/lib/ascend-vllm/results/0f5a/out]
    mounts: ["/mnt/weights/DeepSeek-R1-W8A8:/mnt/weights/DeepSeek-R1-W8A8:ro", "/mnt/sets:/mnt/sets:ro"]
    secrets: {OPENAI_API_KEY: /etc/ascend-vllm/vllm-rank0/api_key}
    results_dir: /var/lib/ascend-vllm/results/0f5a
    collect: ["out/**/results_*.json"]
    limit_s: 21600
    progress: '(?P<done>\d+)/(?P<total>\d+) \['
"""

RETURN = r"""
rc:
  description: Exit status of the client, or null where nobody knows it.
  returned: always
  type: int
timed_out:
  description: Whether it was ended at its limit.
  returned: always
  type: bool
error:
  description: Why it ended before its own end, or null.
  returned: always
  type: str
started:
  description: When the client began, in UTC as C(yyyy-mm-ddThh:mm:ssZ), or null where that is not known; of one that was joined, not when it was joined.
  returned: always
  type: str
seconds:
  description: How long the client ran, in seconds.
  returned: always
  type: float
files:
  description: The files that O(collect) names, relative path -> text, without the secrets.
  returned: always
  type: dict
left_out:
  description: Files that O(collect) names and that did not fit into O(max_mb).
  returned: always
  type: list
  elements: str
log:
  description: Its last 200 lines, without secrets.
  returned: always
  type: str
joined:
  description: Whether it had been begun before.
  returned: always
  type: bool
"""
