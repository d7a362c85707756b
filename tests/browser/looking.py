# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests of all pages share: Chromium with no network, a screenshot of a page, and what is measured in the page itself.

Screenshots go to build/browser, for a person to look at.
"""

from __future__ import annotations

import base64
import json
import re
import shutil
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By

SHOTS = Path(__file__).resolve().parents[2] / "build" / "browser"
WIDTHS = (1280, 400)


def start_chromium():
    """Start Chromium. No name is resolved, so that nothing outside could answer; driver and browser are those of the system."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
                     "--host-resolver-rules=MAP * ~NOTFOUND", "--disable-background-networking", "--no-first-run"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))


def photograph(driver, page, target, width=1280, scheme="light"):
    """Open a page at a width and in a colour scheme, and take a screenshot of all of it where a file for it is given."""
    driver.get_log("browser")
    driver.get_log("performance")
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False})
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
    driver.get(page.as_uri())
    if target is None:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    height = driver.execute_script("return document.documentElement.scrollHeight")
    picture = driver.execute_cdp_cmd("Page.captureScreenshot", {
        "format": "png", "captureBeyondViewport": True, "clip": {"x": 0, "y": 0, "width": width, "height": min(height, 12000), "scale": 1}})
    target.write_bytes(base64.b64decode(picture["data"]))


def all_of(driver, selector):
    """Return the elements of a selector."""
    return driver.find_elements(By.CSS_SELECTOR, selector)


def one(driver, selector):
    """Return the only element of a selector."""
    found = all_of(driver, selector)
    assert len(found) == 1, f"{selector}: {len(found)}"
    return found[0]


def requests_of(driver):
    """Return the addresses that the page made the browser ask for, the page itself among them."""
    messages = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    return [message["params"]["request"]["url"] for message in messages if message["method"] == "Network.requestWillBeSent"]


def rgb(element):
    """Return the background of an element as numbers."""
    return [int(float(part)) for part in re.findall(r"[\d.]+", element.value_of_css_property("background-color"))[:3]]


# What sticks out of the page, and texts that are cut off or lie on one another. What may scroll sideways does so inside its own box.
LAYOUT = """
const found = [], wide = document.documentElement.clientWidth;
if (document.documentElement.scrollWidth > wide) found.push('the page scrolls sideways: ' + document.documentElement.scrollWidth);
for (const element of document.querySelectorAll('body *')) {
  if (!element.checkVisibility() || element.closest('.scroll, .hidden, .strip') && !element.matches('.scroll')) continue;
  const box = element.getBoundingClientRect();
  if (!box.width || !box.height) continue;
  if (box.left < -0.5 || box.right > wide + 0.5) found.push('outside: ' + element.outerHTML.slice(0, 120));
  if (!element.ownerSVGElement && getComputedStyle(element).overflowX === 'visible' && element.scrollWidth > element.clientWidth + 1 && element.clientWidth)
    found.push('too wide for its box: ' + element.outerHTML.slice(0, 120));
}
const texts = [...document.querySelectorAll('h1, h2, h3, dt, dd, .badge, .where, .meaning, td, th, figcaption, summary > .quiet, .lost strong, .legend li')]
  .filter(element => element.textContent.trim() && element.checkVisibility() && !element.closest('.hidden'))
  .map(element => [element, element.getBoundingClientRect()]).sort((a, b) => a[1].top - b[1].top);
for (let i = 0; i < texts.length; i++) for (let j = i + 1; j < texts.length && texts[j][1].top < texts[i][1].bottom - 1; j++) {
  const [one, a] = texts[i], [other, b] = texts[j];
  if (one.contains(other) || other.contains(one) || one.closest('.scroll') !== other.closest('.scroll')) continue;
  if (a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1)
    found.push('overlap: ' + one.textContent.slice(0, 40) + ' / ' + other.textContent.slice(0, 40));
}
return found.slice(0, 10);
"""

# Texts that differ too little from what is behind them.
LOW_CONTRAST = """
const numbers = text => text.match(/[\\d.]+/g).map(Number);
const light = ([r, g, b]) => [r, g, b].map(v => v / 255).map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
  .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
const behind = element => { for (; element; element = element.parentElement) {
  const colour = numbers(getComputedStyle(element).backgroundColor);
  if (colour.length < 4 || colour[3] > 0) return colour; } return [255, 255, 255]; };
const low = new Set();
for (const element of document.querySelectorAll('h1, h2, h3, p, dt, dd, td, th, .badge:not(.zero), .cell')) {
  if (!element.textContent.trim() || !element.checkVisibility()) continue;
  const a = light(numbers(getComputedStyle(element).color)), b = light(behind(element));
  const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  if (contrast < 3.4) low.add(element.className + ' ' + element.textContent.trim().slice(0, 20) + ' ' + contrast.toFixed(2));
}
return [...low];
"""
