# Copyright: ascend.vllm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A vLLM plugin for tests only: lets vLLM's CPU backend run the command lines of an Ascend deployment.

It stands in for the NPU behind a real vLLM: argument parsing, data-parallel start-up, handshake, scheduling and the HTTP API are vLLM's own.
It says nothing about Ascend numerics or speed. vLLM calls ``register`` in every process it starts.
"""

from __future__ import annotations


def register():
    _accept_ascend_quantization()
    _add_variable_size_collectives()
    _respect_expert_map()
    _force_eager_mode()
    _know_mooncake()
    _start_quickly()
    _hold_npus()


def _accept_ascend_quantization():
    """``--quantization ascend`` is accepted and changes nothing: the lab's checkpoint is not quantized."""
    from vllm.model_executor.layers.linear import LinearBase, UnquantizedLinearMethod
    from vllm.model_executor.layers.quantization import QUANTIZATION_METHODS, register_quantization_config
    from vllm.model_executor.layers.quantization.base_config import QuantizationConfig
    import torch

    if "ascend" in QUANTIZATION_METHODS:
        return

    @register_quantization_config("ascend")
    class AscendPassThrough(QuantizationConfig):
        def get_name(self):
            return "ascend"

        def get_supported_act_dtypes(self):
            return [torch.bfloat16, torch.float16, torch.float32]

        @classmethod
        def get_min_capability(cls):
            return 0

        @staticmethod
        def get_config_filenames():
            return []

        @classmethod
        def from_config(cls, config):
            return cls()

        def get_quant_method(self, layer, prefix):
            return UnquantizedLinearMethod() if isinstance(layer, LinearBase) else None


def _add_variable_size_collectives():
    """Mixture-of-experts layers under data parallelism gather a different number of tokens from each rank; the CPU communicator cannot.

    gloo gathers equal sizes only: so every rank pads to the largest and cuts the padding off again.
    """
    import torch
    import torch.distributed as dist
    from vllm.distributed.device_communicators.cpu_communicator import CpuCommunicator

    def all_gatherv(self, input_, dim=0, sizes=None):
        assert dim == 0
        if isinstance(input_, list):
            return [all_gatherv(self, tensor, dim, sizes) for tensor in input_]
        sizes = sizes or [input_.shape[0]] * self.world_size
        padded = input_.new_zeros((max(sizes), *input_.shape[1:]))
        padded[: input_.shape[0]] = input_
        gathered = [torch.empty_like(padded) for dummy in range(self.world_size)]
        dist.all_gather(gathered, padded, group=self.device_group)
        return torch.cat([part[:size] for part, size in zip(gathered, sizes)], dim=0)

    def reduce_scatterv(self, input_, dim=-1, sizes=None):
        dim = dim % input_.dim()
        total = input_.movedim(0, dim).contiguous().clone()
        sizes = sizes or [total.shape[0] // self.world_size] * self.world_size
        dist.all_reduce(total, group=self.device_group)
        first = sum(sizes[: self.rank_in_group])
        return total[first : first + sizes[self.rank_in_group]].movedim(0, dim).contiguous()

    CpuCommunicator.all_gatherv = all_gatherv
    CpuCommunicator.reduce_scatterv = reduce_scatterv


def _respect_expert_map():
    """The CPU experts index their local weights with global expert ids, which kills a worker under ``--enable-expert-parallel``.

    Global ids become local ones; a token's share for an expert that lives elsewhere gets weight 0 here.
    """
    from vllm.model_executor.layers.fused_moe.experts.cpu_moe import CPUUnquantizedExperts

    original = CPUUnquantizedExperts.apply

    def apply(self, output, hidden_states, w1, w2, topk_weights, topk_ids, activation, global_num_experts, expert_map, *args, **kwargs):
        if expert_map is not None:
            local = expert_map.to(topk_ids.device)[topk_ids.long()]
            topk_weights = topk_weights.masked_fill(local < 0, 0.0)
            topk_ids = local.clamp(min=0).to(topk_ids.dtype)
        return original(
            self, output, hidden_states, w1, w2, topk_weights, topk_ids, activation, global_num_experts, expert_map, *args, **kwargs
        )

    CPUUnquantizedExperts.apply = apply


def _force_eager_mode():
    """torch.compile cannot trace the collectives above (their sizes depend on data), and would add 20 s to each start."""
    from vllm.engine.arg_utils import EngineArgs

    original = EngineArgs.create_engine_config

    def create_engine_config(self, *args, **kwargs):
        self.enforce_eager = True
        return original(self, *args, **kwargs)

    EngineArgs.create_engine_config = create_engine_config


def _know_mooncake():
    """``"kv_connector": "MooncakeConnectorV1"`` is known by its name, as vllm-ascend registers it.

    By the module's name in the configuration, which every process of a start gets, and not in vLLM's table of connectors: to import that one
    would cost each start of every engine a second and a half.
    """
    from vllm.engine.arg_utils import EngineArgs

    original = EngineArgs.create_engine_config

    def create_engine_config(self, *args, **kwargs):
        transfer = self.kv_transfer_config
        if transfer and transfer.kv_connector == "MooncakeConnectorV1" and not transfer.kv_connector_module_path:
            transfer.kv_connector_module_path = "vllm_cpu_mooncake"
        return original(self, *args, **kwargs)

    EngineArgs.create_engine_config = create_engine_config


def _start_quickly():
    """Halves the processor time of a start: two engines on two cores take 50 s of it instead of 120 s, nearly all of it imports.

    vLLM looks at a model's class in a fresh process, lest that touch a GPU, and its CPU platform starts every process from nothing.
    Here there is no GPU to touch; and a fork is safe while no thread pool exists, which one thread per process ensures.
    """
    import os

    from vllm.model_executor.models import registry
    from vllm.platforms.cpu import CpuPlatform

    registry._run_in_subprocess = lambda work: work()
    if os.environ.get("OMP_NUM_THREADS") != "1":
        return
    original = CpuPlatform.check_and_update_config.__func__

    def check_and_update_config(cls, vllm_config):
        original(cls, vllm_config)
        os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "fork"

    CpuPlatform.check_and_update_config = classmethod(check_and_update_config)


def _hold_npus():
    """A worker keeps the NPU it would run on open, as one with a driver behind it does: the node's npu-smi then shows who has it.

    The NPU of a worker is counted as vLLM counts it: data-parallel rank on this node times the workers of a rank, plus the worker's own number,
    among the devices visible here. The API server has no worker, and so holds none.
    """
    import glob
    import os

    from vllm.v1.worker.cpu_worker import CPUWorker

    original = CPUWorker.init_device

    def init_device(self):
        parallel = self.parallel_config
        visible = sorted(glob.glob("/dev/davinci[0-9]*"), key=lambda path: int(path.removeprefix("/dev/davinci")))
        number = (parallel.data_parallel_rank_local or 0) * parallel.world_size + self.local_rank
        if number < len(visible):
            # For a reader or writer there is no driver to answer; a handle on the name alone needs none.
            self.npu = os.open(visible[number], os.O_PATH)
        return original(self)

    CPUWorker.init_device = init_device
