"""The same frames to Cloud Storage: against prefect-gcp's `GcsBucket` and google-cloud-storage itself."""

import io
from functools import partial
from typing import Any

import pandas as pd

from tests.benchmarks.case import Bench, Case, Outcome, at_least, at_most
from tests.benchmarks.frames import frame, size_of, small
from tests.benchmarks.meter import Meter
from tests.benchmarks.processes import Contestant
from tests.benchmarks.servers import BUCKET

OURS, BLOCK, SDK = "clinops_prefect", "prefect-gcp `GcsBucket`", "pandas + google-cloud-storage"
ALONE = "its bytes alone"
_NOTE = "The stub keeps what it receives and computes its CRC32C; it runs on the same cores as the contestants."
_UPLOAD_NOTE = f"*{ALONE}* is the same upload of bytes that were encoded before."


class _Ours:
    def __init__(self, endpoint: str) -> None:
        import polars  # noqa: F401  # with the first large frame, otherwise; the others' packages are here, too

        from clinops_prefect import GCSPipelineStore

        self.store = GCSPipelineStore(BUCKET, endpoint_url=endpoint, project="p")

    def upload(self, df: pd.DataFrame, name: str) -> None:
        self.store.upload(df, name)

    def download(self, name: str) -> pd.DataFrame:
        return self.store.download(name)


class _Sdk:
    def __init__(self, endpoint: str) -> None:
        from google.auth.credentials import AnonymousCredentials
        from google.cloud import storage

        options = {"api_endpoint": endpoint}
        client = storage.Client(project="p", credentials=AnonymousCredentials(), client_options=options)
        self.bucket = client.bucket(BUCKET)

    def upload(self, df: pd.DataFrame, name: str) -> None:
        buffer = io.BytesIO()
        df.to_parquet(buffer)
        buffer.seek(0)
        self.bucket.blob(f"{name}.parquet").upload_from_file(buffer)

    def download(self, name: str) -> pd.DataFrame:
        return pd.read_parquet(io.BytesIO(self.bucket.blob(f"{name}.parquet").download_as_bytes()))


class _Block:
    """Writes frames, and has no reader for them: what is downloaded is read with pandas."""

    def __init__(self, _: str) -> None:
        from google.auth.credentials import AnonymousCredentials
        from google.cloud import storage
        from prefect_gcp import GcpCredentials
        from prefect_gcp.cloud_storage import GcsBucket

        class Anonymous(GcpCredentials):
            """The stub asks for no login, and the block would look for one."""

            def block_initialization(self) -> None:
                pass

            def get_cloud_storage_client(self, *_: Any, **__: Any) -> storage.Client:
                return storage.Client(project="p", credentials=AnonymousCredentials())

        self.block = GcsBucket(bucket=BUCKET, gcp_credentials=Anonymous(project="p"))

    def upload(self, df: pd.DataFrame, name: str) -> None:
        self.block.upload_from_dataframe(df, name, serialization_format="parquet_snappy")

    def download(self, name: str) -> pd.DataFrame:
        buffer = io.BytesIO()
        self.block.download_object_to_file_object(f"{name}.snappy.parquet", buffer)
        buffer.seek(0)
        return pd.read_parquet(buffer)


_WAYS = {OURS: _Ours, BLOCK: _Block, SDK: _Sdk}


def _ready(way: str, endpoint: str) -> Any:
    made = _WAYS[way](endpoint)
    made.upload(small(), f"warm/{_folder(way)}")
    made.download(f"warm/{_folder(way)}")
    return made


def upload(meter: Meter, way: str, endpoint: str, scratch: str, name: str) -> None:
    """Upload a frame."""
    made, df = _ready(way, endpoint), frame(name, scratch)
    with meter():
        made.upload(df, f"{name}/{_folder(way)}")
    meter.note(frame=size_of(df))


def upload_bytes(meter: Meter, endpoint: str, scratch: str, name: str) -> None:
    """Upload what the frame is encoded to, as an upload does."""
    from clinops_prefect import StorageFormat
    from clinops_prefect.frames.encoding import encode_frame

    made = _ready(OURS, endpoint)
    data = b"".join(encode_frame(frame(name, scratch), StorageFormat.PARQUET, {}).chunks)
    with meter():
        made.store.write_bytes(f"{name}/alone.bin", data)


def download(meter: Meter, way: str, endpoint: str, scratch: str, name: str) -> None:
    """Download what the same way has uploaded."""
    made = _ready(way, endpoint)
    with meter():
        found = made.download(f"{name}/{_folder(way)}")
    expected = frame(name, scratch)
    if found.shape != expected.shape:
        raise AssertionError(f"{way} gave {found.shape}")
    meter.note(frame=size_of(expected))


def _folder(way: str) -> str:
    return str(list(_WAYS).index(way))


def _case(operation: str, name: str, faster: float, memory: float, bench: Bench) -> Outcome:
    frame(name, bench.scratch)

    def contestants(function: str) -> list[Contestant]:
        common = {"endpoint": bench.gcs.url, "scratch": str(bench.scratch), "name": name}
        return [Contestant(way, f"{__name__}:{function}", {"way": way, **common}) for way in _WAYS]

    if operation == "download" and f"gcs/{name}" not in bench.stored:
        bench.compare(contestants("upload"), bench.gcs, rounds=1)
    bounds, notes = [], [_NOTE]
    if operation == "upload":
        arguments = {"endpoint": bench.gcs.url, "scratch": str(bench.scratch), "name": name}
        bounds, notes = [Contestant(ALONE, f"{__name__}:upload_bytes", arguments, seldom=True)], [_NOTE, _UPLOAD_NOTE]
    results = bench.compare([*contestants(operation), *bounds], bench.gcs)
    bench.stored.add(f"gcs/{name}")
    ours = results[OURS]
    size = int(ours.median("frame"))
    goals = [at_least(way, faster, ours.times_faster(results[way])) for way in (BLOCK, SDK)]
    goals.append(at_most("the frame", memory, ours.memory / size))
    title = f"Cloud Storage: {operation}, {name} frame"
    return Outcome(title, bench.gcs.name, results, goals, notes, frame_bytes=size)


CASES = [
    Case("gcs-upload-wide", partial(_case, "upload", "wide", 2.5, 0.35), rounds=5),
    Case("gcs-upload-narrow", partial(_case, "upload", "narrow", 1.5, 0.5), rounds=5),
    Case("gcs-download-wide", partial(_case, "download", "wide", 1.0, 1.5), rounds=3),
    Case("gcs-download-narrow", partial(_case, "download", "narrow", 1.0, 1.6), rounds=3),
]
