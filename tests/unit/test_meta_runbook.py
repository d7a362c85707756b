# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The runbook and the README: both languages say the same, whatever they name exists, and every command of the runbook is run by a test.

Commands of the runbook are in blocks ``shell controller`` and ``shell node``. Those that only look are run on the lab by
tests/testinfra/lifecycle/test_runbook.py as they are written; for the others the calls in tests/testinfra are read.
"""

from __future__ import annotations

import ast
import re
import shlex
import sys
from pathlib import Path

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parent))
from test_meta_pages import commands  # noqa: E402

TOP = Path(__file__).resolve().parents[2]
TESTS = TOP / "tests" / "testinfra"
PAIRS = [("README.md", "README.zh.md"), ("docs/runbook.md", "docs/runbook.zh.md")]
PAGES = sorted(path.relative_to(TOP).as_posix() for path in [*TOP.glob("README*.md"), *TOP.glob("docs/**/*.md")])
FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
RUNBOOK = (TOP / "docs" / "runbook.md").read_text(encoding="utf-8")

#: Where these words come from, so that the runbook shows what a person will read.
WORDING = {
    "was not started. Its containers are stopped on": "roles/serve_launch/tasks/failed.yml",
    "does not answer. It runs as planned, so nothing was stopped": "roles/serve_launch/tasks/failed.yml",
    "The logs are kept on each node: docker logs": "roles/serve_launch/tasks/failed.yml",
    "Nothing was changed on any node.": "roles/report/tasks/main.yml",
    "The lines behind it:": "data/words/wait.yml",
    "Its first error:": "data/words/wait.yml",
    "whose container still runs.": "data/words/wait.yml",
    "it was removed while the group started": "data/words/wait.yml",
    "This node starts at data-parallel rank": "data/causes/serve.yml",
    "a completion did not come back within": "plugins/plugin_utils/judge_api.py",
    "killed by the kernel: out of memory": "plugins/plugin_utils/status.py",
    "no such container": "plugins/plugin_utils/status.py",
    "running, started again": "plugins/plugin_utils/status.py",
    "requests running and": "roles/serve_stop/tasks/drain.yml",
    "new requests are not kept away from port": "plugins/action/serve_drain.py",
    "without the label ascend.vllm.group": "roles/serve_stop/tasks/there.yml",
    "No deployment was kept to go back to: the group is stopped.": "roles/serve_switch/tasks/back.yml",
    "no request was cut off": "plugins/plugin_utils/deployments.py",
    "nobody was served for": "plugins/plugin_utils/deployments.py",
    "starts anew, clients have to try again": "roles/proxy/tasks/sent.yml",
    "the others behind the proxy served alone for": "plugins/plugin_utils/deployments.py",
    "was deployed on": "plugins/plugin_utils/deployments.py",
    "wanted one of:": "plugins/plugin_utils/deployments.py",
    "acts on group": "plugins/action/group_lock.py",
    "wanted: nobody else. Nothing was changed.": "plugins/action/group_lock.py",
    "is taken over from": "plugins/action/group_lock.py",
    "starts in a row came to nothing": "plugins/module_utils/group_watch.py",
    "this node cannot ask:": "plugins/module_utils/group_watch.py",
    "the last start ended because:": "plugins/module_utils/group_watch.py",
    "unknown error, see SUMMARY.txt": "plugins/plugin_utils/logs_summary.py",
    "before its last start:": "plugins/plugin_utils/logs_summary.py",
    "NOT IN THE BUNDLE": "plugins/plugin_utils/logs_summary.py",
    "ascend_vllm_drain": "plugins/module_utils/drain.py",
}
#: How commands on a node begin: a test runs them as root, so none may be anything but a question.
QUESTIONS = ("docker ps ", "docker logs --tail ", "docker system df", "dmesg", "journalctl ", "npu-smi info", "ss -l", "nft list ", "ls ", "df ",
             "systemctl list-units ", "hccn_tool -i 0 -link -g", "hccn_tool -i 0 -link_stat -g", "hccn_tool -i 0 -optical -g",
             "hccn_tool -i 0 -net_health -g")


def lines(page, where):
    """Return the command lines of a page's ``shell WHERE`` blocks."""
    return [line.strip() for info, block in FENCE.findall(page) if info.split() == ["shell", where] for line in block.splitlines() if line.strip()]


