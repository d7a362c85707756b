# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Scales, ticks and labels of plots."""

from __future__ import annotations

import re

import pytest

from ansible_collections.ascend.vllm.plugins.plugin_utils import pages, plots

NAN, INFINITE = float("nan"), float("inf")
CSS = (pages.TEMPLATES / "page" / "plots.css.j2").read_text(encoding="utf-8")


@pytest.mark.parametrize(("value", "wanted"), [
    (1, 1.0), (0, 0.0), (2.5, 2.5), (-3, -3.0), (NAN, None), (INFINITE, None), (-INFINITE, None), (None, None), (True, None), ("5", None), ("-", None),
    ([1], None), (10**400, None),
])
def test_finite(value, wanted):
    assert plots.finite(value) == wanted


@pytest.mark.parametrize(("value", "whole", "wanted"), [
    (0, True, "0"), (1, True, "1"), (1.0, True, "1"), (1.0, False, "1.00"), (71.0, False, "71.0"), (0.0123, True, "0.0123"), (1.2345, True, "1.23"),
    (12.345, True, "12.3"), (99.96, True, "100"), (123.4, True, "123"), (12345.6, True, "12,346"), (1e6, False, "1,000,000"), (-5.5, True, "-5.50"),
    (0.0, False, "0"), (None, True, ""), (NAN, True, ""), ("x", True, ""),
])
def test_numbers_as_text(value, whole, wanted):
    assert plots.number_text(value, whole) == wanted


@pytest.mark.parametrize(("low", "high", "wanted"), [
    (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1.0]), (0, 1230, [0, 250, 500, 750, 1000, 1250]), (64.2, 72.4, [64, 66, 68, 70, 72, 74]),
    (0, 0.003, [0, 0.001, 0.002, 0.003]), (-2, 3, [-2, -1, 0, 1, 2, 3]), (90, 100, [90, 92, 94, 96, 98, 100]),
])
def test_linear_ticks_are_round_and_reach_around_the_values(low, high, wanted):
    assert plots.linear_ticks(low, high) == pytest.approx(wanted)


@pytest.mark.parametrize(("low", "high", "wanted"), [
    (60, 1200, [50, 100, 200, 500, 1000, 2000]), (1, 20, [1, 2, 5, 10, 20]), (0.3, 0.3, [0.2, 0.5]), (2, 2, [2, 5]), (0.02, 500, [0.01, 0.1, 1, 10, 100, 1000]),
])
def test_logarithmic_ticks(low, high, wanted):
    assert plots.log_ticks(low, high) == pytest.approx(wanted)


def test_a_scale_over_many_powers_of_ten_has_few_ticks():
    ticks = plots.log_ticks(1e-9, 1e9)
    assert 3 < len(ticks) <= 9


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-1, 5), (2, 1)])
def test_what_has_no_logarithm_is_refused(low, high):
    with pytest.raises(ValueError, match="logarithmic"):
        plots.log_ticks(low, high)
    with pytest.raises(ValueError, match="wanted"):
        plots.linear_ticks(high, high)


@pytest.mark.parametrize(("ticks", "wanted"), [
    ([0, 0.5, 1.0], ["0.0", "0.5", "1.0"]), ([0, 250, 500, 1000 - 250], ["0", "250", "500", "750"]), ([1, 2, 5, 1000], ["1", "2", "5", "1,000"]),
    ([0.1, 1, 10], ["0.1", "1", "10"]), ([0, 2.5, 5], ["0.0", "2.5", "5.0"]),
])
def test_ticks_as_text(ticks, wanted):
    assert plots.tick_texts(ticks) == wanted


