"""Canary tests: each fails when a private name, or a message that we parse, of another package is gone.

A comment at each use in the code says what breaks. The docstring of a failing test says where that is.
"""

import csv
import importlib.util
import inspect
import re
from pathlib import Path

import boto3
import botocore.session
import numpy as np
import pandas as pd
import prefect
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import requests
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage
from prefect.assets import Asset
from prefect.blocks.core import Block
from prefect.cache_policies import INPUTS, TASK_SOURCE, CompoundCachePolicy
from prefect.context import AssetContext, FlowRunContext, TaskRunContext
from urllib3.poolmanager import PoolKey

from clinops_prefect import FrameInputs
from clinops_prefect.frames.selection import selection
from clinops_prefect.step_functions.runs.tasks import run_step_functions_pipeline
from clinops_prefect.storage.gcs.client import Adapter


def test_prefect_counts_the_calls_of_a_flow_run() -> None:
    """step_functions/runs/tasks.py: an execution's name has the position of the call in the flow run."""
    assert "task_run_dynamic_keys" in FlowRunContext.model_fields


def test_prefects_task_with_options_can_be_given_our_class() -> None:
    """step_functions/runs/tasks.py: `__class__ =`."""
    changed = run_step_functions_pipeline.with_options(retries=0)
    assert type(changed) is type(run_step_functions_pipeline)
    assert changed.retries == 0


def test_prefects_asset_context_has_what_a_task_run_reads_and_writes() -> None:
    """assets.py."""
    for name in ("downstream_assets", "direct_asset_dependencies"):
        assert name in AssetContext.model_fields
    context, asset = AssetContext(), Asset(key="s3://b/x")
    context.downstream_assets.add(asset)
    context.add_asset_metadata(asset.key, {"rows": 1})
    context.update_tracked_assets()


def test_prefects_block_has_the_id_of_its_document() -> None:
    """step_functions/runs/cancellation.py: a process that cancels a run loads the credentials from the block."""
    assert "_block_document_id" in Block.__private_attributes__


def test_prefects_block_has_the_name_under_which_it_is_saved() -> None:
    """references.py: the reference to an artifact names the block of its store."""
    assert {"_block_document_name", "_is_anonymous"} <= Block.__private_attributes__.keys()


def test_pyarrow_computes_the_positions_of_columns_where_we_pass_on_known_ones(tmp_path: Path) -> None:
    """frames/parquet/known_schemas.py: without the method, each part of a dataset computes them again."""
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"a": [1], "b": [{"x": 1, "y": [2]}]}), path)
    file = pq.ParquetFile(path)
    assert {"a": [0], "b.x": [1], "b.y.list.element": [2]}.items() <= file._build_nested_paths().items()
    assert file._nested_paths_by_prefix == file._build_nested_paths()


def test_prefects_sum_of_cache_policies_has_its_policies() -> None:
    """caching.py: `FrameInputs() + TASK_SOURCE - "x"`."""
    policies = [FrameInputs(), TASK_SOURCE]
    assert CompoundCachePolicy(policies=policies).policies == policies
    assert type(FrameInputs() + TASK_SOURCE - "x") is type(FrameInputs() + TASK_SOURCE)
    assert hasattr(INPUTS, "exclude")


def test_prefects_messages_about_blocks_have_the_words_that_we_read() -> None:
    """saved_block.py distinguishes them by their words."""
    # In the source, a long message is several literals.
    source = re.sub(r'"\s+f?"', "", inspect.getsource(prefect.blocks.core))
    assert "Unable to find block document" in source
    assert "already in use" in source


def test_prefects_context_of_a_task_run_has_its_run() -> None:
    """tasks.py."""
    assert "task_run" in TaskRunContext.model_fields


def test_botocores_session_is_inside_boto3s() -> None:
    """aws/clients.py: times after the year 9999, and credentials that are refreshed automatically."""
    factory = boto3.Session()._session.get_component("response_parser_factory")
    assert callable(factory.set_parser_defaults)
    session = botocore.session.get_session()
    session._credentials = marker = object()  # type: ignore[attr-defined]
    assert session.get_credentials() is marker


def test_googles_client_sends_with_a_session_of_requests() -> None:
    """storage/gcs/client.py: large bodies on slow networks."""
    client = storage.Client(project="p", credentials=AnonymousCredentials())  # type: ignore[no-untyped-call]
    assert isinstance(client._http, requests.Session)
    assert "key_blocksize" in PoolKey._fields
    assert Adapter().poolmanager.connection_pool_kw["blocksize"] == 1 << 20
    assert Adapter().proxy_manager_for("http://proxy:1").connection_pool_kw["blocksize"] == 1 << 20


def test_googles_client_looks_up_buckets_for_its_cache_only() -> None:
    """storage/gcs/client.py: no request in the background. Older versions have no such cache."""
    client = storage.Client(project="p", credentials=AnonymousCredentials())  # type: ignore[no-untyped-call]
    has_cache = importlib.util.find_spec("google.cloud.storage._bucket_metadata_cache") is not None
    assert hasattr(client, "_bucket_metadata_cache") == has_cache


def test_pandas_gives_access_to_its_blocks() -> None:
    """frames/conversion/pandas_blocks.py and columns.py: Prefect's cache keys, and frames that are the caller's own."""
    frame = pd.DataFrame({"a": [1, 2], "at": pd.to_datetime(["2024-01-01", None])})
    for block in frame._mgr.blocks:
        assert list(block.mgr_locs)
    times = frame["at"].array
    assert isinstance(times._ndarray, np.ndarray)
    assert times._dtype == times.dtype
    assert type(times)._simple_new(times._ndarray, dtype=times.dtype).equals(times)
    assert frame.index._data is not None
    assert pd.array([1, None], dtype="Int64")._mask.tolist() == [False, True]
    assert pd.array([1, None], dtype="Int64")._data.tolist()[0] == 1
    assert pd.DataFrame._metadata == []


def test_arrows_messages_about_expressions_have_the_words_that_we_read() -> None:
    """frames/selection/selection.py: the name of a missing field, and a comparison of time zones."""
    table = pa.table({"a": [1], "at": pa.array([0], pa.timestamp("us", "UTC"))})
    with pytest.raises(pa.ArrowInvalid) as missing:
        table.filter(pc.field("b") == 1)
    assert selection._unmatched(missing.value) == "b"
    with pytest.raises((pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError)) as zones:
        table.filter(pc.field("at") == pa.scalar(0, pa.timestamp("us")))
    assert selection._is_of_zones(zones.value)


def test_the_csv_modules_message_about_a_long_cell_has_the_words_that_we_read() -> None:
    """frames/csv/foreign.py."""
    with pytest.raises(csv.Error, match="field limit"):
        list(csv.reader(["x" * (csv.field_size_limit() + 1)]))


def test_no_other_internal_module_of_prefect_is_imported() -> None:
    root = Path(__file__).parents[2]
    files = [*(root / "clinops_prefect").rglob("*.py"), *(root / "flows").rglob("*.py")]
    using = {path.name for path in files if "prefect._internal" in path.read_text()}
    assert using == set()
