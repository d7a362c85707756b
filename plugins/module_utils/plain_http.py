# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Small HTTP questions: JSON to the service (never through a proxy), existence to a registry or a model hub."""

from __future__ import annotations

import http.client
import ipaddress
import json
import re
import ssl
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


#: The node's own word for its architecture and the word of images.
ARCHITECTURES = {"aarch64": "arm64", "x86_64": "amd64"}


class _TokenStaysHome(urllib.request.HTTPRedirectHandler):
    """Follow redirects as ever, but show a login or token only to the server it was meant for."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        """Return the request for where a redirect leads."""
        query = super().redirect_request(req, fp, code, msg, headers, newurl)
        if query is not None and urllib.parse.urlsplit(newurl)[:2] != urllib.parse.urlsplit(req.full_url)[:2]:
            query.remove_header("Authorization")
            query.remove_header("Cookie")
        return query


#: OpenSSL's X509_V_FLAG_PARTIAL_CHAIN, which Python has a name for from 3.10 on: a certificate that is not its own signer can vouch, too.
_PARTIAL_CHAIN = 0x80000


def verifying(ca_file):
    """Return a TLS context that takes only what a file of certificates vouches for, whatever name it is made out to.

    A certificate in the file may be the service's own. Raises C(OSError) (C(ssl.SSLError) included) if the file has none.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(ca_file)
    context.verify_flags |= _PARTIAL_CHAIN
    return context


def request(url, method="GET", body=None, headers=None, timeout=10.0, proxies=None, insecure=False, ca_file=None):
    """Return (status, headers, body bytes). C(proxies) is a mapping scheme -> URL; none is used unless it is given.

    With C(insecure) any certificate will do; with C(ca_file) only one that this file of certificates vouches for, whatever name it is made
    out to: the service is asked by its address. Raises C(OSError) (URLError included) when there is no HTTP answer at all, and
    C(ValueError) for what is no URL.
    """
    handlers = [urllib.request.ProxyHandler(proxies or {}), _TokenStaysHome()]
    if insecure or ca_file:
        context = verifying(ca_file) if ca_file else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if not ca_file:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        handlers.append(urllib.request.HTTPSHandler(context=context))
    query = urllib.request.Request(url, data=body, headers=headers or {}, method=method)
    try:
        try:
            with urllib.request.build_opener(*handlers).open(query, timeout=timeout) as answer:
                return answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.headers, error.read()
    except http.client.HTTPException as error:
        raise OSError("no valid HTTP answer: %s" % reason(error)) from error


def reason(error):
    """Return why there was no HTTP answer, in words."""
    return str(getattr(error, "reason", None) or error) or type(error).__name__


def cause(error):
    """Return the exception behind what request() raised: an URLError hides it, and an SSLError has a text where an URLError has it."""
    behind = getattr(error, "reason", None)
    return behind if isinstance(behind, Exception) else error


def post_json(url, value, headers=None, timeout=10.0, ca_file=None):
    """Return (status, decoded body or None, text) of a JSON request that goes straight to the service."""
    given = {"Content-Type": "application/json"}
    given.update(headers or {})
    status, dummy, body = request(url, "POST", json.dumps(value).encode(), given, timeout, ca_file=ca_file)
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
        registry, path = "docker.io", name
    if registry in ("docker.io", "index.docker.io"):
        # The name people write is not the host that serves the images.
        registry, path = "registry-1.docker.io", path if "/" in path else "library/" + path
    repository, colon, tag = path.partition(":")
    return registry, repository, digest if at else (tag or "latest")


def _inside(host, networks):
    """Return whether a host (with or without a port) is an address inside any of the networks (CIDR or single address)."""
    try:
        address = ipaddress.ip_address(host.partition(":")[0])
    except ValueError:
        return False
    for network in networks:
        try:
            if address in ipaddress.ip_network(network, strict=False):
                return True
        except ValueError:
            continue
    return False


