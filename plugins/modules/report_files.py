#!/usr/bin/python
# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin report_files."""

from __future__ import annotations

DOCUMENTATION = r"""
module: report_files
short_description: Write a report as JSON and as a page on the controller
description:
  - Writes C(NAME.json) and C(NAME.html) in one step each, and creates the directory where it is missing.
  - A report is wanted in check mode too, and is never a change of the deployment.
  - This is an action plugin and runs on the controller, whatever the host of the task.
version_added: 0.1.0
author:
  - ascend.vllm contributors (@ascend-vllm)
options:
  report:
    description: The report.
    type: dict
    required: true
  template:
    description: Template of the page, looked for where M(ansible.builtin.template) looks. It sees the report as C(report).
    type: str
    required: true
  directory:
    description: Directory on the controller.
    type: path
    required: true
  name:
    description: Name of the files, without their endings.
    type: str
    required: true
attributes:
  check_mode:
    support: full
    description: Writes in check mode too.
  diff_mode:
    support: none
    description: A report has no difference that anybody asked for.
  platform:
    support: full
    platforms: posix
    description: The controller.
"""

EXAMPLES = r"""
- name: Write the report
  ascend.vllm.report_files:
    report: "{{ report_result }}"
    template: preflight.html.j2
    directory: reports
    name: preflight
"""

RETURN = r"""
files:
  description: The files that were written.
  returned: success
  type: list
  elements: str
  sample: [/srv/deploy/reports/preflight.json, /srv/deploy/reports/preflight.html]
"""
