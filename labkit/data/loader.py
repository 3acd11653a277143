"""BatchLoader: whole batches in a given order, by any number of worker processes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from labkit.data.dataset import Batch, ClipDataset, identity
from labkit.errors import DataError


class BatchLoader(DataLoader[Batch]):
    """A DataLoader of whole batches, in the order of `batches` for any number of workers."""

    def __init__(
        self,
        dataset: ClipDataset,
        batches: Iterable[Sequence[int]],
        *,
        workers: int = 0,
        pin_memory: bool = False,
        start: Literal["fork", "spawn", "forkserver"] | None = None,
    ) -> None:
        """
        Args:
            dataset: its windows.
            batches: the indices of each batch, such as an UpdateSampler. They are drawn in this
                process, so that the order cannot depend on the workers.
            workers: processes that read ahead, two batches each; they stay from one pass to the
                next. A pack is read so fast that 0 is best, unless a GPU would wait meanwhile.
            pin_memory: put batches into page-locked memory, from which `Batch.to` copies to a
                GPU without waiting.
            start: how worker processes start; None is the system's own way.
        """
        super().__init__(
            _Told(dataset),
            batch_sampler=batches,
            collate_fn=identity,
            num_workers=workers,
            persistent_workers=workers > 0,
            prefetch_factor=2 if workers else None,
            pin_memory=pin_memory,
            multiprocessing_context=start if workers else None,
        )

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        """The batches.

        Raises:
            DataError: a clip cannot be read.
        """
        for batch in super().__iter__():
            if isinstance(batch, DataError):
                raise batch
            yield batch


@dataclass(frozen=True)
class _Told(Dataset[Batch]):
    """A data set whose errors are values: raised in a worker process, a DataLoader would make of
    their one sentence a traceback's text."""

    clips: ClipDataset

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.clips[index]

    def __getitems__(self, indices: Sequence[int]) -> Batch | DataError:
        try:
            return self.clips.batch(indices)
        except DataError as error:
            return error