def _no_proxy(host, exceptions):
    """Return whether a host is excepted from the proxy, by the rules of the engine's own HTTP client.

    Loopback always is; else a comma separated list of names, domains, addresses and networks, each but the last with or without a port.
    """
    bare, dummy, port = host.partition(":")
    items = [part.strip() for part in (exceptions or "").split(",") if part.strip()]
    if bare == "localhost" or _inside(host, ["127.0.0.0/8"] + items):
        return True
    for item in items:
        name, colon, wanted = item.partition(":")
        if name == "*" or (not colon or wanted == port) and (bare == name or bare.endswith("." + name.lstrip("."))):
            return True
    return False


def proxies_for(host, info):
    """Return the proxies that the Docker engine of C(docker info) would use for a host."""
    if _no_proxy(host, info.get("NoProxy")):
        return {}
    found = {"http": info.get("HttpProxy"), "https": info.get("HttpsProxy")}
    return {scheme: url for scheme, url in found.items() if url}


def _is_insecure(registry, info):
    """Return whether the engine takes a registry without a valid certificate or without TLS (daemon.json's insecure-registries, loopback)."""
    config = info.get("RegistryConfig") or {}
    entry = (config.get("IndexConfigs") or {}).get(registry)
    if entry is not None:
        return not entry.get("Secure", True)
    return registry.partition(":")[0] == "localhost" or _inside(registry, ["127.0.0.0/8"] + (config.get("InsecureRegistryCIDRs") or []))


def _authorization(challenge, login, timeout, proxies, insecure):
    """Return the C(Authorization) header that a C(WWW-Authenticate) challenge asks for, or None.

    C(login): C(user:password) in base64, as Docker's config.json has it; without one a bearer token is asked for anonymously.
    """
    if (challenge or "").lower().startswith("basic"):
        return "Basic " + login if login else None
    fields = dict(re.findall(r'(\w+)="([^"]*)"', challenge or ""))
    if not (challenge or "").startswith("Bearer") or "realm" not in fields:
        return None
    query = urllib.parse.urlencode({key: fields[key] for key in ("service", "scope") if key in fields})
    headers = {"Authorization": "Basic " + login} if login else None
    status, dummy, body = request(fields["realm"] + "?" + query, headers=headers, timeout=timeout, proxies=proxies, insecure=insecure)
    if status != 200:
        return None
    answer = json.loads(body.decode("utf-8", "replace"))
    token = (answer.get("token") or answer.get("access_token")) if isinstance(answer, dict) else None
    return "Bearer " + token if token else None


def _sizes(url, machine, ask):
    """Return C({bytes, architectures}) of the manifest at an address; what could not be had is None.

    C(ask) is a function address -> decoded JSON that raises C(OSError) or C(ValueError). For an image of several architectures
    the entry for C(machine) is followed; entries for no system, as attestations are, do not count.
    """
    found = {"bytes": None, "architectures": None}
    try:
        manifest = ask(url)
        if isinstance(manifest.get("manifests"), list):
            entries = {}
            for entry in manifest["manifests"]:
                platform = entry.get("platform") or {}
                if platform.get("os", "linux") == "linux" and platform.get("architecture"):
                    entries.setdefault(platform["architecture"], entry["digest"])
            found["architectures"] = sorted(entries)
            digest = entries.get(ARCHITECTURES.get(machine, machine))
            if digest is None:
                return found
            manifest = ask(url.rpartition("/")[0] + "/" + digest)
        if manifest.get("layers"):
            found["bytes"] = sum(int(layer["size"]) for layer in manifest["layers"])
    except (OSError, ValueError, AttributeError, KeyError, TypeError):
        # A size is a convenience: without one the pull is as good as with one.
        pass
    return found


def login_for(registry, logins):
    """Return C(user:password) in base64 for a registry from the C(auths) of Docker's config.json, or None.

    Its keys are written with or without a scheme and a path, and Docker Hub has a name of its own there.
    """
    names = (registry,) if registry != "registry-1.docker.io" else (registry, "docker.io", "index.docker.io")
    for key, entry in (logins or {}).items():
        if key.partition("://")[2].partition("/")[0] in names or key.partition("/")[0] in names:
            return (entry or {}).get("auth")
    return None


