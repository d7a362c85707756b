# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Find and run the Ascend host tools under the environment Ansible really gives a task.

By hand C(npu-smi) and C(hccn_tool) work because a login shell sources the driver's environment. A task has
neither that PATH nor that LD_LIBRARY_PATH, so tools are looked for in the known places and started with the
driver's library folders. The tools may hang (a sick driver), flood or garble their output: every call has a
timeout, a size limit and a forgiving decoder, and ends in a ToolRun, never in an exception.
"""

from __future__ import annotations

import os
import selectors
import signal
import stat
import subprocess
import time

SEARCH_DIRS = (
    "/usr/local/bin",
    "/usr/local/sbin",
    "/usr/bin",
)
DRIVER_HOME = "/usr/local/Ascend/driver"

# One table of a 16-die node is 8 KB: a megabyte is already a fault, but a pipe must be drained all the same.
MAX_OUTPUT_BYTES = 1024 * 1024

# A child of the tool can keep the pipe open after the tool has ended; its output is not waited for longer than this.
PIPE_GRACE_S = 0.5

BUSY_FIRST_PAUSE_S = 0.2
BUSY_LONGEST_PAUSE_S = 5.0


class NoAnswer(Exception):
    """A question that has no answer: C(message), one line with its remedy, and C(known), what is known all the same."""

    def __init__(self, message, known=None):
        super().__init__(message)
        self.message = message
        self.known = known or {}


class ToolRun:
    """What one call of a tool gave.

    rc: int exit status (negative: killed by that signal), None when it never started or was stopped at its timeout.
    out, err: str, decoded, at most MAX_OUTPUT_BYTES bytes each.
    timed_out, truncated: bool.  timeout: seconds the call was given.
    error: str or None, why the tool could not be started or waited for.
    """

    def __init__(self, argv, rc=None, out="", err="", timed_out=False, truncated=False, error=None, timeout=None):
        self.argv = list(argv)
        self.rc = rc
        self.out = out
        self.err = err
        self.timed_out = timed_out
        self.truncated = truncated
        self.error = error
        self.timeout = timeout

    @property
    def command(self):
        """The call as one line, for messages."""
        return " ".join(self.argv)

    @property
    def text(self):
        """Both streams, because the tools put errors on either one."""
        return "\n".join(part.strip("\n") for part in (self.out, self.err) if part.strip())

    def failure(self):
        """Why the call gave no answer at all, or None when it ran to its end."""
        if self.timed_out:
            return "%s timed out after %g s" % (self.command, self.timeout)
        if self.error:
            return "%s could not be run: %s" % (self.command, self.error)
        if self.rc is not None and self.rc < 0:
            return "%s was killed by signal %d" % (self.command, -self.rc)
        return None


def clip(text, limit=400):
    """Text on one line and short enough for a message."""
    flat = " / ".join(line.strip() for line in text.splitlines() if line.strip())
    return flat if len(flat) <= limit else flat[:limit] + " ..."


def search_dirs(driver_home=DRIVER_HOME, environ=None):
    """Folders a tool is looked for in, in order, each once: PATH, the usual places, the driver's own tools."""
    environ = os.environ if environ is None else environ
    folders = [folder for folder in environ.get("PATH", "").split(os.pathsep) if folder.startswith("/")]
    folders.extend(SEARCH_DIRS)
    folders.append(os.path.join(driver_home, "tools"))
    unique = []
    for folder in folders:
        folder = os.path.normpath(folder)
        if folder not in unique:
            unique.append(folder)
    return unique


def file_problem(path):
    """Why path cannot be executed: 'missing', 'a directory', 'not a file', 'not executable', or None when it can."""
    try:
        mode = os.stat(path).st_mode
    except OSError as exc:
        return "missing" if isinstance(exc, FileNotFoundError) else (exc.strerror or str(exc))
    if stat.S_ISDIR(mode):
        return "a directory"
    if not stat.S_ISREG(mode):
        return "not a file"
    if not os.access(path, os.X_OK):
        return "not executable"
    return None


