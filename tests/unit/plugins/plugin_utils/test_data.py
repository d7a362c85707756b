# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The data: what is shipped is complete and has its sources, and what a site adds is taken or refused by name."""

from __future__ import annotations

import itertools

import pytest

from ansible_collections.ascend.vllm.plugins.plugin_utils import conditions, data, recipes


@pytest.fixture(name="site")
def site_folder(tmp_path):
    """Give the function that writes one file of recipes and returns its folder."""

    def write(text, name="site.yml", kind="recipes", folder="data"):
        target = tmp_path / folder / kind
        target.mkdir(parents=True, exist_ok=True)
        (target / name).write_text(text, encoding="utf-8")
        return str(tmp_path / folder)

    return write


def test_shipped_data_loads_and_every_entry_has_a_source():
    known, checks = data.load_all()
    assert checks == []
    for kind in data.KINDS:
        assert known[kind]
        for name, entry in known[kind].items():
            assert isinstance(entry["source"], str) and entry["source"], f"{kind} {name}"


def test_releases_have_what_a_container_needs():
    known, _checks = data.load_all()
    assert {"v0.11.0", "v0.13.0", "v0.18.0", "v0.23.0"} <= set(known["releases"])
    for name, entry in known["releases"].items():
        assert {"kind", "vllm", "cann", "python", "torch", "torch_npu", "mooncake", "hdk"} <= set(entry), name
        for hardware, system in itertools.product(known["hardware"], ("ubuntu", "openeuler")):
            assert (
                entry["image_tag"][hardware][system]
                == {"a2": "", "a3": "-a3"}[hardware] + {"ubuntu": "", "openeuler": "-openeuler"}[system]
            )
            assert isinstance(entry["start"]["ld_preload"][system], list)
        assert [path.rsplit("/", 1)[1] for path in entry["start"]["set_env"]] == ["set_env.sh", "set_env.sh"]
    # A look-up, not a rule: the name of the release is not always vLLM's.
    assert known["releases"]["v0.14.0rc1"]["vllm"] == "v0.14.1"
    assert known["releases"]["v0.13.0"]["hdk"]["recommended"] == "25.5"


def test_every_recipe_can_be_selected_for_all_it_has_entries_for():
    known, _checks = data.load_all()
    for name in known["recipes"]:
        entry = data.resolve(known["recipes"], name)
        for release, hardware in itertools.product(entry["releases"], entry["hardware"]):
            assert release in known["releases"]
            recipe, checks = recipes.select(name, entry, release, hardware, "h")
            assert checks == []
            assert all(isinstance(value, str) for value in recipe.env.values())
            assert recipe.data_parallel_size * recipe.tensor_parallel_size == recipe.npus_needed
            facts = {"env": recipe.env, "flag": recipe.flags, "release": release}
            for code, notice in recipe.notices.items():
                assert notice["source"] and notice["text"] and notice["level"] in ("info", "warn", "fail"), code
                conditions.holds(notice["when"], facts)


@pytest.mark.parametrize(
    ("base", "top", "wanted"),
    [
        ({"a": 1, "b": {"c": 1, "d": 2}}, {"b": {"c": None, "e": 3}}, {"a": 1, "b": {"d": 2, "e": 3}}),
        ({"a": [1, 2]}, {"a": [3]}, {"a": [3]}),
        ({"a": {"b": 1}}, {"a": 5}, {"a": 5}),
        ({"a": 5}, {"a": {"b": 1, "c": None}}, {"a": {"b": 1}}),
        ({"a": 1}, {"b": {"c": None, "d": 1}}, {"a": 1, "b": {"d": 1}}),
    ],
)
def test_overlay(base, top, wanted):
    before = repr(base)
    assert data.overlay(base, top) == wanted
    assert repr(base) == before


def test_a_chain_of_bases():
    entries = {
        "a": {"source": "s", "x": {"y": 1, "z": 1}},
        "b": {"base": "a", "source": "t", "x": {"z": None}},
        "c": {"base": "b", "source": "u"},
    }
    assert data.resolve(entries, "c") == {"source": "u", "x": {"y": 1}}


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({"a": {"base": "b"}, "b": {"base": "a"}}, "a circle of bases: a -> b -> a"),
        ({"a": {"base": "a"}}, "a circle of bases: a -> a"),
        ({"a": {"base": "bee"}, "bees": {}}, "'bee', the base of a"),
    ],
)
def test_bases_that_lead_nowhere(entries, words):
    with pytest.raises(data.DataError) as caught:
        data.resolve(entries, "a")
    assert caught.value.problem == words and caught.value.remedy


def test_a_site_adds_and_replaces_whole_entries(site):
    folder = site("mine: {source: us, base: deepseek_r1_w8a8, served_model_name: r1}\ndeepseek_r1_w8a8: {source: us}\n")
    later = site("mine: {source: them}\n", folder="later")
    known, checks = data.load_all([folder, later])
    assert checks == []
    assert known["recipes"]["deepseek_r1_w8a8"] == {"source": "us"}
    assert known["recipes"]["mine"] == {"source": "them"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: {b: 1}\n", "the entry a without a source"),
        ("a: [1]\n", "the entry a without a source"),
        ("- a\n", "['a'] (a list)"),
        ("a: {source: s, b: 1, b: 2}\n", "the key 'b' is there twice"),
        ("a: {source: s}\na: {source: t}\n", "the key 'a' is there twice"),
        ("a: {\n", "expected"),
    ],
)
def test_a_file_of_a_site_that_is_wrong(site, text, words):
    folder = site(text)
    _known, checks = data.load_all([folder])
    assert [check["device"] for check in checks] == [f"{folder}/recipes/site.yml"]
    assert words in checks[0]["observed"] and checks[0]["remedy"]


