# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Small HTTP questions: JSON to the service (never through a proxy), existence to a registry or a model hub."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.parse
import urllib.request

#: What a registry may hold behind a tag (distribution spec and Docker schema 2).
MANIFESTS = ", ".join([
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
])


def request(url, method="GET", body=None, headers=None, timeout=10.0, proxies=None):
    """Return (status, headers, body bytes). C(proxies) is a mapping scheme -> URL; none is used unless it is given.

    Raises C(OSError) (URLError included) when there is no HTTP answer at all.
    """
    opener = urllib.request.build_opener(urllib.request.ProxyHandler(proxies or {}))
    query = urllib.request.Request(url, data=body, headers=headers or {}, method=method)
    try:
        with opener.open(query, timeout=timeout) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


def post_json(url, value, headers=None, timeout=10.0):
    """Return (status, decoded body or None, text) of a JSON request that goes straight to the service."""
    given = {"Content-Type": "application/json"}
    given.update(headers or {})
    status, dummy, body = request(url, "POST", json.dumps(value).encode(), given, timeout)
    text = body.decode("utf-8", "replace")
    try:
        return status, json.loads(text), text
    except ValueError:
        return status, None, text


def split_image(reference):
    """Return (registry, repository, tag or digest) of an image reference, Docker's defaults applied."""
    name, at, digest = reference.partition("@")
    first, slash, rest = name.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        registry, path = first, rest
    else:
        registry, path = "registry-1.docker.io", name if slash else "library/" + name
    repository, colon, tag = path.partition(":")
    return registry, repository, digest if at else (tag or "latest")


def _no_proxy(host, exceptions):
    """Return whether a host is excepted from the proxy by a comma separated list of names and domain suffixes."""
    bare = host.rsplit(":", 1)[0]
    for item in (part.strip().lstrip(".") for part in (exceptions or "").split(",")):
        if item and (item == "*" or bare == item or bare.endswith("." + item)):
            return True
    return False


def proxies_for(host, info):
    """Return the proxies that the Docker engine of C(docker info) would use for a host."""
    if _no_proxy(host, info.get("NoProxy")):
        return {}
    found = {"http": info.get("HttpProxy"), "https": info.get("HttpsProxy")}
    return {scheme: url for scheme, url in found.items() if url}


def _is_insecure(registry, info):
    """Return whether the engine may speak plain HTTP to a registry (daemon.json's insecure-registries, loopback)."""
    entry = ((info.get("RegistryConfig") or {}).get("IndexConfigs") or {}).get(registry)
    if entry is not None:
        return not entry.get("Secure", True)
    return registry.rsplit(":", 1)[0] in ("localhost", "127.0.0.1")


def _token(challenge, timeout, proxies):
    """Return the anonymous bearer token a C(WWW-Authenticate: Bearer ...) challenge asks for, or None."""
    fields = dict(re.findall(r'(\w+)="([^"]*)"', challenge or ""))
    if not (challenge or "").startswith("Bearer") or "realm" not in fields:
        return None
    query = urllib.parse.urlencode({key: fields[key] for key in ("service", "scope") if key in fields})
    status, dummy, body = request(fields["realm"] + "?" + query, timeout=timeout, proxies=proxies)
    if status != 200:
        return None
    answer = json.loads(body.decode("utf-8", "replace"))
    return answer.get("token") or answer.get("access_token")


def manifest_exists(reference, info, timeout=15.0):
    """Ask a registry whether it has an image.

    Returns C({exists: True|False|None, url, error, digest}); None means that the registry gave no usable answer.
    C(info) is what C(docker info) returned: its proxies and insecure registries are used, as the pull itself will.
    """
    registry, repository, version = split_image(reference)
    proxies = proxies_for(registry, info)
    schemes = ("https", "http") if _is_insecure(registry, info) else ("https",)
    result = {"exists": None, "url": None, "error": None, "digest": None}
    for scheme in schemes:
        url = "%s://%s/v2/%s/manifests/%s" % (scheme, registry, repository, version)
        result["url"] = url
        headers = {"Accept": MANIFESTS}
        try:
            status, answer, dummy = request(url, "HEAD", headers=headers, timeout=timeout, proxies=proxies)
            if status == 401:
                token = _token(answer.get("WWW-Authenticate"), timeout, proxies)
                if token:
                    headers["Authorization"] = "Bearer " + token
                    status, answer, dummy = request(url, "HEAD", headers=headers, timeout=timeout, proxies=proxies)
        except (OSError, ValueError) as error:
            result["error"] = "%s: %s" % (url, getattr(error, "reason", error))
            continue
        result["error"] = None if status in (200, 404) else "%s answered HTTP %d" % (url, status)
        result["exists"] = {200: True, 404: False}.get(status)
        result["digest"] = answer.get("Docker-Content-Digest")
        return result
    return result


def modelscope_files(endpoint, model, revision, timeout=30.0, proxies=None):
    """Ask a ModelScope hub for a model's files.

    Returns C({exists: True|False|None, url, error, files: [{path, size, sha256}], bytes}).
    """
    url = "%s/api/v1/models/%s/repo/files?%s" % (
        endpoint.rstrip("/"), model, urllib.parse.urlencode({"Revision": revision, "Recursive": "True"}))
    result = {"exists": None, "url": url, "error": None, "files": [], "bytes": 0}
    try:
        status, dummy, body = request(url, timeout=timeout, proxies=proxies)
        answer = json.loads(body.decode("utf-8", "replace"))
    except (OSError, ValueError) as error:
        result["error"] = "%s: %s" % (url, getattr(error, "reason", error))
        return result
    if status == 404 or (isinstance(answer, dict) and answer.get("Success") is False):
        result["exists"] = False
        result["error"] = "%s answered HTTP %d: %s" % (url, status, str(answer.get("Message", ""))[:200])
        return result
    if status != 200 or not isinstance(answer, dict):
        result["error"] = "%s answered HTTP %d" % (url, status)
        return result
    listed = (answer.get("Data") or {}).get("Files") or []
    result["files"] = [
        {"path": entry["Path"], "size": entry.get("Size") or 0, "sha256": entry.get("Sha256")}
        for entry in listed if entry.get("Type") != "tree"
    ]
    result["bytes"] = sum(entry["size"] for entry in result["files"])
    result["exists"] = True
    return result
