"""The former name of `labkit.training`, so that older scripts go on, with a warning."""

import warnings

from labkit.training import *  # noqa: F403

warnings.warn("labkit.learning is now labkit.training", FutureWarning, stacklevel=2)
