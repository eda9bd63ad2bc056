"""The keys of the flows' Prefect artifacts: readable, different for each store, and the same in each run."""

import hashlib
import re
from pathlib import Path

import pytest

from clinops_prefect import LocalPipelineStore
from flows.running.artifacts import key


@pytest.mark.parametrize(
    ("folder", "end"),
    [
        ("/srv/icu", "file-srv-icu"),
        ("/data/clinops/prod", "file-data-clinops-prod"),
        ("/data/clinical-research/prod", "clinical-research-prod"),
        ("/data/clinical-research/prod-v2", "research-prod-v2"),
        ("/x/department-of-anaesthesia/icu-a", "of-anaesthesia-icu-a"),
        ("/y/abcdefghij/klmnopqrst-vwx", "klmnopqrst-vwx"),
        ("/z/klmnopqrstuvwxyzklmnopqrstuvwxyz", "stuvwxyzklmnopqrstuvwxyz"),
        ("/data/clinops/abcdefghijk-lmnopqrstuvw", "abcdefghijk-lmnopqrstuvw"),
    ],
)
def test_a_key_has_the_last_whole_words_of_the_stores_path(folder: str, end: str) -> None:
    store = LocalPipelineStore(folder)
    digest = hashlib.sha256(f"file://{folder}".encode()).hexdigest()[:6]
    assert key("icu-quality", store) == f"icu-quality-{end}-{digest}"


def test_stores_whose_paths_have_the_same_last_words_have_different_keys(tmp_path: Path) -> None:
    stores = [LocalPipelineStore(str(tmp_path / name / "clinical-research-artifacts")) for name in "ab"]
    keys = {key("icu-quality", store) for store in stores}
    assert len(keys) == 2
    assert all(re.fullmatch("[a-z0-9-]+", one) for one in keys)
