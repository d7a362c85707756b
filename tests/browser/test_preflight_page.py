# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The page of a report as a person sees it: rendered by Ansible, opened in headless Chromium with no network.

Screenshots go to build/browser, for a person to look at.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import sample_report
from looking import LAYOUT, LOW_CONTRAST, SHOTS, WIDTHS, all_of, one, photograph, requests_of, rgb
from selenium.webdriver.common.by import By

HERE = Path(__file__).resolve().parent
NAMES = list(sample_report.SAMPLES)


@pytest.fixture(scope="session")
def pages(tmp_path_factory):
    """Render every sample with one run of Ansible; give the folder."""
    folder = tmp_path_factory.mktemp("pages")
    sample_report.write(folder)
    done = subprocess.run(
        [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "localhost,", str(HERE / "render.yml"),
         "-e", json.dumps({"pages_dir": str(folder), "pages": NAMES})], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture
def look(chromium, pages):
    """Give the function that opens a page at a width and in a colour scheme, and takes a screenshot of all of it."""

    def opened(name, width=1280, scheme="light"):
        photograph(chromium, pages / f"{name}.html", SHOTS / f"{name}-{width}-{scheme}.png", width, scheme)
        return chromium

    return opened


@pytest.mark.parametrize("name", NAMES)
def test_a_page_asks_for_nothing_and_has_no_errors(look, name):
    driver = look(name)
    assert [address.rsplit("/", 1)[1] for address in requests_of(driver)] == [f"{name}.html"]
    assert driver.get_log("browser") == []
    assert all_of(driver, "script, link, img, iframe, object, video") == []


def test_the_policy_of_the_page_forbids_what_it_does_not_need(look):
    driver = look("healthy_pair")
    driver.get_log("browser")
    refused = driver.execute_async_script("""
        const done = arguments[0];
        document.addEventListener('securitypolicyviolation', event => done(event.effectiveDirective), {once: true});
        const image = new Image(); image.src = 'https://example.com/x.png'; document.body.append(image);""")
    assert refused == "img-src"


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", NAMES)
def test_nothing_sticks_out_or_overlaps(look, name, width):
    assert look(name, width).execute_script(LAYOUT) == []


@pytest.mark.parametrize("name", NAMES)
def test_result_and_counts_are_those_of_the_report(look, pages, name):
    driver, report = look(name), json.loads((pages / f"{name}.json").read_text())
    assert one(driver, "body").get_attribute("data-result") == report["result"]
    for kind, count in (report["summary"] or {}).items():
        shown = one(driver, f".counts [data-count={kind}]")
        assert shown.is_displayed() and re.search(rf"(^|\D){count}\D", shown.text), (kind, shown.text)
    assert [card.get_attribute("data-host") for card in all_of(driver, ".node")] == list(report["nodes"])
    assert len(all_of(driver, ".all tbody tr")) == len(report["checks"])


def test_problems_failures_first_each_with_its_remedy(look, pages):
    driver, report = look("faulty_pair"), json.loads((pages / "faulty_pair.json").read_text())
    problems = all_of(driver, ".problem")
    kinds = [next(kind for kind in ("fail", "unknown", "warn", "accepted") if kind in problem.get_attribute("class").split()) for problem in problems]
    assert kinds == ["fail"] * 3 + ["unknown"] + ["warn"] * 3 + ["accepted"]
    assert "accepted (fail)" in problems[-1].text and problems[-1].get_attribute("data-status") == "fail"
    seen = {problem.get_attribute("data-check") + "/" + problem.get_attribute("data-status"): problem.text for problem in problems}
    for check in report["checks"]:
        if check["status"] != "pass" and check["check"] != "npu_count":
            text = seen[f"{check['check']}/{check['status']}"]
            for part in ("host", "device", "title", "meaning", "observed", "expected", "remedy"):
                assert check[part] in text, (check["check"], part)
    assert problems[0].location["y"] < one(driver, "#nodes").location["y"] < one(driver, "#mesh").location["y"]


def cell_of(driver, title, row, column):
    """Return the cell of a matrix with one cell a column."""
    for figure in all_of(driver, "figure.matrix"):
        if figure.find_element(By.CSS_SELECTOR, "figcaption strong").text == title:
            return figure.find_elements(By.CSS_SELECTOR, "tbody tr")[row].find_elements(By.TAG_NAME, "td")[column]
    raise AssertionError(f"no matrix {title}")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_failing_pair_is_red_and_named_on_both_ends(look, scheme):
    driver = look("faulty_pair", scheme=scheme)
    red, green, blue = rgb(failed := cell_of(driver, "a2-node0 → a2-node1", 3, 5))
    assert red > 150 and red > 2 * max(green, blue)
    assert failed.text == "✕" and failed.get_attribute("aria-label") == "a2-node0 NPU 3 → a2-node1 NPU 5: no answer, 0 of 3 packets came back"
    red, green, blue = rgb(good := cell_of(driver, "a2-node1 → a2-node0", 5, 3))
    assert green > red and green > blue and float(good.text) > 0
    red, green, blue = rgb(lossy := cell_of(driver, "a2-node0 → a2-node1", 1, 4))
    assert red > green > 2 * blue and lossy.text == "33%"
    assert cell_of(driver, "a2-node1 → a2-node0", 7, 7).text == "?"
    listed = [entry.text for entry in all_of(driver, ".lost li")]
    assert len(listed) == 3 and "a2-node0 NPU 3 → a2-node1 NPU 5" in listed[0] and "10.20.2.15" in listed[0]


def test_cards_say_what_is_known_of_a_node(look):
    card = one(look("faulty_pair"), "[data-host=a2-node0]")
    for text in ("198.51.100.11 on enp67s0f5", "25.5.0", "7.8.0.5.216", "26.1.4 (API 1.45)", "aarch64", "3.9.9", "3.0 TiB", "2 fail, 3 warn"):
        assert text in card.text
    rows = {row.get_attribute("data-npu"): row for row in card.find_elements(By.CSS_SELECTOR, "tr[data-npu]")}
    assert list(rows) == [str(number) for number in range(8)]
    assert rows["6"].get_attribute("data-status") == "fail" and "Alarm" in rows["6"].text
    assert rows["5"].get_attribute("data-status") == "pass" and "3.4 / 64 GB" in rows["5"].text
    full = rows["0"].find_element(By.CSS_SELECTOR, ".use")
    assert 0.85 < full.find_element(By.CSS_SELECTOR, "span").rect["width"] / full.rect["width"] <= 1
    assert "python3 <b>x</b> (pid 231415), 55.3 GB" in card.text


def test_a_node_that_did_not_answer_has_a_card_that_says_so(look):
    driver = look("silent_pair")
    card = one(driver, "[data-host=a2-node1]")
    assert card.get_attribute("data-status") == "fail" and "did not answer" in card.text
    assert card.find_elements(By.TAG_NAME, "table") == []
    assert "No pings were sent" in one(driver, "#mesh").text


def test_what_a_tool_printed_is_text_and_nothing_else(look):
    driver = look("faulty_pair")
    shown = sample_report.HOSTILE.replace("\x1b", "\\x1b")
    assert shown in one(driver, ".problem.unknown").text
    for entry in all_of(driver, ".lost details"):
        driver.execute_script("arguments[0].open = true", entry)
    assert shown + "\nsecond line" in [entry.text for entry in all_of(driver, ".lost pre")]
    assert driver.title.startswith("Preflight report") and all_of(driver, ".node b") == []


def test_one_node_has_no_mesh_and_its_ports_are_not_marked(look):
    driver = look("lone_a3")
    assert "One node has no mesh" in one(driver, "#mesh").text and all_of(driver, "#mesh table") == []
    rows = all_of(driver, "tr[data-npu]")
    assert len(rows) == 16 and {row.get_attribute("data-status") for row in rows} == {"pass"} and all("DOWN" in row.text for row in rows)


def test_sixteen_nodes_overview_first_and_each_pair_can_be_opened(look):
    driver = look("large")
    rows = all_of(driver, ".overview tbody tr")
    assert len(rows) == 16 and all(len(row.find_elements(By.TAG_NAME, "td")) == 16 for row in rows)
    assert rows[3].find_elements(By.TAG_NAME, "td")[9].text == "✕ 30/32" and rows[2].find_elements(By.TAG_NAME, "td")[3].text == "! 31/32"
    assert rows[9].find_elements(By.TAG_NAME, "td")[3].get_attribute("class") == "pass"
    pairs = all_of(driver, ".pairs > details")
    assert len(pairs) == 120 and not any(pair.get_attribute("open") for pair in pairs)
    assert {pair.get_attribute("data-status") for pair in pairs[:15]} == {"fail"} and pairs[15].get_attribute("data-status") == "loss"
    assert "54000 left out by plan" in one(driver, "#mesh").text
    # A cell leads to the matrix of its pair, which opens.
    rows[3].find_elements(By.TAG_NAME, "td")[9].find_element(By.TAG_NAME, "a").click()
    chosen = one(driver, "[data-pair='a3-node3 ↔ a3-node9']")
    assert chosen.get_attribute("open") and chosen.find_element(By.CSS_SELECTOR, "td.fail").is_displayed()
    assert chosen.find_element(By.CSS_SELECTOR, "td.none").get_attribute("title") == "not sent"
    scroll = chosen.find_element(By.CSS_SELECTOR, ".scroll")
    assert driver.execute_script("return arguments[0].scrollWidth <= arguments[0].clientWidth", scroll), "16 columns do not fit"


def test_the_npu_table_fits_its_card(look):
    for name in ("healthy_pair", "lone_a3", "faulty_pair_zh"):
        boxes = look(name).execute_script("return [...document.querySelectorAll('.node .scroll')].map(box => [box.scrollWidth, box.clientWidth])")
        assert boxes and all(wanted <= has for wanted, has in boxes), (name, boxes)


def test_chinese(look, pages):
    driver = look("faulty_pair_zh")
    assert one(driver, "html").get_attribute("lang") == "zh-CN"
    assert driver.title == "预检报告: 预检未通过"
    text = one(driver, "body").text
    for word in ("拉起推理服务前需先处理 5 个问题", "待处理问题", "处理建议", "NPU 网口链路状态", "健康状态", "丢包 33 %", "已接受（失败）", "检查光模块"):
        assert word in text
    # Names that machines read stay as they are.
    assert {"fail", "unknown", "warn"} == {problem.get_attribute("data-status") for problem in all_of(driver, ".problem")}
    assert "hccn_link" in text
    # English words of the page would be seen here; what is in capitals or comes from a tool is not translated.
    assert not re.search(r"Remedy|Found|Wanted|What to do|no answer|accepted by|Health\b", text)
    # An empty box is drawn for a character without a font: all of them look alike, real ones do not.
    alike = driver.execute_script("""
        const draw = char => { const c = document.createElement('canvas'); c.width = c.height = 40; const x = c.getContext('2d');
          x.font = '30px ' + getComputedStyle(document.body).fontFamily; x.fillText(char, 2, 32); return c.toDataURL(); };
        return draw('预') === draw('检');""")
    assert alike is False


def test_dark_and_light_differ_and_both_can_be_read(look):
    backgrounds = []
    for scheme in ("light", "dark"):
        driver = look("faulty_pair", scheme=scheme)
        low = driver.execute_script(LOW_CONTRAST)
        assert low == []
        backgrounds.append(rgb(one(driver, "body")))
    assert sum(backgrounds[0]) > 600 > 150 > sum(backgrounds[1])


def test_the_table_of_all_checks_can_show_only_what_did_not_pass(look):
    driver = look("faulty_pair")
    driver.execute_script("document.querySelector('.all').open = true")
    rows = all_of(driver, ".all tbody tr")
    assert all(row.is_displayed() for row in rows) and "fail" in rows[0].text
    one(driver, "#only-problems").click()
    assert [row.get_attribute("data-status") for row in rows if row.is_displayed()] == ["fail"] * 4 + ["unknown"] + ["warn"] * 3 + ["fail"]


def test_everything_is_printed_also_what_is_folded(look):
    driver = look("large")
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    seen = driver.execute_script(
        "return [...document.querySelectorAll('.pairs > details td, .node tr, .all tr')].map(cell => cell.checkVisibility() && cell.offsetHeight > 8)")
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert len(seen) > 10000 and all(seen)
