"""Calls any predictor many times: under a fixed seed, with its arguments guarded, its modules
restored and its result checked."""

from __future__ import annotations

import contextlib
import copy
import inspect
import itertools
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from labkit.errors import LabkitError, ShapeError
from labkit.evaluation.leakage.module_state import ModuleStates

Predict = Callable[..., Tensor]
"""(frames (B, T, 3, H, W) in [0, 1], condition (B, T, C), n_past) -> predicted frames
(B, T - n_past, 3, H, W), or (B, T, 3, H, W) with the context in front. It may take a keyword
`disturb`: a function (t, frame (B, 3, H, W)) -> frame that it calls on each predicted frame x^_t,
t = n_past .. T-1, and uses what the function returns in its place."""

Disturb = Callable[[int, Tensor], Tensor]
"""(t, predicted frame) -> the frame to use in its place."""


class RefusedError(Exception):
    """The predictor raised an error; the message is its own."""


class Probe:
    """Calls a predictor on one batch and variations of it; `baseline` is its prediction for the
    batch as it is."""

    def __init__(
        self,
        predict: Predict,
        frames: Tensor,
        condition: Tensor,
        n_past: int,
        seed: int,
    ) -> None:
        """
        Args:
            predict: the predictor.
            frames, condition: (B, T, 3, H, W) in [0, 1] and (B, T, C): checked here.
            n_past: number of context frames.
            seed: of every call.
        Raises:
            ShapeError: the batch is not one that can be predicted; or the prediction has the wrong
                shape.
            LabkitError: the predictor fails, predicts NaN, changes its arguments, or differs
                between two calls with one seed.
        """
        check_batch(frames, condition, n_past)
        self.predict, self.n_past, self.seed = predict, n_past, seed
        self.frames, self.condition = frames, condition
        self._modules = ModuleStates(predict)
        try:
            self.baseline, again = self(), self()
        except RefusedError as refusal:
            raise LabkitError(
                f"the predictor fails on the clips as they are: {refusal}",
                hint="it is called with (frames, condition, n_past)",
            ) from refusal.__cause__
        if not self.baseline.isfinite().all():
            raise LabkitError(
                "the predictions of the clips as they are hold NaN or infinity",
                hint="prove a predictor that works",
            )
        if change(self.baseline, again).any():
            raise LabkitError(
                "two calls of the predictor with one seed give different predictions, so that "
                "nothing can be proved",
                hint="reset its hidden state in each call, draw random numbers from torch's, "
                "numpy's or Python's global generators, and on a GPU use deterministic algorithms",
            )

    @property
    def horizon(self) -> int:
        """Number of predicted frames."""
        return self.frames.shape[1] - self.n_past

    def part(
        self, clips: slice = slice(None), length: int | None = None, seed: int | None = None
    ) -> Probe:
        """The same predictor on some of the clips, on their first frames, or with another seed.

        Raises:
            RefusedError, ShapeError, LabkitError: as a call.
        """
        part = copy.copy(self)
        part.frames = self.frames[clips, :length]
        part.condition = self.condition[clips, :length]
        part.seed = self.seed if seed is None else seed
        part.baseline = part()
        return part

    @property
    def takes_disturb(self) -> bool:
        """Whether the predictor accepts a function that changes its predicted frames."""
        try:
            return "disturb" in inspect.signature(self.predict).parameters
        except (TypeError, ValueError):
            return False

    def __call__(
        self,
        frames: Tensor | None = None,
        condition: Tensor | None = None,
        *,
        disturb: Disturb | None = None,
        gradient: bool = False,
    ) -> Float[Tensor, "B horizon 3 H W"]:
        """The predictions for these frames and conditions, or the batch's own.

        Raises:
            RefusedError: the predictor raised an error.
            ShapeError, LabkitError: as on making.
        """
        frames = self.frames if frames is None else frames
        condition = self.condition if condition is None else condition
        given = frames.clone(), condition.clone()
        more = {} if disturb is None else {"disturb": disturb}
        with (
            fixed_seed(self.seed),
            torch.set_grad_enabled(gradient),
            self._modules.restored(),
        ):
            try:
                answer = self.predict(*given, self.n_past, **more)
            except Exception as error:
                first = (str(error).strip() or "no message").splitlines()[0]
                raise RefusedError(f"{type(error).__name__}: {first}") from error
        for name, before, after in zip(
            ("frames", "condition"), (frames, condition), given, strict=True
        ):
            if after.shape != before.shape or not same(before.detach(), after.detach()):
                raise LabkitError(
                    f"the predictor changes its argument {name} in place",
                    hint=f"start it with {name} = {name}.clone()",
                )
        return self._checked(answer)

    def _checked(self, answer: Any) -> Tensor:
        if not isinstance(answer, Tensor):
            raise ShapeError(
                f"the predictor returns {type(answer).__name__}; expected a tensor of frames",
                hint="return the predicted frames alone, such as torch.stack(frames, dim=1)",
            )
        expected = (len(self.frames), self.horizon, *self.frames.shape[2:])
        whole = tuple(self.frames.shape)
        if tuple(answer.shape) not in (expected, whole) or not answer.is_floating_point():
            kind = "" if answer.is_floating_point() else f" of {answer.dtype}"
            raise ShapeError(
                f"the predictor returns {tuple(answer.shape)}{kind}; expected floats {expected}, "
                f"or {whole} with the context in front"
            )
        return answer[:, -self.horizon :]


