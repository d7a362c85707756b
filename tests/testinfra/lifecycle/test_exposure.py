# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A pair that speaks https on one address and asks for a key: every verb works with it, nobody else gets in, no secret is shown."""

from __future__ import annotations

import json
import re
import ssl
import subprocess
import urllib.error
import urllib.request

import pytest

from conftest import API, MODEL, PROMPT, complete, inspect
from test_day_two import QUICK, STATUS, report, running

KEY = "only-the-tests-know-this-one"
HEAD = API.rpartition("/")[2].partition(":")[0]


@pytest.fixture(scope="module")
def secrets(tmp_path_factory):
    """Return a directory with a CA, a certificate of the head's address that it signed, its key, and an API key."""
    place = tmp_path_factory.mktemp("secrets")
    (place / "api_key").write_text(KEY + "\n")
    (place / "names").write_text(f"subjectAltName=IP:{HEAD}\n")
    new = ["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=lab"]
    for argv in (
        [*new, "-x509", "-days", "2", "-keyout", "ca.key", "-out", "ca.pem"],
        [*new, "-keyout", "api.tls.key", "-out", "api.csr"],
        ["openssl", "x509", "-req", "-in", "api.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names",
         "-out", "api.crt"],
    ):
        subprocess.run(argv, cwd=place, check=True, capture_output=True)
    return place


def asked(secrets, key):
    """Return the HTTP status of a completion asked for over TLS that the CA vouches for, with a key or without one, and its text."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}),
                                         urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=str(secrets / "ca.pem"))))
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}
    data = json.dumps({"model": MODEL, "prompt": PROMPT, "max_tokens": 2, "temperature": 0}).encode()
    try:
        with opener.open(urllib.request.Request(API.replace("http:", "https:") + "/v1/completions", data, headers), timeout=120) as answer:
            return answer.status, json.load(answer)["choices"][0]["text"]
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.mark.extra
def test_a_pair_over_tls_with_a_key_on_one_address(playbook, nodes, secrets, reports):
    given, directory = reports
    before = complete()
    exposed = ["-e", json.dumps({"vllm_api_key_file": str(secrets / "api_key"), "vllm_bind_address": HEAD,
                                 "vllm_tls_certificate_file": str(secrets / "api.crt"), "vllm_tls_key_file": str(secrets / "api.tls.key"),
                                 "vllm_tls_ca_file": str(secrets / "ca.pem")})]
    run = playbook("ascend.vllm.upgrade", *QUICK, *exposed)
    assert run.rc == 0 and f"https://{HEAD}:8000" in run.text, run.out[-4000:]
    assert asked(secrets, KEY) == (200, before)
    assert asked(secrets, None)[0] == 401 and asked(secrets, "another")[0] == 401
    with pytest.raises(OSError):
        complete(timeout=10)
    head = nodes["a2-node0"]
    assert re.findall(r"^LISTEN\s+\d+\s+\d+\s+(\S+):8000\b", head.check_output("ss -ltnH '( sport = :8000 )'"), re.M) == [HEAD]
    # No secret where everybody looks; the files that hold them are root's.
    private = (secrets / "api.tls.key").read_text().splitlines()[1]
    shown = run.out + json.dumps(inspect(head, "vllm-rank0")) + head.check_output("ps -eo args") + head.check_output("docker logs vllm-rank0 2>&1")
    assert KEY not in shown and private not in shown
    holding = head.check_output("grep -rlE '%s|%s' /etc/ascend-vllm /run/ascend-vllm", KEY, private.replace("+", "[+]")).split()
    assert holding and all(head.file(path).mode == 0o600 and head.file(path).user == "root" for path in holding), holding
    # The verbs of every day, with the same settings.
    again = playbook("site.yml", *QUICK, *exposed)
    assert again.rc == 0 and [again.recap(name)["changed"] for name in nodes] == [0, 0], again.out[-4000:]
    status = playbook("ascend.vllm.status", *STATUS, *exposed, *given)
    assert status.rc == 0 and report(directory, "status")["groups"]["vllm"]["ranks_answered"] == 2, status.out[-4000:]
    assert playbook("ascend.vllm.verify", *exposed).rc == 0
    stopped = playbook("ascend.vllm.stop", *exposed)
    assert stopped.rc == 0 and running(nodes) == [False, False], stopped.out[-4000:]
    assert all(KEY not in run.out for run in (again, status, stopped))


@pytest.mark.extra
def test_back_to_what_the_inventory_says(playbook):
    run = playbook("site.yml", *QUICK)
    assert run.rc == 0, run.out[-4000:]
    assert complete()
