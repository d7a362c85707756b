# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The proxy as it is planned: in front of prefill and decode, and in front of replicas."""

from __future__ import annotations

import pathlib

import pytest
import yaml

from ansible_collections.ascend.vllm.plugins.plugin_utils import data, deployments, proxies, request
from ansible_collections.ascend.vllm.tests.unit.plugins import certificates

INVENTORIES = pathlib.Path(data.__file__).resolve().parents[2] / "inventories"


def pairs(hosts, *changes, **variables):
    """Return hostvars and groups of two A2 pairs that serve one model each."""
    entries = [{"name": name, "hosts_from": name} for name in ("east", "west")]
    for entry, change in zip(entries, changes):
        entry.update(change)
    hostvars = hosts(4, vllm_groups=entries, **variables)
    names = list(hostvars)
    return hostvars, {"vllm": names, "east": names[:2], "west": names[2:]}


def halves(hosts, hardware="a2", **variables):
    """Return hostvars and groups of 1P1D, a pair of nodes each."""
    entries = [{"name": "prefill", "hosts_from": "p", "role": "prefill"}, {"name": "decode", "hosts_from": "d", "role": "decode"}]
    hostvars = hosts(4, hardware, **{"vllm_groups": entries, **variables})
    names = list(hostvars)
    return hostvars, {"vllm": names, "p": names[:2], "d": names[2:]}


def proxy_of(result):
    """Return the one proxy of a plan."""
    assert list(result["plan"]["proxies"]) == ["proxy"]
    return result["plan"]["proxies"]["proxy"]


def test_prefill_and_decode_have_a_router_without_being_asked(hosts, planned, bad):
    result = planned(*halves(hosts))
    assert bad(result) == []
    proxy = proxy_of(result)
    assert proxy["argv"] == [
        "vllm-router", "--host", "0.0.0.0", "--port", "1999", "--prometheus-host", "0.0.0.0", "--prometheus-port", "29000", "--vllm-pd-disaggregation",
        "--prefill", "http://198.51.100.11:7100", "--prefill", "http://198.51.100.11:7101",
        "--prefill", "http://198.51.100.12:7100", "--prefill", "http://198.51.100.12:7101",
        "--decode", "http://198.51.100.13:7100", "--decode", "http://198.51.100.13:7101",
        "--decode", "http://198.51.100.14:7100", "--decode", "http://198.51.100.14:7101",
        "--policy", "round_robin", "--kv-connector", "nixl", "--worker-startup-check-interval", "2", "--health-check-interval-secs", "10"]
    assert (proxy["kind"], proxy["mode"], proxy["host"], proxy["url"]) == ("vllm-router", "pd", "a2-node0", "http://198.51.100.11:1999")
    assert proxy["ready"] == {"path": "/readiness", "prefill": 4, "decode": 4} and proxy["image"] is proxy["image_archive"] is None
    assert proxy["package"].startswith("vllm-router==")
    assert [(entry["role"], entry["group"], entry["unit"], entry["rank"], entry["host"], entry["port"]) for entry in proxy["backends"]][3:5] == [
        ("prefill", "prefill", "prefill-rank3", 3, "a2-node1", 7101), ("decode", "decode", "decode-rank0", 0, "a2-node2", 7100)]
    assert proxy["served_model_name"] == "deepseek_r1" and proxy["secrets"] == [] and proxy["secret_env"] == {}
    # What has its new requests while it starts anew differs in its ports alone.
    other = proxy["next"]
    assert (other["name"], other["url"], other["port"], other["prometheus_port"]) == ("vllm-proxy-next", "http://198.51.100.11:2000", 2000, 2001)
    assert other["argv"] == [{"1999": "2000", "29000": "2001"}.get(word, word) for word in proxy["argv"]]
    assert proxy["own_url"] == "http://127.83.0.1:1999"
    # A rank more or less is no other container.
    assert proxy["command"] == ("vllm-router --host 0.0.0.0 --port 1999 --prometheus-host 0.0.0.0 --prometheus-port 29000 --vllm-pd-disaggregation "
                                "--policy round_robin --kv-connector nixl --worker-startup-check-interval 2 --health-check-interval-secs 10")


