# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Prometheus has to scrape, from the plan. Pure.

vLLM answers ``/metrics`` at the head of a group for all engines of the group, those of headless nodes too, each with the label ``engine``
(vllm/v1/metrics/loggers.py, v0.13.0): so there is one target a group. Of a prefill or decode group every rank is a server of its own, which
answers for its own engine only: so there is one target a rank.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

#: A name that can stand in a regular expression of PromQL as it is, and that no hyphen splits.
JOB = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
#: Addresses that mean another machine on every machine.
LOOPBACK = re.compile(r"127\.|localhost$|::1$")


def scrape_configs(plan: dict, job: str, urls: dict) -> list:
    """Return one entry of Prometheus' ``scrape_configs`` for each group, and one for each proxy that has metrics.

    Every group has a job of its own, ``JOB-GROUP``: one of them may speak TLS and another not. That of a proxy is ``JOB_proxy``, the name of
    no group and nothing that ``JOB-.+`` matches: its metrics are not vLLM's.
    ``urls``: {group: URL} where Prometheus does not reach a group as the plan says, for example behind a proxy.
    Raises ValueError with the variable, what was found, what is wanted and the remedy.
    """
    if not JOB.fullmatch(job):
        raise ValueError(f"monitoring_job is {job!r}. Wanted: letters, digits and _, not beginning with a digit. Remedy: choose another name.")
    unknown = sorted(set(urls) - set(plan["groups"]))
    if unknown:
        known = ", ".join(plan["groups"])
        raise ValueError(f"monitoring_urls names {', '.join(unknown)}. Wanted: groups of the plan, {known}. Remedy: correct the names.")
    found = [_scrape_config(name, group, job, urls.get(name)) for name, group in plan["groups"].items()]
    return found + [_of_proxy(name, proxy, job) for name, proxy in (plan.get("proxies") or {}).items() if proxy["prometheus_port"]]


def _of_proxy(name: str, proxy: dict, job: str) -> dict:
    """Return the entry of one proxy."""
    target = {"targets": [f"{proxy['address']}:{proxy['prometheus_port']}"], "labels": {"proxy": proxy["name"]}}
    return {"job_name": f"{job}_{name}", "metrics_path": "/metrics", "scheme": "http", "static_configs": [target]}


def _scrape_config(name: str, group: dict, job: str, stated: str | None) -> dict:
    """Return the entry of one group."""
    apis = [unit["url"] for unit in group["units"] if unit["url"]]
    if stated and len(apis) > 1:
        raise ValueError(
            f"monitoring_urls names group {name}, of which each of {len(apis)} ranks answers for itself. Wanted: groups that answer at one address. "
            "Remedy: take it out; Prometheus has to reach the ranks' own ports."
        )
    urls = [_split(stated, f"monitoring_urls of group {name}")] if stated else [urlsplit(api) for api in apis]
    url = urls[0]
    if not stated and LOOPBACK.match(url.hostname):
        raise ValueError(
            f"Group {name} answers on {url.hostname} of {group['api']['host']} only. Wanted: an address at which Prometheus reaches it. "
            "Remedy: state in monitoring_urls the URL of what forwards to it, or this one if Prometheus runs on that host."
        )
    entry: dict = {"job_name": f"{job}-{name}", "metrics_path": f"{url.path.rstrip('/')}/metrics", "scheme": url.scheme}
    if url.scheme == "https" and not stated and group.get("tls"):
        entry["tls_config"] = {"ca_file": certificate_name(name)}
    labels = {"group": name, "model": group["model"], "release": group["release"], "hardware": group["hardware"]}
    return {**entry, "static_configs": [{"targets": [each.netloc for each in urls], "labels": labels}]}


def _split(text: object, what: str):
    """Return a stated URL in its parts."""
    url = urlsplit(str(text))
    try:
        usable = url.scheme in ("http", "https") and url.hostname and url.port and not (url.username or url.query or url.fragment)
    except ValueError:
        usable = False
    if not usable:
        raise ValueError(f"{what} is {text!r}. Wanted: http or https, a host and a port, as https://vllm.example:443. Remedy: correct it.")
    return url


def certificate_name(name: str) -> str:
    """Return where the certificates that vouch for a group lie, beside Prometheus' configuration."""
    return f"tls/{name}.pem"