def manifest_exists(reference, info, timeout=15.0, machine=None, logins=None):
    """Ask a registry whether it has an image and, for a C(machine) (as C(aarch64)), how much a pull would load.

    Returns C({exists: True|False|None, url, error, digest, bytes, architectures}); None means that the registry gave no usable
    answer. bytes: of the compressed layers for the machine. architectures: names, sorted, of an image that has several.
    C(info) is what C(docker info) returned: its proxies and insecure registries are used, as the pull itself will. C(logins): the
    C(auths) of a Docker config.json; no text returned contains any of them.
    """
    registry, repository, version = split_image(reference)
    login = login_for(registry, logins)
    proxies = proxies_for(registry, info)
    insecure = _is_insecure(registry, info)
    result = {"exists": None, "url": None, "error": None, "digest": None, "bytes": None, "architectures": None}
    for scheme in ("https", "http") if insecure else ("https",):
        url = "%s://%s/v2/%s/manifests/%s" % (scheme, registry, repository, version)
        result["url"] = url
        headers = {"Accept": MANIFESTS}
        try:
            status, answer, dummy = request(url, "HEAD", None, headers, timeout, proxies, insecure)
            if status == 401:
                header = _authorization(answer.get("WWW-Authenticate"), login, timeout, proxies, insecure)
                if header:
                    headers["Authorization"] = header
                    status, answer, dummy = request(url, "HEAD", None, headers, timeout, proxies, insecure)
        except (OSError, ValueError) as error:
            result["error"] = "%s: %s" % (url, reason(error))
            continue
        result["error"] = None if status in (200, 404) else "%s answered HTTP %d" % (url, status)
        if status in (401, 403):
            result["error"] += ": it refuses the login in vllm_registry_auth_file" if login else ": it wants a login, see vllm_registry_auth_file"
        result["exists"] = {200: True, 404: False}.get(status)
        result["digest"] = answer.get("Docker-Content-Digest")
        if result["exists"] and machine:
            result.update(_sizes(url, machine, lambda place: json.loads(request(place, "GET", None, headers, timeout, proxies, insecure)[2].decode("utf-8"))))
        return result
    return result


#: Pages of a file list; Hugging Face gives 1000 files a page.
MAX_PAGES = 200


def check_token(token):
    """Return a hub's token without blanks around it; raise C(ValueError), which does not show it, for what can be no token."""
    token = token.strip()
    # http.client would quote a token with a line feed in its own error.
    if not re.match(r"^[!-~]+$", token):
        raise ValueError("there is no token in it, or a character that no token has")
    return token


def _hidden(text, token):
    """Return a server's words on one line and short, without the token, should it have repeated it."""
    line = " ".join(text.split())
    return (line.replace(token, "***") if token else line)[:200]


def modelscope_files(endpoint, model, revision, timeout=30.0, proxies=None, token=None):
    """Ask a ModelScope hub for a model's files.

    Returns C({exists: True|False|None, url, error, files: [{path, size, sha256}], bytes}); None means that the hub gave no
    usable answer, and a list without a file is none: a directory compared with it would always be whole. The token goes where
    the hub's own client puts it, into the cookie C(m_session_id).
    """
    url = "%s/api/v1/models/%s/repo/files?%s" % (
        endpoint.rstrip("/"), urllib.parse.quote(model), urllib.parse.urlencode({"Revision": revision, "Recursive": "True"}))
    result = {"exists": None, "url": url, "error": None, "files": [], "bytes": 0}
    try:
        status, dummy, body = request(url, headers={"Cookie": "m_session_id=" + token} if token else None, timeout=timeout, proxies=proxies)
    except (OSError, ValueError) as error:
        result["error"] = "%s: %s" % (url, reason(error))
        return result
    text = body.decode("utf-8", "replace")
    try:
        answer = json.loads(text)
        said = str(answer.get("Message") or "")
        refused = answer.get("Success") is False
        files = [
            {"path": entry["Path"], "size": entry.get("Size") or 0, "sha256": entry.get("Sha256")}
            for entry in (answer.get("Data") or {}).get("Files") or [] if entry.get("Type") != "tree"
        ]
    except (ValueError, AttributeError, KeyError, TypeError):
        said, refused, files = "no file list but %s" % " ".join(text.split()), False, []
    if status == 200 and files and not refused:
        result.update(exists=True, files=files, bytes=sum(entry["size"] for entry in files))
        return result
    if status == 404 or (status == 200 and refused):
        result["exists"] = False
    result["error"] = "%s answered HTTP %d: %s" % (url, status, _hidden(said, token) or "no file is listed")
    return result


