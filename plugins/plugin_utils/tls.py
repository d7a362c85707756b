# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a certificate, its key and what vouches for it belong together: found out before a model is loaded, not after.

A server reads its certificate only once every rank has its weights. So the controller shakes hands with itself, in memory, with the
very files and the very way of verifying that the nodes will use.
"""

from __future__ import annotations

import ssl

from ..module_utils.plain_http import verifying

CERTIFICATE, KEY, CA = "vllm_tls_certificate_file", "vllm_tls_key_file", "vllm_tls_ca_file"
#: How a file begins that Ansible Vault has encrypted: it is opened only when it is copied.
VAULT = b"$ANSIBLE_VAULT"
#: More than any version of TLS needs.
TURNS = 20


class _Passphrase(Exception):
    """The key is encrypted, and nobody can be asked."""


def problem(certificate: str, key: str, ca_file: str) -> tuple | None:
    """Return ``(variable, observed, expected, remedy)`` of what does not fit, or None; files encrypted with Ansible Vault are not judged."""
    try:
        closed = {path for path in (certificate, key, ca_file) if _is_vault(path)}
        if ca_file not in closed:
            try:
                client = verifying(ca_file)
            except ssl.SSLError as error:
                device = CA if ca_file != certificate else CERTIFICATE
                return device, f"{ca_file}: {_words(error)}", "certificates as PEM", "state the file with the BEGIN CERTIFICATE lines."
        if closed & {certificate, key}:
            return None
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            server.load_cert_chain(certificate, key, password=_ask)
        except _Passphrase:
            remedy = f"openssl pkey -in {key} -out NEW_FILE, and encrypt that with ansible-vault."
            return KEY, f"{key} is encrypted with a passphrase", "a key without one: the server cannot ask for it", remedy
        except ssl.SSLError as error:
            remedy = f"state the key that {CERTIFICATE} was made for, and both as PEM."
            return KEY, f"{certificate} and {key}: {_words(error)}", "a certificate and its own key", remedy
        if ca_file in closed:
            return None
        _handshake(client, server)
    except ssl.SSLError as error:
        remedy = f"state in {CA} the certificates of the authority that signed it, or renew what has expired."
        return CERTIFICATE, f"{certificate}: {_words(error)}", f"a certificate that {ca_file} vouches for", remedy
    except OSError as error:
        return CERTIFICATE, f"{error.filename}: {error.strerror}", "files that the controller can read", "correct their owner or mode."
    return None


def _is_vault(path: str) -> bool:
    """Return whether a file is encrypted with Ansible Vault."""
    with open(path, "rb") as stream:
        return stream.read(len(VAULT)) == VAULT


def _ask(*_args) -> str:
    """Refuse to give a passphrase."""
    raise _Passphrase


def _words(error: ssl.SSLError) -> str:
    """Return OpenSSL's words without the place in its source."""
    text = str(getattr(error, "verify_message", None) or error.reason or error).lower().replace("_", " ")
    return "not PEM, or cut short" if "pem lib" in text else text


def _handshake(client: ssl.SSLContext, server: ssl.SSLContext) -> None:
    """Let a client and a server meet in memory. Raises ssl.SSLError if they do not agree."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [client.wrap_bio(to_client, to_server), server.wrap_bio(to_server, to_client, server_side=True)]
    for _turn in range(TURNS):
        waiting = []
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                waiting.append(end)
        if not waiting:
            return
    raise ssl.SSLError("the handshake does not come to an end")
