"""The table of stores: a store needs only one entry, and another distribution can register a store."""

import subprocess
import sys
from pathlib import Path

import pytest

import clinops_prefect
from clinops_prefect import registry

STORE = """
{requirement}
from clinops_prefect import LocalPipelineStore

class SFTPPipelineStore(LocalPipelineStore):
    '''A store of another package.'''
    _block_type_name = "Their SFTP Store"
    _block_type_slug = "their-sftp-store"
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder with an installed distribution, `their-stores`, that registers a store."""
    (tmp_path / "their_stores.py").write_text(STORE.format(requirement=""))
    info = tmp_path / "their_stores-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-stores\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[clinops_prefect.stores]\nsftp = their_stores:SFTPPipelineStore [ssh]\n")
    return tmp_path


def run(site: Path, code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(site)!r})\n{code}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


def test_each_entry_agrees_with_its_class() -> None:
    assert [store.scheme for store in registry.STORES] == ["az", "file", "gs", "s3"]
    for store in registry.STORES:
        kind = store.load()
        assert kind is getattr(clinops_prefect, store.name)
        assert (kind.__name__, kind.get_block_type_slug()) == (store.name, store.slug)
        assert registry.by_scheme(store.scheme) is registry.by_slug(store.slug) is store
        assert registry.is_installed(store.extra)
        address = kind._backend_type().address.split(" and ")
        assert set(address) <= set(kind.model_fields), "messages tell users to check these fields"


def test_a_store_of_another_distribution_is_found_by_its_scheme(site: Path) -> None:
    code = """
from clinops_prefect import PipelineStore
from clinops_prefect.tasks import open_store
for find in (PipelineStore.from_uri, open_store):
    store = find("sftp:///srv/data")
    print(type(store).__module__, type(store).__name__, store.directory)
"""
    assert run(site, code).splitlines() == ["their_stores SFTPPipelineStore /srv/data"] * 2


def test_the_block_slug_of_another_distributions_store_is_known_and_prefect_finds_its_class(site: Path) -> None:
    code = """
from clinops_prefect import registry
print(registry.by_slug("their-sftp-store").name)
import clinops_prefect.collection
from prefect.blocks.core import Block
from prefect.utilities.dispatch import lookup_type
print(lookup_type(Block, "their-sftp-store").__name__)
"""
    assert run(site, code).splitlines() == ["SFTPPipelineStore"] * 2


def test_a_missing_package_of_another_distribution_is_named_and_only_its_store_fails(site: Path) -> None:
    (site / "their_stores.py").write_text(STORE.format(requirement="import paramiko_that_is_not_there"))
    code = """
import clinops_prefect.collection
from clinops_prefect import registry, PipelineStore
from clinops_prefect.tasks import open_store
by_uri = (PipelineStore.from_uri, "sftp:///x"), (open_store, "sftp:///x")
for find, text in (*by_uri, (open_store, "sftp-pipeline-store/x")):
    try:
        find(text)
    except ImportError as error:
        print(error)
print(type(PipelineStore.from_uri("/tmp/x")).__name__)
"""
    message = (
        "SFTPPipelineStore needs the packages of the 'ssh' extra (paramiko_that_is_not_there is missing): "
        "pip install 'their-stores[ssh]'"
    )
    assert run(site, code).splitlines() == [*[message] * 3, "LocalPipelineStore"]


@pytest.mark.parametrize("fault", ["raise RuntimeError('theirs')", "from json import nothing_of_that_name"])
def test_the_error_about_a_fault_of_another_distribution_names_that_distribution(site: Path, fault: str) -> None:
    (site / "their_stores.py").write_text(STORE.format(requirement=fault))
    code = """
import clinops_prefect.collection
from clinops_prefect import PipelineStore
try:
    PipelineStore.from_uri("sftp:///x")
except ImportError as error:
    print("their" in str(error))
"""
    assert run(site, code) == "True"


def test_another_distribution_cannot_replace_a_store_of_this_one(site: Path) -> None:
    points = site / "their_stores-1.0.dist-info" / "entry_points.txt"
    points.write_text("[clinops_prefect.stores]\ns3 = their_stores:SFTPPipelineStore\n")
    code = """
from clinops_prefect import PipelineStore, registry
print(type(PipelineStore.from_uri("s3://b/x")).__name__, [store.scheme for store in registry.stores()])
"""
    assert run(site, code) == "S3PipelineStore ['az', 'file', 'gs', 's3']"


ABSENT = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == {missing!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
from clinops_prefect import PipelineStore
from clinops_prefect.tasks import download_artifact, list_artifacts, open_store, upload_artifact
import clinops_prefect.tasks as tasks
ways = [
    lambda: PipelineStore.from_uri({uri!r}),
    lambda: open_store({uri!r}),
    lambda: open_store({reference!r}),
    lambda: list_artifacts.fn({uri!r}),
    lambda: upload_artifact.fn({reference!r}, None, "x"),
    lambda: download_artifact.fn({uri!r}, "x"),
]
if {missing!r} == "boto3":
    import clinops_prefect, clinops_prefect.step_functions as step_functions
    ways.append(lambda: tasks.run_step_functions_pipeline)
    ways.append(lambda: clinops_prefect.StepFunctionsPipeline)
    ways.append(lambda: step_functions.StepFunctionsPipeline)
for way in ways:
    try:
        way()
    except ImportError as error:
        print({hint!r} in str(error) and str(error).count("pip install") == 1)
    else:
        print("no error")
"""


@pytest.mark.parametrize(
    ("missing", "uri", "extra"),
    [("boto3", "s3://b/p", "aws"), ("prefect_aws", "s3://b", "aws"), ("google", "gs://b", "gcp")],
)
def test_a_missing_extra_is_named_on_every_way_in(tmp_path: Path, missing: str, uri: str, extra: str) -> None:
    reference = {"aws": "s3-pipeline-store/prod", "gcp": "gcs-pipeline-store/prod"}[extra]
    hint = f"pip install 'clinops-prefect[{extra}]'"
    printed = run(tmp_path, ABSENT.format(missing=missing, uri=uri, reference=reference, hint=hint)).splitlines()
    assert printed == ["True"] * (9 if missing == "boto3" else 6)