def given(words):
    """Return ``(names of -e variables, other options)`` of a command's words."""
    names, options = set(), {word for word in words if word.startswith("--")}
    for option, value in zip(words, words[1:]):
        if option == "-e" and value.startswith("{"):
            names |= set(yaml.safe_load(value))
        elif option == "-e" and not value.startswith("@"):
            names |= {part.partition("=")[0] for part in shlex.split(value)}
    return names, options


def verb_of(word):
    """Return the verb that a playbook's name is, such as ``site`` for ``site.yml`` and ``ascend.vllm.site``."""
    return word.removeprefix("ascend.vllm.").removesuffix(".yml")


# ---- What the tests on the lab run


class Calls:
    """The runs of playbooks in a test's source: ``found`` is a list of (verb, names of -e variables, other options).

    Understood are ``playbook(..)`` and ``begin(..)``, lists that begin with ``"ansible-playbook"``, and functions and fixtures of the file that
    hand their arguments on to one of these. What is only known while a test runs counts for nothing.
    """

    def __init__(self, source, constants):
        self.constants, self.found, self.helpers = constants, [], {}
        tree = ast.parse(source)
        for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
            inner = [node.args.vararg.arg for node in ast.walk(function) if isinstance(node, ast.FunctionDef) and node.args.vararg]
            for call in self._calls(function, ("playbook", "begin")):
                if any(isinstance(word, ast.Starred) and isinstance(word.value, ast.Name) and word.value.id in inner for word in call.args):
                    self.helpers[function.name] = call.args
        for call in self._calls(tree, ("playbook", "begin")):
            self._add(call.args or [ast.Constant("site.yml")])
        for call in self._calls(tree, tuple(self.helpers)):
            self._add([*self.helpers[call.func.id], *call.args])
        for words in (node.elts for node in ast.walk(tree) if isinstance(node, ast.List)):
            if words and isinstance(words[0], ast.Constant) and words[0].value == "ansible-playbook":
                self._add(words[1:])

    @staticmethod
    def _calls(tree, names):
        return [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names]

    def _add(self, nodes):
        words = [word for node in nodes for word in self._words(node)]
        if words:
            names, options = given(words[1:])
            self.found.append((verb_of(words[0]), names, options))

    def _words(self, node):
        """Return the words of an argument; what is not known stands as ``?`` in a text."""
        if isinstance(node, ast.Starred):
            return self._words(node.value)
        if isinstance(node, (ast.Tuple, ast.List)):
            return [word for entry in node.elts for word in self._words(entry)]
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return [node.value]
        if isinstance(node, ast.JoinedStr):
            return ["".join(part.value if isinstance(part, ast.Constant) else "?" for part in node.values)]
        if isinstance(node, ast.Name) and node.id in self.constants:
            return self._words(self.constants[node.id])
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "json.dumps" and isinstance(node.args[0], ast.Dict):
            return ["{%s}" % ", ".join('"%s": 0' % key.value for key in node.args[0].keys if isinstance(key, ast.Constant))]
        return []


def constants_of(sources):
    """Return ``{name: node}`` of what is assigned in capitals at the top of the files; they import it from each other."""
    return {target.id: node.value for source in sources for node in ast.parse(source).body if isinstance(node, ast.Assign)
            for target in node.targets if isinstance(target, ast.Name) and target.id.isupper()}


def runs():
    """Return all runs of playbooks in the tests on the lab."""
    sources = [path.read_text(encoding="utf-8") for path in sorted(TESTS.rglob("*.py"))]
    constants = constants_of(sources)
    return [found for source in sources for found in Calls(source, constants).found]


def read_only():
    """Return the verbs that test_runbook.py runs as they are written."""
    return ast.literal_eval(constants_of([(TESTS / "lifecycle" / "test_runbook.py").read_text(encoding="utf-8")])["READ_ONLY"])


