# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The order of Ascend's version numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.ascend.vllm.plugins.plugin_utils import data, versions

#: From old to new.
ORDER = ["7.1.0.11.220", "7.7.0.1.231", "23.0.7", "24.1.alpha1", "24.1.beta2", "24.1.rc2", "24.1.rc3", "24.1.rc3.1", "24.1.0", "24.1.0.3", "24.1.1", "25.0.rc1",
         "25.0.rc1.1", "25.2.0", "25.2.1", "25.3.rc1", "25.5.0", "25.5.1", "25.10.0", "26.0.rc1"]


@pytest.mark.parametrize("left", range(len(ORDER)))
def test_order(left):
    assert [versions.older(ORDER[left], other) for other in ORDER] == [left < right for right in range(len(ORDER))]


@pytest.mark.parametrize(("one", "other"), [
    ("24.1.RC3", "24.1.rc3"), ("24.1.rc.3", "24.1.rc3"), ("V25.5.0", "25.5"), ("v25.5.0.0", "25.5.0"), (" 25.5.1 ", "25.5.1"), (25, "25.0"),
    ("24.1.rc3.b060", "24.1.rc3"), ("1.41", "1.41"), ("v0.23.0rc1", "0.23.0.rc1"),
])
def test_equal(one, other):
    assert [versions.older(*pair) for pair in ((one, other), (other, one))] == [False, False]


def test_releases_of_vllm_ascend():
    order = ["v0.11.0rc0", "v0.11.0", "v0.13.0rc3", "v0.13.0", "v0.19.1rc1", "v0.20.2rc1", "v0.22.1rc1", "v0.23.0rc1", "v0.23.0"]
    assert [versions.older(one, other) for one, other in zip(order, order[1:])] == [True] * 8
    assert [versions.older(one, other) for one, other in zip(order[1:], order)] == [False] * 8


def test_docker_and_python_versions_are_no_decimal_numbers():
    assert versions.older("1.9", "1.25") is True and versions.older("3.9.9", "3.10") is True and versions.older("3.10.1", "3.9") is False


@pytest.mark.parametrize("text", [None, "", " ", "NA", "unknown", "rc1", "25..1", "25.5.x", "25.5.1 (patched)", ".", "25.", "-1", "²", [], {}])
def test_what_is_no_version_is_not_compared(text):
    assert versions.key(text) is None
    assert versions.older(text, "25.5.1") is None and versions.older("25.5.1", text) is None and versions.older(text, text) is None


@given(st.text(max_size=12), st.text(max_size=12))
def test_no_text_raises(one, other):
    assert versions.older(one, other) in (True, False, None)
    assert versions.within(one, other) in (True, False, None)


@pytest.mark.parametrize(("version", "ranges", "wanted"), [
    ("7.1.0.11.220", "[7.0.0,8.9.9]", True),
    ("7.0.0", "[7.0.0,8.9.9]", True), ("8.9.9", "[7.0.0,8.9.9]", True), ("9.0.0", "[7.0.0,8.9.9]", False), ("6.9.9", "[7.0.0,8.9.9]", False),
    ("7.5.99", "[7.0,7.5]", True), ("7.50.1", "[7.0,7.5]", False), ("7.5.99", "[7.0,7.5.]", True),
    ("1.5", "[1.0,2.0],[7.0,8.0]", True), ("7.5", "[1.0,2.0], [ 7.0 , 8.0 ]", True), ("5.0", "[1.0,2.0],[7.0,8.0]", False),
    ("7.1.0", None, None), ("7.1.0", "", None), ("7.1.0", "any", None), ("7.1.0", "[7.0.0]", None), ("7.1.0", "[a,b]", None),
    (None, "[7.0.0,8.9.9]", None), ("", "[7.0.0,8.9.9]", None), ("unknown", "[7.0.0,8.9.9]", None),
])
def test_ranges_of_firmware(version, ranges, wanted):
    assert versions.within(version, ranges) is wanted


def test_every_floor_of_the_data_is_a_version():
    entries = data.load_all()[0]["floors"]
    assert len(entries) >= 6
    for name, entry in entries.items():
        for kind, minimum in entry["minimum"].items():
            recommended = (entry["recommended"] or {}).get(kind)
            assert versions.older(minimum, recommended or minimum) in (True, False), (name, kind)
            assert not versions.older(recommended or minimum, minimum), (name, kind)
