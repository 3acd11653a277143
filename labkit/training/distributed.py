"""Several processes that train one model. torchrun starts them; here they connect.

    torchrun --nproc-per-node 8 -m labkit train course

Each process sees its share of every joint batch; DistributedDataParallel averages the gradients,
so that all make the same update. Only the first process writes. Every draw is made for the joint
batch, so the number of processes changes nothing but the order of a few sums.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from datetime import timedelta
from types import TracebackType
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from labkit.errors import LabkitError, RunError
from labkit.training.signals import TrainingStopped

Result = TypeVar("Result")

ENDED = "ended"
"""name of the counter in the store"""

PATIENCE = timedelta(hours=1)
"""how long processes wait for one another, such as for the validation by the first"""


class Processes:
    """This process among those of a training. As a context manager it ends all of them when one
    fails, and only one of them reports the error."""

    def __init__(self, rank: int = 0, world: int = 1, store: dist.Store | None = None) -> None:
        """
        Args:
            rank: number of this process, from 0; the first one writes.
            world: how many there are.
            store: shared by the processes.
        """
        self.rank, self.world, self._store = rank, world, store

    @classmethod
    def join(cls, device: torch.device) -> Processes:
        """Connects to the other processes that torchrun started; a single process without torchrun.

        Args:
            device: processes on GPUs communicate by NCCL, those on CPUs by gloo.
        """
        if int(os.environ.get("WORLD_SIZE", "1")) < 2 or not dist.is_torchelastic_launched():
            return cls()
        store, rank, world = next(iter(dist.rendezvous("env://", timeout=PATIENCE)))
        # Messages on files and signals use gloo in any case.
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=PATIENCE)
        own = dist.PrefixStore("labkit", store)
        if rank == 0:
            own.set(ENDED, "0")  # the store outlives a restart by the launcher
        return cls(rank, world, own)

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def mean(self, values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """The mean over all processes, without a gradient."""
        if self.world == 1:
            return values.detach()
        values = values.detach().clone()
        dist.all_reduce(values)
        return values / self.world

    def highest(self, *numbers: int) -> list[int]:
        """The highest of each number over all processes."""
        if self.world == 1:
            return list(numbers)
        shared = torch.tensor(numbers, dtype=torch.int64)
        dist.all_reduce(shared, dist.ReduceOp.MAX)
        return shared.tolist()

    def wait(self) -> None:
        """Waits until all processes have come here."""
        self.highest(0)

    def of_first(self, make: Callable[[], Result]) -> Result:
        """Calls `make` in the first process, and returns its result in all of them."""
        made = [make() if self.is_first else None]
        if self.world > 1:
            dist.broadcast_object_list(made, src=0)
        return made[0]

    def shared(self, module: nn.Module, call: Callable[..., Any]) -> Callable[..., Any]:
        """`call`, which uses the module, wrapped so that after a backward pass through its result
        the module's gradients are the means over all processes. For one process, `call` itself."""
        if self.world == 1:
            return call
        return DistributedDataParallel(_Call(module, call))

    def __enter__(self) -> Processes:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._store is None:
            return
        if error is None:
            dist.destroy_process_group()
            return
        # The first process to come here reports; the others fail because of it, or with it.
        lost = _is_lost_connection(error)
        if not lost and not isinstance(error, LabkitError | TrainingStopped):
            return
        if self._ended() > 1:
            raise SystemExit(getattr(error, "code", 2)) from None
        if lost:
            raise RunError(
                "another process of this training has ended",
                hint="look at what it said; the same command with --resume goes on",
            ) from None

    def _ended(self) -> int:
        """How many processes have failed, this one included."""
        assert self._store is not None
        try:
            return self._store.add(ENDED, 1)
        except (RuntimeError, OSError):  # the process that held the store has ended
            return 2


class _Call(nn.Module):
    """A call as a module, since DistributedDataParallel wraps modules only."""

    def __init__(self, module: nn.Module, call: Callable[..., Any]) -> None:
        super().__init__()
        self.module, self.call = module, call

    def forward(self, *arguments: Any) -> Any:
        return self.call(*arguments)


def unsynchronised(call: Callable[..., Any]) -> contextlib.AbstractContextManager[None]:
    """A context without averaging of gradients: for all parts of a batch but its last."""
    if isinstance(call, DistributedDataParallel):
        return call.no_sync()
    return contextlib.nullcontext()


def _is_lost_connection(error: BaseException) -> bool:
    return isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and "gloo" in str(error).lower()
    )


def local_device(device: torch.device) -> torch.device:
    """This process's GPU, by torchrun's LOCAL_RANK; a CPU is returned as it is."""
    if device.type != "cuda" or device.index is not None:
        return device
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


def speaks() -> bool:
    """Whether this process prints: the first of torchrun's, or the only one."""
    return int(os.environ.get("RANK", "0")) == 0
