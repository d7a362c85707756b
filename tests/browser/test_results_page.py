# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pages of evaluate and benchmark as a person sees them, opened in headless Chromium with no network.

Screenshots go to build/browser, for a person to look at.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import sample_results
from looking import LAYOUT, LOW_CONTRAST, SHOTS, WIDTHS, all_of, one, photograph, requests_of, rgb
from selenium.webdriver.common.by import By

from ansible_collections.ascend.vllm.plugins.plugin_utils import pages, results_page

HERE = Path(__file__).resolve().parent
SAMPLES = {name: build() for name, build in sample_results.SAMPLES.items()}
NAMES = list(SAMPLES)
#: Written by the role with Ansible, one a verb; the others by what the role calls, which is quicker.
BY_ROLE = ["evaluated", "mixed"]
TAKEN: set = set()


@pytest.fixture(scope="session")
def results(tmp_path_factory):
    """Write every sample; give the folder."""
    folder = tmp_path_factory.mktemp("results")
    sample_results.write(folder)
    done = subprocess.run(
        [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "localhost,", str(HERE / "render_results.yml"),
         "-e", json.dumps({"pages_dir": str(folder), "pages": BY_ROLE})], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for name in set(NAMES) - set(BY_ROLE):
        sample = SAMPLES[name]
        report = results_page.build(sample["records"], sample["verb"], sample["history"], sample["language"], "0.1.0")
        template = (pages.TEMPLATES / f"{sample['verb']}.html.j2").read_text(encoding="utf-8")
        (folder / name).mkdir()
        (folder / name / f"{sample['verb']}.html").write_text(pages.render(template, report, results_page.results_view), encoding="utf-8")
    return folder


@pytest.fixture
def look(chromium, results):
    """Give the function that opens a page at a width and in a colour scheme, and takes a screenshot of all of it the first time."""

    def opened(name, width=1280, scheme="light"):
        shot = SHOTS / f"results-{name}-{width}-{scheme}.png"
        photograph(chromium, results / name / f"{SAMPLES[name]['verb']}.html", None if shot in TAKEN else shot, width, scheme)
        TAKEN.add(shot)
        return chromium

    return opened


def titles(driver, section):
    """Return the titles of the plots of a section."""
    return [caption.text for caption in all_of(driver, f"#{section} figcaption") if caption.is_displayed()]


@pytest.mark.parametrize("name", NAMES)
def test_a_page_asks_for_nothing_has_no_errors_and_shows_the_outcome_of_its_report(look, name):
    driver, report = look(name), SAMPLES[name]
    assert [address.rsplit("/", 1)[1] for address in requests_of(driver)] == [f"{SAMPLES[name]['verb']}.html"]
    assert driver.get_log("browser") == []
    assert all_of(driver, "script, link, img, iframe, object, video, image, use, foreignObject, [href]:not([href^='#'])") == []
    body = one(driver, "body")
    assert (body.get_attribute("data-result"), body.get_attribute("data-outcome")) == (report["result"], report["outcome"])
    outcomes = [entry.get("gate", {}).get("outcome") or "none" for entry in report["records"]]
    counts = [outcomes.count(outcome) for outcome in ("invalid", "below", "none", "pass")]
    counts[0] += outcomes.count("odd")
    assert [re.search(r"\d+", entry.text).group() for entry in all_of(driver, ".counts .badge")] == [str(count) for count in counts]
    assert one(driver, ".banner .verdict").is_displayed()


@pytest.mark.parametrize("name", BY_ROLE)
def test_the_json_beside_the_page_is_strict_and_says_the_outcome(results, name):
    def refuse(constant):
        raise AssertionError(constant)

    report = json.loads((results / name / f"{SAMPLES[name]['verb']}.json").read_text(encoding="utf-8"), parse_constant=refuse)
    wanted = SAMPLES[name]
    assert {key: report[key] for key in ("verb", "result", "outcome", "language")} == {key: wanted[key] for key in ("verb", "result", "outcome", "language")}
    assert len(report["records"]) == len(wanted["records"])


# Texts of a plot that lie on one another, that leave the plot, or that are too small to read; marks outside the area between the axes.
PLOTS = """
const found = [];
for (const svg of document.querySelectorAll('.drawing svg')) {
  if (!svg.checkVisibility()) continue;
  const name = svg.querySelector('title').textContent + ': ', frame = svg.getBoundingClientRect(), shapes = svg.querySelectorAll('.mark');
  if (frame.width < 200 || frame.height < 80) found.push(name + 'only ' + frame.width + ' x ' + frame.height);
  const texts = [...svg.querySelectorAll('text')].map(text => [text, text.getBoundingClientRect()]);
  for (const [text, box] of texts) {
    if (box.left < frame.left - 1 || box.right > frame.right + 1 || box.top < frame.top - 1 || box.bottom > frame.bottom + 1)
      found.push(name + 'outside: ' + text.textContent);
    if (box.height < 9) found.push(name + 'too small: ' + text.textContent + ' ' + box.height);
  }
  for (let i = 0; i < texts.length; i++) for (let j = i + 1; j < texts.length; j++) {
    const [one, a] = texts[i], [other, b] = texts[j];
    if (a.left < b.right - 1 && b.left < a.right - 1 && a.top + 3 < b.bottom - 3 && b.top + 3 < a.bottom - 3)
      found.push(name + 'overlap: ' + one.textContent + ' / ' + other.textContent);
  }
  const area = [...svg.querySelectorAll('.grid, .axis, .track')].map(line => line.getBoundingClientRect());
  const left = Math.min(...area.map(box => box.left)), right = Math.max(...area.map(box => box.right));
  const top = Math.min(...area.map(box => box.top)), bottom = Math.max(...area.map(box => box.bottom));
  for (const shape of shapes) {
    const box = shape.getBoundingClientRect(), x = (box.left + box.right) / 2, y = (box.top + box.bottom) / 2;
    if (svg.querySelector('.grid, .track') && !(box.width + box.height && x >= left - 1 && x <= right + 1 && y >= top - 1 && y <= bottom + 1))
      found.push(name + 'not in the plot: ' + shape.outerHTML);
  }
}
return found.slice(0, 10);
"""


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", NAMES)
def test_nothing_sticks_out_or_overlaps_in_the_page_and_in_its_plots(look, name, width):
    driver = look(name, width)
    assert driver.execute_script(LAYOUT) == []
    driver.execute_script("document.querySelectorAll('details').forEach(entry => entry.open = true)")
    assert driver.execute_script(PLOTS) == []


def test_reasons_come_first_and_hostile_text_is_text(look):
    driver = look("evaluated_badly")
    problems = all_of(driver, "#reasons .problem")
    assert [problem.get_attribute("data-outcome") for problem in problems] == ["invalid", "below"]
    assert sample_results.HOSTILE.replace("\x1b", "\\x1b") in problems[0].text and "3 of 198 requests failed" in problems[0].text
    for text in ("gsm8k, 200 samples · aisbench", "86.50 ± 2.42 %", "at least 90.00 %", "200 of 200", "serve with the recipe's own sampling"):
        assert text in problems[1].text
    assert "41.20" not in problems[0].text and problems[0].location["y"] < one(driver, "#accuracy").location["y"]
    assert driver.title == "Accuracy report: Invalid run"


def hints(driver, selector):
    """Return what marks say when a pointer rests on them."""
    return [entry.get_attribute("textContent") for entry in all_of(driver, f"{selector} .mark > title")]


def test_a_sweep_has_throughput_and_every_latency_with_its_statistics(look):
    driver = look("swept")
    assert titles(driver, "performance") == [
        "Throughput", "Requests finished", "Time to first token (TTFT)", "Time per output token (TPOT)", "Inter-token latency (ITL)", "Whole request (E2EL)"]
    plots = all_of(driver, "#performance svg.plot")
    assert [text.text for text in plots[0].find_elements(By.CSS_SELECTOR, ".series")] == ["total", "output", "floor"]
    for plot in plots[2:]:
        assert {text.text for text in plot.find_elements(By.CSS_SELECTOR, ".series")} == {"mean", "p50", "p90", "p99"}
        assert len(plot.find_elements(By.CSS_SELECTOR, ".mark")) == 4 * 8
        assert [text.text for text in plot.find_elements(By.CSS_SELECTOR, ".tick[text-anchor=middle]")] == ["0.5", "1", "2", "4", "8", "16", "32", "∞"]
    assert "s, log" in plots[2].text and "log" not in plots[3].text
    assert "output: 522 token/s at 4 req/s" in hints(driver, "#performance")
    # More load is more to the right, more throughput is higher, what has no limit is last.
    places = [entry.rect for entry in plots[0].find_elements(By.CSS_SELECTOR, ".mark.ink-0")]
    assert [place["x"] for place in places] == sorted(place["x"] for place in places)
    assert [place["y"] for place in places] == sorted((place["y"] for place in places), reverse=True)


def test_everything_plotted_is_in_a_table(look):
    driver = look("swept")
    record = SAMPLES["swept"]["records"][3]["performance"]
    rows = [row.text for row in all_of(driver, "#performance .rows:not(.latencies) tbody tr")]
    assert len(rows) == 8 and f"{record['total_token_throughput']:,.0f} token/s" in rows[3]
    cells = [cell.text for cell in all_of(driver, "#performance .latencies tbody tr:nth-child(4) > *")]
    assert len(cells) == 17 and cells[:5] == ["4 req/s", *(f"{record['ttft_ms'][key]:.0f}" for key in ("mean", "p50", "p90", "p99"))]


def test_an_invalid_load_is_marked_and_not_drawn(look):
    driver = look("swept_badly")
    first = all_of(driver, "#performance svg.plot")[0]
    assert len(first.find_elements(By.CSS_SELECTOR, ".mark.ink-0")) == 7 and len(first.find_elements(By.CSS_SELECTOR, ".mark.cross")) == 1
    assert "invalid at 2 req/s" in hints(driver, "#performance")
    assert [problem.get_attribute("data-outcome") for problem in all_of(driver, "#reasons .problem")] == ["invalid", "below", "below", "below"]


def test_scores_stand_beside_floor_and_baseline(look):
    driver = look("evaluated")
    plot = one(driver, "#accuracy .drawing svg")
    assert len(plot.find_elements(By.CSS_SELECTOR, ".mark.pass")) == 3 and len(plot.find_elements(By.CSS_SELECTOR, ".whisker")) == 9
    assert len(plot.find_elements(By.CSS_SELECTOR, ".mark.floor")) == 3 and len(plot.find_elements(By.CSS_SELECTOR, ".mark.hollow")) == 2
    post, score = (plot.find_elements(By.CSS_SELECTOR, f".mark.{kind}")[2].rect["x"] for kind in ("floor", "pass"))
    assert post < score
    assert "83.33 ± 6.92 %" in plot.text and "80.00 %" in one(driver, "#accuracy table").text
    assert [entry.text for entry in all_of(driver, "#accuracy .legend li")] == ["pass", "± 1 standard error", "floor", "published baseline"]


def test_runs_over_time_with_levels_deployments_and_this_run(look):
    driver = look("evaluated")
    assert titles(driver, "runs") == ["gsm8k, 200 samples", "gpqa", "aime2024"]
    gpqa = all_of(driver, "#runs .drawing svg")[1]
    assert [text.text for text in gpqa.find_elements(By.CSS_SELECTOR, ".letter")] == ["A", "B"]
    assert {text.text for text in gpqa.find_elements(By.CSS_SELECTOR, ".series")} == {"baseline", "floor"}
    assert len(gpqa.find_elements(By.CSS_SELECTOR, ".mark.cross")) == 1 and len(gpqa.find_elements(By.CSS_SELECTOR, ".mark.ring")) == 1
    others = one(driver, "#runs details.others")
    assert "1" in others.find_element(By.TAG_NAME, "summary").text and not others.get_attribute("open")
    driver.execute_script("arguments[0].open = true; arguments[1].open = true", others, one(driver, "#runs details.table"))
    assert "ceval" in others.text and len(all_of(driver, "#runs tbody tr")) == 22 and len(all_of(driver, "#runs tbody tr.mine")) == 3
    driver = look("swept")
    assert titles(driver, "runs")[:3] == ["0.5 req/s", "1 req/s", "2 req/s"] and titles(driver, "runs")[-1] == "all at once"
    assert {text.text for text in all_of(driver, "#runs .drawing")[0].find_elements(By.CSS_SELECTOR, ".series")} == {"baseline", "97 %"}


def test_one_run_and_no_run(look):
    driver = look("lone")
    assert driver.title == "Performance report: Measured, not gated" and "One run so far" in one(driver, "#runs").text
    assert all(len(plot.find_elements(By.CSS_SELECTOR, "polyline")) == 0 for plot in all_of(driver, ".drawing svg"))
    driver = look("without_results")
    assert driver.title == "Accuracy report: No result" and all_of(driver, "main section") == [] and "No result" in one(driver, ".banner").text


def test_two_shapes_of_requests_stand_apart(look):
    driver = look("concurrent")
    assert [entry.text for entry in all_of(driver, "#performance h3")] == [
        "vllm_serve · input 200, output 128 tokens", "vllm_serve · input 3,500, output 1,500 tokens"]
    assert "Requests at once" in all_of(driver, "#performance svg.plot")[0].text


def test_what_was_run_on_what(look):
    driver = look("swept")
    cards = all_of(driver, "#deployment .deployed")
    assert [card.get_attribute("data-mine") for card in cards] == ["true", "false"]
    for text in ("Deployment B (this run)", "v0.14.0rc1", "fedcba987654", "b09c11d4e57a", "deepseek_r1_w8a8"):
        assert text in cards[0].text
    asked = one(driver, "#configuration").text
    for text in ("ignore-eos", "every answer has the same length", "every result", "vllm_serve 0.13.0", "random_input_len", "all at once"):
        assert text in asked


def test_every_plot_says_what_it_is_without_being_seen(look):
    driver = look("swept")
    for plot in all_of(driver, ".drawing svg"):
        assert plot.get_attribute("role") == "img" and plot.accessible_name.strip() and "table" in plot.accessible_name
    identifiers = [entry.get_attribute("id") for entry in all_of(driver, "[id]")]
    assert len(identifiers) == len(set(identifiers))


def test_chinese(look):
    driver = look("evaluated_badly_zh")
    assert one(driver, "html").get_attribute("lang") == "zh-CN" and driver.title == "精度评测报告: 结果无效"
    text = one(driver, "body").text
    assert not re.search(r"Score|Floor|Baseline|invalid|below the floor:|Found|Wanted|Outcome|Deployment|every result", text)
    assert "gsm8k（200 条样本）" in text
    text = one(look("swept_zh"), "body").text
    assert not re.search(r"Throughput|mean|pass|Load|at once|Run|Latenc", text) and "首 token 时延（TTFT）" in text


def test_dark_and_light_differ_and_both_can_be_read(look):
    backgrounds = []
    drawn = LOW_CONTRAST.replace("'h1, h2, h3, p, dt, dd, td, th, .badge:not(.zero), .cell'", "'.plot text'").replace(").color)", ").fill)")
    for scheme in ("light", "dark"):
        for name in ("evaluated_badly", "swept_badly"):
            driver = look(name, scheme=scheme)
            assert driver.execute_script(LOW_CONTRAST) == [] and driver.execute_script(drawn) == []
        backgrounds.append(rgb(one(driver, "body")))
    assert sum(backgrounds[0]) > 600 > 150 > sum(backgrounds[1])


def test_everything_is_printed_also_what_is_folded(look):
    driver = look("evaluated")
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    seen = driver.execute_script("return [...document.querySelectorAll('#runs svg, #runs tr')].map(entry => entry.checkVisibility() && "
                                 "entry.getBoundingClientRect().height > 8)")
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert len(seen) > 20 and all(seen)
