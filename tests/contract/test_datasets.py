"""store.dataset(): many artifacts as one frame, on every store."""

import asyncio
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest

from clinops_prefect import ArtifactNotFoundError, PipelineStore, ServiceUnavailableError
from tests.contract.conftest import clouds
from tests.doors import Door
from tests.gallery import assert_same
from tests.proxy import Proxy

DATES = ("2024-01-01", "2024-01-02", "2024-01-03")


def shard(number: int, rows: int = 50) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "stay_id": np.arange(rows) + number * rows,
            "heart_rate": np.linspace(60, 90, rows) + number,
            "unit": pd.Categorical(["MICU", "SICU"] * (rows // 2)),
            "note": [f"note {number}", None] * (rows // 2),
        }
    )


def stored(store: PipelineStore, name: str = "icu/features", shards: int = 3) -> pd.DataFrame:
    for number in range(shards):
        store.upload(shard(number), f"{name}/shard-{number:03d}")
    return pd.concat([shard(number) for number in range(shards)], ignore_index=True)


def test_shards_are_one_frame(door: Door, format: str) -> None:
    store = door.store(prefix="clinops", format=format)
    whole = stored(store)
    # Artifacts of a neighbouring path, and other objects below the prefix, are no parts.
    store.upload(shard(9), "icu/features-old/shard-000")
    store.write_bytes("icu/features/_SUCCESS", b"")
    store.write_bytes("icu/features/quality.html", b"<p>")
    dataset = store.dataset("icu/features")
    assert dataset.names == [f"icu/features/shard-{number:03d}" for number in range(3)]
    assert "3 parts" in repr(dataset)
    assert f"{len(whole)} rows" not in repr(dataset)  # nobody has read a footer yet
    assert dataset.rows == len(whole)
    assert dataset.bytes == sum(store.stat(name).bytes for name in dataset.names)
    assert dataset.schema == store.stat("icu/features/shard-000").schema
    assert f"3 parts, {len(whole)} rows" in repr(dataset)
    assert_same(dataset.download(), whole)
    some = whole.loc[whole["stay_id"] >= 70, ["note", "heart_rate"]].reset_index(drop=True)
    assert_same(dataset.download(columns=["note", "heart_rate"], filters=[("stay_id", ">=", 70)]), some)
    assert_same(pd.concat(list(dataset.iter_batches(rows=40))), whole)
    assert [len(batch) for batch in dataset.iter_batches(rows=40)] == [40, 40, 40, 30]


def test_the_async_forms_give_the_same(door: Door) -> None:
    store = door.store()
    whole = stored(store, "x")

    async def read() -> None:
        dataset = await store.adataset("x")
        assert await dataset.arows() == len(whole)
        assert await dataset.aschema() == dataset.schema
        assert_same(await dataset.adownload(), whole)
        assert_same(pd.concat([batch async for batch in dataset.aiter_batches(rows=60)]), whole)

    asyncio.run(read())


def test_a_part_that_changes_after_the_listing_is_an_error_that_names_it(door: Door, format: str) -> None:
    store = door.store(format=format)
    stored(store, "x")
    reads = (
        lambda dataset: dataset.download(),
        lambda dataset: dataset.download(columns=["stay_id"], filters=[("stay_id", "<", 5)]),
        lambda dataset: list(dataset.iter_batches()),
        lambda dataset: dataset.rows,
    )
    # For equal content, S3 reports the same ETag.
    for number, read in enumerate(reads):
        dataset = store.dataset("x")
        store.upload(shard(7 + number), "x/shard-001")
        with pytest.raises(ServiceUnavailableError, match=r"x/shard-001\.\w+ was overwritten after the dataset"):
            read(dataset)
    dataset = store.dataset("x")
    assert dataset.rows == 150
    store.upload(shard(8, rows=2000), "x/shard-002")
    with pytest.raises(ServiceUnavailableError, match="x/shard-002"):
        dataset.download()
    store.dataset("x").download()


def test_a_part_that_is_removed_after_the_listing_is_an_error_that_names_it(door: Door, format: str) -> None:
    store = door.store(format=format)
    stored(store, "x")
    dataset = store.dataset("x")
    store.delete_artifact("x/shard-002")
    with pytest.raises(ArtifactNotFoundError, match=r"x/shard-002\.\w+ was removed after the dataset was listed"):
        dataset.download()
    assert_same(store.dataset("x").download(), pd.concat([shard(0), shard(1)], ignore_index=True))


@clouds
def test_a_filter_on_partitions_reads_no_byte_of_the_other_parts(door: Door, proxy: Proxy) -> None:
    store = door.store(endpoint_url=proxy.url)
    for number, date in enumerate(DATES):
        for part in "ab":
            store.upload(shard(number), f"x/date={date}/{part}")
    wanted = pd.concat([shard(1)] * 2, ignore_index=True)
    proxy.clear()
    found = store.dataset("x").download(filters=[("date", "==", DATES[1]), ("stay_id", ">", 0)])
    assert_same(found.drop(columns="date"), wanted)
    assert set(found["date"]) == {DATES[1]}
    touched = [date for seen in proxy.seen for date in DATES if f"date={date}" in unquote(seen.path)]
    assert set(touched) == {DATES[1]}
    proxy.clear()
    assert store.dataset("x").download(filters=[("date", "in", ["2030-01-01"])]).empty
    # An answer without rows needs one part, for its columns.
    touched = [date for seen in proxy.seen for date in DATES if f"date={date}" in unquote(seen.path)]
    assert len(touched) <= 2


@clouds
def test_statistics_skip_the_row_groups_and_parts_without_such_rows(door: Door, proxy: Proxy) -> None:
    store = door.store(endpoint_url=proxy.url)
    wide = pd.DataFrame(np.random.default_rng(0).normal(size=(30_000, 8)), columns=list("abcdefgh"))
    for number in range(4):
        store.upload(wide.assign(stay_id=np.arange(30_000) + number * 30_000), f"x/{number}")
    proxy.clear()
    found = store.dataset("x").download(filters=[("stay_id", "==", 65_000)])
    assert found["stay_id"].to_list() == [65_000]
    # Only the footers of all parts and the rows of one part were read.
    assert proxy.answered < store.dataset("x").bytes / 2.5