def nobody_runs(line, found):
    """Return whether a command that acts is run by no test with its verb and at least its options."""
    words = shlex.split(line)
    verb, (names, options) = verb_of(words[1]), given(words[2:])
    return not any(verb == other and names <= other_names and options <= other_options for other, other_names, other_options in found)


def acting(page):
    """Return the commands for the controller that change something."""
    return [line for line in lines(page, "controller") if "--check" not in line.split() and verb_of(shlex.split(line)[1]) not in read_only()]


def test_every_command_that_acts_is_run_by_a_test_on_the_lab():
    assert len(acting(RUNBOOK)) > 8
    found = runs()
    assert [line for line in dict.fromkeys(acting(RUNBOOK)) if nobody_runs(line, found)] == []


@pytest.mark.parametrize(("line", "nobody"), [
    ("ansible-playbook site.yml -i a2_pair", False),
    ("ansible-playbook ascend.vllm.stop -i a2_pair -e limit_s=3", False),
    ("ansible-playbook ascend.vllm.stop -i a2_pair -e other=3", True),
    ("ansible-playbook ascend.vllm.fetch -i a2_pair -e '{\"prune\": true}' -e mesh=full", False),
    ("ansible-playbook ascend.vllm.upgrade -i a2_pair -e '{\"args\": {\"seed\": 1}}'", False),
    ("ansible-playbook ascend.vllm.rollback -i a2_pair", True),
    ("ansible-playbook ascend.vllm.restart -i a2_pair --diff", True),
    ("ansible-playbook ascend.vllm.restart -i a2_pair -e quick=1", False),
])
def test_a_command_that_nobody_runs_is_seen(line, nobody):
    source = """
@pytest.fixture
def fetch(playbook):
    def run(*args):
        return playbook("ascend.vllm.fetch", "-e", "mesh=off", *args)
    return run

def test_all(playbook, begin, fetch, words):
    playbook()
    begin("ascend.vllm.stop", "-e", f"limit_s={1 + 1}")
    fetch("-e", "prune=true")
    playbook("ascend.vllm.upgrade", *QUICK, "-e", json.dumps({"args": {"seed": 7}}))
    playbook(*words)
    subprocess.run(["ansible-playbook", "ascend.vllm.restart", "-i", "a2_pair", *QUICK])
"""
    assert nobody_runs(line, Calls(source, constants_of(['QUICK = ("-e", "quick=1")'])).found) is nobody


def test_every_command_is_for_the_controller_or_asks_a_node_something():
    assert [info for info, dummy in FENCE.findall(RUNBOOK) if info.split()[:1] == ["shell"] and info.split()[1:] not in (["controller"], ["node"])] == []
    assert [line for line in lines(RUNBOOK, "controller") if not re.match(r"ansible-playbook \S+ -i a2_pair( |$)", line)] == []
    odd = [line for line in lines(RUNBOOK, "node") if not line.startswith(QUESTIONS) or re.search(r"[;&|<>`$]", line)]
    assert lines(RUNBOOK, "node") and odd == []


# ---- Both languages


@pytest.mark.parametrize(("english", "chinese"), PAIRS)
def test_both_languages_show_the_same(english, chinese):
    """The same blocks in the same order, the same sections, and the same names in the first cells of the tables' rows."""
    one, other = ((TOP / name).read_text(encoding="utf-8") for name in (english, chinese))
    assert commands(one) and commands(other) == commands(one)
    assert FENCE.findall(other) == FENCE.findall(one)
    assert [len(mark) for mark in headings(other)[0]] == [len(mark) for mark in headings(one)[0]]
    assert named_in_rows(other) == named_in_rows(one)


def headings(page):
    """Return the marks and the texts of a page's headings."""
    found = re.findall(r"^(#+) (.*)$", FENCE.sub("", page), re.MULTILINE)
    return [mark for mark, dummy in found], [text for dummy, text in found]


