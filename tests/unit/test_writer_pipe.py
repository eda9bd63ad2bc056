"""A writer in a thread, whose chunks the caller takes one by one."""

import multiprocessing
import os
import subprocess
import sys
import time
from typing import IO

import pytest

from clinops_prefect.frames.parquet.writer_pipe import stream_of


def test_every_byte_comes_in_order() -> None:
    expected = os.urandom(5_000_000)

    def write(file: IO[bytes]) -> None:
        for at in range(0, len(expected), 70_001):
            part = memoryview(expected)[at : at + 70_001]
            while part:
                part = part[file.write(part) :]

    assert b"".join(stream_of(write)) == expected
    assert b"".join(stream_of(lambda _: None)) == b""


def test_the_writers_error_is_raised_after_its_chunks() -> None:
    def write(file: IO[bytes]) -> None:
        file.write(b"half")
        raise ZeroDivisionError

    taken = []
    with pytest.raises(ZeroDivisionError):
        taken += list(stream_of(write))


def test_a_caller_that_stops_taking_chunks_stops_the_writer_and_leaves_no_descriptor() -> None:
    # In a separate process, because descriptors that other tests left open may be closed at any time.
    code = """if True:
        import os, threading
        from clinops_prefect.frames.parquet.writer_pipe import stream_of

        errors = []
        def write(file):
            try:
                while True:
                    file.write(bytes(100_000))
            except OSError as error:
                errors.append(error)
                raise

        def open_now():
            return threading.active_count(), sorted(os.listdir("/proc/self/fd"))

        before = open_now()
        chunks = stream_of(write)
        next(chunks)
        during = open_now()
        chunks.close()
        assert isinstance(errors[0], BrokenPipeError), errors
        assert during != before, "nothing was open while it was written"
        assert open_now() == before, (before, open_now())
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_child_that_was_forked_meanwhile_does_not_delay_the_end() -> None:
    children = []

    def write(file: IO[bytes]) -> None:
        file.write(b"a")
        child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(3_600,), daemon=True)
        child.start()
        children.append(child)
        file.write(b"b")

    assert b"".join(stream_of(write)) == b"ab"
    assert children[0].is_alive(), "the chunks ended with the child, and not before it"
    children[0].kill()
    children[0].join()
