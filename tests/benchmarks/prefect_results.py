"""A Prefect task result of 100 MB: stored and read by Prefect's own `ResultStore`, as a task run does it."""

from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from tests.benchmarks.case import Bench, Case, Outcome, at_least, at_most
from tests.benchmarks.frames import frame, size_of, small
from tests.benchmarks.meter import Meter
from tests.benchmarks.processes import Contestant
from tests.benchmarks.servers import BUCKET

OURS, DEFAULT = "clinops_prefect", "Prefect's default"
_KEY = "frame"


def store(meter: Meter, way: str, where: str, scratch: str) -> None:
    """Store the result."""
    results, df = _result_store(way, where, scratch), frame("result", scratch)
    results.write(small(), key="warm")
    with meter():
        results.write(df, key=_KEY)
    meter.note(frame=size_of(df))


def read(meter: Meter, way: str, where: str, scratch: str) -> None:
    """Read the result, as the task after a cached one does."""
    results = _result_store(way, where, scratch)
    results.write(small(), key="warm")
    _result_store(way, where, scratch).read("warm")
    with meter():
        found = results.read(_KEY).result
    expected = frame("result", scratch)
    pd.testing.assert_frame_equal(found, expected)
    meter.note(frame=size_of(expected))


def _result_store(way: str, where: str, scratch: str) -> Any:
    from prefect.results import ResultStore

    folder = Path(scratch) / "results" / way.replace(" ", "-")
    if way == OURS:
        from clinops_prefect import DataFrameSerializer, LocalPipelineStore, S3PipelineStore

        ours = S3PipelineStore(BUCKET, endpoint_url=where, region="us-east-1") if where else LocalPipelineStore(folder)
        # Nothing is kept in memory: what is measured is the storage.
        return ResultStore(result_storage=ours, serializer=DataFrameSerializer(), cache_result_in_memory=False)
    if where:
        from prefect_aws import AwsClientParameters, AwsCredentials, S3Bucket

        parameters = AwsClientParameters(endpoint_url=where)
        credentials = AwsCredentials(region_name="us-east-1", aws_client_parameters=parameters)
        storage: Any = S3Bucket(bucket_name=BUCKET, credentials=credentials, bucket_folder="prefect")
    else:
        from prefect.filesystems import LocalFileSystem

        storage = LocalFileSystem(basepath=str(folder))
    return ResultStore(result_storage=storage, cache_result_in_memory=False)


def _results(operation: str, in_s3: bool, bench: Bench) -> Outcome:
    frame("result", bench.scratch)
    server = bench.s3 if in_s3 else None
    storage = "prefect-aws `S3Bucket`" if in_s3 else "`LocalFileSystem`"

    def contestants(function: str) -> list[Contestant]:
        common = {"where": server.url if server else "", "scratch": str(bench.scratch)}
        return [Contestant(way, f"{__name__}:{function}", {"way": way, **common}) for way in (OURS, DEFAULT)]

    if operation == "read":
        bench.compare(contestants("store"), server, rounds=1)
    results = bench.compare(contestants(operation), server)
    ours, other = results[OURS], results[DEFAULT]
    goals = [
        at_least("the default's speed", 2, ours.times_faster(other)),
        at_most("its extra memory", 0.5, 1 / ours.times_faster(other, "memory")),
    ]
    title = f"A Prefect result of 100 MB: {operation}, against pickle and {storage}"
    return Outcome(
        title, server.name if server else "the local disk", results, goals, frame_bytes=int(ours.median("frame"))
    )


CASES = [
    Case(f"result-{operation}-{'s3' if in_s3 else 'local'}", partial(_results, operation, in_s3))
    for in_s3 in (False, True)
    for operation in ("store", "read")
]
