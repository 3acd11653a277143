"""A predictor of anyone's making, asked many times: with the same seed each time, with its
arguments guarded and its answer checked."""

from __future__ import annotations

import contextlib
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

Predict = Callable[..., Tensor]
"""(frames (B, T, 3, H, W) in [0, 1], condition (B, T, C), n_past) -> predicted frames
(B, T - n_past, 3, H, W), or (B, T, 3, H, W) with the context in front. It may take a keyword
`disturb`: a function (t, frame (B, 3, H, W)) -> frame that it calls on each predicted frame x^_t,
t = n_past .. T-1, going on with what it returns."""

Disturb = Callable[[int, Tensor], Tensor]
"""(t, predicted frame) -> the frame to go on with."""


class RefusedError(Exception):
    """The predictor raised an error instead of answering; the message is its own."""


class Asking:
    """Asks a predictor about one batch; `baseline` is its answer to the batch as it is."""

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
            ShapeError: the batch is no batch of clips that can be predicted; or the answer has
                the wrong shape.
            LabkitError: the predictor fails, answers with NaN, changes its arguments, or does
                not answer the same twice.
        """
        check_batch(frames, condition, n_past)
        self.predict, self.n_past, self.seed = predict, n_past, seed
        self.frames, self.condition = frames, condition
        self.horizon = frames.shape[1] - n_past
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
                "the predictor answers differently when asked twice with one seed, so nothing can "
                "be proved of it",
                hint="set its hidden state anew in each call, draw from torch's, numpy's or "
                "Python's global generators, and on a GPU ask for deterministic algorithms",
            )

    @property
    def takes_disturb(self) -> bool:
        """Whether the predictor lets its own frames be changed on the way."""
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
        with fixed_seed(self.seed), torch.set_grad_enabled(gradient):
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
                    f"the predictor changes the {name} it is given, in place",
                    hint=f"begin it with {name} = {name}.clone()",
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
        raise ShapeError("there are no clips to prove anything on", hint="give at least one")
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
            "all frames of each clip are equal: on a still picture, reading a future frame and "
            "reading the context are one",
            hint="give clips in which something moves",
        )


def same(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors of one shape are equal in every bit that counts: NaN equals NaN."""
    return bool(((a == b) | (a.isnan() & b.isnan())).all())


def change(before: Tensor, after: Tensor) -> Float[np.ndarray, " horizon"]:
    """Largest change of each predicted frame over clips and pixels; infinite where it is NaN."""
    far = (after.detach().double() - before.detach().double()).abs()
    far = torch.where(far.isnan(), torch.inf, far)
    return far.amax(dim=(0, 2, 3, 4)).cpu().numpy()


@contextlib.contextmanager
def fixed_seed(seed: int) -> Iterator[None]:
    """Seeds torch, numpy and Python for a while; afterwards their generators go on as if
    nothing had been."""
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


def hooked(predict: Predict, maker: nn.Module) -> Predict:
    """A predictor that takes `disturb`, from one that does not: by the module whose every call
    makes one predicted frame, usually the decoder.

    Args:
        predict: any predictor.
        maker: a module it calls once a predicted frame, which returns that frame,
            (B, 3, H, W); calls before the last T - n_past are taken for the context's.
    """

    def with_disturb(
        frames: Tensor, condition: Tensor, n_past: int, disturb: Disturb | None = None
    ) -> Tensor:
        if disturb is None:
            return predict(frames, condition, n_past)
        with fixed_seed(torch.initial_seed()), _watching(maker, lambda *_: None) as count:
            predict(frames, condition, n_past)
        seen = itertools.count(frames.shape[1] - len(count))

        def change_frame(module: nn.Module, given: Any, made: Tensor) -> Tensor:
            t = next(seen)
            return made if t < n_past else disturb(t, made)

        with _watching(maker, change_frame):
            return predict(frames, condition, n_past)

    return with_disturb


@contextlib.contextmanager
def _watching(module: nn.Module, hook: Callable[..., Any]) -> Iterator[list[int]]:
    """Puts a forward hook on a module for a while; yields a list that grows by each call."""
    calls: list[int] = []

    def counted(*called: Any) -> Any:
        calls.append(len(calls))
        return hook(*called)

    handle = module.register_forward_hook(counted)
    try:
        yield calls
    finally:
        handle.remove()
