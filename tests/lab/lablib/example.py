# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The layer of the engine image with vllm-ascend's example proxy, out of its source distribution, where vllm-ascend's own images have it."""

from __future__ import annotations

import hashlib
import io
import shutil
import tarfile
import urllib.request
from pathlib import Path

from lablib.layers import Layer, make_layer, tar_of
from lablib.places import cached, content_key
from lablib.say import LabError, step

# Fetched by its address: pip would want to build it, for which it takes CANN.
_SDIST = "https://files.pythonhosted.org/packages/fd/51/6bffc54d5caf0a684c3b9c34d281eb52898e7c367389027bedb134d0e72c/vllm_ascend-0.13.0.tar.gz"
_SHA256 = "ab0e9bc12b9a4042c261901ccad96f4faab6e6d04cf5131f7cc2358aafda3a36"
_SCRIPT = "examples/disaggregated_prefill_v1/load_balance_proxy_server_example.py"
_PLACE = "vllm-workspace/vllm-ascend"


def example_layer() -> Layer:
    """One script."""
    return Layer.load(cached("layer-example", content_key(Path(__file__)), _make_example_layer))


def _make_example_layer(part: Path) -> None:
    with step("engine image: vllm-ascend's example proxy (5 MB to download)"):
        try:
            with urllib.request.urlopen(_SDIST, timeout=120) as answer:
                sdist = answer.read()
        except OSError as error:
            raise LabError(f"{_SDIST} cannot be fetched: {error}") from error
        if hashlib.sha256(sdist).hexdigest() != _SHA256:
            raise LabError(f"{_SDIST} is not what it was: SHA-256 {hashlib.sha256(sdist).hexdigest()}, wanted {_SHA256}")
        with tarfile.open(fileobj=io.BytesIO(sdist)) as archive:
            script = archive.extractfile(f"vllm_ascend-0.13.0/{_SCRIPT}").read()
    target = part / "tree" / _PLACE / _SCRIPT
    target.parent.mkdir(parents=True)
    target.write_bytes(script)
    make_layer(part, tar_of(part / "tree"))
    shutil.rmtree(part / "tree")
