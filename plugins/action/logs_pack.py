# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make one bundle of the nodes' archives on the controller; see the module of the same name for its documentation."""

from __future__ import annotations

import io
import json
import os
import re
import tarfile
import tempfile
from datetime import datetime, timezone

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.ascend.vllm.plugins.module_utils.redact import Redactor
from ansible_collections.ascend.vllm.plugins.plugin_utils import causes, logs_summary
from ansible_collections.ascend.vllm.plugins.plugin_utils.messages import plain

#: Bytes of a report that is taken; the largest of a cluster of 32 nodes is far below.
LARGEST_REPORT = 50_000_000


class ActionModule(ActionBase):
    """Read every archive once for the summary, then copy their files, one by one, into the bundle."""

    TRANSFERS_FILES = False

    def run(self, tmp=None, task_vars=None):
        """Write the bundle; a node without an archive is named in it."""
        super().run(tmp, task_vars)
        dummy, args = self.validate_argument_spec(
            argument_spec={
                "plan": {"type": "dict", "required": True},
                "parts": {"type": "dict", "required": True},
                "report_dir": {"type": "path", "required": True},
                "secrets": {"type": "list", "elements": "str", "default": [], "no_log": True},
            }
        )
        plan, parts = plain(args["plan"]), plain(args["parts"])
        folder = os.path.abspath(args["report_dir"])
        redactor = Redactor(map(str, args["secrets"]))
        now = datetime.now(timezone.utc)
        name = next(iter(plan["groups"])) if len(plan["groups"]) == 1 else "cluster"
        for part in parts.values():
            part["error"] = " ".join(redactor.line(str(part.get("error") or "")).split())
            part["bytes"] = os.path.getsize(part["archive"]) if part.get("archive") and os.path.isfile(part["archive"]) else 0
        run = plan.get("run") or {}
        summary = logs_summary.build(name, now.strftime("%Y-%m-%dT%H:%M:%SZ"), plan, parts, known(run.get("data_dirs") or []), run.get("language") or "en")
        top = f"logs-{safe(name)}-{now.strftime('%Y%m%dT%H%M%SZ')}"
        path = os.path.join(folder, f"{top}.tar.gz")
        try:
            os.makedirs(folder, mode=0o755, exist_ok=True)
            texts = [("SUMMARY.txt", logs_summary.text(summary)), ("plan.json", json.dumps(redactor.value(plan), indent=4, ensure_ascii=False) + "\n"),
                     *reports(folder, redactor)]
            given = [(entry["host"], parts[entry["host"]]["archive"]) for entry in summary["nodes"] if entry["given"]]
            write(path, top, texts, given, int(now.timestamp()))
        except OSError as error:
            raise AnsibleActionFail(
                f"The bundle cannot be written to {error.filename or folder}: {error.strerror or error}. "
                "Wanted: a directory on the controller with room, that this user can write to. Remedy: set vllm_report_dir."
            ) from error
        return {"changed": False, "bundle": path, "bytes": os.path.getsize(path), "summary": summary}


def known(data_dirs: list):
    """Return the known causes, those of the site included."""
    return causes.load(data_dirs)


def safe(name: str) -> str:
    """Return a name of a host or a group as the name of a file."""
    return re.sub(r"[^A-Za-z0-9._-]", lambda found: f"_{ord(found[0]):x}_", name).lstrip(".") or "_"


def reports(folder: str, redactor: Redactor) -> list:
    """Return ``(name, text)`` of the reports that are there, without secrets."""
    found = []
    for name in sorted(os.listdir(folder)):
        path = os.path.join(folder, name)
        if name.startswith(".") or not name.endswith(".json") or not os.path.isfile(path) or os.path.getsize(path) > LARGEST_REPORT:
            continue
        with open(path, encoding="utf-8", errors="replace") as stream:
            content = stream.read()
        try:
            content = json.dumps(redactor.value(json.loads(content)), indent=4, ensure_ascii=False) + "\n"
        except (ValueError, RecursionError):
            content = redactor.text(content)
        found.append((f"reports/{redactor.line(name)}", content))
    return found


def write(path: str, top: str, texts: list, given: list, now: int) -> None:
    """Write the bundle in one step, for its owner only. Raises OSError.

    texts: ``(name, text)``. given: ``(host, archive)``. What is in it depends on nothing else but the time ``now``.
    """
    handle, partial = tempfile.mkstemp(dir=os.path.dirname(path), prefix=".logs-")
    try:
        with os.fdopen(handle, "wb") as stream, tarfile.open(mode="w:gz", fileobj=stream, compresslevel=6, format=tarfile.GNU_FORMAT) as bundle:
            for name, content in texts:
                data = content.encode("utf-8", "replace")
                bundle.addfile(_info(f"{top}/{name}", len(data), now), io.BytesIO(data))
            for host, archive in given:
                with tarfile.open(archive, "r:gz") as part:
                    for member in part:
                        inside = [word for word in member.name.split("/") if word not in ("", ".", "..")]
                        if member.isreg() and inside:
                            bundle.addfile(_info("/".join([top, safe(host), *inside]), member.size, member.mtime), part.extractfile(member))
        os.replace(partial, path)
    except BaseException:
        os.unlink(partial)
        raise


def _info(name: str, size: int, time: float) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.mtime, info.mode = size, int(time), 0o600
    return info
