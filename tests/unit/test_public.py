"""The public names, and the modules that importing them loads."""

import subprocess
import sys

import pytest

import clinops_prefect
from clinops_prefect import errors

DOCUMENTED = {
    "ArtifactInfo", "GCSPipelineStore", "LocalPipelineStore", "PipelineStore", "S3PipelineStore", "StorageFormat",
}  # fmt: skip


def _run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


def test_all_has_the_documented_names_and_the_errors() -> None:
    assert set(clinops_prefect.__all__) >= DOCUMENTED | set(errors.__all__)
    assert len(clinops_prefect.__all__) == len(set(clinops_prefect.__all__))
    for name in clinops_prefect.__all__:
        assert getattr(clinops_prefect, name).__name__ == name
        assert name in dir(clinops_prefect)
    assert [name for name in clinops_prefect.__all__ if name.startswith("_")] == []


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="S4PipelineStore"):
        clinops_prefect.S4PipelineStore  # noqa: B018
    assert not hasattr(clinops_prefect, "boto3")


def test_importing_the_package_imports_neither_prefect_nor_pandas_nor_a_cloud() -> None:
    heavy = {"prefect", "pandas", "numpy", "pyarrow", "boto3", "botocore", "google.cloud", "pydantic"}
    assert _run(f"import sys, clinops_prefect; print({heavy!r} & set(sys.modules))") == "set()"


@pytest.mark.parametrize(
    ("name", "unwanted"),
    [
        ("S3PipelineStore", ["google.cloud.storage", "prefect_gcp"]),
        ("GCSPipelineStore", ["boto3", "botocore", "prefect_aws"]),
        ("LocalPipelineStore", ["boto3", "botocore", "prefect_aws", "google.cloud.storage", "prefect_gcp"]),
        ("StorageFormat", ["prefect", "boto3", "google.cloud.storage"]),
        ("ArtifactInfo", ["prefect", "boto3", "google.cloud.storage"]),
        ("ArtifactNotFoundError", ["prefect", "pandas"]),
    ],
)
def test_a_name_imports_only_its_own_cloud(name: str, unwanted: list[str]) -> None:
    code = f"import sys; from clinops_prefect import {name}; print([m for m in {unwanted!r} if m in sys.modules])"
    assert _run(code) == "[]"


@pytest.mark.parametrize(
    ("uri", "unwanted"), [("s3://b/p", "google.cloud.storage"), ("gs://b/p", "boto3"), ("file:///tmp/x", "boto3")]
)
def test_a_uri_imports_only_its_own_cloud(uri: str, unwanted: str) -> None:
    code = f"import sys, clinops_prefect as c; c.PipelineStore.from_uri({uri!r}); print({unwanted!r} in sys.modules)"
    assert _run(code) == "False"


@pytest.mark.parametrize(
    ("name", "missing", "extra"),
    [
        ("S3PipelineStore", "boto3", "aws"),
        ("S3PipelineStore", "prefect_aws", "aws"),
        ("GCSPipelineStore", "prefect_gcp", "gcp"),
    ],
)
def test_a_missing_extra_is_named_with_how_to_install_it(name: str, missing: str, extra: str) -> None:
    """If a module is None in sys.modules, the import statement treats it as not installed."""
    code = f"""
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == {missing!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
import clinops_prefect
try:
    clinops_prefect.{name}
except ImportError as error:
    print(error)
"""
    assert f"clinops-prefect[{extra}]" in _run(code)
