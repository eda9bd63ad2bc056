"""The stores as Prefect blocks: found by reference, registered, readable as a form, and keeping their secrets."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pandas as pd
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from prefect.blocks.core import Block
from prefect.filesystems import LocalFileSystem
from prefect.testing.standard_test_suites import blocks as standards
from prefect_aws import AwsCredentials, MinIOCredentials
from prefect_gcp import GcpCredentials

from clinops_prefect import (
    GCSPipelineStore,
    LocalPipelineStore,
    PipelineStore,
    S3PipelineStore,
    StepFunctionsPipeline,
    registry,
)
from tests.doors import S3Door
from tests.prefect.conftest import Saved
from tests.prefect.server import PrefectServer

ROOT = Path(__file__).parents[2]
ON_AWS, ON_GCP = {"S3 Pipeline Store", "Step Functions Pipeline"}, {"GCS Pipeline Store"}
ON_AZURE = {"Azure Pipeline Store"}
ALL = {"Local Pipeline Store", *ON_AWS, *ON_GCP, *ON_AZURE}
STORES = [S3PipelineStore, GCSPipelineStore, LocalPipelineStore]


class TestStandards(standards.BlockStandardTestSuite):
    """Prefect's own, for every block that is published."""

    @pytest.fixture(params=[*STORES, StepFunctionsPipeline])
    def block(self, request: pytest.FixtureRequest) -> type[Block]:
        return request.param

    @pytest.fixture(autouse=True)
    def _published(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The logos are Prefect's own, on another network: that they are pictures is its affair."""
        monkeypatch.setattr(standards, "urlopen", lambda url: urlopen((ROOT / "docs/logo.png").as_uri()))


def test_the_logo_is_the_one_that_prefect_shows_for_the_service() -> None:
    shown = {
        S3PipelineStore: AwsCredentials,
        StepFunctionsPipeline: AwsCredentials,
        GCSPipelineStore: GcpCredentials,
        LocalPipelineStore: LocalFileSystem,
    }
    for ours, theirs in shown.items():
        assert str(ours._logo_url) == str(theirs._logo_url)


def test_the_help_points_to_files_of_this_repository() -> None:
    pages = {str(block._documentation_url) for block in (*STORES, StepFunctionsPipeline)}
    assert len(pages) == 2, "Step Functions has a page of its own"
    for url in pages:
        path = url.removeprefix(f"{registry.REPOSITORY}/blob/main/")
        assert (ROOT / path).is_file(), path
    assert f'Repository = "{registry.REPOSITORY}"' in (ROOT / "pyproject.toml").read_text()


@pytest.mark.parametrize(
    ("store", "order"),
    [
        (
            S3PipelineStore,
            "bucket prefix format region profile credentials endpoint_url kms_key_id request_payer checksums",
        ),
        (
            GCSPipelineStore,
            "bucket prefix format project credentials_path credentials endpoint_url kms_key_name user_project",
        ),
        (LocalPipelineStore, "directory prefix format"),
    ],
)
def test_the_form_begins_with_what_matters_and_ends_with_what_is_dangerous(
    store: type[PipelineStore], order: str
) -> None:
    fields = store.model_json_schema()["properties"]
    dangerous = ["allow_http", "allow_pickle"] if "allow_http" in fields else ["allow_pickle"]
    assert sorted(fields, key=lambda name: fields[name]["position"]) == [*order.split(), *dangerous]


@pytest.mark.parametrize("store", STORES)
def test_the_form_has_no_tab_for_nothing_and_a_select_box_for_the_format(store: type[PipelineStore]) -> None:
    schema = store.model_json_schema()
    for field in schema["properties"].values():
        assert {"type": "null"} not in field.get("anyOf", [])
    format = schema["properties"]["format"]
    assert (format["title"], format["enum"], format["default"]) == ("Format", ["parquet", "csv"], "parquet")


def test_the_form_of_a_pipeline_reads_well() -> None:
    schema = StepFunctionsPipeline.model_json_schema()
    fields = schema["properties"]
    titles = {name: field["title"] for name, field in fields.items()}
    assert (titles["name"], titles["role_arn"]) == ("State machine name", "Role ARN")
    assert (titles["endpoint_url"], titles["credentials"]) == ("Endpoint URL", "AWS credentials")
    assert sorted(field["position"] for field in fields.values()) == list(range(len(fields)))
    parts = [schema, *(schema["definitions"][name] for name in ("PipelineStep", "MapStep", "Handler", "S3Items"))]
    for part in parts:
        for field in part["properties"].values():
            assert {"type": "null"} not in field.get("anyOf", [])
    assert "\n" not in str(StepFunctionsPipeline.get_description()).replace("\n\n", "")
    # The older form shows it in the empty box; as it is, it makes a pipeline.
    example = fields["steps"]["example"]
    pipeline = StepFunctionsPipeline(fields["name"]["example"], fields["role_arn"]["example"], steps=example)
    assert pipeline.check() == []


BUCKETS = ["s3://my-bucket/x", "my-bucket/x", "gs://b", "b ucket"]
REFUSED: list[tuple[type[Block], str, Any]] = [
    *((store, "bucket", bucket) for store in (S3PipelineStore, GCSPipelineStore) for bucket in BUCKETS),
    *((store, "prefix", prefix) for store in STORES for prefix in ("/a", "a//b", "../a")),
    *((block, "endpoint_url", "minio.example:9000") for block in (S3PipelineStore, StepFunctionsPipeline)),
    (GCSPipelineStore, "endpoint_url", "https://user:secret@example.org"),
    (S3PipelineStore, "region", "us east"),
    (StepFunctionsPipeline, "role_arn", "StepFunctionsRole"),
    (StepFunctionsPipeline, "role_arn", "arn:aws:iam::123456789012:user/me"),
    (StepFunctionsPipeline, "name", "my pipeline"),
    (StepFunctionsPipeline, "steps", ["Ingest"]),
    (StepFunctionsPipeline, "steps", [{"name": "Ingest"}]),
    (StepFunctionsPipeline, "steps", [{"name": "a", "resource": "arn", "timeout_seconds": "soon"}]),
    (StepFunctionsPipeline, "steps", {"name": "Ingest"}),
    (StepFunctionsPipeline, "handlers", [{"fails": True}]),
]


def test_the_form_refuses_what_cannot_work(server: PrefectServer) -> None:
    """By the server, which Prefect's form asks before it saves."""
    role = "arn:aws:iam::123456789012:role/R"
    good: dict[type[Block], dict[str, Any]] = {
        S3PipelineStore: {"bucket": "b-ucket", "prefix": "a/b", "endpoint_url": "http://localhost:9000"},
        GCSPipelineStore: {"bucket": "b_ucket", "endpoint_url": "https://storage.example.org/"},
        LocalPipelineStore: {"directory": "/srv/store"},
        StepFunctionsPipeline: {
            "name": "p",
            "role_arn": role,
            "steps": StepFunctionsPipeline.model_json_schema()["properties"]["steps"]["example"],
        },
    }

    def errors(block: type[Block], **values: Any) -> list[Any]:
        schema = json.loads(json.dumps(block.model_json_schema()))
        body = {"schema": schema, "values": good[block] | values}
        answer = server.post("ui/schemas/validate", **body)
        return [] if answer["valid"] else answer["errors"]

    for block in good:
        assert errors(block) == []
    for block, field, value in REFUSED:
        found = errors(block, **{field: value})
        assert found, f"{block.__name__}.{field} = {value!r}"


@pytest.mark.parametrize("block", [*STORES, StepFunctionsPipeline])
def test_the_newer_form_can_save_the_block(server: PrefectServer, block: type[Block]) -> None:
    """Prefect 3.9.1 has the server read the values as if they were the schema: no field may be named as a keyword."""
    fields = json.loads(json.dumps(block.model_json_schema()))["properties"]
    values = {name: field["default"] if "default" in field else field.get("example") for name, field in fields.items()}
    values = {name: value for name, value in values.items() if value is not None}
    body = {"schema": values, "values": values}
    answer = server.ask("POST", "ui/schemas/validate", body)
    assert (answer.status_code, answer.json().get("valid")) == (200, True), answer.text


def test_the_type_of_a_machine_has_another_name_in_saved_blocks(server: PrefectServer) -> None:
    pipeline = StepFunctionsPipeline("p", "arn:aws:iam::123456789012:role/R", type="EXPRESS")
    pipeline.save("express", overwrite=True, _sync=True)
    (document,) = server.post("block_documents/filter", block_documents={"name": {"any_": ["express"]}})
    assert document["data"]["machine_type"] == "EXPRESS"
    assert StepFunctionsPipeline.load("express", _sync=True).type == "EXPRESS"
    # As it was saved before, and as it travels to another process.
    data = {name: value for name, value in document["data"].items() if name != "machine_type"} | {"type": "EXPRESS"}
    body = {"data": data, "merge_existing_data": False}
    server.ask("PATCH", f"block_documents/{document['id']}", body).raise_for_status()
    assert StepFunctionsPipeline.load("express", _sync=True).type == "EXPRESS"
    assert StepFunctionsPipeline(**document["data"], block_type_slug="step-functions-pipeline").type == "EXPRESS"


def test_the_code_example_runs_when_it_is_pasted(saved: Saved) -> None:
    example = str(type(saved.store).get_code_example())
    code = example.partition("```python\n")[2].partition("```")[0]
    names: dict[str, Any] = {}
    exec(code.replace("BLOCK_NAME", saved.reference.partition("/")[2]), names)
    assert list(names["windows"]["stay_id"]) == [1, 2]
    assert names["uri"] == saved.store.uri("features/windows_2024_01")


def run(code: str, server: PrefectServer, *arguments: str, path: str = "") -> str:
    """What another process prints. `path`: the only folder that it imports packages from."""
    environment = server.environment | {"PYTHONPATH": f"{path}:{ROOT}" if path else str(ROOT), "COLUMNS": "200"}
    options = ["-S"] if path else []
    done = subprocess.run(
        [sys.executable, *options, "-c", code, *arguments], env=environment, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_reference_finds_the_block_in_a_process_that_imports_only_prefect(
    server: PrefectServer, saved: Saved
) -> None:
    code = """if True:
        import sys
        from prefect.blocks.core import Block
        block = Block.load(sys.argv[1])
        print(type(block).__name__, block.prefix, block.format.value)
    """
    printed = run(code, server, saved.reference)
    assert printed == f"{type(saved.store).__name__} results/here parquet\n"


REGISTER = """if True:
    import runpy, sys
    sys.argv = ["prefect", "block", "register", "-m", "clinops_prefect"]
    runpy.run_module("prefect", run_name="__main__")
"""


def registered(printed: str) -> set[str]:
    return set(re.findall(r"│ (.*?) +│", printed))


def test_all_register_from_the_command_line(server: PrefectServer) -> None:
    assert registered(run(REGISTER, server)) == ALL


@pytest.fixture(params=["aws", "gcp", "azure", "all"])
def without(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path]:
    """A folder with every installed package but those of a cloud."""
    (site,) = {Path(module.__file__).parents[1] for module in map(__import__, ["pandas", "prefect_aws", "prefect_gcp"])}
    aws = "prefect_aws*", "boto*"
    gcp = "prefect_gcp*", "google*"
    azure = "prefect_azure*", "azure*"
    hidden = {"aws": aws, "gcp": gcp, "azure": azure, "all": (*aws, *gcp, *azure)}[request.param]
    for entry in site.iterdir():
        if entry.suffix != ".pth" and not any(entry.match(pattern) for pattern in hidden):
            (tmp_path / entry.name).symlink_to(entry)
    return request.param, tmp_path


def test_the_absence_of_a_cloud_costs_its_store_and_nothing_else(
    server: PrefectServer, without: tuple[str, Path]
) -> None:
    missing, path = without
    left = ALL - {"aws": ON_AWS, "gcp": ON_GCP, "azure": ON_AZURE, "all": ON_AWS | ON_GCP | ON_AZURE}[missing]
    assert registered(run(REGISTER, server, path=str(path))) == left
    code = """if True:
        import json
        from prefect.blocks.core import Block
        from prefect.plugins import load_prefect_collections
        from prefect.utilities.dispatch import get_registry_for_type
        loaded = load_prefect_collections()["clinops_prefect"]
        ours = "pipeline-store", "functions-pipeline"
        print(json.dumps([str(loaded), [name for name in get_registry_for_type(Block) if name.endswith(ours)]]))
    """
    # The only line: Prefect prints a warning for what it cannot load.
    (line,) = run(code, server, path=str(path)).splitlines()
    module, slugs = json.loads(line)
    assert module.startswith("<module 'clinops_prefect.collection'")
    assert set(slugs) == {name.lower().replace(" ", "-") for name in left}


def test_a_store_that_is_saved_and_loaded_is_the_same(saved: Saved) -> None:
    loaded = Block.load(saved.reference, _sync=True)
    assert loaded == saved.store
    assert loaded._block_document_id is not None
    frame = pd.DataFrame({"a": [1, 2]})
    loaded.upload(frame, "frames/a")
    assert saved.door.keys() == ["results/here/frames/a.parquet"]


SECRETS = {
    "aws": AwsCredentials(aws_access_key_id="AKIAEXAMPLE", aws_secret_access_key="hunter2-aws"),
    "minio": MinIOCredentials(minio_root_user="root", minio_root_password="hunter2-minio"),
}


@pytest.mark.parametrize("kind", SECRETS)
def test_credentials_are_a_block_of_their_own_and_their_secret_is_never_shown(
    kind: str, s3_endpoint: str, server: PrefectServer
) -> None:
    credentials = SECRETS[kind]
    credentials.save(f"login-{kind}", overwrite=True, _sync=True)
    store = S3PipelineStore("b", endpoint_url=s3_endpoint, credentials=type(credentials).load(f"login-{kind}"))
    store.save(f"with-{kind}", overwrite=True, _sync=True)
    loaded = S3PipelineStore.load(f"with-{kind}", _sync=True)
    assert isinstance(loaded, S3PipelineStore)
    assert type(loaded.credentials) is type(credentials)
    S3Door(s3_endpoint, f"bucket-{kind}")
    moved = loaded.model_copy(update={"bucket": f"bucket-{kind}"})
    assert moved.list_artifacts() == []

    documents = server.post("block_documents/filter", limit=200)
    shown = [repr(loaded), str(loaded), f"{loaded.model_dump()}", loaded.model_dump_json(), json.dumps(documents)]
    shown.append(_validation_error(bucket="b", credentials=credentials, format="neither"))
    assert not any("hunter2" in text for text in shown)


def _validation_error(**fields: Any) -> str:
    with pytest.raises(ValueError, match="format") as caught:
        S3PipelineStore(**fields)
    return str(caught.value)


def test_google_credentials_are_a_block_too() -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    encoding = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    account = {
        "type": "service_account",
        "client_email": "someone@example.com",
        "token_uri": "https://oauth2.googleapis.com/token",
        "private_key": key.private_bytes(*encoding).decode(),
    }
    GcpCredentials(service_account_info=account, project="p").save("login-gcp", overwrite=True, _sync=True)
    GCSPipelineStore("b", credentials=GcpCredentials.load("login-gcp")).save("with-gcp", overwrite=True, _sync=True)
    loaded = GCSPipelineStore.load("with-gcp", _sync=True)
    assert isinstance(loaded, GCSPipelineStore)
    assert loaded.credentials is not None
    assert loaded.credentials.service_account_info.get_secret_value() == account
    assert "PRIVATE KEY" not in repr(loaded) + str(loaded) + loaded.model_dump_json()