def test_the_example_proxy_of_vllm_ascend(hosts, planned, bad):
    result = planned(*halves(hosts, vllm_proxy={"kind": "vllm-ascend", "host": "a2-node3", "port": "2000"}))
    assert bad(result) == []
    proxy = proxy_of(result)
    assert proxy["argv"][:2] == ["python3", "/vllm-workspace/vllm-ascend/examples/disaggregated_prefill_v1/load_balance_proxy_server_example.py"]
    assert proxy["argv"][2:] == [
        "--port", "2000", "--host", "0.0.0.0",
        "--prefiller-hosts", "198.51.100.11", "198.51.100.11", "198.51.100.12", "198.51.100.12", "--prefiller-ports", "7100", "7101", "7100", "7101",
        "--decoder-hosts", "198.51.100.13", "198.51.100.13", "198.51.100.14", "198.51.100.14", "--decoder-ports", "7100", "7101", "7100", "7101"]
    assert (proxy["url"], proxy["prometheus_port"], proxy["policy"], proxy["ready"]["path"]) == ("http://198.51.100.14:2000", None, None, "/healthcheck")
    assert (proxy["image"], proxy["image_archive"]) == ("quay.io/ascend/vllm-ascend:v0.13.0", None)
    assert proxy["next"]["prometheus_port"] is None
    assert proxy["next"]["argv"] == [{"2000": "2001"}.get(word, word) for word in proxy["argv"]]
    assert proxies.listening(proxy) == {2000: "vllm_proxy.port", 2001: "vllm_proxy.next_port"}


@pytest.mark.parametrize(("stated", "wanted"), [({}, __file__), ({"image": "registry.example/mine:1"}, None), ({"kind": "vllm-router"}, None)])
def test_the_archive_of_the_groups_image_is_the_example_proxy_s_too(hosts, planned, stated, wanted):
    result = planned(*halves(hosts, vllm_image_archive=__file__, vllm_proxy={"kind": "vllm-ascend", **stated}))
    assert proxy_of(result)["image_archive"] == wanted


def test_a_client_measures_prefill_and_decode_as_one_at_the_proxy(hosts, planned):
    plan = planned(*halves(hosts))["plan"]
    assert list(plan["groups"]) == ["prefill", "decode"]
    found = proxies.measured(plan)
    assert list(found) == ["decode"] and found["decode"]["head"] == "a2-node2"
    assert {key: found["decode"]["api"][key] for key in ("url", "address", "port", "tls")} == {
        "url": "http://198.51.100.11:1999", "address": "198.51.100.11", "port": 1999, "tls": False}
    assert len(found["decode"]["load_urls"]) == 8 and found["decode"]["load_urls"][0] == "http://198.51.100.11:7100"
    # Of replicas each is measured by itself; a part of a plan without a decode group has nothing to be measured.
    replicas = planned(*pairs(hosts, vllm_proxy={}))["plan"]
    assert proxies.measured(replicas) == replicas["groups"]
    assert proxies.measured({**plan, "groups": {"prefill": plan["groups"]["prefill"]}}) == {}
    with pytest.raises(ValueError, match="found no proxy in front of the groups prefill, decode.*Remedy: leave vllm_proxy out"):
        proxies.measured(planned(*halves(hosts, vllm_proxy={"kind": "none"}))["plan"])


def test_replicas_behind_one_address(hosts, planned, bad):
    plain = planned(*pairs(hosts))
    assert "proxies" not in plain["plan"]
    result = planned(*pairs(hosts, {}, {"port": 8100}, vllm_proxy={"policy": "cache_aware"}))
    assert bad(result) == []
    proxy = proxy_of(result)
    assert proxy["argv"][-9:] == ["--worker-urls", "http://198.51.100.11:8000", "http://198.51.100.13:8100", "--policy", "cache_aware",
                                  "--worker-startup-check-interval", "2", "--health-check-interval-secs", "10"]
    assert proxy["command"].endswith("--worker-urls --policy cache_aware --worker-startup-check-interval 2 --health-check-interval-secs 10")
    assert proxy["mode"] == "replicas" and proxy["ready"] == {"path": "/readiness", "serve": 2} and proxy["groups"] == ["east", "west"]
    # Replicas come and go while it runs.
    assert proxy["next"] is None and proxies.listening(proxy) == {1999: "vllm_proxy.port", 29000: "vllm_proxy.prometheus_port"}
    assert "--vllm-pd-disaggregation" not in proxy["argv"] and "--kv-connector" not in proxy["argv"]
    # Nothing else of the plan knows of it: a replica is added or removed without the others.
    result["plan"].pop("proxies")
    assert {**result["plan"], "run": None} == {**planned(*pairs(hosts, {}, {"port": 8100}))["plan"], "run": None}


