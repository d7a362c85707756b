# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write a report on the controller; see the module of the same name for its documentation."""

from __future__ import annotations

import json
import os
import tempfile

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.ascend.vllm.plugins.plugin_utils.messages import plain
from ansible_collections.ascend.vllm.plugins.plugin_utils.pages import render
from ansible_collections.ascend.vllm.plugins.plugin_utils.results_page import results_view
from ansible_collections.ascend.vllm.plugins.plugin_utils.status_page import status_view

#: Verb -> what makes its page of its report, where that is not what all pages show.
VIEWS = {"status": status_view, "evaluate": results_view, "benchmark": results_view}


class ActionModule(ActionBase):
    """Write NAME.json and NAME.html, each in one step: a reader sees the old file or the new one."""

    TRANSFERS_FILES = False

    def run(self, tmp=None, task_vars=None):
        """Write both files; no process is started for it, which would cost more than everything else on the controller."""
        super().run(tmp, task_vars)
        dummy, args = self.validate_argument_spec(
            argument_spec={
                "report": {"type": "dict", "required": True},
                "template": {"type": "str", "required": True},
                "directory": {"type": "path", "required": True},
                "name": {"type": "str", "required": True},
            }
        )
        # A relative path is one of the playbook's user, as with every module that runs on the controller.
        folder = os.path.abspath(args["directory"])
        report = plain(args["report"])
        with open(self._find_needle("templates", args["template"]), encoding="utf-8") as stream:
            # Not Ansible's own templating, which wraps every part of a report: with 32 nodes it takes seconds longer.
            page = render(stream.read(), report, VIEWS.get(report.get("verb")))
        contents = {"json": json.dumps(report, indent=4, ensure_ascii=False) + "\n", "html": page}
        try:
            os.makedirs(folder, mode=0o755, exist_ok=True)
            files = [write(os.path.join(folder, f"{args['name']}.{kind}"), text) for kind, text in contents.items()]
        except OSError as error:
            raise AnsibleActionFail(
                f"The report cannot be written to {error.filename or folder}: {error.strerror or error}. "
                "Wanted: a directory on the controller that this user can write to. Remedy: set vllm_report_dir."
            ) from error
        return {"changed": False, "files": files}


def write(path: str, text: str) -> str:
    """Write one file for everybody to read, in one step, and return its path. Raises OSError."""
    handle, partial = tempfile.mkstemp(dir=os.path.dirname(path), prefix=f".{os.path.basename(path)}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        os.chmod(partial, 0o644)
        os.replace(partial, path)
    except BaseException:
        os.unlink(partial)
        raise
    return path
