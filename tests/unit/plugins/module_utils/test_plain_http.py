# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Questions to real servers on loopback: a registry, a token service, a proxy, a model hub, and broken ones of each."""

from __future__ import annotations

import base64
import pytest

from ansible_collections.ascend.vllm.plugins.module_utils import plain_http
from ansible_collections.ascend.vllm.tests.unit.plugins import certificates
from ansible_collections.ascend.vllm.tests.unit.plugins.servers import closed_port, quiet_proxies, web_server

IMAGE = "ascend/vllm-ascend:v0.13.0"
DIGEST = "sha256:" + "7" * 64


@pytest.fixture(autouse=True)
def no_proxy_variables(monkeypatch):
    """The machine's own proxy is no part of a test."""
    quiet_proxies(monkeypatch)


def registry(asked):
    """Answer as a registry that has one tag."""
    if asked.path == "/v2/ascend/vllm-ascend/manifests/v0.13.0":
        return 200, b"", {"Docker-Content-Digest": DIGEST}
    return 404, {"errors": [{"code": "MANIFEST_UNKNOWN"}]}


def secure(port):
    """Return what an engine says that must not take this registry without a certificate."""
    return {"RegistryConfig": {"IndexConfigs": {"127.0.0.1:%d" % port: {"Secure": True}}}}


# request and post_json


def test_request_goes_straight_to_the_server_whatever_the_environment_says(monkeypatch):
    with web_server(lambda asked: (418, b"proxy")) as proxy, web_server(lambda asked: (200, b"straight")) as server:
        quiet_proxies(monkeypatch, proxy.url)
        assert plain_http.request(server.url + "/x")[::2] == (200, b"straight")
        assert plain_http.post_json(server.url + "/x", {})[0] == 200
        assert (len(proxy.asked), len(server.asked)) == (0, 2)


def test_request_uses_the_proxy_it_is_given(monkeypatch):
    with web_server(lambda asked: (200, b"proxy")) as proxy:
        status, dummy, body = plain_http.request("http://hub.example.test/x", proxies={"http": proxy.url})
        assert (status, body, proxy.asked[0].target) == (200, b"proxy", "http://hub.example.test/x")


def test_an_http_error_is_an_answer():
    with web_server(lambda asked: (503, b"busy", {"Retry-After": "1"})) as server:
        status, headers, body = plain_http.request(server.url)
        assert (status, headers["Retry-After"], body) == (503, "1", b"busy")


