"""The process `labkit`, also `python -m labkit`: consoles, pipes and Ctrl-C around a command.

Whatever the console can encode is printed, a closed or full output is no traceback, and Ctrl-C
ends the process with exit code 130 from its first moment on.
"""

from __future__ import annotations

import codecs
import io
import os
import signal
import sys
import unicodedata
from types import FrameType

PLAIN = {
    "\N{MINUS SIGN}": "-",
    "\N{EN DASH}": "-",
    "\N{EM DASH}": "-",
    "\N{BOX DRAWINGS LIGHT HORIZONTAL}": "-",
    "\N{BOX DRAWINGS LIGHT VERTICAL}": "|",
    "\N{BULLET}": "*",
    "\N{NO-BREAK SPACE}": " ",
    "\N{PLUS-MINUS SIGN}": "+/-",
    "\N{MULTIPLICATION SIGN}": "x",
    "\N{RIGHTWARDS ARROW}": "->",
    "\N{GREEK SMALL LETTER BETA}": "beta",
    "\N{GREEK SMALL LETTER SIGMA}": "sigma",
    "\N{HORIZONTAL ELLIPSIS}": "...",
    **dict.fromkeys("\u2018\u2019", "'"),
    **dict.fromkeys("\u201c\u201d", '"'),
    **dict.fromkeys("\u256d\u256e\u2570\u256f", "+"),
}
"""ASCII for the characters that the lab prints and that a console may lack"""


def start() -> int:
    """Runs the command on the command line.

    Returns:
        the exit code of `labkit.cli.main`; 2 if the output cannot be written, 130 after Ctrl-C.
    """
    # Until the command line is imported, Ctrl-C ends the process without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    codecs.register_error("labkit", in_plain_characters)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # None where the stream is closed
            stream.reconfigure(errors="labkit")
    from labkit.cli import main

    code = 130
    try:
        signal.signal(signal.SIGINT, _interrupt)
        code = main()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    except (KeyboardInterrupt, BrokenPipeError):
        pass
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and (fault := _flush(stream)) and code == 0:
            code = 2
            print(f"labkit: the output: {fault}", file=sys.stderr)
    return code


def in_plain_characters(error: UnicodeError) -> tuple[str, int]:
    """An error handler for encoding: characters that the console lacks, in ASCII.

    A byte of a file's name that is not UTF-8 becomes \\xNN, and a character without a
    counterpart "?".
    """
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_plain, error.object[error.start : error.end])), error.end


def _plain(character: str) -> str:
    if 0xDC80 <= ord(character) <= 0xDCFF:  # how Python keeps a byte that is not UTF-8
        return f"\\x{ord(character) - 0xDC00:02x}"
    if character in PLAIN:
        return PLAIN[character]
    return unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode() or "?"


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Ctrl-C. Within an import, KeyboardInterrupt could be printed by Python instead of raised."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            os.write(2, b"labkit: interrupted\n")
            os._exit(128 + number)
        frame = frame.f_back
    raise KeyboardInterrupt


def _flush(stream: io.TextIOBase) -> str:
    """Writes what is buffered. If that fails, the rest is dropped and the reason returned; a
    reader that has closed its pipe is no fault."""
    try:
        stream.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return "" if isinstance(error, BrokenPipeError) else error.strerror or str(error)
    return ""


if __name__ == "__main__":
    sys.exit(start())
