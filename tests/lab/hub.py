# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A small model hub that speaks as much of two protocols as their real clients ask for: ModelScope's (1.40) and Hugging Face's (2.4).

Served, for every model given with ``--model OWNER/NAME=FOLDER``, at revision ``master`` (ModelScope) or ``main`` (Hugging Face):

- ``GET /api/v1/models/OWNER/NAME``: what the model is
- ``GET /api/v1/models/OWNER/NAME/revisions``: its branches
- ``GET /api/v1/models/OWNER/NAME/repo/files?Revision=&Recursive=&Root=``: the files, with size and SHA-256
- ``GET|HEAD /api/v1/models/OWNER/NAME/repo?Revision=&FilePath=``: one file; a ``Range`` is answered with 206
- ``GET /api/v1/repos/internalAccelerationInfo``: no acceleration here

- ``GET /api/models/OWNER/NAME/revision/REVISION`` and ``.../tree/REVISION``: the commit, and the files; those of git LFS with their SHA-256
- ``GET|HEAD /OWNER/NAME/resolve/REVISION/PATH``: one file, with its commit, size and hash in headers of their own

- ``GET /simple/NAME/`` and ``/packages/FILE``: the wheels of the folder given with ``--packages``, as pip asks for them (PEP 503)

- ``POST /_lab/fault`` with ``{kind, path, status, after_bytes, rate, times}``: what goes wrong from here on; ``POST /_lab/clear`` ends it

A fault is of kind ``status`` (answers with that HTTP status), ``wrong_byte`` (one bit of the file is turned), ``cut`` (the connection ends after
so many bytes), ``stall`` (silence after so many bytes) or ``slow`` (so many bytes a second). ``path`` is a glob over the files' paths, and
``times`` how often it happens, for ever if it is left out.

Everything else is a 404 in the hub's JSON shape. With ``--access-log`` every answer is one JSON line that says how many bytes of which file
were really sent, so that a test can count what a download cost. Standard library only.
"""

from __future__ import annotations

import argparse
import fnmatch
import hashlib
import json
import re
import sys
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote, urlsplit

REVISION = "master"
HF_REVISION = "main"
_CHUNK = 1 << 20
_NOT_FOUND = 10010205001
_MODEL_PATH = re.compile(r"^/api/v1/models/(?P<model>[^/]+/[^/]+)(?P<rest>/.*)?$")
_HF_API = re.compile(r"^/api/models/(?P<model>[^/]+/[^/]+)/(?P<what>revision|tree)/(?P<revision>[^/]+)$")
_HF_FILE = re.compile(r"^/(?P<model>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)$")
_SIMPLE = re.compile(r"^/simple/(?P<name>[A-Za-z0-9._-]+)/$")
_PACKAGE = re.compile(r"^/packages/(?P<file>[A-Za-z0-9._+!%-]+\.whl)$")
_RANGE = re.compile(r"^bytes=(\d*)-(\d*)$")


def normalized(name: str) -> str:
    """The name of a Python project as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


@dataclass(frozen=True)
class RepoFile:
    """One file of a model; ``size`` in bytes, ``sha256`` in hex, ``modified`` in seconds since the epoch."""

    path: str
    source: Path
    size: int
    sha256: str
    modified: int

    @property
    def is_lfs(self) -> bool:
        """Whether a hub keeps it in git LFS."""
        return self.size > _CHUNK

    def git_oid(self) -> str:
        """The id of its git blob."""
        return hashlib.sha1(b"blob %d\0" % self.size + self.source.read_bytes(), usedforsecurity=False).hexdigest()


class NotFoundError(Exception):
    """The hub has no such thing; the text goes to the client, and Hugging Face's code for it."""

    def __init__(self, text: str, code: str = "EntryNotFound"):
        super().__init__(text)
        self.code = code


class RangeError(Exception):
    """A Range that lies outside the file."""


def scan(folder: Path) -> dict[str, RepoFile]:
    """All files below a folder by their path in the repository, each hashed once."""
    files = {}
    for source in sorted(p for p in folder.rglob("*") if p.is_file()):
        digest = hashlib.sha256()
        with source.open("rb") as data:
            while chunk := data.read(_CHUNK):
                digest.update(chunk)
        path = source.relative_to(folder).as_posix()
        stat = source.stat()
        files[path] = RepoFile(path, source, stat.st_size, digest.hexdigest(), int(stat.st_mtime))
    return files


