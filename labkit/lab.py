"""The first cell of every notebook."""

from __future__ import annotations

import functools
import os
import random
import warnings


def lab_setup(seed: int = 1) -> None:
    """Makes a notebook's outputs the same on every run, and prints one fixed line.

    One torch thread (sums are then added in one order on any number of cores), deterministic
    algorithms, the seeds of `random`, numpy's and torch's global generators, the lab's plot
    style, no progress bars, and no notices of what libraries will change. It may be called
    again, for instance to seed anew.

    Args:
        seed: for all three generators, at least 0.
    """
    # cuBLAS reads this when its first handle is made; without it, it is not deterministic.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    _quieten()

    import matplotlib as mpl
    import numpy as np
    import torch

    from labkit.views.style import RC

    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 (libraries that draw from numpy's global generator)
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)

    mpl.rcParams.update(RC)
    print(f"labkit is ready: seed {seed}, one thread, deterministic.")


def _quieten() -> None:
    """Switches off progress bars and deprecation notices: neither is the same on every run."""
    from tqdm.std import tqdm

    # tqdm reads TQDM_DISABLE only when it is imported, which `import torch` has done already.
    os.environ["TQDM_DISABLE"] = "1"
    bound = tqdm.__dict__["__init__"]
    if not getattr(bound, "keywords", {}).get("disable"):
        tqdm.__init__ = functools.partialmethod(tqdm.__init__, disable=True)
    for category in (DeprecationWarning, PendingDeprecationWarning, FutureWarning):
        warnings.simplefilter("ignore", category)