def test_the_key_is_a_file_and_in_no_command_line(hosts, planned, bad, tmp_path):
    key = tmp_path / "key"
    key.write_text("very-secret\n", encoding="utf-8")
    result = planned(*halves(hosts, vllm_api_key_file=str(key)))
    assert bad(result) == []
    proxy = proxy_of(result)
    assert proxy["secrets"] == [{"source": str(key), "name": "api_key", "mount": "api_key:/run/ascend-vllm/api_key:ro"}]
    assert proxy["secret_env"] == {"OPENAI_API_KEY": "/run/ascend-vllm/api_key"} and "very-secret" not in repr(result)
    assert "--api-key" not in proxy["argv"]
    # In front of prefill and decode neither proxy asks its clients for it.
    [warned] = [check for check in result["checks"] if check["status"] == "warn"]
    assert warned["device"] == "vllm_api_key_file" and "at which vllm-router asks for none" in warned["observed"]
    assert not [check for check in planned(*pairs(hosts, vllm_proxy={}, vllm_api_key_file=str(key)))["checks"] if check["status"] == "warn"]


def test_no_proxy_and_another_metrics_port_where_mooncake_has_it(hosts, planned, bad):
    result = planned(*halves(hosts, vllm_proxy={"kind": "none"}))
    assert bad(result) == [] and "proxies" not in result["plan"]
    sixteen = {"vllm_groups": [{"name": "p", "hosts_from": "p", "role": "prefill"}, {"name": "d", "hosts_from": "d", "role": "decode"}]}
    assert proxy_of(planned(*halves(hosts, "a3", **sixteen)))["prometheus_port"] == 19000
    found = bad(planned(*halves(hosts, "a3", vllm_proxy={"prometheus_port": 29000}, **sixteen)))
    assert [(check["host"], check["device"]) for check in found] == [("a3-node0", "vllm_proxy.prometheus_port")]
    assert "Mooncake's random ports" in found[0]["observed"]


@pytest.mark.parametrize(("proxy", "device", "observed", "remedy"), [
    ({"kind": "nginx"}, "vllm_proxy", "kind: 'nginx'", "known: vllm-router, vllm-ascend, none"),
    ({"port": 80}, "vllm_proxy", "port: 80", "correct vllm_proxy"),
    ({"prometheus_port": 1999}, "vllm_proxy.prometheus_port", "1999 for vllm_proxy.prometheus_port of the proxy and for vllm_proxy.port of the proxy",
     "set vllm_proxy.prometheus_port to a free port"),
    ({"host": "a2-nod1"}, "vllm_proxy", "host: 'a2-nod1'", "did you mean 'a2-node1'? set vllm_proxy.host to one of these"),
    ({"policy": "fastest"}, "vllm_proxy", "policy: 'fastest'", "known: random"),
    ({"image": "router"}, "vllm_proxy", "image: 'router'", "add ':<tag>'"),
    ({"prot": 1}, "vllm_proxy", "the key 'prot'", "did you mean 'port'?"),
    ({"port": 7100, "next_port": 2000}, "vllm_proxy.port", "7100 for vllm_proxy.port of the proxy and for vllm_rank_port of group prefill",
     "set vllm_proxy.port to a free port"),
    ({"prometheus_port": 13389}, "vllm_proxy.prometheus_port", "13389 for vllm_proxy.prometheus_port of the proxy", "set vllm_proxy.prometheus_port"),
    ({"port": 60000, "next_port": 2000}, "vllm_proxy.port", "HCCL's ports 60000 to 60031", "set vllm_proxy.port to a port below 60000"),
    ({"port": 20000, "next_port": 2000}, "vllm_proxy.port", "inside Mooncake's random ports", "set it below 20000"),
    ({"next_port": 20000}, "vllm_proxy.next_port", "inside Mooncake's random ports", "set it below 20000"),
    ({"next_port": 7099}, "vllm_proxy.next_port", "7100 for vllm_proxy.next_port of the proxy and for vllm_rank_port",
     "set vllm_proxy.next_port to a free port"),
    ({"next_port": 1023}, "vllm_proxy", "next_port: 1023", "correct vllm_proxy"),
])
def test_a_proxy_that_cannot_be(hosts, planned, bad, proxy, device, observed, remedy):
    found = bad(planned(*halves(hosts, vllm_proxy=proxy)))
    assert found and {check["device"] for check in found} == {device}
    assert any(observed in check["observed"] and remedy in check["remedy"] for check in found), found


