"""Floats in [0, 1] as bytes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from labkit.errors import ShapeError
from labkit.frames import to_uint8


def test_values_are_rounded_for_arrays_and_tensors() -> None:
    values = [0.0, 0.5, 0.999, 1.0]
    assert to_uint8(np.array(values)).tolist() == [0, 128, 255, 255]
    assert to_uint8(torch.tensor(values, requires_grad=True)).tolist() == [0, 128, 255, 255]
    assert to_uint8(torch.tensor(values).bfloat16()).dtype == np.uint8


@pytest.mark.parametrize("wrong", [[-0.1], [1.1], [float("nan")], [255.0]])
def test_values_outside_are_an_error_or_clipped(wrong) -> None:
    with pytest.raises(ShapeError, match="allowed: 0"):
        to_uint8(np.array(wrong))
    assert to_uint8(torch.tensor(wrong), clip=True).tolist() == [255 if wrong[0] > 1 else 0]
