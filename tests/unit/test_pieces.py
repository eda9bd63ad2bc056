"""A writer in a thread, whose pieces are taken one by one."""

import multiprocessing
import os
import threading
import time
from pathlib import Path
from typing import IO

import pytest

from clinops_prefect.frames.pieces import pieces_of


def _threads() -> int:
    return sum(thread.name == "clinops-encode" for thread in threading.enumerate())


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_every_byte_comes_in_order() -> None:
    expected = os.urandom(5_000_000)

    def write(file: IO[bytes]) -> None:
        for at in range(0, len(expected), 70_001):
            part = memoryview(expected)[at : at + 70_001]
            while part:
                part = part[file.write(part) :]

    assert b"".join(pieces_of(write)) == expected
    assert b"".join(pieces_of(lambda _: None)) == b""


def test_what_the_writer_raises_is_raised_after_what_it_wrote() -> None:
    def write(file: IO[bytes]) -> None:
        file.write(b"half")
        raise ZeroDivisionError

    taken = []
    with pytest.raises(ZeroDivisionError):
        taken += list(pieces_of(write))


def test_who_stops_taking_stops_the_writer_and_leaves_nothing() -> None:
    errors = []

    def write(file: IO[bytes]) -> None:
        try:
            while True:
                file.write(bytes(100_000))
        except OSError as error:
            errors.append(error)
            raise

    before = _threads(), _descriptors()
    pieces = pieces_of(write)
    next(pieces)
    pieces.close()  # type: ignore[attr-defined]
    assert isinstance(errors[0], BrokenPipeError)
    assert (_threads(), _descriptors()) == before


def test_a_child_that_was_forked_meanwhile_does_not_hold_up_the_end() -> None:
    children = []

    def write(file: IO[bytes]) -> None:
        file.write(b"a")
        child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
        child.start()
        children.append(child)
        file.write(b"b")

    began = time.monotonic()
    assert b"".join(pieces_of(write)) == b"ab"
    assert time.monotonic() - began < 30
    children[0].kill()
    children[0].join()
