"""The sidecar of a removed text is removed too, in whatever order two writers act."""

from pathlib import Path

import pandas as pd
import pytest

from clinops_prefect import LocalPipelineStore, StorageFormat
from clinops_prefect.artifacts import sidecars


def test_a_sidecar_that_is_restored_after_its_text_was_replaced_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LocalPipelineStore(str(tmp_path), format=StorageFormat.CSV)
    exists, rivals = sidecars._exists, []

    def exists_after_a_rival(backend: object, key: str) -> bool:
        if not rivals:
            rivals.append(store)
            store.upload(pd.DataFrame({"v": [2, 3]}), "x")  # replaces the text, and removes its sidecar
        return exists(backend, key)  # type: ignore[arg-type]

    monkeypatch.setattr(sidecars, "_exists", exists_after_a_rival)
    store.upload(pd.DataFrame({"v": [1]}), "x")
    assert rivals
    assert store.download("x")["v"].tolist() == [2, 3]
    assert len(list(tmp_path.iterdir())) == 2


def test_the_text_of_a_sidecar_is_known_by_the_sidecars_key() -> None:
    key = sidecars.key_of("a/x.csv", "0123456789abcdef" * 4)
    assert sidecars.text_of(key) == "a/x.csv"
    for other in ("a/x.csv", f"{key}.bak", "a/x.csv.short.schema.json", ""):
        assert sidecars.text_of(other) == ""
