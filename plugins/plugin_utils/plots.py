# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plots as data: scales, ticks and the shapes of an SVG, which the template page/plot.html.j2 writes out. Pure functions.

A plot is ``{id, title, about, note, width, height, items}``; an item is ``{tag, attributes, text, hint}``. Nothing here is markup, so that ``html_safe``
escapes every text of a plot as it does every other one. Lengths are units of the plot's own view box, which the page scales.
A shape has a class and never a colour: the style sheet has the colours of light and dark. A series differs by mark and label too, not by colour alone.
"""

from __future__ import annotations

import math

from .pages import one_line

#: A plot's size and its margins: the numbers left of the axis, the labels of series right of it.
WIDTH, HEIGHT = 400, 250
LEFT, RIGHT, TOP, BOTTOM = 52, 66, 30, 46
#: From this ratio of the largest value to the smallest one, an axis is logarithmic.
LOG_FROM = 20.0
#: Height of a line of text, and about the width of a character of it: a Latin one, and one of a full-width script.
LINE, NARROW, WIDE = 14.0, 6.6, 12.5
#: How far values stay from both ends of the x axis, and how wide the place is of what is not a number on it.
INSET, PLACE = 14.0, 34.0
#: Name of a mark -> its outline around the origin.
MARKS = {
    "circle": "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0Z",
    "square": "M-3.5 -3.5H3.5V3.5H-3.5Z",
    "triangle": "M0 -4.6L4.4 3.6H-4.4Z",
    "diamond": "M0 -5L5 0L0 5L-5 0Z",
    "down": "M0 5.2L5 -4H-5Z",
    "cross": "M-4 -4L4 4M-4 4L4 -4",
    "dash": "M-8 0H8",
    "post": "M0 -8V8",
    "ring": "M-8 0a8 8 0 1 0 16 0a8 8 0 1 0 -16 0Z",
}


def finite(value) -> float | None:
    """Return a number as a float; ``None`` for NaN, infinity, a boolean and whatever is no number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def numbers(values) -> list:
    """Return the finite ones of some values."""
    return [number for number in map(finite, values) if number is not None]


def number_text(value, whole: bool = True) -> str:
    """Return a number with about three digits, thousands apart: ``0.0123``, ``1.24``, ``12.4``, ``124``, ``12,345``.

    ``whole``: a whole number stays one, as is right for what was asked; what was measured keeps its digits: ``71.0``.
    """
    number = finite(value)
    if number is None:
        return ""
    size = abs(number)
    if size >= 99.95 or not size or (whole and number == int(number)):
        return f"{number:,.0f}"
    if size >= 9.995:
        return f"{number:.1f}"
    if size >= 0.9995:
        return f"{number:.2f}"
    return f"{number:.3g}"


def width(text: str) -> float:
    """Return about how wide a text of a plot is."""
    return sum(WIDE if ord(char) > 0x2E80 else NARROW for char in text)


def shortened(text: str, room: float) -> str:
    """Return a text that is cut off where it is wider than the room it has."""
    if width(text) <= room:
        return text
    while text and width(text) + NARROW > room:
        text = text[:-1]
    return text + "…"


def linear_ticks(low: float, high: float, count: int = 5) -> list:
    """Return about ``count`` round numbers, of which the first is at most ``low`` and the last at least ``high``."""
    if not high > low:
        raise ValueError(f"a scale from {low} to {high}, wanted: the end above the start")
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(place * step, 12) for place in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list:
    """Return the numbers 1, 2, 5 x 10^n around a range, or powers of ten only where it is wide. Raises ValueError below zero."""
    if not 0 < low <= high:
        raise ValueError(f"a logarithmic scale from {low} to {high}, wanted: numbers above zero")
    factors = (1, 2, 5) if high / low < 500 else (1,)
    powers = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 2)
    ladder = [round(factor * 10.0**power, 12) for power in powers for factor in factors]
    first = max(place for place, value in enumerate(ladder) if value <= low * (1 + 1e-9))
    last = min(place for place, value in enumerate(ladder) if value >= high * (1 - 1e-9) and place > first)
    found = ladder[first : last + 1]
    return found[:: math.ceil(len(found) / 8)] if len(found) > 9 else found


