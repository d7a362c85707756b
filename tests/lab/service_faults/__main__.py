# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import sys

from service_faults.cli import main

# This package is on PYTHONPATH for this process alone, not for those a fault starts.
os.environ.pop("PYTHONPATH", None)
sys.exit(main(sys.argv[1:]))
