# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Chromium, started once for all pages. Tests are no package: what they share is found beside them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))


@pytest.fixture(scope="session")
def chromium():
    """Give the browser."""
    from looking import start_chromium  # pylint: disable=import-outside-toplevel

    driver = start_chromium()
    yield driver
    driver.quit()