@pytest.mark.parametrize(("values", "options", "ends", "log"), [
    ([10, 90], {}, (0, 100), False), ([10, 220], {}, (10, 500), True), ([10, 220], {"log": False}, (0, 250), False), ([0, 220], {}, (0, 250), False),
    ([5], {}, (0, 5), False), ([0], {}, (0, 1), False), ([100], {"zero": False}, (94, 106), False), ([-4, -4], {"zero": False}, (-4.2, -3.8), False),
    ([96, 101], {"zero": False, "limits": (0, 100)}, (95, 100), False), ([100, 100], {"zero": False, "limits": (0, 100)}, (95, 100), False),
    ([NAN, None, 10, 90, "x"], {}, (0, 100), False),
])
def test_scales(values, options, ends, log):
    scale = plots.Scale(values, 200, 30, **options)
    assert scale.log is log and (scale.low, scale.high) == pytest.approx(ends, rel=0.05)
    assert scale.at(scale.low) == 200 and scale.at(scale.high) == 30 and scale.at(scale.high * 10 if scale.high > 0 else 10) == 30
    for value in plots.numbers(values):
        assert 30 <= scale.at(value) <= 200


@pytest.mark.parametrize("values", [[], [None, NAN, "-"]])
def test_a_scale_of_nothing_has_no_ticks(values):
    scale = plots.Scale(values, 200, 30)
    assert scale.ticks == [] and 30 <= scale.at(0.5) <= 200


def test_loads_are_evenly_spaced_where_each_is_twice_the_one_before():
    loads = plots.Loads([4, 1, 2, 8, 4])
    steps = [loads.at(value) for value in (1, 2, 4, 8)]
    assert loads.log and [round(b - a, 6) for a, b in zip(steps, steps[1:])] == [round(steps[1] - steps[0], 6)] * 3
    assert [text for dummy, text in loads.marked()] == ["1", "2", "4", "8"] and loads.border is None


def test_a_load_without_a_limit_has_a_place_of_its_own():
    loads = plots.Loads([1, None, 2])
    assert loads.at(2) < loads.border < loads.at(None) <= plots.WIDTH - plots.RIGHT
    assert [text for dummy, text in loads.marked()] == ["1", "2", "∞"]
    alone = plots.Loads([None])
    assert alone.marked() == [(alone.at(None), "∞")] and alone.border is None
    assert plots.Loads([3]).at(3) == pytest.approx((plots.LEFT + plots.WIDTH - plots.RIGHT) / 2)


def test_a_load_of_zero_is_not_on_a_logarithmic_axis():
    assert not plots.Loads([0, 1, 100]).log and plots.Loads([0, 1, 100]).at(0) == plots.LEFT + plots.INSET


def test_numbers_of_loads_never_touch():
    marked = plots.Loads([*range(1000, 1100)]).marked()
    assert marked[0][1] == "1,000" and marked[-1][1] == "1,099" and all(plots.clear(left, right) for left, right in zip(marked, marked[1:]))


@pytest.mark.parametrize(("places", "wanted"), [
    ([], []), ([50], [50]), ([50, 50], [50, 64]), ([100, 20], [100, 20]), ([99, 100], [86, 100]), ([-5, 200], [0, 100]), ([10, 5, 12], [19, 5, 33]),
])
def test_labels_are_moved_apart_in_their_order(places, wanted):
    assert plots.spread(places, 0, 100) == pytest.approx(wanted)


def test_more_labels_than_there_is_room_for_stay_inside():
    moved = plots.spread([50] * 20, 0, 100)
    assert moved == sorted(moved) and min(moved) >= -1e-9 and max(moved) <= 100


@pytest.mark.parametrize(("number", "wanted"), [(0, "A"), (25, "Z"), (26, "AA"), (27, "AB"), (701, "ZZ"), (702, "AAA")])
def test_letters(number, wanted):
    assert plots.letters(number) == wanted


def test_a_long_name_is_cut():
    assert plots.shortened("short", 100) == "short"
    cut = plots.shortened("a-very-long-name-of-a-data-set", 60)
    assert cut.endswith("…") and plots.width(cut) <= 60 and plots.width("数据") > plots.width("ab")