def _huggingface_entry(entry):
    """Return C({path, size, sha256[, git_oid]}) of one file: git LFS knows its SHA-256, plain git only the id of its blob."""
    lfs = entry.get("lfs")
    if lfs:
        return {"path": entry["path"], "size": int(lfs.get("size") or entry.get("size") or 0), "sha256": lfs["oid"].rpartition(":")[2]}
    return {"path": entry["path"], "size": int(entry.get("size") or 0), "sha256": None, "git_oid": entry.get("oid")}


def _next_cursor(link):
    """Return the cursor of the next page that a C(Link) header names, or None."""
    match = re.search(r'<([^>]*)>\s*;[^,]*rel="?next"?', link or "")
    return urllib.parse.parse_qs(urllib.parse.urlsplit(match.group(1)).query).get("cursor", [None])[0] if match else None


def huggingface_files(endpoint, model, revision, timeout=30.0, proxies=None, token=None):
    """Ask Hugging Face, or a mirror of it, for a model's files.

    Returns what modelscope_files returns; files that are not in git LFS have sha256 None and C(git_oid), the id of their git
    blob. Every page is asked of the endpoint: a mirror may pass on links to a host that cannot be reached from here.
    """
    url = "%s/api/models/%s/tree/%s" % (endpoint.rstrip("/"), urllib.parse.quote(model), urllib.parse.quote(revision, safe=""))
    result = {"exists": None, "url": url, "error": None, "files": [], "bytes": 0}
    query, seen, files = {"recursive": "true", "expand": "false"}, set(), []
    for dummy in range(MAX_PAGES):
        try:
            status, answered, body = request(
                url + "?" + urllib.parse.urlencode(query), headers={"Authorization": "Bearer " + token} if token else None, timeout=timeout, proxies=proxies)
        except (OSError, ValueError) as error:
            result["error"] = "%s: %s" % (url, reason(error))
            return result
        text = body.decode("utf-8", "replace")
        try:
            answer = json.loads(text)
            said = str(answer.get("error") or "") if isinstance(answer, dict) else ""
            if status == 200:
                files += [_huggingface_entry(entry) for entry in answer if entry["type"] == "file"]
        except (ValueError, AttributeError, KeyError, TypeError):
            status, said = status if status != 200 else 0, "no file list but %s" % " ".join(text.split())
        if status != 200:
            result["exists"] = False if status == 404 else None
            hint = " (the hub answers so for a model that wants a token, too)" if status in (401, 403) and not token else ""
            result["error"] = "%s answered %s: %s%s" % (url, "HTTP %d" % status if status else "HTTP 200", _hidden(said, token) or "nothing", hint)
            return result
        cursor = _next_cursor(answered.get("Link"))
        if cursor is None:
            break
        if cursor in seen:
            result["error"] = "%s goes round in circles after %d files" % (url, len(files))
            return result
        seen.add(cursor)
        query["cursor"] = cursor
    else:
        result["error"] = "%s has more than %d pages" % (url, MAX_PAGES)
        return result
    if not files:
        result["error"] = "%s answered HTTP 200: no file is listed" % url
        return result
    result.update(exists=True, files=files, bytes=sum(entry["size"] for entry in files))
    return result


#: Kind of a hub -> its default address and the function that asks it for a model's files.
HUBS = {
    "modelscope": ("https://www.modelscope.cn", modelscope_files),
    "huggingface": ("https://huggingface.co", huggingface_files),
}
