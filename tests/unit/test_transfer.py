"""Parts of uploads, and the threads that transfer them."""

import threading
import time
import tracemalloc
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from clinops_prefect.storage.gcs.client import Adapter
from clinops_prefect.storage.gcs.upload import upload_parts
from clinops_prefect.storage.s3.backend import S3Backend
from clinops_prefect.storage.transfer import PART_BYTES, each_in_flight, in_order, in_parts, together


def test_together_keeps_the_order_and_runs_concurrently() -> None:
    barrier = threading.Barrier(4)

    def work(number: int) -> bytes:
        barrier.wait(600)
        return bytes([number])

    assert together(work, [3, 1, 2, 0]) == [b"\x03", b"\x01", b"\x02", b"\x00"]
    assert together(lambda n: bytes(n), []) == []
    assert together(lambda n: bytes(n), [2]) == [b"\x00\x00"]


def test_results_come_in_order_while_only_a_few_run_ahead() -> None:
    begun, may_end = set[int](), threading.Event()

    def work(number: int) -> bytes:
        begun.add(number)
        if number < 3:  # the first ones end last
            may_end.wait(600)
        return bytes([number])

    def items() -> Iterator[int]:
        for number in range(40):
            if number == 4:
                may_end.set()
            yield number

    results = in_order(work, items())
    first = next(results)
    assert max(begun) < 8
    assert [first, *results] == [bytes([number]) for number in range(40)]
    assert [*in_order(work, [7])] == [b"\x07"]


def test_together_raises_the_error_of_a_call() -> None:
    def work(number: int) -> bytes:
        raise KeyError(number)

    with pytest.raises(KeyError):
        together(work, range(5))


@given(st.lists(st.binary(max_size=40), max_size=30), st.integers(1, 16), st.integers(0, 3))
def test_parts_have_the_same_bytes_and_only_the_last_is_short_and_none_is_empty(
    chunks: list[bytes], size: int, every: int
) -> None:
    parts = list(in_parts(chunks, size, double_every=every))
    assert b"".join(parts) == b"".join(chunks)
    assert all(parts)
    doubled = [size * 2 ** (number // every if every else 0) for number in range(len(parts))]
    assert [len(part) for part in parts[:-1]] == doubled[:-1]
    assert all(len(part) <= most for part, most in zip(parts[-1:], doubled[-1:], strict=True))


def test_a_part_is_filled_without_the_memory_of_its_chunks() -> None:
    tracemalloc.start()
    try:
        for part in in_parts((bytes(1 << 20) for _ in range(40)), PART_BYTES):
            assert len(part) == PART_BYTES
            del part
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1.6 * PART_BYTES


def test_the_response_to_a_large_part_does_not_keep_the_part() -> None:
    class Server(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            received.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    received: list[bytes] = []
    part = bytes(range(256)) * 10_000
    with HTTPServer(("127.0.0.1", 0), Server) as server, requests.Session() as session:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        session.mount("http://", Adapter())
        answer = session.put(f"http://127.0.0.1:{server.server_port}/", data=part)
        server.shutdown()
    assert received == [part]
    assert answer.request.body is None


def test_parts_for_cloud_storage_are_read_as_a_file_that_knows_its_position() -> None:
    read: list[tuple[bytes, int]] = []

    class Blob:
        def upload_from_file(self, file: Any, **options: Any) -> None:
            assert options == {"timeout": 7}
            assert threading.current_thread().name.startswith("clinops-send")
            while data := file.read(3):
                read.append((data, file.tell()))

    upload_parts(Blob(), iter([b"abc", b"def", b"g"]), timeout=7)  # type: ignore[arg-type]
    assert read == [(b"abc", 3), (b"def", 6), (b"g", 7)]


def test_parts_grow_so_that_ten_thousand_hold_eighty_gigabytes() -> None:
    sizes = [len(part) for part in in_parts((bytes(8 * 1000) for _ in range(20)), 8, double_every=1000)]
    assert sizes[:1000] == [8] * 1000
    assert sizes[1000:2000] == [16] * 1000
    assert sum(8 * 2**thousand * 1000 for thousand in range(10)) * (1 << 20) > 80e9


def test_copies_in_parts_are_within_s3s_limits() -> None:
    """AWS's limits: a request copies up to 5 GiB, a part has at least 5 MiB, an object up to 10,000 parts and 5 TiB."""
    # A lower limit would copy in parts what one request can.
    assert 1 << 30 <= S3Backend.copy_bytes <= 5 << 30
    assert 5 << 20 <= S3Backend.copy_part_bytes <= 5 << 30
    assert S3Backend.copy_part_bytes * 10_000 >= 5 << 40


def test_only_a_few_parts_are_in_memory_at_once() -> None:
    alive, most, changed = 0, 0, threading.Condition()

    def parts() -> Iterator[bytes]:
        nonlocal alive, most
        for number in range(40):
            with changed:
                alive += 1
                most = max(most, alive)
                changed.notify_all()
            yield bytes([number])

    def work(number: int, part: bytes) -> int:
        nonlocal alive
        with changed:
            # Wait until the next part is made, so that the result does not depend on the speed of the threads.
            changed.wait_for(lambda: most >= 2, timeout=600)
        time.sleep(0.005)
        with changed:
            alive -= 1
        return number * 100 + part[0]

    assert each_in_flight(work, parts()) == [(number + 1) * 100 + number for number in range(40)]
    assert 2 <= most <= 8


class _Lost(Exception):
    pass


def test_after_a_failed_part_no_other_part_is_being_sent() -> None:
    running, lock = 0, threading.Lock()

    def work(number: int, part: bytes) -> int:
        nonlocal running
        with lock:
            running += 1
        time.sleep(0.02)
        with lock:
            running -= 1
        if number == 3:
            raise _Lost
        return number

    with pytest.raises(_Lost):
        each_in_flight(work, (b"x" for _ in range(1_000)))
    assert running == 0
