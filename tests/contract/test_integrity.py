"""A damaged object is an ArtifactDecodeError, never another frame."""

import numpy as np
import pandas as pd
import pytest

from clinops_prefect import ArtifactDecodeError
from tests.doors import Door
from tests.gallery import FRAMES

RNG = np.random.default_rng(3)
FRAME = pd.DataFrame(
    {"id": range(3_000), "v": RNG.random(3_000), "w": RNG.integers(0, 5, 3_000) / 2, "code": ["007", "b", "c"] * 1_000}
)


@pytest.mark.parametrize(
    "rubbish", [b"", b"PAR1", b"PAR1PAR1", b"PAR1" + b"\xff" * 8 + b"PAR1", b"a,b\n1,2\n", b"\x00" * 99]
)
def test_what_is_no_parquet_is_not_decoded(door: Door, rubbish: bytes) -> None:
    store = door.store()
    door.put("x.parquet", rubbish)
    for read in (
        store.download,
        store.stat,
        lambda n: store.download(n, columns=["a"]),
        lambda n: list(store.iter_batches(n)),
    ):
        with pytest.raises(ArtifactDecodeError) as caught:
            read("x")
        assert caught.value.uri == store.uri("x")


@pytest.mark.parametrize("rubbish", [b"\xff\xfe\x00", b'a,b\n"unclosed', b"a\n1,2,3\n4,5,6,7\n", b"Jane Doe\n\x80"])
def test_what_is_no_csv_is_not_decoded_nor_quoted(door: Door, rubbish: bytes) -> None:
    store = door.store(format="csv")
    door.put("x.csv", rubbish)
    with pytest.raises(ArtifactDecodeError) as caught:
        store.download("x")
    assert "Jane" not in str(caught.getrepr(style="native"))


def test_a_sidecar_that_was_lost_means_inference_and_not_a_crash(door: Door) -> None:
    store = door.store(format="csv")
    store.upload(FRAMES["one row"][["stay_id"]], "x")
    (sidecar,) = [key for key in door.keys() if key.endswith(".schema.json")]
    data = door.get("x.csv")
    store.delete_artifact("x")
    assert sidecar not in door.keys()
    door.put("x.csv", data)
    assert store.download("x")["stay_id"].tolist() == [30_000_000]