@pytest.mark.parametrize(("changes", "variables", "device", "observed"), [
    (({}, {"served_model_name": "x"}), {}, "vllm_served_model_name", "group west: x"),
    (({}, {"model": "deepseek_v3_1_w8a8", "ascend_version": "v0.23.0"}), {"vllm_served_model_name": "one"}, "vllm_model",
     "group west: Eco-Tech/DeepSeek-V3.1"),
    (({"bind_address": "127.0.0.1"}, {"bind_address": "127.0.0.1"}), {}, "vllm_bind_address", "group west: 127.0.0.1, with the proxy on a2-node0"),
    (({}, {}), {"vllm_proxy": {"kind": "vllm-ascend"}}, "vllm_proxy", "without prefill and decode groups"),
    (({}, {"api_key_file": "/keys/west"}), {}, "vllm_api_key_file", "group west: /keys/west"),
    (({"port": 1999}, {}), {}, "vllm_proxy.port", "1999 for vllm_proxy.port of the proxy and for vllm_port of group east"),
])
def test_groups_that_are_no_replicas(hosts, planned, bad, changes, variables, device, observed):
    found = bad(planned(*pairs(hosts, *changes, **{"vllm_proxy": {}, **variables})))
    assert [check["device"] for check in found] == [device] and observed in found[0]["observed"]


def with_a_fifth(hosts, proxy, answer=None, **own):
    """Return the arguments of a plan of 1P1D and a fifth host of the group vllm, in no entry, with a proxy."""
    hostvars, groups = halves(hosts, vllm_proxy=proxy)
    hostvars["gate"] = {**hostvars["a2-node0"], "vllm_local_ip": "198.51.100.99", **own}
    return {"gate": hostvars.pop("gate"), **hostvars}, {**groups, "vllm": ["gate", *hostvars]}, {"gate": answer} if answer else None


def test_a_proxy_runs_on_a_host_that_is_in_no_entry(hosts, planned, bad):
    result = planned(*with_a_fifth(hosts, {"host": "gate", "port": 60000}))
    # HCCL has no ports there.
    assert bad(result) == []
    assert (proxy_of(result)["host"], proxy_of(result)["url"]) == ("gate", "http://198.51.100.99:60000")
    assert result["plan"]["hosts"]["gate"]["units"] == [] and set(result["plan"]["hosts"]) == {"gate", *(f"a2-node{number}" for number in range(4))}
    # Of a generation that no group has, and asked for what is not stated.
    assert bad(planned(*with_a_fifth(hosts, {"host": "gate"}, vllm_hardware="a3"))) == []
    arguments = with_a_fifth(hosts, {"host": "gate"}, {"interfaces": [{"name": "eth0", "up": True, "addresses": ["198.51.100.99/24"]}], "hardware": "a3",
                                                       "npus": [0, 1]}, vllm_hardware=None, vllm_npus=None)
    assert request.build(arguments[1], arguments[0])["discover"] == ["gate"]
    result = planned(*arguments)
    assert bad(result) == [] and result["plan"]["hosts"]["gate"]["npus_expected"] == 2
    # A host with a problem of its own is not called unknown.
    assert [check["device"] for check in bad(planned(*with_a_fifth(hosts, {"host": "gate"}, vllm_npus=None)))] == ["vllm_npus"]


@pytest.mark.parametrize("proxy", [{}, {"host": "gate", "kind": "none"}])
def test_a_host_that_is_in_no_entry_and_runs_nothing_is_left_alone(hosts, planned, bad, proxy):
    result = planned(*with_a_fifth(hosts, proxy, vllm_npus=None))
    assert bad(result) == [] and "gate" not in result["plan"]["hosts"]


@pytest.fixture
def tls(tmp_path):
    """Return the variables of a certificate and its key."""
    (tmp_path / "tls.crt").write_text(certificates.SIGNED)
    (tmp_path / "tls.key").write_text(certificates.SIGNED_KEY)
    return {"vllm_tls_certificate_file": str(tmp_path / "tls.crt"), "vllm_tls_key_file": str(tmp_path / "tls.key")}


