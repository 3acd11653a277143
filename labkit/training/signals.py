"""Ctrl-C and SIGTERM (a cluster's warning) are recorded, and handled between two updates."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}


class TrainingStopped(KeyboardInterrupt):
    """A training that was stopped by a signal, and has saved its state."""

    def __init__(self, number: int, update: int, run: Path) -> None:
        """
        Args:
            number: of the signal.
            update: number of updates done and saved.
            run: the run's folder.
        """
        self.code = 128 + number
        """exit code of a process that ends for it: 130 or 143"""
        super().__init__(
            f"stopped by {NAMES.get(number, number)} after update {update}, with everything "
            f"saved; to go on: labkit train --resume --out {run}"
        )


class SignalHandler:
    """Within this context the first Ctrl-C or SIGTERM is only recorded, and a second Ctrl-C stops
    at once (the files on disk are complete in any case).

    A launcher of several processes sends its signal on to each of them, in addition to the
    terminal's. So there the second signal is a copy of the first, and is ignored.
    """

    def __init__(self, *, alone: bool = True) -> None:
        """
        Args:
            alone: whether this process trains by itself.
        """
        self.alone = alone
        self.number = 0
        """of the signal that came; 0 while none has"""
        self._before: dict[int, Any] = {}

    def __enter__(self) -> SignalHandler:
        # Python gives signals to the main thread, and only that thread may set handlers.
        if threading.current_thread() is threading.main_thread():
            self._before = {each: signal.signal(each, self._note) for each in NAMES}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.number and self.alone:
            raise KeyboardInterrupt
        self.number = self.number or number