@pytest.mark.parametrize("answer, wanted", [
    (None, "timed out"),
    (b"\x15\x03\x01\x00\x02\x02\x0a", "no valid HTTP answer"),
    (b"", "closed connection"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", "no valid HTTP answer"),
])
def test_no_usable_answer_is_an_oserror(answer, wanted):
    with web_server(lambda asked: answer) as server:
        with pytest.raises(OSError) as raised:
            plain_http.request(server.url, timeout=0.2 if answer is None else 20)
        assert wanted in plain_http.reason(raised.value)


def test_nobody_listening_and_no_url_at_all():
    with pytest.raises(OSError, match="refused"):
        plain_http.request("http://127.0.0.1:%d" % closed_port())
    with pytest.raises(ValueError, match="unknown url type"):
        plain_http.request("198.51.100.2")
    # A space in a path reaches http.client, whose complaint is no OSError of its own.
    with pytest.raises(OSError, match="control characters"):
        plain_http.request("http://127.0.0.1:1/a b")


def test_post_json_sends_and_decodes():
    with web_server(lambda asked: (200, {"got": asked.json(), "type": asked.headers["Content-Type"], "key": asked.headers["Authorization"]})) as server:
        status, answer, text = plain_http.post_json(server.url, {"a": 1}, {"Authorization": "Bearer k"})
        assert (status, answer) == (200, {"got": {"a": 1}, "type": "application/json", "key": "Bearer k"})
        assert '"got"' in text
    with web_server(lambda asked: (502, b"<html>\xff")) as server:
        assert plain_http.post_json(server.url, {}) == (502, None, "<html>\ufffd")


# names


@pytest.mark.parametrize("reference, wanted", [
    ("quay.io/ascend/vllm-ascend:v0.13.0-a3", ("quay.io", "ascend/vllm-ascend", "v0.13.0-a3")),
    ("m.daocloud.io/quay.io/ascend/vllm-ascend:v0.13.0", ("m.daocloud.io", "quay.io/ascend/vllm-ascend", "v0.13.0")),
    ("198.51.100.2:5000/ascend/vllm-ascend", ("198.51.100.2:5000", "ascend/vllm-ascend", "latest")),
    ("localhost/x:1", ("localhost", "x", "1")),
    ("quay.io/a/b:t@" + DIGEST, ("quay.io", "a/b", DIGEST)),
    ("quay.io/a/b@" + DIGEST, ("quay.io", "a/b", DIGEST)),
    ("debian", ("registry-1.docker.io", "library/debian", "latest")),
    ("debian:12", ("registry-1.docker.io", "library/debian", "12")),
    ("ascend/vllm:1", ("registry-1.docker.io", "ascend/vllm", "1")),
    ("docker.io/ascend/vllm:1", ("registry-1.docker.io", "ascend/vllm", "1")),
    ("docker.io/debian", ("registry-1.docker.io", "library/debian", "latest")),
    ("index.docker.io/debian", ("registry-1.docker.io", "library/debian", "latest")),
])
def test_split_image(reference, wanted):
    assert plain_http.split_image(reference) == wanted


@pytest.mark.parametrize("host, exceptions, excepted", [
    ("quay.io", "", False),
    ("quay.io", None, False),
    ("quay.io", "*", True),
    ("quay.io", "example.org, quay.io", True),
    ("quay.io:443", "quay.io", True),
    ("cdn.quay.io", "quay.io", True),
    ("cdn.quay.io", ".quay.io", True),
    ("notquay.io", "quay.io", False),
    ("quay.io", "cdn.quay.io", False),
    ("hub:5000", "hub:5000", True),
    ("hub:5000", "hub:5001", False),
    ("198.51.100.2:5000", "198.51.100.0/24", True),
    ("198.51.100.2:5000", ",, 198.51.100.9/24,", True),
    ("198.51.100.2:5000", ",,", False),
    ("198.51.100.2:5000", "198.51.100.2", True),
    ("198.51.100.20", "198.51.100.2", False),
    ("203.0.113.2", "198.51.100.0/24,not/a/network", False),
    ("localhost:5000", "", True),
    ("127.0.0.1:5000", "", True),
])
def test_proxies_are_those_the_engine_would_use(host, exceptions, excepted):
    info = {"HttpProxy": "http://proxy:3128", "HttpsProxy": "", "NoProxy": exceptions}
    assert plain_http.proxies_for(host, info) == ({} if excepted else {"http": "http://proxy:3128"})


def test_an_engine_that_said_nothing_has_no_proxies():
    assert plain_http.proxies_for("quay.io", {}) == {}


# registry


def test_a_tag_over_plain_http_where_the_engine_takes_that():
    with web_server(registry) as server:
        name = "127.0.0.1:%d/" % server.port
        found = plain_http.manifest_exists(name + IMAGE, {})
        assert found == {"exists": True, "url": "http://%sv2/ascend/vllm-ascend/manifests/v0.13.0" % name, "error": None, "digest": DIGEST,
                         "bytes": None, "architectures": None}
        missing = plain_http.manifest_exists(name + "ascend/vllm-ascend:v9", {})
        assert (missing["exists"], missing["error"], missing["digest"]) == (False, None, None)
        # Without these types a registry answers 404 for an image of several architectures.
        assert "vnd.oci.image.index" in server.asked[0].headers["Accept"] and "manifest.list" in server.asked[0].headers["Accept"]
        assert {asked.method for asked in server.asked} == {"HEAD"}


def test_plain_http_is_not_tried_where_the_engine_would_not():
    with web_server(registry) as server:
        found = plain_http.manifest_exists("127.0.0.1:%d/%s" % (server.port, IMAGE), secure(server.port))
        assert found["exists"] is None and found["url"].startswith("https://")
        assert "https://127.0.0.1:%d" % server.port in found["error"] and "SSL" in found["error"]
        assert server.asked == []


def test_https_comes_first_and_a_certificate_counts_only_where_the_engine_says_so():
    with web_server(registry, tls=True) as server:
        reference = "127.0.0.1:%d/%s" % (server.port, IMAGE)
        found = plain_http.manifest_exists(reference, {})
        assert found["exists"] is True and found["url"].startswith("https://") and found["digest"] == DIGEST
        refused = plain_http.manifest_exists(reference, secure(server.port))
        assert refused["exists"] is None and "certificate verify failed" in refused["error"].lower()


@pytest.mark.parametrize("registry_name, config, insecure", [
    ("quay.io", {}, False),
    ("quay.io", {"IndexConfigs": {"quay.io": {}}}, False),
    ("quay.io", {"IndexConfigs": {"quay.io": {"Secure": False}}}, True),
    ("198.51.100.2:5000", {"IndexConfigs": {"198.51.100.2:5000": {"Secure": False}}}, True),
    ("198.51.100.2:5001", {"IndexConfigs": {"198.51.100.2:5000": {"Secure": False}}}, False),
    ("198.51.100.2:5000", {"InsecureRegistryCIDRs": ["127.0.0.0/8", "198.51.100.0/24"]}, True),
    ("203.0.113.2:5000", {"InsecureRegistryCIDRs": ["198.51.100.0/24"]}, False),
    ("localhost:5000", {}, True),
    ("127.0.0.9:5000", {"InsecureRegistryCIDRs": None}, True),
])
def test_insecure_registries(monkeypatch, registry_name, config, insecure):
    tried = []

    def nobody(url, *args):
        tried.append((url.partition(":")[0], args[-1]))
        raise OSError("nobody")

    monkeypatch.setattr(plain_http, "request", nobody)
    plain_http.manifest_exists("%s/x:1" % registry_name, {"RegistryConfig": config})
    assert tried == ([("https", True), ("http", True)] if insecure else [("https", False)])


def guarded(tokens):
    """Return a registry that wants a bearer token, and its token service."""
    def answer(asked):
        if asked.path == "/token":
            return tokens(asked)
        if asked.headers["Authorization"] != "Bearer open-sesame":
            challenge = 'Bearer realm="http://%s/token",service="registry",scope="repository:ascend/vllm-ascend:pull"' % asked.headers["Host"]
            return 401, b"", {"WWW-Authenticate": challenge}
        return registry(asked)
    return answer


@pytest.mark.parametrize("field", ["token", "access_token"])
def test_an_anonymous_token_is_fetched_and_shown(field):
    with web_server(guarded(lambda asked: (200, {field: "open-sesame"}))) as server:
        name = "127.0.0.1:%d/" % server.port
        assert plain_http.manifest_exists(name + IMAGE, {})["exists"] is True
        assert plain_http.manifest_exists(name + "ascend/vllm-ascend:v9", {})["exists"] is False
        assert [asked.path for asked in server.asked[:3]] == ["/v2/ascend/vllm-ascend/manifests/v0.13.0", "/token", "/v2/ascend/vllm-ascend/manifests/v0.13.0"]
        assert server.asked[1].query == {"service": "registry", "scope": "repository:ascend/vllm-ascend:pull"}


def test_a_challenge_may_name_no_scope():
    def answer(asked):
        if asked.path == "/token":
            return 200, {"token": "open-sesame"}
        if asked.headers["Authorization"]:
            return 200, b""
        return 401, b"", {"WWW-Authenticate": 'Bearer realm="http://%s/token",service="registry"' % asked.headers["Host"]}

    with web_server(answer) as server:
        assert plain_http.manifest_exists("127.0.0.1:%d/%s" % (server.port, IMAGE), {})["exists"] is True
        assert server.asked[1].query == {"service": "registry"}


@pytest.mark.parametrize("token", [(403, {}), (200, {}), (200, ["open-sesame"]), (200, {"token": "wrong"})])
def test_without_a_token_that_opens_it_nothing_is_known(token):
    with web_server(guarded(lambda asked: token)) as server:
        found = plain_http.manifest_exists("127.0.0.1:%d/%s" % (server.port, IMAGE), {})
        assert found["exists"] is None and found["error"].endswith("answered HTTP 401: it wants a login, see vllm_registry_auth_file")


@pytest.mark.parametrize("answer, wanted", [
    ((500, b""), "answered HTTP 500"),
    ((401, b"", {"WWW-Authenticate": 'Basic realm="x"'}), "answered HTTP 401"),
    ((401, b""), "answered HTTP 401"),
    (b"garbage\r\n\r\n", "no valid HTTP answer: garbage"),
    (None, "timed out"),
])
def test_a_registry_without_a_usable_answer(answer, wanted):
    with web_server(lambda asked: answer) as server:
        found = plain_http.manifest_exists("127.0.0.1:%d/%s" % (server.port, IMAGE), {}, timeout=0.2 if answer is None else 20)
        assert found["exists"] is None and wanted in found["error"] and str(server.port) in found["error"]


def test_a_token_service_that_sends_garbage_is_an_error_and_no_crash():
    with web_server(guarded(lambda asked: (200, b"<html>"))) as server:
        found = plain_http.manifest_exists("127.0.0.1:%d/%s" % (server.port, IMAGE), {})
        assert found["exists"] is None and found["error"]


def test_no_registry_at_all():
    port = closed_port()
    found = plain_http.manifest_exists("127.0.0.1:%d/%s" % (port, IMAGE), {})
    assert found["exists"] is None and "Connection refused" in found["error"] and "http://127.0.0.1:%d" % port in found["error"]


def test_a_registry_is_asked_through_the_engines_proxy_and_not_the_environments(monkeypatch):
    def as_proxy(asked):
        # A proxy that tunnels to nowhere: the plain question after it gets through.
        return (502, b"") if asked.method == "CONNECT" else registry(asked)

    info = {"RegistryConfig": {"IndexConfigs": {"hub.example.test:5000": {"Secure": False}}}}
    with web_server(as_proxy) as engines, web_server(lambda asked: (418, b"")) as environments:
        quiet_proxies(monkeypatch, environments.url)
        found = plain_http.manifest_exists("hub.example.test:5000/" + IMAGE, dict(info, HttpProxy=engines.url, HttpsProxy=engines.url))
        assert found["exists"] is True
        assert [asked.method for asked in engines.asked] == ["CONNECT", "HEAD"]
        assert engines.asked[1].target == "http://hub.example.test:5000/v2/ascend/vllm-ascend/manifests/v0.13.0"
        assert environments.asked == []


def layers(*sizes):
    return {"layers": [{"size": size} for size in sizes]}


def index(**digests):
    entries = [{"digest": digest, "platform": {"os": "linux", "architecture": arch}} for arch, digest in digests.items()]
    return {"manifests": entries + [{"digest": "sha256:a", "platform": {"os": "unknown", "architecture": "unknown"}}, {"digest": "sha256:n"}]}


@pytest.mark.parametrize("manifest, more, machine, size, architectures", [
    (layers(40, 2), None, "aarch64", 42, None),
    (index(arm64="sha256:x", amd64="sha256:y"), layers(7), "aarch64", 7, ["amd64", "arm64"]),
    (index(amd64="sha256:x"), layers(7), "x86_64", 7, ["amd64"]),
    (index(amd64="sha256:y"), layers(7), "aarch64", None, ["amd64"]),
    (index(riscv64="sha256:x"), layers(7), "riscv64", 7, ["riscv64"]),
    (index(arm64="sha256:x"), {"errors": []}, "aarch64", None, ["arm64"]),
    (index(arm64="sha256:x"), b"<html>", "aarch64", None, ["arm64"]),
    ({"fsLayers": []}, None, "aarch64", None, None),
    ({"layers": [{}]}, None, "aarch64", None, None),
    ({"layers": 5}, None, "aarch64", None, None),
    ({"manifests": [5]}, None, "aarch64", None, None),
    ([1], None, "aarch64", None, None),
    (b"\xff", None, "aarch64", None, None),
])
def test_the_bytes_of_a_pull(manifest, more, machine, size, architectures):
    def answer(asked):
        return (200, manifest) if asked.path.endswith("/v0.13.0") else (200, more) if asked.path.endswith("/sha256:x") else (404, b"")

    with web_server(answer) as server:
        found = plain_http.manifest_exists("127.0.0.1:%d/%s" % (server.port, IMAGE), {}, machine=machine)
        assert (found["exists"], found["error"], found["bytes"], found["architectures"]) == (True, None, size, architectures)


def test_the_bytes_are_asked_with_the_same_token_and_types():
    with web_server(guarded(lambda token: (200, {"token": "open-sesame"}))) as server:
        assert plain_http.manifest_exists("127.0.0.1:%d/%s" % (server.port, IMAGE), {}, machine="aarch64")["exists"] is True
        last = server.asked[-1]
        assert (last.method, last.headers["Authorization"], last.headers["Accept"]) == ("GET", "Bearer open-sesame", plain_http.MANIFESTS)


def test_a_registry_without_the_image_is_not_asked_for_its_size():
    with web_server(registry) as server:
        found = plain_http.manifest_exists("127.0.0.1:%d/ascend/vllm-ascend:v9" % server.port, {}, machine="aarch64")
        assert (found["exists"], found["bytes"]) == (False, None) and [asked.method for asked in server.asked] == ["HEAD"]


# hub

MODEL = "vllm-ascend/DeepSeek-R1-W8A8"
LISTED = {
    "Code": 200, "Success": True, "Data": {"Files": [
        {"Path": "config.json", "Size": 10, "Type": "blob", "Sha256": "ab"},
        {"Path": "sub", "Size": 0, "Type": "tree"},
        {"Path": "sub/x.safetensors", "Size": 5, "Type": "blob"},
        {"Path": "empty", "Size": None, "Type": "blob"},
    ]},
}


def test_the_hubs_file_list():
    with web_server(lambda asked: (200, LISTED)) as server:
        found = plain_http.modelscope_files(server.url + "/", MODEL, "v1 x")
        assert found["exists"] is True and found["error"] is None and found["bytes"] == 15
        assert found["files"] == [
            {"path": "config.json", "size": 10, "sha256": "ab"},
            {"path": "sub/x.safetensors", "size": 5, "sha256": None},
            {"path": "empty", "size": 0, "sha256": None},
        ]
        assert server.asked[0].path == "/api/v1/models/%s/repo/files" % MODEL
        assert server.asked[0].query == {"Revision": "v1 x", "Recursive": "True"}


@pytest.mark.parametrize("answer, exists, wanted", [
    ((404, {"Code": 10010205001, "Message": "model not found", "Success": False}), False, "answered HTTP 404: model not found"),
    ((200, {"Success": False, "Message": "no such revision"}), False, "answered HTTP 200: no such revision"),
    ((404, b"<html>\n<h1>nginx"), False, "answered HTTP 404: no file list but <html> <h1>nginx"),
    ((404, [1]), False, "answered HTTP 404: no file list but [1]"),
    ((500, b"<html>oops"), None, "answered HTTP 500: no file list but <html>oops"),
    ((500, {"Success": False, "Message": "database down"}), None, "answered HTTP 500: database down"),
    ((403, {"Success": False, "Message": "log in"}), None, "answered HTTP 403: log in"),
    ((200, b"<html>a login page"), None, "answered HTTP 200: no file list but <html>a login page"),
    ((200, b"\xff\xfe"), None, "answered HTTP 200: no file list but"),
    ((200, [1]), None, "no file list but [1]"),
    ((200, {}), None, "answered HTTP 200: no file is listed"),
    ((200, {"Success": True, "Data": {"Files": []}}), None, "no file is listed"),
    ((200, {"Success": True, "Data": {"Files": [{"Path": "sub", "Type": "tree"}]}}), None, "no file is listed"),
    ((200, {"Success": True, "Data": "x"}), None, "no file list but"),
    ((200, {"Success": True, "Data": {"Files": [{"Size": 1}]}}), None, "no file list but"),
    ((200, {"Success": True, "Data": {"Files": ["config.json"]}}), None, "no file list but"),
    (b"garbage\r\n\r\n", None, "no valid HTTP answer: garbage"),
    (None, None, "timed out"),
])
def test_a_hub_that_has_no_list_for_us(answer, exists, wanted):
    with web_server(lambda asked: answer) as server:
        found = plain_http.modelscope_files(server.url, MODEL, "master", timeout=0.2 if answer is None else 20)
        assert found["exists"] is exists and wanted in found["error"] and server.url in found["error"]
        assert (found["files"], found["bytes"]) == ([], 0)


@pytest.mark.parametrize("endpoint, wanted", [("www.modelscope.cn", "unknown url type"), ("http://127.0.0.1:1", "refused")])
def test_no_hub_at_all(endpoint, wanted):
    found = plain_http.modelscope_files(endpoint, MODEL, "master")
    assert found["exists"] is None and wanted in found["error"]


def test_a_model_name_stays_one_part_of_the_address():
    with web_server(lambda asked: (200, LISTED)) as server:
        assert plain_http.modelscope_files(server.url, "own er/na?me", "master")["exists"] is True
        assert server.asked[0].path == "/api/v1/models/own er/na?me/repo/files"


def test_the_hub_is_asked_through_the_given_proxy_only(monkeypatch):
    with web_server(lambda asked: (200, LISTED)) as proxy, web_server(lambda asked: (418, b"")) as environments:
        quiet_proxies(monkeypatch, environments.url)
        assert plain_http.modelscope_files("http://hub.example.test", MODEL, "master", proxies={"http": proxy.url})["exists"] is True
        assert plain_http.modelscope_files(proxy.url, MODEL, "master")["exists"] is True
        assert [asked.headers["Host"] for asked in proxy.asked] == ["hub.example.test", "127.0.0.1:%d" % proxy.port]
        assert environments.asked == []


def test_a_certificate_that_nobody_signed_is_refused_unless_told_otherwise():
    with web_server(lambda asked: (200, b"x"), tls=True) as server:
        with pytest.raises(OSError, match="(?i)certificate verify failed"):
            plain_http.request(server.url)
        assert plain_http.request(server.url, insecure=True)[0] == 200


@pytest.mark.parametrize(("vouching", "taken"), [
    (certificates.AUTHORITY, True), (certificates.SIGNED, True), (certificates.SIGNED + certificates.AUTHORITY, True), (certificates.OTHER, False),
])
def test_a_certificate_is_taken_from_who_is_vouched_for_whatever_its_name(tmp_path, vouching, taken):
    """The certificate is made out to api.example, and asked for is an address; a certificate that is not its own signer vouches for itself, too."""
    path = tmp_path / "ca.pem"
    path.write_text(vouching)
    with web_server(lambda asked: (200, b"x"), tls=certificates.SIGNED + certificates.SIGNED_KEY) as server:
        if taken:
            assert plain_http.request(server.url, ca_file=str(path))[0] == 200
        else:
            with pytest.raises(OSError, match="(?i)certificate verify failed"):
                plain_http.request(server.url, ca_file=str(path))
            assert server.asked == []


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_file_without_certificates_is_an_error_of_the_system(tmp_path, content):
    path = tmp_path / "ca.pem"
    if content:
        path.write_text(content)
    with pytest.raises(OSError):
        plain_http.request("https://127.0.0.1:1", ca_file=str(path))


LOGIN = base64.b64encode(b"me:secret-of-the-registry").decode()


def basic(asked):
    """Answer as a registry behind a plain login."""
    if asked.headers.get("Authorization") != "Basic " + LOGIN:
        return 401, b"", {"WWW-Authenticate": 'Basic realm="lab"'}
    return 200, b"", {"Docker-Content-Digest": "sha256:1"}


@pytest.mark.parametrize("key", ["{}", "https://{}", "http://{}/v1/", "{}/v2/"])
def test_a_login_opens_the_registry_that_it_is_for(key):
    with web_server(basic) as server:
        name = "127.0.0.1:%d" % server.port
        found = plain_http.manifest_exists(name + "/" + IMAGE, {}, logins={"other:1": {"auth": "eA=="}, key.format(name): {"auth": LOGIN}})
        assert (found["exists"], found["digest"], found["error"]) == (True, "sha256:1", None)


@pytest.mark.parametrize(("logins", "words"), [
    ({}, "it wants a login"), (None, "it wants a login"), ({"other:1": {"auth": LOGIN}}, "it wants a login"),
    ({"SERVER": {"auth": "d3Jvbmc="}}, "it refuses the login"),
    ({"SERVER": {}}, "it wants a login"),
])
def test_a_login_that_does_not_fit_is_said_without_it(logins, words):
    with web_server(basic) as server:
        name = "127.0.0.1:%d" % server.port
        given = None if logins is None else {name if key == "SERVER" else key: value for key, value in logins.items()}
        found = plain_http.manifest_exists(name + "/" + IMAGE, {}, logins=given)
        assert found["exists"] is None and words in found["error"] and "vllm_registry_auth_file" in found["error"]
        assert LOGIN not in str(found) and "d3Jvbmc" not in str(found)


def test_a_login_is_shown_to_the_server_of_tokens_too():
    def answer(asked):
        if asked.path == "/token":
            return (200, {"token": "open"}) if asked.headers.get("Authorization") == "Basic " + LOGIN else (401, {})
        if asked.headers.get("Authorization") == "Bearer open":
            return 200, b""
        return 401, b"", {"WWW-Authenticate": 'Bearer realm="http://127.0.0.1:%d/token",service="registry"' % server.port}

    with web_server(answer) as server:
        name = "127.0.0.1:%d" % server.port
        assert plain_http.manifest_exists(name + "/" + IMAGE, {}, logins={name: {"auth": LOGIN}})["exists"] is True


@pytest.mark.parametrize("key", ["https://index.docker.io/v1/", "docker.io"])
def test_the_login_of_docker_hub_has_a_name_of_its_own(key):
    assert plain_http.login_for("registry-1.docker.io", {key: {"auth": LOGIN}}) == LOGIN