def file_entry(file: RepoFile) -> dict:
    """A file as the hub lists it."""
    return {
        "Name": file.path.rsplit("/", 1)[-1],
        "Path": file.path,
        "Type": "blob",
        "Size": file.size,
        "Sha256": file.sha256,
        "Revision": file.sha256[:40],
        "IsLFS": file.is_lfs,
        "Mode": "33188",
        "CommittedDate": file.modified,
    }


def folder_entry(path: str) -> dict:
    return {"Name": path.rsplit("/", 1)[-1], "Path": path, "Type": "tree", "Size": 0, "Sha256": "", "Revision": REVISION,
            "IsLFS": False, "Mode": "16384", "CommittedDate": 0}


def listing(files: dict[str, RepoFile], recursive: bool, root: str = "") -> list[dict]:
    """The entries below ``root``: folders and files; without ``recursive`` only the direct children."""
    prefix = root.strip("/") + "/" if root.strip("/") else ""
    entries: dict[str, dict] = {}
    for path, file in files.items():
        if not path.startswith(prefix):
            continue
        parents = path[len(prefix) :].split("/")[:-1]
        for depth in range(1, len(parents) + 1 if recursive else min(1, len(parents)) + 1):
            folder = prefix + "/".join(parents[:depth])
            entries.setdefault(folder, folder_entry(folder))
        if recursive or not parents:
            entries[path] = file_entry(file)
    return list(entries.values())


def commit_of(files: dict[str, RepoFile]) -> str:
    """The commit that a Hugging Face hub would name: another one when any file is another."""
    return hashlib.sha1("".join(f"{path} {file.sha256}\n" for path, file in sorted(files.items())).encode(), usedforsecurity=False).hexdigest()


def tree_entry(file: RepoFile) -> dict:
    """A file as Hugging Face lists it."""
    entry = {"type": "file", "oid": file.git_oid(), "size": file.size, "path": file.path}
    if file.is_lfs:
        entry["lfs"] = {"oid": file.sha256, "size": file.size, "pointerSize": 135}
    return entry


def parse_range(header: str | None, size: int) -> tuple[int, int] | None:
    """First and last byte (inclusive) of a Range header, or None for the whole file.

    Only a single range is understood; anything else means the whole file, as RFC 9110 allows. A range outside the file is a RangeError.
    """
    match = _RANGE.match((header or "").replace(" ", ""))
    if not match or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        start, end = max(0, size - int(last)), size - 1
    else:
        start, end = int(first), min(int(last), size - 1) if last else size - 1
    if start >= size or start > end:
        raise RangeError(f"bytes */{size}")
    return start, end


@dataclass
class Fault:
    """One thing that goes wrong: see the head of this file."""

    kind: str
    path: str = "*"
    status: int = 500
    after_bytes: int = 0
    rate: float = 0.0
    times: int | None = None


