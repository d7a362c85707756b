# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter scrape_configs: one job a group, where Prometheus reaches it, and what it refuses."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.ascend.vllm.plugins.filter.scrape_configs import FilterModule, scrape_configs


def group(url="http://198.51.100.11:8000", **more):
    """Return one group of a plan."""
    return {"model": "deepseek_r1_w8a8", "release": "v0.13.0", "hardware": "a2", "api": {"url": url, "host": "a2-node0"},
            "units": [{"name": "vllm-rank0", "url": url}, {"name": "vllm-rank2", "url": None}], **more}


def plan(**groups):
    """Return as much of a plan as is read."""
    return {"groups": groups}


def test_registered_under_its_own_name():
    assert FilterModule().filters() == {"scrape_configs": scrape_configs}


def test_one_target_with_its_labels():
    assert scrape_configs(plan(vllm=group())) == [
        {
            "job_name": "ascend_vllm-vllm",
            "metrics_path": "/metrics",
            "scheme": "http",
            "static_configs": [
                {
                    "targets": ["198.51.100.11:8000"],
                    "labels": {"group": "vllm", "model": "deepseek_r1_w8a8", "release": "v0.13.0", "hardware": "a2"},
                }
            ],
        }
    ]


def test_groups_have_jobs_of_their_own_and_only_one_with_tls_has_certificates():
    tls = {"certificate_file": "/c.pem", "key_file": "/k.pem", "ca_file": "/ca.pem"}
    found = scrape_configs(plan(a=group(tls=None), b=group("https://198.51.100.12:8443", tls=tls)), "site2")
    assert [(entry["job_name"], entry["scheme"], entry.get("tls_config")) for entry in found] == [
        ("site2-a", "http", None),
        ("site2-b", "https", {"ca_file": "tls/b.pem"}),
    ]
    assert found[1]["static_configs"][0]["targets"] == ["198.51.100.12:8443"]


def test_https_without_a_file_trusts_what_the_system_trusts():
    assert "tls_config" not in scrape_configs(plan(vllm=group("https://198.51.100.11:8000")))[0]


def test_a_stated_url_wins_with_its_path_and_another_certificate():
    tls = {"ca_file": "/ca.pem"}
    (entry,) = scrape_configs(plan(vllm=group("https://127.0.0.1:8000", tls=tls)), urls={"vllm": "https://proxy.example:443/vllm/"})
    assert (entry["scheme"], entry["metrics_path"], entry["static_configs"][0]["targets"]) == ("https", "/vllm/metrics", ["proxy.example:443"])
    assert "tls_config" not in entry
    assert scrape_configs(plan(vllm=group()), urls={"vllm": "http://[2001:db8::1]:8000"})[0]["static_configs"][0]["targets"] == ["[2001:db8::1]:8000"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (([],), ["the plan, a mapping with groups, got list"]),
        (({"hosts": {}},), ["the plan, a mapping with groups, got dict"]),
        ((plan(vllm=group()), "x", ["vllm"]), ["the URLs as a mapping by group, got list"]),
        ((plan(vllm=group()), "a-b"), ["monitoring_job", "'a-b'", "Wanted: letters", "Remedy"]),
        ((plan(vllm=group()), "x", {"vlm": "http://a:1"}), ["monitoring_urls names vlm", "groups of the plan, vllm", "Remedy"]),
        ((plan(vllm=group()), "x", {"vllm": "proxy:8000"}), ["monitoring_urls of group vllm is 'proxy:8000'", "Wanted: http or https", "Remedy"]),
        ((plan(vllm=group()), "x", {"vllm": "http://proxy"}), ["a port", "Remedy"]),
        ((plan(vllm=group()), "x", {"vllm": "http://proxy:99999"}), ["'http://proxy:99999'", "Remedy"]),
        ((plan(vllm=group()), "x", {"vllm": "http://me:secret@proxy:80"}), ["Wanted: http or https", "Remedy"]),
        ((plan(vllm=group("http://127.0.0.1:8000")),), ["Group vllm answers on 127.0.0.1 of a2-node0 only", "Remedy: state in monitoring_urls"]),
    ],
)
def test_refused(arguments, words):
    with pytest.raises(AnsibleFilterError) as caught:
        scrape_configs(*arguments)
    assert [word for word in words if word not in str(caught.value)] == []
