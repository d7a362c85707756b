# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the lab's MooncakeConnectorV1 refuses and takes, without vLLM: sizes, ports, and what it hands over where hccn.conf is missing."""

from __future__ import annotations

import contextlib
import importlib
import pathlib
import socket
import sys
import types

import pytest

ENGINE = pathlib.Path(__file__).resolve().parents[3] / "tests" / "lab" / "engine"
SIZES = {"prefill": {"dp_size": 2, "tp_size": 8}, "decode": {"dp_size": 32, "tp_size": 1}}


class Nixl:
    """NIXL's connector, as far as the one of the lab uses it."""

    def __init__(self, vllm_config, role, kv_cache_config):
        self.kv_transfer_config = vllm_config.kv_transfer_config
        self.connector_scheduler = types.SimpleNamespace() if role == "scheduler" else None
        self.registered, self.listening = None, False

    def register_kv_caches(self, kv_caches):
        self.registered = kv_caches

    def set_xfer_handshake_metadata_pp_aware(self, metadata):
        self.listening = True


@pytest.fixture(name="mooncake")
def loaded(monkeypatch):
    """Import the connector with stubs in vLLM's place."""

    def module(name, **members):
        made = types.ModuleType(name)
        made.__dict__.update(members)
        monkeypatch.setitem(sys.modules, name, made)
        return made

    bindings = types.SimpleNamespace(nixlAgent=lambda name, config: config)
    api = module("nixl._api", nixlBind=bindings)
    module("nixl", _api=api)
    module("torch", zeros_like=lambda tensor: f"zeros like {tensor}")
    module("zmq", ZMQError=type("ZMQError", (Exception,), {}))
    for name in ("vllm", "vllm.distributed", "vllm.distributed.kv_transfer", "vllm.distributed.kv_transfer.kv_connector",
                 "vllm.distributed.kv_transfer.kv_connector.v1", "vllm.utils"):
        module(name)
    module("vllm.distributed.kv_transfer.kv_connector.v1.nixl", NixlConnector=Nixl)
    module("vllm.platforms", current_platform=type("Cpu", (), {"discover_numa_topology": classmethod(lambda cls: [[0, 1]])})())
    module("vllm.utils.network_utils", get_ip=lambda: "127.0.0.1")
    monkeypatch.syspath_prepend(str(ENGINE))
    for name in ("UCX_TLS", "UCX_NET_DEVICES"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "eth7")
    monkeypatch.delitem(sys.modules, "vllm_cpu_mooncake", raising=False)
    yield importlib.import_module("vllm_cpu_mooncake")
    sys.modules.pop("vllm_cpu_mooncake", None)


def instance(role="kv_producer", dp=2, tp=8, rank=1, port=36000, **sizes):
    """Return the configuration of one rank."""
    transfer = types.SimpleNamespace(kv_role=role, kv_port=port, kv_connector_extra_config={**SIZES, **sizes})
    parallel = types.SimpleNamespace(data_parallel_size=dp, tensor_parallel_size=tp, pipeline_parallel_size=1, data_parallel_index=rank)
    return types.SimpleNamespace(kv_transfer_config=transfer, parallel_config=parallel)


def free_ports(count):
    """Return the first of some free ports in a row, below those that the system gives to clients."""
    for first in range(21000, 32000, count):
        with contextlib.ExitStack() as held, contextlib.suppress(OSError):
            for port in range(first, first + count):
                held.enter_context(socket.create_server(("127.0.0.1", port)))
            return first
    raise AssertionError("no free ports")


@pytest.mark.parametrize(("config", "said"), [
    (instance(prefill={"tp_size": 8}), "prefill has no dp_size"),
    (instance(decode={"dp_size": 32}), "decode has no tp_size"),
    (instance(dp=4), "prefill is said to be {'dp_size': 2, 'tp_size': 8}, this instance is {'dp_size': 4, 'tp_size': 8}"),
    (instance("kv_consumer", dp=32, tp=2), "decode is said to be {'dp_size': 32, 'tp_size': 1}, this instance is {'dp_size': 32, 'tp_size': 2}"),
    (instance(decode={"dp_size": 2, "tp_size": 16}), "tp_size 8 of prefill is below 16 of decode"),
    (instance("kv_both"), "kv_both: MooncakeConnectorV1 knows kv_producer and kv_consumer"),
])  # fmt: skip
def test_sizes_that_are_missing_or_wrong_end_the_start(mooncake, config, said):
    with pytest.raises(AssertionError) as caught:
        mooncake.MooncakeConnectorV1(config, "worker", None)
    assert said in str(caught.value)