def series(*points, **change):
    """Return one series of a plot."""
    return {"label": "mean", "shape": "circle", "kind": "ink-0", "points": list(points), **change}


def shapes(plot, tag, kind):
    """Return the shapes of a plot with a tag and a class."""
    return [entry for entry in plot["items"] if entry["tag"] == tag and kind in entry["attributes"]["class"].split()]


def test_what_is_no_number_is_not_drawn():
    loads = plots.Loads([1, 2, 4])
    plot = plots.load_plot("p", "t", "a", [series((1, 5.0, "h1"), (2, NAN, "h2"), (4, None, "h3")), series(label="empty")], loads, ("x", "y"), [(4, "bad")])
    assert [entry["hint"] for entry in shapes(plot, "path", "circle")] == ["h1"] and [entry["hint"] for entry in shapes(plot, "path", "cross")] == ["bad"]
    assert [entry["text"] for entry in shapes(plot, "text", "series")] == ["mean"] and shapes(plot, "polyline", "line") == []
    assert "nan" not in str(plot).lower()
    assert plots.load_plot("p", "t", "a", [series((1, NAN, "h"))], loads, ("x", "y")) is None


def test_a_line_does_not_go_to_what_has_no_limit():
    plot = plots.load_plot("p", "t", "a", [series((None, 9.0, ""), (2, 5.0, ""), (1, 4.0, ""))], plots.Loads([1, 2, None]), ("x", "y"))
    assert len(shapes(plot, "path", "circle")) == 3 and len(shapes(plot, "polyline", "line")[0]["attributes"]["points"].split()) == 2


def run(value, **change):
    """Return one run of a plot over time."""
    return {"value": value, "error": None, "floor": 80.0, "baseline": None, "shape": "circle", "kind": "pass", "hint": "", "date": "01-02", "deployment": "A",
            "mine": False, **change}


def test_runs_over_time():
    runs = [run(90.0), run(None, shape="cross", floor=None), run(91.0, deployment="B", mine=True, error=1.5)]
    plot = plots.runs_plot("p", "t", "a", runs, ("x", "y"), ("baseline", "floor"))
    assert len(shapes(plot, "line", "level")) == 2 and len(shapes(plot, "line", "whisker")) == 3 and len(shapes(plot, "path", "ring")) == 1
    assert [entry["text"] for entry in shapes(plot, "text", "letter")] == ["A", "B"] and len(shapes(plot, "path", "cross")) == 1
    assert [entry["text"] for entry in shapes(plot, "text", "series")] == ["floor"]
    assert plots.runs_plot("p", "t", "a", [], ("x", "y"), ("b", "f")) is None
    one = plots.runs_plot("p", "t", "a", [run(90.0)], ("x", "y"), ("b", "f"))
    assert shapes(one, "text", "letter") == [] and shapes(one, "polyline", "line") == []


def test_a_level_that_stays_is_one_line():
    plot = plots.runs_plot("p", "t", "a", [run(90.0), run(91.0), run(92.0)], ("x", "y"), ("b", "f"))
    [level] = shapes(plot, "line", "level")
    assert (level["attributes"]["x1"], level["attributes"]["x2"]) == (f"{plots.LEFT:.1f}", f"{plots.WIDTH - plots.RIGHT:.1f}")


def test_shapes_have_classes_and_no_colours():
    text = str(plots.score_plot("p", "t", "a", [{"label": "<b>", "text": "x", "shape": "circle", "kind": "pass", "value": 90.0, "error": 1.0, "floor": 80.0,
                                                 "baseline": None, "hint": ""}], "x"))
    assert not re.search(r"#[0-9a-f]{3}|rgb|fill|style", text)
    for kind in ("pass", "fail", "unknown", "none", "ink-0", "ink-1", "ink-2", "ink-3", "floor", "hollow"):
        assert re.search(rf"\.plot \.{kind}\b", CSS), kind