def test_the_router_speaks_http_to_replicas(hosts, planned, bad, tls):
    found = bad(planned(*pairs(hosts, vllm_proxy={}, **tls)))
    assert [(check["check"], check["device"]) for check in found] == [("proxy", "vllm_tls_certificate_file")] * 2 and "TLS behind" in found[0]["observed"]
    assert bad(planned(*pairs(hosts, vllm_proxy={"kind": "none"}, **tls))) == []


@pytest.mark.parametrize("proxy", [{}, {"kind": "none"}])
def test_what_is_in_front_speaks_http_to_prefill_and_decode(hosts, planned, bad, tls, proxy):
    mine = [check for check in bad(planned(*halves(hosts, vllm_proxy=proxy, **tls))) if check["check"] == "pd_options"]
    assert [(check["device"], check["observed"]) for check in mine] == [
        ("vllm_tls_certificate_file", f"group {name}: TLS in a group of role {name}") for name in ("prefill", "decode")]


def shipped(name):
    """Return hostvars and groups of an inventory that is shipped."""
    children = yaml.safe_load((INVENTORIES / name / "hosts.yml").read_text(encoding="utf-8"))["vllm"]["children"]
    common = yaml.safe_load((INVENTORIES / name / "group_vars" / "vllm.yml").read_text(encoding="utf-8"))
    hostvars = {host: {**common, **values} for child in children.values() for host, values in child["hosts"].items()}
    return hostvars, {"vllm": list(hostvars), **{child: list(entry["hosts"]) for child, entry in children.items()}}


def test_the_shipped_inventory_of_replicas(planned, bad):
    hostvars, groups = shipped("a2_replicas")
    assert request.build(groups, hostvars)["discover"] == []
    result = planned(hostvars, groups)
    assert bad(result) == [] and result["checks"] == []
    assert {name: (group["role"], group["data_parallel_size"], group["hosts"]) for name, group in result["plan"]["groups"].items()} == {
        "replica0": ("serve", 4, ["a2-node0", "a2-node1"]), "replica1": ("serve", 4, ["a2-node2", "a2-node3"])}
    proxy = proxy_of(result)
    assert proxy["host"] == "a2-node0" and [backend["url"] for backend in proxy["backends"]] == ["http://198.51.100.11:8000", "http://198.51.100.13:8000"]


@pytest.mark.parametrize("proxy", [{}, {"kind": "vllm-ascend"}])
@pytest.mark.parametrize("shape", [pairs, halves])
def test_a_deployment_that_is_put_back_is_looked_for_where_it_answered(hosts, planned, shape, proxy):
    """With the ports of the new plan its ranks would be waited for where nobody listens, and the way back end there."""
    given = {"vllm_proxy": {"kind": "vllm-router", **proxy}} if shape is halves else {"vllm_proxy": {}}
    before = planned(*shape(hosts, **given))["plan"]
    other = {"vllm_rank_port": 7300} if shape is halves else {"vllm_port": 8100}
    after = planned(*shape(hosts, vllm_served_model_name="new", **other, **given))["plan"]
    assert after["proxies"]["proxy"]["argv"] != before["proxies"]["proxy"]["argv"]
    first, second = before["groups"]
    half = deployments.put_back(after, deployments.record(before, second))["proxies"]["proxy"]
    urls = {name: {entry["url"] for entry in half["backends"] if entry["group"] == name} for name in (first, second)}
    assert urls == {name: {entry["url"] for entry in plan["proxies"]["proxy"]["backends"] if entry["group"] == name}
                    for name, plan in ((first, after), (second, before))}
    assert half["served_model_name"] == "new"
    whole = deployments.put_back(deployments.put_back(after, deployments.record(before, second)), deployments.record(before, first))
    assert whole["proxies"] == before["proxies"]


@pytest.mark.parametrize("inventory", ["a2_replicas", "pd_1p1d", "pd_2p1d"])
def test_what_runs_as_planned_is_put_back_as_it_is(planned, inventory):
    plan = planned(*shipped(inventory))["plan"]
    for name in plan["groups"]:
        assert deployments.put_back(plan, deployments.record(plan, name)) == plan
