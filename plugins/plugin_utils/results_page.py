# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report of evaluate and benchmark, and what its page shows of it: records of results, with those of older runs beside them.

Shape: ``{schema, verb, result: pass|fail, outcome: pass|none|below|invalid|empty, language, started_at, version, records, history}``; a record is
what ``records`` keeps. Units: throughput in token/s and requests/s, latencies in milliseconds, scores in percent, times in UTC.
Any value of a record may be ``None``, missing or no number. An invalid result is named and marked, and its numbers are not drawn: they say nothing.
"""

from __future__ import annotations

import json
from datetime import datetime, timezone

from . import plots
from .messages import is_mapping, plain
from .pages import load_words, one_line
from .plots import finite, number_text
from .status import duration, short_id

SCHEMA = 1
VERBS = ("evaluate", "benchmark")
#: Outcomes of a record, the one that needs the reader first; a run is as bad as its worst.
OUTCOMES = ("invalid", "below", "none", "pass")
#: Outcome -> the kind of a badge, and the mark in a plot.
KINDS = {"invalid": "unknown", "below": "fail", "none": "none", "pass": "pass"}
SHAPES = {"invalid": "cross", "below": "down", "none": "square", "pass": "circle"}
#: Latencies of a record's performance, and what is known of each: key, word or plain label, mark.
LATENCIES = ("ttft", "tpot", "itl", "e2el")
STATISTICS = (("mean", "circle"), ("p50", "square"), ("p90", "triangle"), ("p99", "diamond"))
#: What a gate may have compared -> word of its unit.
THROUGHPUTS = {"output_throughput": "tokens_per_s", "total_token_throughput": "tokens_per_s", "request_throughput": "requests_per_s"}
#: So many runs of one set or load are drawn; the table has all of them.
RUNS_SHOWN = 24
#: From this many milliseconds on an axis or a value is in seconds.
SECONDS_FROM_MS = 10_000
#: What is told of a deployment.
DEPLOYMENT = ("id", "release", "image", "image_id", "recipe", "plan_hash")


def build(records, verb: str, history=(), language: str = "en", version=None) -> dict:
    """Return the report of a run. ``history``: records of older runs; one that is in ``records`` too counts once."""
    mine = [_clean(plain(record)) for record in records]
    names = {record["id"] for record in mine if record.get("id")}
    older = [record for record in (_clean(plain(entry)) for entry in history) if record.get("id") not in names]
    found = [outcome_of(record) for record in mine]
    outcome = next((name for name in ("invalid", "below") if name in found), None) or ("pass" if "pass" in found else "none" if found else "empty")
    return {
        "schema": SCHEMA,
        "verb": str(verb),
        "result": "pass" if outcome in ("pass", "none") else "fail",
        "outcome": outcome,
        "language": str(language or "en"),
        "started_at": min((str(record["started"]) for record in mine if record.get("started")), default=None),
        "version": None if version is None else str(version),
        "records": mine,
        "history": sorted(older, key=_by_time),
    }


def _clean(value):
    """Return a record without NaN and infinity, which JSON does not have."""
    if isinstance(value, dict):
        return {key: _clean(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_clean(entry) for entry in value]
    return finite(value) if isinstance(value, float) else value


def outcome_of(record: dict) -> str:
    """Return the outcome of a record's gate; one that is not known is invalid, so that nothing passes unseen."""
    outcome = part(record, "gate").get("outcome")
    return outcome if outcome in OUTCOMES else "none" if outcome is None else "invalid"


def part(record: dict, name: str) -> dict:
    """Return a part of a record, empty where there is none."""
    found = record.get(name)
    return found if is_mapping(found) else {}


def _by_time(record: dict):
    return (str(record.get("started") or ""), str(record.get("id") or ""))


def results_view(report: dict) -> dict:
    """Return what the page shows of a report (its shape is in the template, which is its only reader)."""
    return _View(report).all()


