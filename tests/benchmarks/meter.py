"""Runs one contestant in this process, and measures the part of it that counts.

    python -m tests.benchmarks.meter MODULE:FUNCTION '{"argument": …}'

The function gets a `Meter` and the arguments. It prepares, warms up, enters the meter for the operation and may then
check the outcome. The measurement is printed as one line of JSON.
"""

import ctypes
import gc
import importlib
import json
import mmap
import os
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests import memory

CONTROL = "CLINOPS_BENCH_CONTROL"


class Meter:
    """Seconds, CPU seconds, memory beyond what was there before, and the server's traffic, of one operation."""

    def __init__(self) -> None:
        self.measured: dict[str, Any] = {}

    @contextmanager
    def __call__(self, *, renewed: int = 0) -> Iterator[None]:
        """Measure the block.

        Args:
            renewed: So many bytes of free memory are written once before, see `_renew`.
        """
        _settle()
        _renew(renewed)
        before = memory.resident()
        memory.forget_peak()
        traffic = _traffic()
        cpu, began = time.process_time(), time.perf_counter()
        yield
        seconds = time.perf_counter() - began
        self.measured |= {"seconds": seconds, "cpu": time.process_time() - cpu}
        self.measured["memory"] = max(0, memory.peak() - before)
        for key, value in _traffic().items():
            self.measured[key] = value - traffic[key]

    def note(self, **facts: Any) -> None:
        """Add to what is reported."""
        self.measured |= facts


def _settle() -> None:
    """Give free memory back, or the operation would be spared what the preparation has left."""
    gc.collect()
    if "pyarrow" in sys.modules:
        sys.modules["pyarrow"].default_memory_pool().release_unused()
    ctypes.CDLL(None).malloc_trim(0)


def _renew(size: int) -> None:
    """Write once to so many bytes of memory and free them, so that every contestant finds free memory of the same kind.

    The host of a virtual machine takes free memory back after two seconds, and gives it again when it is written: that
    takes up to two seconds a gigabyte, which only those pay who start later after the end of another large process.
    """
    if size:
        with mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as held:
            held.madvise(mmap.MADV_HUGEPAGE)
            for at in range(0, size, mmap.PAGESIZE):
                held[at] = 1


def _traffic() -> dict[str, int]:
    """The server's counters: bytes up and down, and requests; nothing where it has none."""
    if not (url := os.environ.get(CONTROL)):
        return {}
    with urllib.request.urlopen(url) as answer:
        counted = json.load(answer)
    return {"bytes_up": counted["in"], "bytes_down": counted["out"], "requests": counted["req"]}


def main(function: str, arguments: str) -> None:
    """Run the contestant and print what was measured."""
    module, _, name = function.partition(":")
    meter = Meter()
    getattr(importlib.import_module(module), name)(meter, **json.loads(arguments))
    print(json.dumps(meter.measured))
    sys.stdout.flush()
    # Without the goodbyes of Prefect's and the clouds' threads: what counts is measured.
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
