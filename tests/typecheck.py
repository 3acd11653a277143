"""The checker that the test run puts on labkit's signatures (shapes by jaxtyping)."""

from __future__ import annotations

from beartype import BeartypeConf, beartype

# An int is a float, as in Python's own reading of annotations (PEP 484's numeric tower).
check = beartype(conf=BeartypeConf(is_pep484_tower=True))
