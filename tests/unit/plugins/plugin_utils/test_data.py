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
            assert entry["image_tag"][hardware][system] == {"a2": "", "a3": "-a3"}[hardware] + {"ubuntu": "", "openeuler": "-openeuler"}[system]
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
    entries = {"a": {"source": "s", "x": {"y": 1, "z": 1}}, "b": {"base": "a", "source": "t", "x": {"z": None}}, "c": {"base": "b", "source": "u"}}
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
