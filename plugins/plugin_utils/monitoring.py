# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Prometheus has to scrape, from the plan. Pure.

vLLM answers ``/metrics`` at the head of a group for all engines of the group, those of headless nodes too, each with the label ``engine``
(vllm/v1/metrics/loggers.py, v0.13.0): so there is one target a group.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

#: A name that can stand in a regular expression of PromQL as it is, and that no hyphen splits.
JOB = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
#: Addresses that mean another machine on every machine.
LOOPBACK = re.compile(r"127\.|localhost$|::1$")


def scrape_configs(plan: dict, job: str, urls: dict) -> list:
    """Return one entry of Prometheus' ``scrape_configs`` for each group.

    Every group has a job of its own, ``JOB-GROUP``: one of them may speak TLS and another not.
    ``urls``: {group: URL} where Prometheus does not reach a group as the plan says, for example behind a proxy.
    Raises ValueError with the variable, what was found, what is wanted and the remedy.
    """
    if not JOB.fullmatch(job):
        raise ValueError(f"monitoring_job is {job!r}. Wanted: letters, digits and _, not beginning with a digit. Remedy: choose another name.")
    unknown = sorted(set(urls) - set(plan["groups"]))
    if unknown:
        known = ", ".join(plan["groups"])
        raise ValueError(f"monitoring_urls names {', '.join(unknown)}. Wanted: groups of the plan, {known}. Remedy: correct the names.")
    return [_scrape_config(name, group, job, urls.get(name)) for name, group in plan["groups"].items()]


def _scrape_config(name: str, group: dict, job: str, stated: str | None) -> dict:
    """Return the entry of one group."""
    url = _split(stated, f"monitoring_urls of group {name}") if stated else urlsplit(group["api"]["url"])
    if not stated and LOOPBACK.match(url.hostname):
        raise ValueError(
            f"Group {name} answers on {url.hostname} of {group['api']['host']} only. Wanted: an address at which Prometheus reaches it. "
            "Remedy: state in monitoring_urls the URL of what forwards to it, or this one if Prometheus runs on that host."
        )
    entry: dict = {"job_name": f"{job}-{name}", "metrics_path": f"{url.path.rstrip('/')}/metrics", "scheme": url.scheme}
    if url.scheme == "https" and not stated and group.get("tls"):
        entry["tls_config"] = {"ca_file": certificate_name(name)}
    labels = {"group": name, "model": group["model"], "release": group["release"], "hardware": group["hardware"]}
    return {**entry, "static_configs": [{"targets": [url.netloc], "labels": labels}]}


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