class Hub(ThreadingHTTPServer):
    """The server and what it serves: model id -> its files."""

    daemon_threads = True
    faults: list[Fault] = []

    def fault_of(self, path: str, kinds: tuple[str, ...]) -> Fault | None:
        """The fault of one of these kinds that happens now to a file, counted."""
        with self._log_lock:
            for fault in self.faults:
                if fault.kind in kinds and fnmatch.fnmatch(path, fault.path) and fault.times != 0:
                    fault.times = None if fault.times is None else fault.times - 1
                    return fault
        return None

    def __init__(self, address: tuple[str, int], models: dict[str, dict[str, RepoFile]], access_log: Path | None = None,
                 packages: Path | None = None):
        super().__init__(address, Handler)
        self.models = models
        self.packages = packages
        self.faults = []
        self._log = access_log.open("a", encoding="utf-8") if access_log else None
        self._log_lock = threading.Lock()

    def record(self, entry: dict) -> None:
        if self._log:
            with self._log_lock:
                self._log.write(json.dumps(entry) + "\n")
                self._log.flush()

    def server_close(self) -> None:
        super().server_close()
        if self._log:
            self._log.close()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def do_GET(self) -> None:
        self._file = None
        self._sent = 0
        self._status = 0
        self._more: dict[str, str] = {}
        began = time.time()
        try:
            self._route()
        except NotFoundError as error:
            # How the clients of Hugging Face tell what is not there.
            self._more = {"X-Error-Code": error.code, "X-Error-Message": str(error)}
            self._json({"Code": _NOT_FOUND, "Message": str(error), "RequestId": "", "Success": False}, status=404)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        finally:
            self.server.record(
                {
                    "time": round(time.time(), 3),
                    "began": began,
                    "client": self.client_address[0],
                    "method": self.command,
                    "path": self.path,
                    "file": self._file,
                    "range": self.headers.get("Range"),
                    "status": self._status,
                    "bytes": self._sent,
                }
            )

    do_HEAD = do_GET

    def do_POST(self) -> None:
        """Faults of the lab are set and cleared."""
        self._sent = 0
        self._more = {}
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path == "/_lab/fault":
            self.server.faults = [*self.server.faults, Fault(**json.loads(body))]
        elif self.path == "/_lab/clear":
            self.server.faults = []
        else:
            return self._json({"Message": f"no such page: {self.path}", "Success": False}, status=404)
        self._json({"Success": True})

    def _route(self) -> None:
        url = urlsplit(self.path)
        query = {name: values[-1] for name, values in parse_qs(url.query).items()}
        if url.path == "/api/v1/repos/internalAccelerationInfo":
            return self._data({})
        for pattern, answer in ((_HF_API, self._hf_api), (_HF_FILE, self._hf_file), (_SIMPLE, self._simple), (_PACKAGE, self._package)):
            if match := pattern.match(url.path):
                return answer(**{name: unquote(value) for name, value in match.groupdict().items()})
        match = _MODEL_PATH.match(url.path)
        if not match:
            raise NotFoundError(f"no such page: {url.path}")
        model = match["model"]
        files = self.server.models.get(model)
        if files is None:
            raise NotFoundError(f"model {model} does not exist")
        rest = match["rest"] or ""
        if rest == "":
            owner, name = model.split("/")
            size = sum(f.size for f in files.values())
            return self._data({"Id": 1, "Path": owner, "Name": name, "Revision": REVISION, "StorageSize": size})
        if rest == "/revisions":
            return self._data({"RevisionMap": {"Branches": [{"Revision": REVISION}], "Tags": []}})
        revision = query.get("Revision") or REVISION
        if revision != REVISION:
            raise NotFoundError(f"model {model} has no revision {revision}")
        if rest == "/repo/files":
            recursive = query.get("Recursive", "").lower() == "true"
            return self._data({"Files": listing(files, recursive, query.get("Root", "")), "IsVisual": 0})
        if rest == "/repo":
            path = query.get("FilePath", "")
            if path not in files:
                raise NotFoundError(f"model {model} has no file {path!r}")
            return self._send_file(files[path])
        raise NotFoundError(f"no such page: {url.path}")

    def _hf_files(self, model: str, revision: str) -> dict[str, RepoFile]:
        files = self.server.models.get(model)
        if files is None:
            raise NotFoundError(f"model {model} does not exist", "RepoNotFound")
        if revision not in (HF_REVISION, commit_of(files)):
            raise NotFoundError(f"model {model} has no revision {revision}", "RevisionNotFound")
        return files

    def _hf_api(self, model: str, what: str, revision: str) -> None:
        files = self._hf_files(model, revision)
        if what == "tree":
            return self._json([tree_entry(file) for file in files.values()])
        self._json({"_id": "1", "id": model, "modelId": model, "sha": commit_of(files), "private": False, "disabled": False, "gated": False,
                    "downloads": 0, "likes": 0, "tags": [], "siblings": [{"rfilename": path} for path in files]})

    def _hf_file(self, model: str, revision: str, path: str) -> None:
        files = self._hf_files(model, revision)
        if path not in files:
            raise NotFoundError(f"model {model} has no file {path!r}")
        file = files[path]
        self._more = {"X-Repo-Commit": commit_of(files)}
        if file.is_lfs:
            self._more.update({"X-Linked-Size": str(file.size), "ETag": f'"{file.sha256}"'})
        else:
            self._more.update({"ETag": f'"{file.git_oid()}"'})
        self._send_file(file)

    def _simple(self, name: str) -> None:
        """One project's page: its wheels, by the name in the beginning of theirs."""
        wheels = sorted(self.server.packages.glob("*.whl")) if self.server.packages else []
        found = [wheel.name for wheel in wheels if normalized(wheel.name.partition("-")[0]) == normalized(name)]
        if not found:
            raise NotFoundError(f"no package {name}")
        links = "".join(f'<a href="/packages/{quote(wheel)}">{wheel}</a><br>\n' for wheel in found)
        body = f"<!DOCTYPE html><html><body>\n{links}</body></html>\n".encode()
        self._head(200, {"Content-Type": "text/html; charset=utf-8", "Content-Length": str(len(body))})
        self._body(body)

    def _package(self, file: str) -> None:
        path = self.server.packages / unquote(file) if self.server.packages and "/" not in unquote(file) else None
        if path is None or not path.is_file():
            raise NotFoundError(f"no file {file}")
        status = path.stat()
        self._send_file(RepoFile(path.name, path, status.st_size, "", status.st_mtime))

    def _data(self, data: dict) -> None:
        self._json({"Code": 200, "Data": data, "Message": "success", "RequestId": "", "Success": True})

    def _json(self, blob: dict | list, status: int = 200) -> None:
        body = json.dumps(blob).encode()
        self._head(status, {"Content-Type": "application/json; charset=utf-8", "Content-Length": str(len(body))})
        self._body(body)

    def _send_file(self, file: RepoFile) -> None:
        self._file = file.path
        fault = self.server.fault_of(file.path, ("status", "cut", "stall", "slow", "wrong_byte")) if self.command == "GET" else None
        if fault and fault.kind == "status":
            return self._json({"Code": fault.status, "Message": "a fault of the lab", "RequestId": "", "Success": False}, status=fault.status)
        headers = {"Content-Type": "application/octet-stream", "Accept-Ranges": "bytes", "ETag": f'"{file.sha256}"'}
        # Only what is in git LFS has the hash of its content.
        if file.is_lfs or not self._more:
            headers["X-Linked-Etag"] = file.sha256
        try:
            wanted = parse_range(self.headers.get("Range"), file.size)
        except RangeError as error:
            return self._head(416, {"Content-Range": str(error), "Content-Length": "0"})
        start, end = wanted or (0, file.size - 1)
        headers["Content-Length"] = str(end - start + 1)
        if wanted:
            headers["Content-Range"] = f"bytes {start}-{end}/{file.size}"
        self._head(206 if wanted else 200, headers)
        with file.source.open("rb") as data:
            data.seek(start)
            left = end - start + 1
            size = _CHUNK if not fault else _CHUNK // 16
            while left and self.command != "HEAD":
                if fault and fault.kind in ("cut", "stall") and self._sent >= fault.after_bytes:
                    return self._break_off(fault)
                chunk = data.read(min(size, left))
                if fault and fault.kind == "wrong_byte" and left == end - start + 1:
                    chunk = bytes([chunk[0] ^ 1]) + chunk[1:]
                self._body(chunk)
                left -= len(chunk)
                if fault and fault.kind == "slow":
                    time.sleep(len(chunk) / fault.rate)

    def _break_off(self, fault: Fault) -> None:
        """End the connection in the middle of a file, at once or when the fault is cleared."""
        while fault.kind == "stall" and fault in self.server.faults:
            time.sleep(0.1)
        self.close_connection = True
        self.connection.close()

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self._status = status
        self.send_response(status)
        for name, value in {**headers, **self._more}.items():
            self.send_header(name, value)
        self.end_headers()

    def _body(self, data: bytes) -> None:
        if self.command != "HEAD":
            self.wfile.write(data)
            self._sent += len(data)

    def log_message(self, format: str, *args) -> None:
        """The access log has it all, and a second one on stderr would only fill the container's log."""


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="A hub that ModelScope's client can download from.")
    parser.add_argument("--host", default="0.0.0.0")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--access-log", type=Path)
    parser.add_argument("--packages", type=Path, metavar="FOLDER")
    parser.add_argument("--model", action="append", required=True, metavar="OWNER/NAME=FOLDER")
    options = parser.parse_args(argv)
    models = {}
    for pair in options.model:
        name, _equals, folder = pair.partition("=")
        models[name] = scan(Path(folder))
        if not models[name]:
            parser.error(f"no files in {folder!r}")
    hub = Hub((options.host, options.port), models, options.access_log, options.packages)
    try:
        hub.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        hub.server_close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