def named_in_rows(page):
    """Return, for each row of a table, the texts in code marks of its first cell."""
    return [re.findall(r"`([^`]+)`", row.split(" | ")[0]) for row in re.findall(r"^\| .*$", FENCE.sub("", page), re.MULTILINE)]


def test_the_runbook_has_a_section_for_every_verb():
    shown = {verb_of(shlex.split(line)[1]) for line in lines(RUNBOOK, "controller")}
    assert shown == {path.stem for path in (TOP / "playbooks").glob("*.yml")}


@pytest.mark.parametrize("name", PAIRS[0])
def test_the_readme_lists_every_verb_once(name):
    listed = re.findall(r"^\| `ascend\.vllm\.(\w+)` \|", (TOP / name).read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(listed) == sorted(path.stem for path in (TOP / "playbooks").glob("*.yml"))


# ---- What they name exists


def variables():
    """Return the variables that somebody reads: specified ones, defaults of roles, and what playbooks and tasks take where it is given."""
    found = set()
    for path in (TOP / "roles").glob("*/meta/argument_specs.yml"):
        for entry in yaml.safe_load(path.read_text(encoding="utf-8"))["argument_specs"].values():
            found |= set(entry.get("options") or {})
    for path in (TOP / "roles").glob("*/defaults/main.yml"):
        found |= set(yaml.safe_load(path.read_text(encoding="utf-8")) or {})
    for path in [*(TOP / "playbooks").rglob("*.yml"), *(TOP / "roles").glob("*/tasks/*.yml")]:
        found |= set(re.findall(r"\b(\w+) \| default\(", path.read_text(encoding="utf-8")))
    return found


def checks():
    """Return the names of all checks: those that are data, and those that a step finds."""
    found = set()
    for path in (TOP / "data" / "checks").glob("*.yml"):
        found |= set(yaml.safe_load(path.read_text(encoding="utf-8")))
    return found | set(re.findall(r'"([a-z]+_[a-z_]+)"', (TOP / "plugins" / "plugin_utils" / "findings.py").read_text(encoding="utf-8")))


@pytest.mark.parametrize("name", ["README.md", "docs/runbook.md", "docs/runbook.zh.md"])
def test_every_variable_and_check_that_is_named_exists(name):
    page = (TOP / name).read_text(encoding="utf-8")
    said = {word for words in commands(page) if words[0] == "ansible-playbook" for word in given(words)[0]}
    for info, block in FENCE.findall(page):
        said |= set(yaml.safe_load(block)) if info == "yaml" else set()
    code = set(re.findall(r"`([^`\s]+)`", FENCE.sub("", page)))
    prefixes = r"(vllm|serve|supervise|image_pull|weights_sync|logs_collect|monitoring|preflight|group_lock)_\w+"
    said |= {word for word in code if re.fullmatch(prefixes, word)}
    assert len(said) > 10 and sorted(said - variables()) == []
    kinds = r"(container|api|rank|hccn|npu|node|disk|port|weights|tcp|mtu|nic|process|python)_\w+"
    assert sorted({word for word in code if re.fullmatch(kinds, word)} - checks() - {"hccn_tool"}) == []


@pytest.mark.parametrize("words", WORDING)
def test_what_the_runbook_quotes_is_what_is_said(words):
    source = " ".join((TOP / WORDING[words]).read_text(encoding="utf-8").split())
    # A sentence may go on in the next literal of a source line, or have a template in it.
    assert words in RUNBOOK and words in re.sub(r'(?<=\S) " f?"', " ", source)


def slug(heading):
    """Return the anchor that a heading gets."""
    return re.sub(r"[^\w\- ]", "", re.sub(r"[`*]", "", heading).strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name):
    path = TOP / name
    missing = []
    for target in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", path.read_text(encoding="utf-8"))):
        if re.match(r"https?://", target):
            continue
        place, dummy, anchor = target.partition("#")
        page = (path.parent / place).resolve() if place else path
        if not page.is_file() or anchor and anchor not in map(slug, headings(page.read_text(encoding="utf-8"))[1]):
            missing.append(target)
    assert missing == []
