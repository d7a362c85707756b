# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates, keys and what vouches for them: whether they belong together is known before anything is started."""

from __future__ import annotations

import pytest

from ansible_collections.ascend.vllm.plugins.plugin_utils import tls
from ansible_collections.ascend.vllm.tests.unit.plugins import certificates as made

VAULT = "$ANSIBLE_VAULT;1.1;AES256\n3132\n"
NONE = "no certificate at all\n"


@pytest.fixture
def problem(tmp_path):
    """A function (certificate, key, ca: texts) -> what does not fit; ``ca`` is None for the certificate's own file."""

    def judge(certificate, key, ca=None):
        for name, text in (("crt", certificate), ("key", key), ("ca", ca)):
            if text is not None:
                (tmp_path / name).write_text(text)
        return tls.problem(*(str(tmp_path / name) for name in ("crt", "key", "crt" if ca is None else "ca")))

    return judge


@pytest.mark.parametrize(("certificate", "key", "ca"), [
    (made.SIGNED, made.SIGNED_KEY, made.AUTHORITY),
    (made.SIGNED, made.SIGNED_KEY, None),
    (made.SIGNED + made.AUTHORITY, made.SIGNED_KEY, None),
    (made.OTHER, made.OTHER_KEY, None),
    # What is encrypted is opened when it is copied.
    (made.SIGNED, VAULT, made.AUTHORITY),
    (VAULT, made.SIGNED_KEY, made.AUTHORITY),
    (made.SIGNED, made.SIGNED_KEY, VAULT),
    (VAULT, VAULT, None),
])
def test_what_belongs_together(problem, certificate, key, ca):
    assert problem(certificate, key, ca) is None


@pytest.mark.parametrize(("certificate", "key", "ca", "device", "said"), [
    (made.SIGNED, made.OTHER_KEY, made.AUTHORITY, tls.KEY, "key values mismatch"),
    (made.SIGNED, made.SIGNED_KEY_WITH_PASSPHRASE, made.AUTHORITY, tls.KEY, "is encrypted with a passphrase"),
    (made.SIGNED, NONE, made.AUTHORITY, tls.KEY, "not PEM, or cut short"),
    (NONE, made.SIGNED_KEY, made.AUTHORITY, tls.KEY, "not PEM, or cut short"),
    (NONE, made.SIGNED_KEY, None, tls.CERTIFICATE, "no certificate"),
    (made.SIGNED, made.SIGNED_KEY, NONE, tls.CA, "no certificate"),
    (made.SIGNED, VAULT, NONE, tls.CA, "no certificate"),
    (made.SIGNED, made.OTHER_KEY, VAULT, tls.KEY, "key values mismatch"),
    (made.SIGNED, made.SIGNED_KEY, made.OTHER, tls.CERTIFICATE, "unable to get local issuer certificate"),
    (made.EXPIRED, made.SIGNED_KEY, made.AUTHORITY, tls.CERTIFICATE, "certificate has expired"),
])
def test_what_does_not(problem, tmp_path, certificate, key, ca, device, said):
    found, observed, expected, remedy = problem(certificate, key, ca)
    assert found == device and said in observed and str(tmp_path) in observed
    assert expected and remedy.endswith(".")


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    device, observed, *_words = tls.problem(str(tmp_path / "crt"), str(tmp_path / "key"), str(tmp_path / "crt"))
    assert device == tls.CERTIFICATE and observed == f"{tmp_path}/crt: No such file or directory"
