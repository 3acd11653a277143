"""How a training uses its device: precision, memory layout, optimizer kernel, compilation.

Nothing here changes what is computed, apart from the rounding of bf16. `auto` in TrainingConfig
takes what was measured as fastest on that kind of device; every choice can be set.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import torch
from torch import nn

from labkit.config import TrainingConfig


@dataclass(frozen=True)
class Acceleration:
    """The choices for one training."""

    device: torch.device
    bf16: bool = False
    """convolutions in bfloat16, by autocast"""
    channels_last: bool = True
    fused: bool = False
    """the optimizer as one kernel"""
    compiled: bool = False
    graphs: bool = False
    """compiled code is replayed as CUDA graphs"""
    refused: str = ""
    """why a requested option is not used; empty where all are"""

    @classmethod
    def choose(cls, training: TrainingConfig, device: torch.device, world: int = 1) -> Acceleration:
        """The config's choices, with `auto` decided for this device.

        Args:
            training: precision, channels_last, fused_optimizer, compile and cuda_graphs.
            device: where to compute.
            world: number of processes.
        """
        cuda = device.type == "cuda"
        compiled = training.compile == "on" or (training.compile == "auto" and cuda)
        refused = why_not_compile(device) if compiled else ""
        compiled = compiled and not refused
        alone = world == 1
        graphs = training.cuda_graphs == "on" or (training.cuda_graphs == "auto" and alone)
        return cls(
            device,
            bf16=training.precision == "bf16"
            or (training.precision == "auto" and has_fast_bf16(device)),
            channels_last=training.channels_last,
            fused=training.fused_optimizer and device.type in ("cuda", "cpu"),
            compiled=compiled,
            graphs=compiled and cuda and graphs,
            refused=refused,
        )

    def autocast(self) -> torch.autocast:
        """The context of a forward pass."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)

    def place(self, module: nn.Module) -> None:
        """Moves the module to the device, in the chosen memory layout."""
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        module.to(self.device, memory_format=layout)

    def optimizer(self, module: nn.Module, training: TrainingConfig) -> torch.optim.Optimizer:
        """Adam (Kingma & Ba 2015), or AdamW (Loshchilov & Hutter 2019) where weights decay."""
        kind = torch.optim.AdamW if training.weight_decay else torch.optim.Adam
        return kind(
            module.parameters(),
            training.learning_rate,
            (training.adam_beta1, 0.999),
            weight_decay=training.weight_decay,
            fused=self.fused,
        )

    def compile(self, *modules: nn.Module) -> None:
        """Compiles the forward passes of these modules, where that was chosen. The compilation runs
        at their first call."""
        if not self.compiled:
            return
        # Graphs are recorded for fixed shapes; a rollout has a few.
        options = {"mode": "reduce-overhead", "dynamic": False} if self.graphs else {}
        for module in modules:
            module.compile(**options)

    def eager(self) -> contextlib.AbstractContextManager[None]:
        """A context in which compiled modules run uncompiled: a validation and short windows have
        other shapes, which are not worth a compilation."""
        if not self.compiled:
            return contextlib.nullcontext()
        return torch.compiler.set_stance("force_eager")

    def kernels(self) -> contextlib.AbstractContextManager[None]:
        """A context for the whole training: on a GPU cuDNN measures its kernels once and uses the
        fastest. Whether fp32 convolutions may be TF32 stays as it is."""
        if self.device.type != "cuda":
            return contextlib.nullcontext()
        cudnn = torch.backends.cudnn
        tf32 = cudnn.allow_tf32
        return cudnn.flags(enabled=True, benchmark=True, deterministic=False, allow_tf32=tf32)

    def begin_update(self) -> None:
        """Says that an update begins, and that no output of the one before is needed any more. CUDA
        graphs then use their memory again. An update calls the same graphs several times, once a
        step, before its backward pass: without this they cannot know where it begins."""
        if self.graphs:
            torch.compiler.cudagraph_mark_step_begin()

    @property
    def metrics_interval(self) -> int:
        """After how many updates the losses are read: 1 on a CPU; 20 on a GPU, because reading
        waits for the device."""
        return 1 if self.device.type == "cpu" else 20

    def sentence(self, optimizer: str, clips: str, world: int = 1) -> str:
        """The choices, in one line.

        Args:
            optimizer: its name.
            clips: where the clips are, in words.
            world: number of processes.
        """
        threads = torch.get_num_threads()
        where = (
            torch.cuda.get_device_name(self.device)
            if self.device.type == "cuda"
            else f"{self.device.type}, {threads} thread{'s' * (threads != 1)}"
        )
        chosen = [
            "bf16" if self.bf16 else "fp32",
            "channels last" if self.channels_last else "channels first",
            f"{'fused ' if self.fused else ''}{optimizer}",
            "compiled with CUDA graphs"
            if self.graphs
            else ("compiled" if self.compiled else "not compiled"),
            clips,
        ]
        many = f"{world} processes, each on " if world > 1 else ""
        refused = f"; {self.refused}" if self.refused else ""
        return f"training on {many}{where}: {', '.join(chosen)}{refused}"


def has_fast_bf16(device: torch.device) -> bool:
    """Whether the device computes in bf16 itself. Where bf16 is emulated it is slower than fp32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu":
        return False
    if hasattr(torch.cpu, "get_capabilities"):
        has = torch.cpu.get_capabilities()
        return bool(has.get("amx_bf16") or has.get("avx512_bf16"))
    return torch.cpu._is_avx512_bf16_supported()  # before torch 2.10


def why_not_compile(device: torch.device) -> str:
    """Tries torch.compile on one line. Returns a sentence where it fails, for example because there
    is no compiler, and an empty string where it works."""
    try:
        torch.compile(lambda x: x.sin() + 1)(torch.ones(8, device=device))
    except Exception as error:  # a compiler, or a missing one, may raise anything
        kind = type(error).__name__
        return f"torch.compile does not work here ({kind}), so nothing is compiled"
    return ""
