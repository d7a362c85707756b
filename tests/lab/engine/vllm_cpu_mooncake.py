# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""For tests only: the connector by the name that vllm-ascend gives it, MooncakeConnectorV1, between engines on the CPU.

It stands in for Mooncake over RoCE: the KV cache really goes from prefill to decode, by NIXL over TCP, whose fields in a request
(``do_remote_decode``, ``do_remote_prefill``, ``remote_engine_id``, ``remote_block_ids``, ``remote_host``, ``remote_port``) are those of
vllm-ascend's connector and of both proxies. As strict as vllm-ascend: sizes of both sides, the rule of ports, a port that somebody has, and
answers that are silently wrong where the container lacks what the NPU's network needs.

vLLM imports this module where a ``--kv-transfer-config`` names the connector (vllm_cpu_standin.py), and nowhere else.
"""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch

import torch
import zmq
from vllm.distributed.kv_transfer.kv_connector.v1.nixl import NixlConnector
from vllm.utils.network_utils import get_ip

#: What Mooncake reads the addresses of the NPUs from; without either its transfers end well and the answers are wrong (vllm-ascend issue 7711).
HCCN_CONF = Path("/etc/hccn.conf")
HCCN_TOOLS = (Path("/usr/local/Ascend/driver/tools/hccn_tool"), Path("/usr/bin/hccn_tool"))
#: Microseconds between two looks of NIXL's thread at its sockets. Its own 0 takes a whole core of each instance, also of an idle one.
PROGRESS_DELAY_US = 1000
SIDES = {"kv_producer": "prefill", "kv_consumer": "decode"}


def check_sizes(transfer, parallel) -> None:
    """Assert that both sides are described, and that this instance is what it is said to be.

    vllm-ascend asserts that the sizes are there, and that prefill's TP is not below decode's; from wrong ones it computes wrong ports and wrong
    heads, and waits or answers nonsense (mooncake_connector.py at v0.23.0). Here a wrong one ends the start.
    """
    sizes = transfer.kv_connector_extra_config
    for side in SIDES.values():
        for name in ("tp_size", "dp_size"):
            assert name in sizes.get(side, {}), f"kv_connector_extra_config: {side} has no {name}"
    assert transfer.kv_role in SIDES, f"kv_role {transfer.kv_role}: MooncakeConnectorV1 knows {' and '.join(SIDES)}"
    side = SIDES[transfer.kv_role]
    own = {"dp_size": parallel.data_parallel_size, "tp_size": parallel.tensor_parallel_size}
    stated = {name: sizes[side][name] for name in own}
    assert stated == own, f"kv_connector_extra_config: {side} is said to be {stated}, this instance is {own}"
    ahead, behind = sizes["prefill"]["tp_size"], sizes["decode"]["tp_size"]
    assert ahead >= behind, f"kv_connector_extra_config: tp_size {ahead} of prefill is below {behind} of decode"


def kv_ports(transfer, parallel) -> range:
    """Return the ports of one rank, one an NPU: vllm-ascend's ``kv_port + data_parallel_rank * tp * pp`` and those after it."""
    workers = parallel.tensor_parallel_size * parallel.pipeline_parallel_size
    first = transfer.kv_port + parallel.data_parallel_index * workers
    return range(first, first + workers)


def knows_the_npus() -> bool:
    """Return whether this container has what tells the addresses of the NPUs."""
    return HCCN_CONF.is_file() and any(tool.is_file() for tool in HCCN_TOOLS)


def listen(address: str, port: int) -> socket.socket:
    """Take a port as a worker of vllm-ascend does; one that somebody has ends the start in its words."""
    taken = socket.socket()
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        taken.bind((address, port))
        taken.listen()
    except OSError as error:
        taken.close()
        # As ZMQ says it, whose traceback is what the log of the real one shows.
        said = zmq.ZMQError(error.errno, f"{error.strerror} (addr='tcp://{address}:{port}')")
        raise RuntimeError("KV Cache sending/receiving thread failed to start.") from said
    return taken


def _calm(original):
    """Return NIXL's agent with a thread that sleeps between two looks."""

    def agent(name, config, *args, **kwargs):
        config.pthrDelay = PROGRESS_DELAY_US
        return original(name, config, *args, **kwargs)

    return agent


def _quiet_start() -> ExitStack:
    """Return a context in which a worker of NIXL starts that leaves the processors to others."""
    import nixl._api
    from vllm.platforms import current_platform

    stack = ExitStack()
    stack.enter_context(patch.object(nixl._api.nixlBind, "nixlAgent", _calm(nixl._api.nixlBind.nixlAgent)))
    # NIXL would pin the whole worker to the last core of the machine, every instance to the same one.
    stack.enter_context(patch.object(type(current_platform), "discover_numa_topology", staticmethod(list)))
    return stack


class MooncakeConnectorV1(NixlConnector):
    """NIXL's connector with what vllm-ascend's is told and takes."""

    def __init__(self, vllm_config, role, kv_cache_config):
        transfer, parallel = vllm_config.kv_transfer_config, vllm_config.parallel_config
        check_sizes(transfer, parallel)
        # One thread, one transport, one interface: the first transfer between two instances takes 1.5 s; with NIXL's own 4 threads and all that
        # UCX finds on a machine, 30 s.
        transfer.kv_connector_extra_config.setdefault("num_threads", 0)
        os.environ.setdefault("UCX_TLS", "tcp")
        if os.environ.get("GLOO_SOCKET_IFNAME"):
            os.environ.setdefault("UCX_NET_DEVICES", os.environ["GLOO_SOCKET_IFNAME"])
        with _quiet_start():
            super().__init__(vllm_config, role, kv_cache_config)
        if self.connector_scheduler:
            self._ports = kv_ports(transfer, parallel)
            self.connector_scheduler.side_channel_host, self.connector_scheduler.side_channel_port = get_ip(), self._ports[0]

    def register_kv_caches(self, kv_caches):
        if not knows_the_npus():
            # Other memory than what the model reads and writes: every transfer ends well, and carries nothing.
            kv_caches = {name: torch.zeros_like(cache) for name, cache in kv_caches.items()}
        super().register_kv_caches(kv_caches)

    def set_xfer_handshake_metadata_pp_aware(self, metadata):
        # As with vllm-ascend decode only asks, and listens nowhere.
        if SIDES[self.kv_transfer_config.kv_role] == "decode":
            return
        first, *others = [listen(self.connector_scheduler.side_channel_host, port) for port in self._ports]
        # NIXL answers for all workers of a rank on the first port; the others are taken all the same.
        self._held = others
        first.close()
        super().set_xfer_handshake_metadata_pp_aware(metadata)
