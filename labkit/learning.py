"""The former name of `labkit.training`, so that older scripts still run, with a warning."""

import functools
import warnings
from collections.abc import Sequence
from typing import Any

from labkit.training import *  # noqa: F403
from labkit.training import EpochRow
from labkit.training import train as _train
from labkit.training.events import Callback

warnings.warn("labkit.learning is now labkit.training", FutureWarning, stacklevel=2)


@functools.wraps(_train)
def train(
    *arguments: Any, watchers: Sequence[Callback] | None = None, **options: Any
) -> list[EpochRow]:
    """`labkit.training.train`, whose argument `callbacks` was called `watchers`."""
    if watchers is not None:
        what = "the argument watchers of train is now called callbacks"
        warnings.warn(what, FutureWarning, stacklevel=2)
        options["callbacks"] = watchers
    return _train(*arguments, **options)
