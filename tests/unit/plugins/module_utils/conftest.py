# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests of tables of our own share."""

from __future__ import annotations

import pytest

from ansible_collections.ascend.vllm.tests.unit.plugins.net_hosts import Hosts


@pytest.fixture
def hosts(tmp_path):
    """Two hosts that are there for one test."""
    found = Hosts(tmp_path)
    try:
        found.up()
        yield found
    finally:
        found.down()
