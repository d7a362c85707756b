# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a download client's last words mean, and how far it is."""

from __future__ import annotations

import pytest

from ansible_collections.ascend.vllm.plugins.plugin_utils import downloads, progress


@pytest.mark.parametrize(("line", "cause", "remedy"), [
    ("client: line 1: exec: huggingface-cli: not found", "no client of this hub", "vllm_image"),
    ("OSError: [Errno 28] No space left on device", "the disk is full", "make room"),
    ("requests.exceptions.HTTPError: 401 Client Error: Unauthorized for url: http://hub", "the hub refuses", "vllm_weights_token_file"),
    ("HTTPError: 404 Client Error: Not Found for url", "no such model", "id and revision"),
    ("HTTPError: 429 Client Error: Too Many Requests", "fewer requests", "wait"),
    ("PermissionError: [Errno 13] Permission denied: '/mnt/w/x'", "cannot be written to", "no_root_squash"),
    ("ConnectionError: HTTPConnectionPool(host='hub', port=80): Max retries exceeded", "cannot be reached", "endpoint"),
    ("HTTPError: 500 Server Error: Internal Server Error for url", "an error of its own", "mirror"),
])
def test_each_cause_is_named_with_the_client_s_line_and_a_remedy(line, cause, remedy):
    text = downloads.explain(["Downloading", line, "", "  "], 1)
    assert cause in text and line in text and remedy in text.partition("Remedy: ")[2]


@pytest.mark.parametrize(("line", "cause", "remedy"), [
    ("failed to register layer: write /x: no space left on device", "the disk is full", "Docker Root Dir"),
    ("toomanyrequests: You have reached your pull rate limit", "fewer requests", "vllm_image_registries"),
    ("pull access denied for x, repository does not exist or may require 'docker login'", "the registry refuses", "vllm_registry_auth_file"),
    ("unauthorized: authentication required", "the registry refuses", "vllm_registry_auth_file"),
    ("the engine answered 404: manifest unknown", "no such image", "vllm_image"),
    ("no matching manifest for linux/arm64/v8 in the manifest list entries", "this architecture", "vllm_image"),
    ("Get https://r/v2/: x509: certificate signed by unknown authority", "does not trust", "certs.d"),
    ("Get https://r/v2/: dial tcp: lookup r: no such host", "cannot be reached", "DNS"),
    ("/var/run/docker.sock: No such file or directory", "the Docker engine does not answer", "systemctl status docker"),
])
def test_each_cause_of_an_engine_is_named(line, cause, remedy):
    text = downloads.explain([line], None, downloads.OF_AN_ENGINE)
    assert cause in text and line in text and remedy in text.partition("Remedy: ")[2]


def test_a_cause_that_is_not_known_gives_the_last_words():
    assert downloads.explain(["a", "b", ""], 3) == (
        "the client ended with 3, its last words: b. Remedy: run again; what is whole is kept, and only the rest is fetched.")
    assert "its last words: nothing" in downloads.explain([], 137)


@pytest.mark.parametrize(("seconds", "done", "total", "first", "wanted"), [
    (10, 2_000_000_000, 12_000_000_000, 1_000_000_000, "[   10 s] n: downloaded 2.0 GB of 12.0 GB, 100.0 MB/s, about 100 s left"),
    (0, 0, 0, 0, "[    0 s] n: downloaded 0 kB, 0 kB/s"),
    (5, 5_000, 0, 0, "[    5 s] n: downloaded 5 kB, 1 kB/s"),
    (5, 3_000_000_000_000, 3_000_000_000_000, 3_000_000_000_000, "[    5 s] n: downloaded 3.0 TB of 3.0 TB, 0 kB/s"),
])
def test_a_line_says_bytes_rate_and_time_left(seconds, done, total, first, wanted):
    assert progress.line("n", "downloaded", seconds, done, total, first) == wanted