class _View:
    """One report being laid out: its words, its records, the letters of its deployments and the numbers of its plots."""

    def __init__(self, report: dict):
        self.report = report
        self.texts = load_words(report.get("language") or "en", "evaluate")
        self.records = [record for record in report.get("records") or [] if is_mapping(record)]
        self.runs = sorted([record for record in [*(report.get("history") or []), *self.records] if is_mapping(record)], key=_by_time)
        self.several = len({record.get("group") for record in self.runs}) > 1
        found = dict.fromkeys(_deployment_key(record) for record in self.runs)
        self.letters = {key: plots.letters(number) for number, key in enumerate(found)}
        self.drawn = 0

    def all(self) -> dict:
        """Return the whole view."""
        texts, report = self.texts, self.report
        counts = {name: sum(outcome_of(record) == name for record in self.records) for name in OUTCOMES}
        outcome = report.get("outcome")
        if not self.records:
            outcome = "empty"
        elif outcome not in OUTCOMES:
            outcome = "invalid"
        verb = report.get("verb")
        return {
            "words": load_words(report.get("language") or "en"),
            "texts": texts,
            "outlines": plots.MARKS,
            "title": texts["title_evaluate"] if verb == "evaluate" else texts["title_benchmark"],
            "verdict": texts[f"outcome_{outcome}"],
            "outcome": outcome,
            "result": "pass" if report.get("result") == "pass" else "fail",
            "banner": KINDS.get(outcome, "fail"),
            "headline": texts[f"text_{outcome}"].format(count=counts.get(outcome, 0)),
            "when": self._when(),
            "version": texts["version"].format(version=one_line(report["version"])) if report.get("version") else "",
            "counts": [{"kind": KINDS[name], "outcome": name, "count": counts[name], "text": texts[f"count_{name}"].format(count=counts[name])}
                       for name in OUTCOMES],
            "reasons": self._reasons(),
            "accuracy": self._accuracy(),
            "loads": self._loads(),
            "over_time": self._over_time(),
            "deployments": self._deployments(),
            "configuration": self._configuration(),
            "added": self._added(),
        }

    # Words

    def _when(self) -> str:
        started, seconds = moment(self.report.get("started_at")), sum(plots.numbers(record.get("seconds") for record in self.records))
        if started is None:
            return ""
        shown = f"{started:%Y-%m-%d %H:%M}"
        return self.texts["when"].format(started=shown, seconds=duration(seconds)) if seconds else self.texts["when_only"].format(started=shown)

    def unit(self, value, unit: str) -> str:
        """Return a number with its unit, or that there is none."""
        text = number_text(value, whole=False)
        return self.texts["value_unit"].format(value=text, unit=self.texts[unit]) if text else self.texts["absent"]

    def time(self, milliseconds) -> str:
        """Return a latency, from ten seconds on in seconds."""
        value = finite(milliseconds)
        if value is not None and abs(value) >= SECONDS_FROM_MS:
            return self.unit(value / 1000, "seconds")
        return self.unit(value, "milliseconds")

    def percent(self, value, error=None) -> str:
        """Return a score with its standard error where it has one."""
        value, error = finite(value), finite(error)
        if value is None:
            return self.texts["absent"]
        if error is None:
            return self.texts["percent"].format(value=f"{value:.2f}")
        return self.texts["percent_error"].format(value=f"{value:.2f}", error=f"{error:.2f}")

    def text(self, value) -> str:
        """Return a value of a record as one printable line, or that there is none."""
        if is_mapping(value) or isinstance(value, (list, tuple, bool)):
            value = json.dumps(value, ensure_ascii=False)
        return one_line(value) or self.texts["absent"]

    def load(self, record: dict) -> str:
        """Return a load in words: ``4 requests/s``, ``16 at once``, ``all at once``."""
        load = part(record, "load")
        rate, count = number_text(load.get("request_rate")), number_text(load.get("max_concurrency"))
        texts = [self.texts["rate"].format(rate=rate)] if rate else []
        texts += [self.texts["concurrency"].format(count=count)] if count else []
        return ", ".join(texts) or self.texts["all_at_once"]

    def lengths(self, record: dict) -> str:
        """Return how long the requests are, or nothing."""
        load = part(record, "load")
        given, made = number_text(load.get("input_len")), number_text(load.get("output_len"))
        return self.texts["lengths"].format(input=given or self.texts["absent"], output=made or self.texts["absent"]) if given or made else ""

    def name(self, record: dict) -> str:
        """Return the set or the load a record is of, without its tool."""
        if is_speed(record):
            return ", ".join(text for text in (self.load(record), self.lengths(record), one_line(record.get("set"))) if text)
        name = one_line(record.get("set")) or self.texts["no_name"]
        limit = number_text(record.get("limit"))
        return self.texts["first_samples"].format(set=name, count=limit) if limit else name

    def common(self, record: dict) -> str:
        """Return what a set or a load has in common with others of its run: the tool, the requests, the group where there are several."""
        requests = [self.lengths(record), one_line(record.get("set"))] if is_speed(record) else []
        return " · ".join(text for text in (self.text(record.get("tool")), *requests, one_line(record.get("group")) if self.several else "") if text)

    def what(self, record: dict) -> str:
        """Return the set or the load of a record, with its tool, and with its group where there are several."""
        shown = self.texts["with_tool"].format(what=self.name(record), tool=one_line(record.get("tool")) or self.texts["absent"])
        return self.texts["with_tool"].format(what=shown, tool=one_line(record.get("group"))) if self.several else shown

    def value_of(self, record: dict) -> tuple:
        """Return ``(value, name)`` of the one number a record is compared by; the name of its metric is that of the word of its unit."""
        gate, value = part(record, "gate"), finite(part(record, "gate").get("value"))
        if not is_speed(record):
            score = finite(part(record, "score").get("percent"))
            return (score if score is not None else value, "percent")
        known = measured(part(record, "performance"))
        if value is None and outcome_of(record) in ("none", "pass"):
            return next(((number, name) for name, number in known.items()), (None, "output_throughput"))
        # A gate says its number and not what it is of.
        near = value if value is not None else finite(gate.get("baseline"))
        name = next((name for name, number in known.items() if near is not None and abs(number - near) <= 1e-6 * max(abs(near), 1.0)), "output_throughput")
        return (value, name)

    def shown(self, value, name: str, error=None) -> str:
        """Return a value of a metric with its unit."""
        if name == "percent":
            return self.percent(value, error)
        return self.unit(value, THROUGHPUTS[name]) if name in THROUGHPUTS else self.time(value)

    def value_text(self, record: dict) -> str:
        """Return the number a record is compared by, as a person reads it."""
        value, name = self.value_of(record)
        return self.shown(value, name, part(record, "score").get("std_error"))

    def badge(self, record: dict) -> dict:
        """Return a record's outcome as a badge."""
        outcome = outcome_of(record)
        return {"kind": KINDS[outcome], "text": self.texts[f"short_{outcome}"]}

    # Sections

    def _reasons(self) -> list:
        """Return each result that fails the run, invalid ones first."""
        found = []
        for outcome in ("invalid", "below"):
            for record in (record for record in self.records if outcome_of(record) == outcome):
                gate, (value, name) = part(record, "gate"), self.value_of(record)
                floor = finite(gate.get("floor"))
                facts = {}
                if value is not None and outcome != "invalid":
                    facts["found"] = self.value_text(record)
                if floor is not None:
                    facts["wanted"] = self.texts["at_least"].format(value=self.shown(floor, name))
                if finite(gate.get("baseline")) is not None:
                    facts["baseline"] = self.shown(finite(gate["baseline"]), name)
                if part(record, "samples"):
                    facts["samples"] = self._samples(record)
                found.append({**self.badge(record), "outcome": outcome, "what": self.what(record),
                              "reason": one_line(gate.get("reason")) or self.texts["no_reason"],
                              "facts": [{"label": self.texts[key], "text": text} for key, text in facts.items()]})
        return found

    def _samples(self, record: dict) -> str:
        samples, texts = part(record, "samples"), self.texts
        done, wanted = number_text(samples.get("done")), number_text(samples.get("wanted"))
        if not done and not wanted:
            return texts["absent"]
        text = texts["samples_of"].format(done=done or texts["absent"], wanted=wanted or texts["absent"])
        for key in ("failed", "empty"):
            if finite(samples.get(key)):
                text = texts[f"samples_{key}"].format(text=text, **{key: number_text(samples[key])})
        return text

    def _plot_name(self) -> str:
        self.drawn += 1
        return f"plot-{self.drawn}"

    def _accuracy(self) -> dict | None:
        """Return the scores of this run as plot, legend and table."""
        records = [record for record in self.records if not is_speed(record)]
        if not records:
            return None
        texts, rows, plotted = self.texts, [], []
        for record in records:
            gate, score, outcome = part(record, "gate"), part(record, "score"), outcome_of(record)
            value, error = finite(score.get("percent")), finite(score.get("std_error"))
            floor, baseline = finite(gate.get("floor")), finite(gate.get("baseline"))
            drawn = None if outcome == "invalid" else value
            plotted.append({"label": self.what(record), "value": drawn, "error": error, "floor": floor, "baseline": baseline, "kind": KINDS[outcome],
                            "shape": SHAPES[outcome], "text": texts["short_invalid"] if outcome == "invalid" else self.percent(value, error)
                            if value is not None else texts["no_score"], "hint": self.percent(value, error)})
            rows.append({"mine": False, "badge": self.badge(record), "cells": [
                self.what(record), self._samples(record), self.percent(value, error), self.percent(floor), self.percent(baseline)]})
        columns = [texts[name] for name in ("outcome", "set", "samples", "score", "floor", "baseline")]
        plot = plots.score_plot(self._plot_name(), texts["score_of_sets"], texts["accuracy_about"].format(count=len(records)), plotted, texts["score_axis"])
        drawn = {key for row in plotted for key in ("error", "floor", "baseline") if row[key] is not None}
        legend = self._outcome_legend(records)
        for key, shape, kind in (("error", "dash", "whisker"), ("floor", "post", "floor"), ("baseline", "diamond", "hollow")):
            legend += [{"shape": shape, "kind": kind, "text": texts[f"legend_{key}"]}] if key in drawn else []
        return {"plot": plot, "columns": columns, "rows": rows, "notes": self._notes(records), "legend": legend}

    def _notes(self, records: list) -> list:
        """Return what each metric is, and where floors and baselines come from: ``[{label, text}]``, each with the sets it is of."""
        found: dict = {}
        for record in records:
            for key, text in (("metric", part(record, "score").get("metric")), ("source", part(record, "gate").get("source"))):
                if one_line(text):
                    found.setdefault((key, one_line(text)), []).append(self.name(record))
        return [{"label": self.texts[key], "text": text if len(names) == len(records) else self.texts["note_of"].format(text=text, sets="; ".join(names))}
                for (key, text), names in sorted(found.items(), key=lambda entry: entry[0][0])]

    def _outcome_legend(self, records: list) -> list:
        """Return the marks of the outcomes that are there."""
        there = {outcome_of(record) for record in records}
        return [{"shape": SHAPES[name], "kind": KINDS[name], "text": self.texts[f"short_{name}"]} for name in reversed(OUTCOMES) if name in there]

    def _loads(self) -> list:
        """Return the measured loads of this run: each tool and shape of request has its plots and its tables."""
        found = []
        for axis, records in sweeps([record for record in self.records if is_speed(record)]):
            key = "max_concurrency" if axis == "concurrency" else "request_rate"
            records = sorted(records, key=lambda record, key=key: (_load_of(record, key) is None, _load_of(record, key) or 0))
            head = records[0]
            title = self.common(head)
            limit = number_text(part(head, "load").get("max_concurrency"))
            if axis == "rate" and limit:
                title = self.texts["with_tool"].format(what=title, tool=self.texts["concurrency"].format(count=limit))
            found.append({"title": title, "plots": self._load_plots(records, axis, key), **self._load_tables(records)})
        return found

    def _load_plots(self, records: list, axis: str, key: str) -> list:
        """Return the plots of one sweep that have values."""
        good = [record for record in records if outcome_of(record) != "invalid"]
        failed = [(_load_of(record, key), self.texts["invalid_at"].format(load=self.load(record))) for record in records if outcome_of(record) == "invalid"]
        loads = plots.Loads([_load_of(record, key) for record in records])
        name = self.texts[f"{axis}_axis"]
        name = self.texts["endless"].format(axis=name) if loads.endless else name

        def series(label, shape, kind, unit, values, joined=True):
            points = [(_load_of(record, key), value, self.texts["hint"].format(label=label, value=self.shown(value, unit), load=self.load(record)))
                      for record, value in zip(good, values) if finite(value) is not None]
            return {"label": label, "shape": shape, "kind": kind, "points": points, "joined": joined}

        def plot(title, unit, found, unit_text):
            values = [value for entry in found for dummy, value, dummy2 in entry["points"]]
            if not values:
                return None
            about = self.texts["load_about"].format(count=len(values), low=self.shown(min(values), unit), high=self.shown(max(values), unit))
            return plots.load_plot(self._plot_name(), title, about, found, loads, (name, unit_text), failed)

        def speed(title, entries, unit):
            found = [series(self.texts[label], shape, kind, unit, [part(record, "performance").get(field) for record in good])
                     for label, shape, kind, field in entries]
            found += [series(self.texts["needed"], "dash", "floor", unit, [self._floor(record, [entry[3] for entry in entries]) for record in good], False)]
            if unit == "request_throughput" and axis == "rate":
                found += [series(self.texts["asked"], "dash", "hollow", unit, [_load_of(record, key) for record in good])]
            return plot(title, unit, found, self._axis(THROUGHPUTS[unit], found))

        drawn = [speed(self.texts["throughput"], (("total_tokens", "square", "ink-1", "total_token_throughput"),
                                                  ("output_tokens", "circle", "ink-0", "output_throughput")), "output_throughput"),
                 speed(self.texts["requests"], (("finished", "circle", "ink-0", "request_throughput"),), "request_throughput")]
        for latency in LATENCIES:
            found = [series(self.texts["mean"] if statistic == "mean" else statistic, shape, f"ink-{number}", latency,
                            [part(part(record, "performance"), f"{latency}_ms").get(statistic) for record in good])
                     for number, (statistic, shape) in enumerate(STATISTICS)]
            slow = max((value for entry in found for dummy, value, dummy2 in entry["points"]), default=0) >= SECONDS_FROM_MS
            if slow:
                for entry in found:
                    entry["points"] = [(load, value / 1000, hint) for load, value, hint in entry["points"]]
            # The scale of seconds changes what is drawn, and not what is said: hints are ready, and the range is told in its own unit.
            values = [value * (1000 if slow else 1) for entry in found for dummy, value, dummy2 in entry["points"]]
            if values:
                about = self.texts["load_about"].format(count=len(values), low=self.time(min(values)), high=self.time(max(values)))
                unit = self._axis("seconds" if slow else "milliseconds", found)
                drawn.append(plots.load_plot(self._plot_name(), self.texts[latency], about, found, loads, (name, unit), failed))
        return [entry for entry in drawn if entry]

    def _axis(self, unit: str, series: list) -> str:
        """Return the name of a y axis, which says where it is logarithmic."""
        values = [value for entry in series for dummy, value, dummy2 in entry["points"]]
        text = self.texts[unit]
        return self.texts["log_axis"].format(unit=text) if plots.Scale(values, 0, 1).log else text

    def _floor(self, record: dict, fields: list):
        """Return the floor of a record if it is one of the given numbers that its gate compared."""
        dummy, name = self.value_of(record)
        return part(record, "gate").get("floor") if name in fields else None

    def _load_tables(self, records: list) -> dict:
        """Return the numbers of one sweep: a line a load, and a line a latency of each load."""
        texts, rows = self.texts, []
        for record in records:
            speed, gate, (dummy, name) = part(record, "performance"), part(record, "gate"), self.value_of(record)
            rows.append({"mine": False, "badge": self.badge(record), "cells": [
                self.load(record), self._samples(record), self.unit(speed.get("output_throughput"), "tokens_per_s"),
                self.unit(speed.get("total_token_throughput"), "tokens_per_s"), self.unit(speed.get("request_throughput"), "requests_per_s"),
                self.unit(speed.get("duration_s"), "seconds"), self.shown(finite(gate.get("floor")), name), self.shown(finite(gate.get("baseline")), name)]})
        names = ("outcome", "load", "samples", "output_throughput", "total_throughput", "request_throughput", "took", "floor", "baseline")
        return {"columns": [texts[name] for name in names], "rows": rows, **self._latency_table(records)}

    def _latency_table(self, records: list) -> dict:
        """Return the latencies of one sweep in milliseconds, a line a load: ``{latencies: [{name, title}], latency_rows: [{load, cells}]}``."""
        there = [latency for latency in LATENCIES if any(self._statistics(record, latency) for record in records)]
        rows = []
        for record in records:
            found = {latency: part(part(record, "performance"), f"{latency}_ms") for latency in there}
            cells = [number_text(found[latency].get(statistic), whole=False) or self.texts["absent"] for latency in there for statistic, dummy in STATISTICS]
            rows.append({"load": self.load(record), "cells": cells})
        return {"latencies": [{"name": latency.upper(), "title": self.texts[latency]} for latency in there], "latency_rows": rows,
                "statistics": [self.texts["mean"] if statistic == "mean" else statistic for statistic, dummy in STATISTICS]}

    def _statistics(self, record: dict, latency: str) -> list:
        found = part(part(record, "performance"), f"{latency}_ms")
        return plots.numbers(found.get(statistic) for statistic, dummy in STATISTICS)

    def _over_time(self) -> dict:
        """Return the runs of each set and load, those of this run first, and the table of all runs."""
        series: dict = {series_key(record): [] for record in self.records}
        mine = set(series)
        for record in self.runs:
            series.setdefault(series_key(record), []).append(record)
        texts, groups = self.texts, {}
        for key, records in series.items():
            # Those of one tool and one shape of requests stand together, under what they have in common.
            groups.setdefault((key not in mine, self.common(records[-1])), []).append(self._runs(records))
        drawn = {late: [{"title": title, "plots": found} for (other, title), found in groups.items() if other is late] for late in (False, True)}
        others = sum(len(group["plots"]) for group in drawn[True])
        names = ("started", "outcome", "result", "samples", "value", "floor", "baseline", "deployment", "record")
        return {
            "groups": drawn[False], "others": drawn[True], "others_text": texts["others"].format(count=others),
            "columns": [texts[name] for name in names], "rows": [self._run_row(record) for record in reversed(self.runs)],
            "table_text": texts["all_runs"].format(count=len(self.runs)), "legend": self._outcome_legend(self.runs),
        }

    def _run_row(self, record: dict) -> dict:
        gate, (dummy, name) = part(record, "gate"), self.value_of(record)
        started = moment(record.get("started"))
        return {"badge": self.badge(record), "mine": record in self.records, "cells": [
            f"{started:%Y-%m-%d %H:%M}" if started else self.texts["absent"], self.text(self.what(record)), self._samples(record), self.value_text(record),
            self.shown(finite(gate.get("floor")), name), self.shown(finite(gate.get("baseline")), name), self.letters[_deployment_key(record)],
            self.text(record.get("id"))]}

    def _runs(self, records: list) -> dict:
        """Return the plot of the runs of one set or load."""
        texts, shown, newest = self.texts, records[-RUNS_SHOWN:], records[-1]
        moments = [moment(record.get("started")) for record in shown]
        one_day = len({found.date() for found in moments if found}) < 2
        name = next((self.value_of(record)[1] for record in reversed(shown) if self.value_of(record)[0] is not None), self.value_of(newest)[1])
        speed = is_speed(newest)
        slow = name not in THROUGHPUTS and name != "percent" and max(plots.numbers(self.value_of(record)[0] for record in shown), default=0) >= SECONDS_FROM_MS
        size = 1000 if slow else 1
        runs = []
        for record, found in zip(shown, moments):
            outcome, gate, (value, dummy) = outcome_of(record), part(record, "gate"), self.value_of(record)
            date = texts["absent"] if found is None else f"{found:%H:%M}" if one_day else f"{found:%m-%d}"
            level = {key: None if finite(gate.get(key)) is None else finite(gate[key]) / size for key in ("floor", "baseline")}
            runs.append({
                "value": None if outcome == "invalid" or value is None else value / size, **level, "shape": "cross" if value is None else SHAPES[outcome],
                "error": None if speed else finite(part(record, "score").get("std_error")), "kind": KINDS[outcome], "date": date,
                "deployment": self.letters[_deployment_key(record)], "mine": record in self.records,
                "hint": texts["run_hint"].format(date=f"{found:%Y-%m-%d %H:%M}" if found else texts["absent"], value=self.value_text(record),
                                                 outcome=texts[f"short_{outcome}"])})
        last = next((run for run in reversed(runs) if run["floor"] is not None and run["baseline"]), None)
        floor = texts["legend_floor"]
        if speed and last:
            floor = texts["ratio"].format(percent=f"{100 * last['floor'] / last['baseline']:.0f}")
        unit = texts["score_axis"] if name == "percent" else texts[THROUGHPUTS.get(name, "seconds" if slow else "milliseconds")]
        title, about = self.load(newest) if speed else self.name(newest), texts["runs_about"].format(count=len(records), value=self.value_text(newest))
        plot = plots.runs_plot(self._plot_name(), title, about, runs, (texts["run_axis"], unit), (texts["baseline_line"], floor),
                               (0, 100 if name == "percent" else None))
        note = texts["only_run"] if len(records) == 1 else ""
        return {**plot, "note": texts["last_runs"].format(shown=len(shown), count=len(records)) if len(records) > len(shown) else note}

    def _deployments(self) -> list:
        """Return every deployment of the page, those of this run first."""
        ours, found = {_deployment_key(record) for record in self.records}, []
        for key, letter in self.letters.items():
            title = self.texts["deployment_letter"].format(letter=letter)
            values = dict(zip(DEPLOYMENT, key))
            values["image_id"] = short_id(values["image_id"]) if values["image_id"] else None
            found.append({"mine": key in ours, "title": self.texts["of_this_run"].format(title=title) if key in ours else title,
                          "facts": [{"label": self.texts[name], "text": self.text(value)} for name, value in values.items()]})
        return sorted(found, key=lambda entry: not entry["mine"])

    def _configuration(self) -> list:
        """Return what was asked of each tool: ``[{title, rows: [{cells: [setting, value, results it applies to]}]}]``."""
        found = []
        for tool in dict.fromkeys(str(record.get("tool") or "") for record in self.records):
            records = [record for record in self.records if str(record.get("tool") or "") == tool]
            rows = self._shared(records, [[(key, self.text(value)) for key, value in part(record, "configuration").items()] for record in records])
            versions = dict.fromkeys(one_line(record.get("tool_version")) for record in records if record.get("tool_version"))
            if rows:
                found.append({"title": " ".join([one_line(tool) or self.texts["absent"], ", ".join(versions)]).strip(), "rows": rows,
                              "columns": [self.texts[name] for name in ("setting", "setting_value", "applies_to")]})
        return found

    def _added(self) -> dict:
        """Return what was added to the tutorial's parameters, with its reasons."""
        entries = [[(entry.get("name"), self.text(entry.get("value")), self.text(entry.get("reason"))) for entry in record.get("added") or []
                    if is_mapping(entry)] for record in self.records]
        return {"columns": [self.texts[name] for name in ("setting", "setting_value", "reason", "applies_to")], "rows": self._shared(self.records, entries)}

    def _shared(self, records: list, entries: list) -> list:
        """Return each entry once, as a row of its cells, with the results it applies to; ``entries`` has a list a record."""
        found: dict = {}
        for record, listed in zip(records, entries):
            for entry in listed:
                found.setdefault(entry, []).append(self.what(record))
        rows, order = [], list(dict.fromkeys(entry[0] for entry in found))
        for entry, names in sorted(found.items(), key=lambda found: order.index(found[0][0])):
            where = self.texts["every_result"] if len(names) == len(records) else "; ".join(dict.fromkeys(names))
            rows.append({"mine": False, "cells": [*map(self.text, entry), where]})
        return rows


