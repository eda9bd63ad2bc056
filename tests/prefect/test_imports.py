"""What an import costs and brings along, each measured in a process of its own."""

import json
import os
import statistics
import subprocess
import sys
from typing import Any

import pytest

# Seconds on top of the interpreter, and the modules that came along. Of processor time: others may be busy meanwhile.
MEASURE = """if True:
    import json, sys, time
    before = set(sys.modules)
    start = time.process_time()
    {first}
    between = time.process_time()
    {second}
    end = time.process_time()
    print(json.dumps([between - start, end - between, sorted(set(sys.modules) - before)]))
"""


def measure(first: str, second: str = "") -> tuple[float, float, set[str]]:
    code = MEASURE.format(first=first, second=second or "pass")
    # An installed package has its bytecode; compiling this one takes longer than all else that its import does.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=900)
    before, after, modules = json.loads(done.stdout)
    return before, after, set(modules)


def roots(modules: set[str]) -> set[str]:
    return {module.partition(".")[0] for module in modules}


def test_the_package_imports_in_no_time_and_brings_neither_prefect_nor_pandas() -> None:
    shares, brought = [], set()
    for _ in range(5):
        # Compared with some of Python's own modules, which take 0.05 s on a quick machine.
        _, _, modules = measure("import clinops_prefect")
        seconds, own, _ = measure("import clinops_prefect", "import asyncio, logging, http.client")
        shares.append(seconds / own)
        brought |= roots(modules)
    assert not brought & {"prefect", "pandas", "numpy", "pyarrow", "pydantic", "boto3", "google"}
    assert statistics.median(shares) < 2


def test_listing_the_package_imports_nothing() -> None:
    _, _, modules = measure("import clinops_prefect", "names = dir(clinops_prefect); assert 'S3PipelineStore' in names")
    assert not roots(modules) & {"prefect", "pandas", "prefect_aws", "prefect_gcp"}


GOOGLE = {"prefect_gcp", "google.cloud", "google.auth", "google.api_core", "google.oauth2"}
AMAZON = {"prefect_aws", "boto3", "botocore"}


@pytest.mark.parametrize(
    ("store", "credentials", "others"),
    [
        ("S3PipelineStore", "prefect_aws.credentials", GOOGLE),
        ("GCSPipelineStore", "prefect_gcp.credentials", AMAZON),
        ("LocalPipelineStore", "prefect.filesystems", GOOGLE | AMAZON),
    ],
)
def test_a_store_brings_nothing_of_another_cloud(store: str, credentials: str, others: set[str]) -> None:
    _, _, modules = measure(f"from clinops_prefect import {store}")
    assert not [module for module in modules if any(f"{module}.".startswith(f"{other}.") for other in others)]
    assert credentials in modules


@pytest.mark.parametrize(
    ("store", "credentials"),
    [("S3PipelineStore", "prefect_aws.credentials"), ("GCSPipelineStore", "prefect_gcp.credentials")],
)
def test_a_store_adds_under_a_tenth_to_the_import_of_its_credentials(store: str, credentials: str) -> None:
    _, _, there = measure(f"import {credentials}")

    def share(_: Any) -> float:
        before, after, modules = measure(f"import {credentials}", f"from clinops_prefect import {store}")
        # They come with the first frame; prefect_gcp has pandas anyway.
        assert not (roots(modules) - roots(there)) & {"pandas", "pyarrow", "polars"}
        return after / before

    assert statistics.median(map(share, range(5))) < 0.1


def test_a_store_outside_a_flow_opens_no_connection_and_starts_no_process() -> None:
    code = """if True:
        import sys, tempfile
        def forbid(event, arguments):
            if event.startswith(("socket.", "subprocess.", "os.fork", "os.exec", "os.posix_spawn")):
                print(event, arguments)
        import pandas as pd
        from clinops_prefect import LocalPipelineStore, PipelineStore
        sys.addaudithook(forbid)
        store = LocalPipelineStore(tempfile.mkdtemp(), prefix="a")
        frame = pd.DataFrame({"a": [1, 2]})
        uri = store.upload(frame, "x/y")
        store.upload_batches([frame, frame], "x/z")
        assert store.download("x/y").equals(frame)
        assert len(list(store.iter_batches("x/z", rows=3))) == 2
        store.write_bytes("x/r.txt", b"r"); store.read_bytes("x/r.txt")
        store.list_artifacts(); store.exists("x/y"); store.stat("x/y"); store.list_versions("x/y"); store.uri("x/y")
        store.write_path("result", b"{}"); store.read_path("result")
        store.copy_artifact("x/y", "x/q"); store.delete_artifact("x/y")
        PipelineStore.from_uri(tempfile.mkdtemp())
        repr(store), store.model_dump_json()
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=900)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


@pytest.mark.parametrize("cloud", ["s3", "gcs"])
def test_a_cloud_store_outside_a_flow_speaks_to_its_endpoint_alone(cloud: str, request: pytest.FixtureRequest) -> None:
    endpoint = request.getfixturevalue(f"{cloud}_endpoint")
    code = """if True:
        import sys
        import pandas as pd
        from tests.doors import GCSDoor, S3Door
        cloud, endpoint = sys.argv[1:]
        door = {"s3": S3Door, "gcs": GCSDoor}[cloud](endpoint, f"alone-{cloud}")
        reached = set()
        def note(event, arguments):
            if event == "socket.connect":
                reached.add(arguments[1])
            elif event in ("subprocess.Popen", "os.fork", "socket.bind"):
                reached.add(event)
        sys.addaudithook(note)
        store = door.store(prefix="a")
        store.upload(pd.DataFrame({"a": [1]}), "x")
        store.download("x"); store.list_artifacts(); store.delete_artifact("x")
        assert reached, "the store reached nothing: the hook does not work"
        host, _, port = endpoint.removeprefix("http://").partition(":")
        assert {address for address in reached} == {(host, int(port))}, reached
    """
    done = subprocess.run([sys.executable, "-c", code, cloud, endpoint], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
