"""Two processes of `test_distributed`, of which the second finds a clip that cannot be read.

torchrun --nproc-per-node 2 tests/training/sharing_broken.py DATA OUT
"""

from __future__ import annotations

import dataclasses
import os
import sys
from pathlib import Path

from labkit.data.dataset import Batch, ClipDataset
from labkit.errors import DataError, LabkitError
from labkit.presets import SMOKE
from labkit.training import train


def main(data: str, out: Path) -> None:
    """Trains until the second process comes to the broken clip."""
    config = dataclasses.replace(SMOKE, data=dataclasses.replace(SMOKE.data, root=data))
    if os.environ["RANK"] == "1":
        whole = ClipDataset.batch

        def broken(dataset: ClipDataset, indices: list[int]) -> Batch:
            broken.count += 1
            if broken.count > 2:
                raise DataError("clip 3 cannot be read")
            return whole(dataset, indices)

        broken.count = 0
        ClipDataset.batch = broken
    train(config, out, progress=False)


if __name__ == "__main__":
    try:
        main(sys.argv[1], Path(sys.argv[2]))
    except LabkitError as error:
        print(f"said: {error}", file=sys.stderr)
        sys.exit(2)
