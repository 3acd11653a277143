"""The former name of `labkit.model.import_weights`, so that older scripts go on, with a warning."""

import warnings

from labkit.model.import_weights import PARTS, load_reference, read_states, reference_names

__all__ = ["PARTS", "load_reference", "read_states", "reference_names"]

warnings.warn("labkit.model.compat is now labkit.model.import_weights", FutureWarning, stacklevel=2)