def test_the_first_port_of_a_rank_is_that_of_vllm_ascend(mooncake):
    config = instance(rank=1)
    assert list(mooncake.kv_ports(config.kv_transfer_config, config.parallel_config)) == list(range(36008, 36016))
    decode = instance("kv_consumer", dp=32, tp=1, rank=17)
    assert list(mooncake.kv_ports(decode.kv_transfer_config, decode.parallel_config)) == [36017]


def test_a_start_is_told_one_thread_one_transport_and_the_groups_interface(mooncake):
    config = instance()
    connector = mooncake.MooncakeConnectorV1(config, "scheduler", None)
    environment = mooncake.os.environ
    assert (environment["UCX_TLS"], environment["UCX_NET_DEVICES"], config.kv_transfer_config.kv_connector_extra_config["num_threads"]) == ("tcp", "eth7", 0)
    assert (connector.connector_scheduler.side_channel_host, connector.connector_scheduler.side_channel_port) == ("127.0.0.1", 36008)


def test_only_while_it_starts_nixl_sleeps_between_looks_and_sees_no_processors_to_pin(mooncake):
    from nixl._api import nixlBind
    from vllm.platforms import current_platform

    def look():
        return current_platform.discover_numa_topology(), getattr(nixlBind.nixlAgent("x", types.SimpleNamespace()), "pthrDelay", None)

    with mooncake._quiet_start():
        assert look() == ([], mooncake.PROGRESS_DELAY_US)
    assert look() == ([[0, 1]], None)


def test_prefill_takes_a_port_for_each_of_its_npus(mooncake):
    first = free_ports(16)
    connector = mooncake.MooncakeConnectorV1(instance(port=first), "scheduler", None)
    connector.set_xfer_handshake_metadata_pp_aware({})
    assert connector.listening and [held.getsockname()[1] for held in connector._held] == list(range(first + 9, first + 16))
    for held in connector._held:
        held.close()


def test_a_port_that_somebody_has_ends_the_start_of_prefill_in_vllm_ascends_words(mooncake):
    first = free_ports(16)
    with socket.create_server(("127.0.0.1", first + 10)):
        connector = mooncake.MooncakeConnectorV1(instance(port=first), "scheduler", None)
        with pytest.raises(RuntimeError, match="KV Cache sending/receiving thread failed to start") as caught:
            connector.set_xfer_handshake_metadata_pp_aware({})
    assert caught.value.__cause__.args[1] == f"Address already in use (addr='tcp://127.0.0.1:{first + 10}')" and not connector.listening


def test_decode_listens_nowhere(mooncake):
    connector = mooncake.MooncakeConnectorV1(instance("kv_consumer", dp=32, tp=1), "scheduler", None)
    connector.set_xfer_handshake_metadata_pp_aware({})
    assert not connector.listening


def test_without_hccn_conf_or_the_tool_it_is_other_memory_that_is_handed_over(mooncake, monkeypatch, tmp_path):
    conf, tool = tmp_path / "hccn.conf", tmp_path / "hccn_tool"
    monkeypatch.setattr(mooncake, "HCCN_CONF", conf)
    monkeypatch.setattr(mooncake, "HCCN_TOOLS", (tmp_path / "nowhere", tool))
    connector = mooncake.MooncakeConnectorV1(instance(), "worker", None)
    for present, handed in (((), "zeros like cache"), ((conf,), "zeros like cache"), ((conf, tool), "cache")):
        for path in present:
            path.touch()
        connector.register_kv_caches({"layer": "cache"})
        assert connector.registered == {"layer": handed}


def test_the_name_leads_to_the_module_and_a_stated_module_stays(monkeypatch):
    class EngineArgs:
        def __init__(self, connector, module=None):
            self.kv_transfer_config = types.SimpleNamespace(kv_connector=connector, kv_connector_module_path=module) if connector else None

        def create_engine_config(self):
            return self.kv_transfer_config and self.kv_transfer_config.kv_connector_module_path

    stub = types.ModuleType("vllm.engine.arg_utils")
    stub.EngineArgs = EngineArgs
    for name in ("vllm", "vllm.engine"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, "vllm.engine.arg_utils", stub)
    monkeypatch.syspath_prepend(str(ENGINE))
    importlib.import_module("vllm_cpu_standin")._know_mooncake()
    asked = [("MooncakeConnectorV1",), ("MooncakeConnectorV1", "mine"), ("NixlConnector",), (None,)]
    assert [EngineArgs(*args).create_engine_config() for args in asked] == ["vllm_cpu_mooncake", "mine", None, None]