def test_a_name_in_two_files_of_one_folder_is_refused(site):
    site("a: {source: s}\n", "one.yml")
    folder = site("a: {source: s}\n", "two.yml")
    _known, checks = data.load_all([folder])
    assert [check["observed"] for check in checks] == ["the entry a a second time"]


def test_a_folder_of_a_site_that_is_wrong(tmp_path):
    (tmp_path / "empty").mkdir()
    _known, checks = data.load_all(["data", str(tmp_path / "nowhere"), str(tmp_path / "empty")])
    assert {check["device"] for check in checks} == {"vllm_data_dirs"}
    assert [check["observed"].split()[0] for check in checks] == ["the", "no", str(tmp_path / "empty")]


@pytest.mark.parametrize(
    ("kind", "text", "words"),
    [
        ("releases", "v9: {source: s}\n", "releases entry v9 with no image_tag, start"),
        ("releases", "v9: {source: s, base: v8}\n", "releases entry v9 with 'v8', the base of v9"),
        ("hardware", "a2: {source: s, npus: 4}\n", "hardware entry a2 with no title, npus_max, device_nodes, mounts"),
    ],
)
def test_a_site_s_release_or_hardware_has_to_be_whole(site, kind, text, words):
    _known, checks = data.load_all([site(text, kind=kind)])
    assert [check["observed"] for check in checks] == [words]
    assert checks[0]["device"] == "vllm_data_dirs" and checks[0]["remedy"]


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("{source: s}", "causes entry x with no patterns, cause, remedy"),
        ("{source: s, patterns: a, cause: {en: a}, remedy: {en: b}}", "patterns 'a' (a text)"),
        ("{source: s, patterns: [], cause: {en: a}, remedy: {en: b}}", "patterns []"),
        ("{source: s, patterns: ['(a'], cause: {en: a}, remedy: {en: b}}", "the pattern '(a' (a text): missing )"),
        ("{source: s, patterns: [5], cause: {en: a}, remedy: {en: b}}", "the pattern 5"),
        ("{source: s, patterns: [a], cause: a, remedy: {en: b}}", "cause 'a' (a text)"),
        ("{source: s, patterns: [a], cause: {en: a}, remedy: {zh: b}}", "remedy {'zh': 'b'}"),
        ("{source: s, patterns: [a], cause: {en: a}, remedy: {en: b}, rank: first}", "rank 'first' (a text)"),
        ("{source: s, patterns: [a], cause: {en: a}, remedy: {en: b}, rank: true}", "rank True"),
    ],
)
def test_a_site_s_cause_that_cannot_be_used_is_refused(site, entry, words):
    known, checks = data.load_all([site(f"x: {entry}\n", kind="causes")])
    assert len(checks) == 1 and words in checks[0]["observed"] and checks[0]["remedy"] and checks[0]["device"] == "vllm_data_dirs"
    assert "x" not in known["causes"]
    assert data.load_all([site("x: {source: s, base: EI0006, rank: 5}\n", kind="causes")])[1] == []


def test_only_the_kinds_that_are_asked_for_are_read(site):
    known, checks = data.load_all([site("a: {\n"), site("x: {source: s, base: EI0006}\n", kind="causes", folder="other")], kinds=("causes",))
    assert checks == [] and set(known) == {"causes"} and "x" in known["causes"]


def test_a_site_s_release_from_a_base(site):
    known, checks = data.load_all([site("v0.13.0-ours: {source: s, base: v0.13.0, cann: '8.5.1'}\n", kind="releases")])
    assert checks == []
    assert known["releases"]["v0.13.0-ours"]["cann"] == "8.5.1" and known["releases"]["v0.13.0-ours"]["vllm"] == "v0.13.0"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"weights": {"id": None}}, "no kind and id of its weights"),
        ({"served_model_name": None}, "no served_model_name"),
        ({"hardware": {"a2": {"npus_needed": "many"}}}, "npus_needed"),
        ({"hardware": {"a2": {"data_parallel_size": 0}}}, "data_parallel_size"),
        ({"hardware": {"a2": {"expert_parallel_sizes": ["x"]}}}, "expert_parallel_sizes"),
        ({"hardware": {"a2": 8}}, "no mapping"),
        ({"releases": {"v0.13.0": {"env": ["A=1"]}}}, "env that are no mapping"),
        ({"releases": {"v0.13.0": {"hardware": {"a2": {"flags": "x"}}}}}, "flags that are no mapping"),
        ({"releases": {"v0.13.0": [1]}}, "no mapping"),
        ({"timeouts": {"X": {"value": 1}}}, "timeouts that are no mapping of names to value and reason"),
        ({"notices": {"x": "text"}}, "notices that are no mapping of names to when and text"),
    ],
)
def test_a_recipe_that_is_not_whole_is_refused_when_it_is_selected(change, words):
    known, _checks = data.load_all()
    entry = data.overlay(data.resolve(known["recipes"], "deepseek_r1_w8a8"), change)
    recipe, checks = recipes.select("x", entry, "v0.13.0", "a2", "h")
    assert recipe is None
    assert [(check["host"], check["device"]) for check in checks] == [("h", "vllm_model")]
    assert words in checks[0]["observed"] and checks[0]["remedy"]


def test_a_file_is_read_anew_when_it_changed_and_nobody_shares_what_was_read(tmp_path):
    path = tmp_path / "x.yml"
    path.write_text("a: {b: [1]}\n", encoding="utf-8")
    first = data.read_yaml(path)
    first["a"]["b"].append(2)
    assert data.read_yaml(path) == {"a": {"b": [1]}}
    path.write_text("a: {b: [3]}\n", encoding="utf-8")
    assert data.read_yaml(path) == {"a": {"b": [3]}}