def find_tool(name, path=None, driver_home=DRIVER_HOME, environ=None, extra_dirs=()):
    """Where the tool is.

    path: the place the caller states; then no other place is tried.
    Returns {path: str or None, searched: [str], problem: str or None}; problem tells of a file that is there but
    cannot be run, because that needs another remedy than a file that is not there.
    """
    if path and "/" in path:
        candidates = [path]
    else:
        folders = search_dirs(driver_home, environ) + list(extra_dirs)
        candidates = [os.path.join(folder, path or name) for folder in folders]
    problems = []
    for candidate in candidates:
        problem = file_problem(candidate)
        if problem is None:
            return {"path": candidate, "searched": candidates, "problem": None}
        if problem != "missing":
            problems.append("%s is %s" % (candidate, problem))
    return {"path": None, "searched": candidates, "problem": "; ".join(problems) or None}


def not_found_message(name, found, option):
    """The message for a tool that find_tool did not find: what is wrong, where it was sought, what to do."""
    places = ", ".join(found["searched"])
    if found["problem"]:
        return (
            "%s cannot be run: %s. Searched: %s. Put the executable of the Ascend driver there "
            "(a directory in its place is what Docker makes of a missing mount source), or set %s."
        ) % (name, found["problem"], places, option)
    return (
        "%s was not found. Searched: %s. Install the Ascend driver on this node, or set %s to the place of the tool."
    ) % (name, places, option)


def tool_environment(driver_home=DRIVER_HOME, environ=None):
    """The caller's environment with the driver's libraries first, so that libdcmi.so and its kin are found."""
    environment = dict(os.environ if environ is None else environ)
    lib64 = os.path.join(driver_home, "lib64")
    folders = [lib64, os.path.join(lib64, "common"), os.path.join(lib64, "driver")]
    if environment.get("LD_LIBRARY_PATH"):
        folders.append(environment["LD_LIBRARY_PATH"])
    environment["LD_LIBRARY_PATH"] = os.pathsep.join(folders)
    environment["PATH"] = os.pathsep.join(search_dirs(driver_home, environ))
    return environment


def decode(data):
    """Bytes of a tool as text; what is not UTF-8 becomes the replacement character."""
    return data.decode("utf-8", "replace").replace("\x00", "")


def run_tool(argv, timeout, env=None, max_bytes=MAX_OUTPUT_BYTES):
    """Run one tool to its end or to its timeout (seconds) and return a ToolRun. Never raises for what the tool does."""
    try:
        # Not AnsibleModule.run_command: it has no timeout, and keeps whatever a tool prints.
        process = subprocess.Popen(  # pylint: disable=ansible-bad-function
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=env,
            # A group of its own, so that whatever a hung tool has started ends with it.
            start_new_session=True,
        )
    except (OSError, ValueError) as exc:
        return ToolRun(argv, error=getattr(exc, "strerror", None) or str(exc), timeout=timeout)
    deadline = time.monotonic() + timeout
    kept, truncated, timed_out = _collect(process, deadline, max_bytes)
    if not timed_out:
        try:
            process.wait(max(0.0, deadline - time.monotonic()) + PIPE_GRACE_S)
        except subprocess.TimeoutExpired:
            timed_out = True
    if timed_out:
        _stop(process)
    for stream in (process.stdout, process.stderr):
        stream.close()
    return ToolRun(
        argv,
        rc=None if timed_out else process.returncode,
        out=decode(kept[0]),
        err=decode(kept[1]),
        timed_out=timed_out,
        truncated=truncated,
        timeout=timeout,
    )