def check_batch(frames: Tensor, condition: Tensor, n_past: int) -> None:
    """
    Raises:
        ShapeError: no clips, no future, frames that are not (B, T, 3, H, W) floats in [0, 1],
            conditions that are not theirs, or clips in which nothing changes.
    """
    if frames.ndim != 5 or frames.shape[2] != 3 or not frames.is_floating_point():
        came = f"{tuple(frames.shape)} of {frames.dtype}"
        raise ShapeError(f"frames are {came}; expected floats (B, T, 3, H, W) in [0, 1]")
    clips, length = frames.shape[:2]
    if not clips or not frames.numel():
        raise ShapeError("there are no clips", hint="give at least one")
    if not 1 <= n_past < length:
        raise ShapeError(
            f"the clips have {length} frames, of which {n_past} are context: nothing to predict",
            hint="give longer clips, or an n_past from 1 on that leaves some",
        )
    if condition.ndim != 3 or tuple(condition.shape[:2]) != (clips, length):
        expected = f"({clips}, {length}, C)"
        raise ShapeError(f"the condition is {tuple(condition.shape)}; expected {expected}")
    low, high = (bound.item() for bound in frames.aminmax())
    if not (low >= 0 and high <= 1):  # a comparison with NaN is false
        raise ShapeError("frames leave [0, 1] or hold NaN; expected floats in [0, 1]")
    if not condition.isfinite().all():
        raise ShapeError("the condition holds NaN or infinity; expected finite floats")
    if bool((frames == frames[:, :1]).all()):
        raise ShapeError(
            "all frames of each clip are equal: in a still picture, future frames and context are "
            "the same",
            hint="give clips in which something moves",
        )


def same(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors of one shape are equal; NaN equals NaN."""
    return bool(((a == b) | (a.isnan() & b.isnan())).all())


def change(before: Tensor, after: Tensor) -> Float[np.ndarray, " horizon"]:
    """Largest change of each predicted frame over clips and pixels; infinite where it is NaN."""
    far = (after.detach().double() - before.detach().double()).abs()
    far = torch.where(far.isnan(), torch.inf, far)
    return far.amax(dim=(0, 2, 3, 4)).cpu().numpy()


@contextlib.contextmanager
def fixed_seed(seed: int) -> Iterator[None]:
    """Seeds torch, numpy and Python within the block; the state of their generators is restored
    at its end."""
    # numpy's old global generator: the one that other people's code draws from.
    in_numpy, in_python = np.random.get_state(), random.getstate()  # noqa: NPY002
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(in_numpy)  # noqa: NPY002
            random.setstate(in_python)


def hooked(predict: Predict, module: nn.Module) -> Predict:
    """Adds the argument `disturb` to a predictor, by a hook on the module that returns its frames,
    usually the decoder.

    Args:
        predict: any predictor.
        module: a module that the predictor calls once a predicted frame and that returns the frame,
            (B, 3, H, W). The last T - n_past calls count as the predictions.
    """

    def with_disturb(
        frames: Tensor, condition: Tensor, n_past: int, disturb: Disturb | None = None
    ) -> Tensor:
        if disturb is None:
            return predict(frames, condition, n_past)
        with fixed_seed(torch.initial_seed()), _counting(module, lambda *_: None) as calls:
            predict(frames, condition, n_past)
        steps = itertools.count(frames.shape[1] - len(calls))

        def change_frame(_: nn.Module, inputs: Any, frame: Tensor) -> Tensor:
            t = next(steps)
            return frame if t < n_past else disturb(t, frame)

        with _counting(module, change_frame):
            return predict(frames, condition, n_past)

    return with_disturb


@contextlib.contextmanager
def _counting(module: nn.Module, hook: Callable[..., Any]) -> Iterator[list[int]]:
    """Puts a forward hook on a module within the block; yields a list with one entry a call."""
    calls: list[int] = []

    def counted(*called: Any) -> Any:
        calls.append(len(calls))
        return hook(*called)

    handle = module.register_forward_hook(counted)
    try:
        yield calls
    finally:
        handle.remove()