def tick_texts(ticks: list) -> list:
    """Return ticks as text, all of a linear scale with the same number of decimals."""
    if len(ticks) > 2 and math.isclose(ticks[1] - ticks[0], ticks[2] - ticks[1]):
        decimals = next((count for count in range(7) if all(math.isclose(round(tick, count), tick, abs_tol=1e-9) for tick in ticks)), 7)
        return [f"{tick:,.{decimals}f}" for tick in ticks]
    return [number_text(tick) for tick in ticks]


class Scale:
    """Values to places between ``start`` and ``end``, linear or logarithmic, with its round ticks.

    ``zero``: a linear scale starts at zero. ``log``: from ``LOG_FROM`` on the scale is logarithmic. ``limits``: the scale does not go beyond them.
    One value has a scale around it; without any there are no ticks. NaN and what is no number do not count.
    """

    def __init__(self, values, start: float, end: float, zero: bool = True, log: bool = True, limits=(None, None)):
        known = numbers(values)
        self.start, self.end, self.log, self.ticks, self.low, self.high = start, end, False, [], 0.0, 1.0
        if not known:
            return
        low, high = min(known), max(known)
        self.log = log and low > 0 and high / low >= LOG_FROM
        if self.log:
            self.ticks = log_ticks(low, high)
        else:
            if zero:
                low, high = min(low, 0.0), max(high, 0.0)
            if high - low < 1e-9 * max(abs(high), 1.0):
                pad = max(abs(high) * 0.05, 1e-3) if high else 1.0
                low, high = (low, high + pad) if zero and low >= 0 else (low - pad, high + pad)
            elif not zero:
                low, high = low - 0.08 * (high - low), high + 0.08 * (high - low)
            floor, ceiling = limits
            low, high = low if floor is None else max(low, floor), high if ceiling is None else min(high, ceiling)
            if not high > low:
                low = high - 1.0
            self.ticks = linear_ticks(low, high)
        self.low, self.high = self.ticks[0], self.ticks[-1]

    def at(self, value: float) -> float:
        """Return the place of a value, never beyond the ends."""
        if self.log:
            share = math.log(max(value, self.low) / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + (self.end - self.start) * min(max(share, 0.0), 1.0)


class Loads:
    """Loads along the x axis: numbers, linear or logarithmic, and ``None`` (no limit) in a place of its own at the right end."""

    def __init__(self, values, start: float = LEFT + INSET, end: float = WIDTH - RIGHT - INSET, log: bool = True):
        self.values = sorted(set(numbers(values)))
        self.endless = any(value is None for value in values)
        self.place = end if self.values else (start + end) / 2
        if self.endless and self.values:
            end -= PLACE
        self.start, self.end = start, end
        self.log = log and len(self.values) > 2 and self.values[0] > 0 and self.values[-1] / self.values[0] >= 8
        self.border = end + PLACE / 2 if self.endless and self.values else None

    def at(self, value) -> float:
        """Return the place of a load."""
        if value is None:
            return self.place
        if len(self.values) == 1:
            return (self.start + self.end) / 2
        if self.log:
            share = math.log(value / self.values[0]) / math.log(self.values[-1] / self.values[0])
        else:
            share = (value - self.values[0]) / (self.values[-1] - self.values[0])
        return self.start + (self.end - self.start) * share

    def marked(self) -> list:
        """Return ``(place, text)`` of the loads that have room for their number."""
        wanted = [(self.at(value), number_text(value)) for value in self.values] + ([(self.place, "∞")] if self.endless else [])
        return thinned(wanted)


def thinned(labels: list) -> list:
    """Return those ``(place, text)`` of labels from left to right that do not touch; the first one always, the last one where it has room."""
    kept = labels[:1]
    for label in labels[1:-1]:
        if clear(kept[-1], label) and clear(label, labels[-1]):
            kept.append(label)
    if len(labels) > 1 and clear(kept[-1], labels[-1]):
        kept.append(labels[-1])
    return kept


def clear(left: tuple, right: tuple) -> bool:
    """Return whether there is room between two labels that are centred on their places."""
    return right[0] - left[0] >= (width(left[1]) + width(right[1])) / 2 + 6


def spread(places: list, low: float, high: float, gap: float = LINE) -> list:
    """Return places moved apart as little as needed, at least ``gap`` from one another and within the limits, in the order given."""
    order = sorted(range(len(places)), key=lambda index: places[index])
    gap = min(gap, (high - low) / max(len(places) - 1, 1))
    moved: dict = {}
    for index in order:
        below = moved[order[len(moved) - 1]] + gap if moved else low
        moved[index] = max(places[index], below, low)
    ceiling = high
    for index in reversed(order):
        moved[index] = min(moved[index], ceiling)
        ceiling = moved[index] - gap
    return [moved[index] for index in range(len(places))]


def letters(number: int) -> str:
    """Return the name of a deployment by its number from 0 on: A, B, .., Z, AA."""
    text = ""
    number += 1
    while number:
        number, rest = divmod(number - 1, 26)
        text = chr(65 + rest) + text
    return text


# Shapes

def item(tag: str, kind: str, text: str = "", hint: str = "", **attributes) -> dict:
    """Return one shape of a class, with its text and what is shown when a pointer rests on it."""
    shown = {key.replace("_", "-"): f"{value:.1f}" if isinstance(value, float) else str(value) for key, value in attributes.items()}
    return {"tag": tag, "attributes": {"class": kind, **shown}, "text": one_line(text), "hint": one_line(hint)}


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> dict:
    """Return a straight line."""
    return item("line", kind, x1=float(x1), y1=float(y1), x2=float(x2), y2=float(y2))


def label(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> dict:
    """Return a text whose baseline is at ``y``."""
    return item("text", kind, text, x=float(x), y=float(y), text_anchor=anchor)


def mark(x: float, y: float, shape: str, kind: str, hint: str = "") -> dict:
    """Return a mark of ``MARKS``."""
    return item("path", f"mark {shape} {kind}", hint=hint, d=MARKS[shape], transform=f"translate({x:.1f} {y:.1f})")


def path(points: list, kind: str) -> dict:
    """Return a line through points."""
    return item("polyline", kind, points=" ".join(f"{x:.1f},{y:.1f}" for x, y in points))


def whisker(x: float, low: float, high: float, kind: str, upright: bool = True) -> list:
    """Return an error bar with its ends: from ``low`` to ``high`` along y at ``x``, or along x at the place ``x`` of y."""
    strokes = [(x, low, x, high), (x - 4, low, x + 4, low), (x - 4, high, x + 4, high)]
    return [line(*(ends if upright else (ends[1], ends[0], ends[3], ends[2])), kind=f"whisker {kind}") for ends in strokes]


def frame(scale: Scale, y_label: str, x_label: str) -> list:
    """Return the grid and the y axis with its numbers, and the names of both axes."""
    items = []
    for tick, text in zip(scale.ticks, tick_texts(scale.ticks)):
        y = scale.at(tick)
        items += [line(LEFT, y, WIDTH - RIGHT, y, "grid"), label(LEFT - 7, y + 4, text, "tick", "end")]
    items.append(line(LEFT, HEIGHT - BOTTOM, WIDTH - RIGHT, HEIGHT - BOTTOM, "axis"))
    items.append(label(4, 14, y_label, "name"))
    items.append(label((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, x_label, "name", "middle"))
    return items


def series_labels(ends: list) -> list:
    """Return the names of series beside their last points: ``ends`` is ``[(x, y, text, kind)]``."""
    places = spread([y for dummy, y, dummy2, dummy3 in ends], TOP + 4, HEIGHT - BOTTOM - 2)
    items = []
    for (x, y, text, kind), place in zip(ends, places):
        right = WIDTH - RIGHT + 8
        if right - x > 14 or abs(place - y) > 3:
            items.append(line(x + 7, y, right - 2, place, f"lead {kind}"))
        items.append(label(right, place + 4, text, f"series {kind}"))
    return items


def load_plot(name: str, title: str, about: str, series: list, loads: Loads, axes: tuple, failed=()) -> dict | None:
    """Return values against load, or ``None`` if there is no value.

    ``series``: ``[{label, shape, kind, points: [(load, value, hint)], joined}]``, values finite or ``None``. ``axes``: names of x and y.
    ``failed``: ``[(load, hint)]`` of runs that gave no value to be trusted, marked on the axis.
    """
    series = [{**entry, "points": [point for point in entry["points"] if finite(point[1]) is not None]} for entry in series]
    values = [value for entry in series for dummy, value, dummy2 in entry["points"]]
    if not values:
        return None
    scale = Scale(values, HEIGHT - BOTTOM, TOP)
    items = frame(scale, axes[1], axes[0])
    for x, text in loads.marked():
        items += [line(x, HEIGHT - BOTTOM, x, HEIGHT - BOTTOM + 4, "axis"), label(x, HEIGHT - BOTTOM + 17, text, "tick", "middle")]
    if loads.border is not None:
        items.append(line(loads.border, TOP, loads.border, HEIGHT - BOTTOM, "border"))
    ends, marks = [], []
    for entry in series:
        placed = [(loads.at(load), scale.at(value), hint, load) for load, value, hint in sorted(entry["points"], key=_by_load)]
        if not placed:
            continue
        steady = [(x, y) for x, y, dummy, load in placed if load is not None]
        if entry.get("joined", True) and len(steady) > 1:
            items.append(path(steady, f"line {entry['kind']}"))
        marks += [mark(x, y, entry["shape"], entry["kind"], hint) for x, y, hint, dummy in placed]
        ends.append((placed[-1][0], placed[-1][1], entry["label"], entry["kind"]))
    marks += [mark(loads.at(load), HEIGHT - BOTTOM - 8, "cross", "unknown", hint) for load, hint in failed]
    return {"id": name, "title": title, "about": about, "note": "", "width": WIDTH, "height": HEIGHT, "items": items + series_labels(ends) + marks}


def _by_load(point: tuple):
    return (point[0] is None, point[0] or 0)


def score_plot(name: str, title: str, about: str, rows: list, x_label: str) -> dict:
    """Return a row a score: its mark with its error bar, its floor and its baseline, on one scale of percent.

    ``rows``: ``[{label, text, shape, kind, value, error, floor, baseline, hint}]``, each number finite or ``None``.
    """
    left, right, step = 10, WIDTH - 12, 48
    values = []
    for row in rows:
        error = row["error"] or 0
        values += [row[key] for key in ("value", "floor", "baseline")] + ([row["value"] - error, row["value"] + error] if row["value"] is not None else [])
    scale = Scale(values, left + 6, right - 6, zero=False, log=False, limits=(0, 100))
    bottom = 10 + step * len(rows)
    items = []
    for place, text in thinned([(scale.at(tick), text) for tick, text in zip(scale.ticks, tick_texts(scale.ticks))]):
        items += [line(place, 8, place, bottom, "grid"), label(place, bottom + 16, text, "tick", "middle")]
    items.append(label((left + right) / 2, bottom + 36, x_label, "name", "middle"))
    for index, row in enumerate(rows):
        y = 10 + step * index + 32.0
        items += [line(left, y, right, y, "track"), label(right, y - 16, row["text"], "row value", "end"),
                  label(left, y - 16, shortened(row["label"], right - left - width(row["text"]) - 10), "row")]
        if row["floor"] is not None:
            items.append(mark(scale.at(row["floor"]), y, "post", "floor"))
        if row["baseline"] is not None:
            items.append(mark(scale.at(row["baseline"]), y, "diamond", "hollow"))
        if row["value"] is not None:
            if row["error"]:
                items += whisker(y, scale.at(row["value"] - row["error"]), scale.at(row["value"] + row["error"]), row["kind"], upright=False)
            items.append(mark(scale.at(row["value"]), y, row["shape"], row["kind"], row["hint"]))
    return {"id": name, "title": title, "about": about, "note": "", "width": WIDTH, "height": bottom + 46, "items": items}


def runs_plot(name: str, title: str, about: str, runs: list, axes: tuple, lines: tuple, limits=(None, None)) -> dict | None:
    """Return runs from the oldest to the newest, evenly spaced, or ``None`` without any.

    ``runs``: ``[{value, error, floor, baseline, shape, kind, hint, date, deployment, mine}]``. ``axes``: names of x and y.
    ``lines``: names of baseline and floor. A run without a value is marked on the axis; a new deployment starts at a dotted line with its letter.
    """
    if not runs:
        return None
    values = []
    for run in runs:
        values += [run[key] for key in ("value", "floor", "baseline")]
        values += [run["value"] - run["error"], run["value"] + run["error"]] if run["value"] is not None and run["error"] else []
    scale = Scale(values, HEIGHT - BOTTOM - (16 if any(run["value"] is None for run in runs) else 0), TOP + 12, zero=False, log=False, limits=limits)
    start, end = LEFT + INSET, WIDTH - RIGHT - INSET
    step = (end - start) / max(len(runs) - 1, 1)
    places = [start + step * index if len(runs) > 1 else (start + end) / 2 for index in range(len(runs))]
    items = frame(scale, axes[1], axes[0]) + _dates(runs, places) + _deployments(runs, places)
    ends = []
    for key, text in zip(("baseline", "floor"), lines):
        found = _level(runs, places, key, scale)
        items += [line(*ends_of, kind=f"level {key}") for ends_of in found]
        if found:
            ends.append((WIDTH - RIGHT - 7.0, found[-1][3], text, key))
    joined = [(x, scale.at(run["value"])) for x, run in zip(places, runs) if run["value"] is not None]
    if len(joined) > 1:
        items.append(path(joined, "line through"))
    marks = []
    for x, run in zip(places, runs):
        y = HEIGHT - BOTTOM - 8 if run["value"] is None else scale.at(run["value"])
        if run["value"] is not None and run["error"]:
            marks += whisker(x, scale.at(run["value"] - run["error"]), scale.at(run["value"] + run["error"]), run["kind"])
        if run["mine"]:
            marks.append(mark(x, y, "ring", "mine"))
        marks.append(mark(x, y, run["shape"], run["kind"], run["hint"]))
    return {"id": name, "title": title, "about": about, "note": "", "width": WIDTH, "height": HEIGHT, "items": items + series_labels(ends) + marks}


def _dates(runs: list, places: list) -> list:
    """Return the dates below the axis where there is room."""
    return [entry for x, text in thinned([(x, run["date"]) for x, run in zip(places, runs)])
            for entry in (line(x, HEIGHT - BOTTOM, x, HEIGHT - BOTTOM + 4, "axis"), label(x, HEIGHT - BOTTOM + 17, text, "tick", "middle"))]


def _deployments(runs: list, places: list) -> list:
    """Return a dotted line where another deployment starts, with letters where there is room; none if there is only one."""
    if len({run["deployment"] for run in runs}) < 2:
        return []
    items, free = [], 0.0
    for index, run in enumerate(runs):
        if index and run["deployment"] == runs[index - 1]["deployment"]:
            continue
        x = LEFT if not index else (places[index - 1] + places[index]) / 2
        if index:
            items.append(line(x, TOP - 8, x, HEIGHT - BOTTOM, "border"))
        if x >= free:
            items.append(label(x + 3, TOP, run["deployment"], "letter"))
            free = x + 3 + width(run["deployment"]) + 4
    return items


def _level(runs: list, places: list, key: str, scale: Scale) -> list:
    """Return the ends ``(x1, y1, x2, y2)`` of the level lines of a baseline or a floor; a run's own level reaches half-way to its neighbours."""
    found: list = []
    for index, run in enumerate(runs):
        if run[key] is None:
            continue
        left = LEFT if not index else (places[index - 1] + places[index]) / 2
        right = WIDTH - RIGHT if index == len(runs) - 1 else (places[index] + places[index + 1]) / 2
        y = scale.at(run[key])
        if found and found[-1][2] == left and found[-1][1] == y:
            left = found.pop()[0]
        found.append((left, y, right, y))
    return found