def is_speed(record: dict) -> bool:
    """Return whether a record is of performance; one of no kind is what its numbers are."""
    if record.get("kind") in ("accuracy", "performance"):
        return record["kind"] == "performance"
    return bool(part(record, "performance") or part(record, "load"))


def measured(performance: dict) -> dict:
    """Return metric -> number of what a gate may have compared, the usual one first."""
    found = {name: finite(performance.get(name)) for name in THROUGHPUTS}
    found.update({f"{latency}_{statistic}": finite(part(performance, f"{latency}_ms").get(statistic))
                  for latency in reversed(LATENCIES) for statistic, dummy in STATISTICS})
    return {name: number for name, number in found.items() if number is not None}


def _load_of(record: dict, key: str):
    return finite(part(record, "load").get(key))


def sweeps(records: list) -> list:
    """Return ``[(axis, records)]``: what was run with one tool and one shape of requests; axis ``rate`` or ``concurrency`` is what varies."""
    shapes: dict = {}
    for record in records:
        load = part(record, "load")
        shapes.setdefault(tuple(str(value) for value in (
            record.get("group"), record.get("tool"), record.get("set"), load.get("input_len"), load.get("output_len"))), []).append(record)
    found = []
    for listed in shapes.values():
        rates, counts = ({_load_of(record, key) for record in listed} for key in ("request_rate", "max_concurrency"))
        if counts != {None} and len(rates) == 1 and (len(counts) > 1 or rates == {None}):
            found.append(("concurrency", listed))
        elif len(counts) == 1:
            found.append(("rate", listed))
        else:
            found += [("rate", [record for record in listed if _load_of(record, "max_concurrency") == count])
                      for count in sorted(counts, key=lambda count: (count is None, count or 0))]
    return found


def series_key(record: dict) -> tuple:
    """Return what runs have in common that are drawn as one series over time."""
    load = part(record, "load") if is_speed(record) else {}
    return tuple(str(value) for value in (is_speed(record), record.get("group"), record.get("tool"), record.get("set"), record.get("limit"),
                                          *(load.get(key) for key in ("request_rate", "max_concurrency", "input_len", "output_len"))))


def moment(text) -> datetime | None:
    """Return a time of a record in UTC, ``None`` if it is not understood; one without a zone is UTC."""
    try:
        found = datetime.fromisoformat(str(text).replace("Z", "+00:00"))
    except ValueError:
        return None
    return (found.astimezone(timezone.utc) if found.tzinfo else found).replace(tzinfo=None)


def _deployment_key(record: dict) -> tuple:
    return tuple(one_line(part(record, "deployment").get(name)) or None for name in DEPLOYMENT)