def _collect(process, deadline, max_bytes):
    """Read both pipes until they close or the deadline passes: ([out, err], truncated, timed_out)."""
    kept = [bytearray(), bytearray()]
    truncated = False
    ended_at = None
    with selectors.DefaultSelector() as selector:
        for index, stream in enumerate((process.stdout, process.stderr)):
            os.set_blocking(stream.fileno(), False)
            selector.register(stream, selectors.EVENT_READ, index)
        while selector.get_map():
            now = time.monotonic()
            if now >= deadline:
                return kept, truncated, True
            if ended_at is None and process.poll() is not None:
                ended_at = now
            if ended_at is not None and now - ended_at > PIPE_GRACE_S:
                break
            for key, dummy in selector.select(min(0.1, deadline - now)):
                chunk = key.fileobj.read(65536)
                if chunk is None:
                    continue
                if not chunk:
                    selector.unregister(key.fileobj)
                    continue
                room = max_bytes - len(kept[key.data])
                kept[key.data] += chunk[:room]
                truncated = truncated or len(chunk) > room
    return kept, truncated, False


def _stop(process):
    """End the whole group of a hung tool; one stuck in the kernel is left to itself rather than waited for."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except OSError:
        pass
    try:
        process.wait(2)
    except subprocess.TimeoutExpired:
        pass


class PatientRunner:
    """Runs one tool again and again, one call at a time, waiting while another user holds it.

    hccn_tool takes one call at a time per host and answers everybody else "busy". A call that finds it busy is
    repeated with growing pauses until busy_retry_s seconds have gone by. Once that budget was spent in vain, later
    calls try once only, so that a tool that is busy for ever costs the budget once and not once per question.
    In the same way two timeouts in a row end the asking: a hung tool would cost its timeout for every question. And a
    question of one kind that has timed out twice is not asked again, though the tool answers others.
    kind: what tells questions of one kind from others, given the argv; without it all are of one kind.
    """

    def __init__(
        self, timeout, busy_retry_s, env=None, is_busy=None, run=run_tool, sleep=time.sleep, clock=time.monotonic, kind=None
    ):
        self.timeout = timeout
        self.busy_retry_s = busy_retry_s
        self.env = env
        self.is_busy = is_busy or (lambda answer: False)
        self.calls = 0
        self.retries = 0
        self._run = run
        self._sleep = sleep
        self._clock = clock
        self._gave_up_on_busy = False
        self._timeouts_in_a_row = 0
        self._kind = kind
        self._timeouts_of = {}

    @property
    def hung(self):
        """True after two timeouts in a row."""
        return self._timeouts_in_a_row >= 2

    def __call__(self, argv):
        """Run argv; the ToolRun of the last try."""
        if self.hung:
            return ToolRun(argv, error="not asked, the tool timed out twice in a row (%g s each)" % self.timeout)
        if self._kind and self._timeouts_of.get(self._kind(argv), 0) >= 2:
            return ToolRun(argv, error="not asked, this question timed out twice before (%g s each)" % self.timeout)
        started = self._clock()
        pause = BUSY_FIRST_PAUSE_S
        answer = self._once(argv)
        while self.is_busy(answer) and not self._gave_up_on_busy:
            left = self.busy_retry_s - (self._clock() - started)
            if left <= 0:
                self._gave_up_on_busy = True
                break
            self._sleep(min(pause, left))
            pause = min(pause * 2, BUSY_LONGEST_PAUSE_S)
            self.retries += 1
            answer = self._once(argv)
        if not self.is_busy(answer):
            self._gave_up_on_busy = False
        return answer

    def _once(self, argv):
        self.calls += 1
        answer = self._run(argv, self.timeout, self.env)
        self._timeouts_in_a_row = self._timeouts_in_a_row + 1 if answer.timed_out else 0
        if self._kind and answer.timed_out:
            self._timeouts_of[self._kind(argv)] = self._timeouts_of.get(self._kind(argv), 0) + 1
        return answer


def hint(text):
    """What to do about a failure that the loader or the driver, not the tool, reports; '' when nothing is known."""
    lowered = text.lower()
    if "error while loading shared libraries" in lowered or "cannot open shared object file" in lowered:
        return "The driver libraries were not found: check <driver>/lib64 and its folders common and driver."
    if "permission denied" in lowered or "operation not permitted" in lowered:
        return "The tool needs root: run the task with become."
    return ""
