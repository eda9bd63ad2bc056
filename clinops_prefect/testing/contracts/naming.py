"""Laws of a store: names of artifacts, and listings."""

from collections.abc import Callable

import pandas as pd
import pytest

from clinops_prefect.errors import InvalidArtifactNameError
from clinops_prefect.store import PipelineStore
from clinops_prefect.testing.contracts.access import DirectAccess
from clinops_prefect.testing.contracts.frames import MakeStore

FRAME = pd.DataFrame({"a": [1, 2]})
GOOD = [
    "a", "a/b/c", "features/windows_2024_01", "date=2024-01-01/shard=3", "v1.2.3/x.y", "ä/漢字/😀", "with space",
    "x.parquet", "x.csv", ".hidden", "a%2Fb", "a+b", "a?b#c", "a:b", "a&b='\"<>", "~", "-", "…", "e\u0301", "\u00e9",
    "n" * 200,
]  # fmt: skip
BAD = [
    "", "/", "/a", "a/", "a//b", ".", "..", "a/../b", "./a", "a/.", "a\x00b", "a\nb", "a\x7f", "a\x85", "\ud800",
    "a\u2028b", "a\u202eb", "n" * 4000, "é" * 2000,
]  # fmt: skip
# Calls of every method that takes a name.
NAMED: list[Callable[[PipelineStore, str], object]] = [
    lambda store, name: store.upload(FRAME, name), lambda store, name: store.upload_batches([FRAME], name),
    lambda store, name: store.download(name), lambda store, name: store.stat(name),
    lambda store, name: list(store.iter_batches(name)), lambda store, name: store.exists(name),
    lambda store, name: store.delete_artifact(name), lambda store, name: store.uri(name),
    lambda store, name: store.list_versions(name), lambda store, name: store.copy_artifact(name, "x"),
    lambda store, name: store.copy_artifact("x", name),
]  # fmt: skip


class NamingLaws:
    """See `StoreContract`."""

    def test_every_good_name_round_trips_lists_and_deletes(
        self, make_store: MakeStore, direct: DirectAccess, format: str
    ) -> None:
        store = make_store(prefix="p/q", format=format)
        good = [name for name in GOOD if not name.endswith(f".{format}")]
        for number, name in enumerate(good):
            uri = store.upload(pd.DataFrame({"a": [number]}), name)
            assert uri == store.uri(name)
        # The number of names shows that no two names are stored as one object.
        assert store.list_artifacts() == sorted(good)
        keys = direct.keys()
        for number, name in enumerate(good):
            assert store.download(name)["a"].tolist() == [number]
            assert f"p/q/{name}.{format}" in keys
        for name in good:
            store.delete_artifact(name)
        assert direct.keys() == []

    def test_a_bad_name_is_refused_by_every_method(
        self, make_store: MakeStore, direct: DirectAccess, format: str
    ) -> None:
        store = make_store(format=format)
        plain: list[Callable[[PipelineStore, str], object]] = [
            lambda store, name: store.read_bytes(name), lambda store, name: store.write_bytes(name, b"")
        ]  # fmt: skip
        for name in [*BAD, None, 7, b"x"]:
            for call in [*NAMED, *plain]:
                with pytest.raises(InvalidArtifactNameError) as caught:
                    call(store, name)  # type: ignore[arg-type]
                assert isinstance(caught.value, ValueError)
                assert len(str(caught.value)) < 1000
        assert direct.keys() == []

    def test_a_bad_prefix_is_refused(self, make_store: MakeStore) -> None:
        for prefix in ("/a", "a//b", "..", "a/../b"):
            with pytest.raises(InvalidArtifactNameError):
                make_store(prefix=prefix)
            with pytest.raises(InvalidArtifactNameError):
                make_store().list_artifacts(prefix)
        assert make_store(prefix="a/b/").uri("x").endswith("/a/b/x.parquet")

    @pytest.mark.parametrize("name", ["labs.parquet", "a/labs.PARQUET", "labs.csv", "labs.Csv", "x.parquet.parquet"])
    def test_the_stores_own_extension_is_refused_by_every_method_and_the_name_without_it_shown(
        self, make_store: MakeStore, direct: DirectAccess, format: str, name: str
    ) -> None:
        store = make_store(format=format)
        if not name.lower().endswith(format):
            store.upload(FRAME, name)
            assert store.list_artifacts() == [name]
            return
        store.upload(FRAME, "x")
        before = direct.keys()
        for call in NAMED:
            with pytest.raises(InvalidArtifactNameError, match=f"adds .{format} itself") as caught:
                call(store, name)
        assert ("use '" in str(caught.value)) == (name != "x.parquet.parquet")
        assert direct.keys() == before
        # The name of a plain object contains its extension.
        assert store.write_bytes(f"b/{name}", b"1").endswith(name)

    def test_a_listing_is_sorted_and_of_its_own_path_and_format(self, make_store: MakeStore) -> None:
        """A listing has no names of a neighbouring path, no sidecars, no plain objects and no other formats."""
        store, old = make_store(prefix="clinops/prod"), make_store(prefix="clinops/prod-old")
        for name in ("features/b", "features/a", "features_old/c", "features", "z"):
            store.upload(FRAME, name)
        old.upload(FRAME, "features/old")
        make_store().upload(FRAME, "clinops/prod")
        make_store(prefix="clinops/prod", format="csv").upload(FRAME, "features/csv")
        store.write_bytes("features/report.html", b"")
        assert store.list_artifacts() == ["features", "features/a", "features/b", "features_old/c", "z"]
        assert store.list_artifacts("features") == ["features/a", "features/b"]
        assert store.list_artifacts("features/") == ["features/a", "features/b"]
        assert store.list_artifacts("feat") == []
        assert store.list_artifacts("none/such") == []
        assert make_store(prefix="clinops/prod", format="csv").list_artifacts() == ["features/csv"]
        assert make_store().list_artifacts("clinops/prod-old") == ["clinops/prod-old/features/old"]
        assert make_store(prefix="nowhere").list_artifacts() == []
        for name in store.list_artifacts():
            assert len(store.download(name)) == 2

    def test_what_others_put_there_under_impossible_names_is_not_listed(
        self, make_store: MakeStore, direct: DirectAccess, format: str
    ) -> None:
        """Every listed name can be passed to `download`."""
        for name in (".{}", "p/.{}", "p/a{}", "p/y.{}.{}", "p/a\u202eb.{}", "p/a\u2028b.{}"):
            direct.put(name.format(format, format), b"x")
        direct.put(f"p/a.{format.upper()}", b"x")
        make_store(prefix="p", format=format).upload(FRAME, "good")
        assert make_store(prefix="p", format=format).list_artifacts() == ["good"]
        assert make_store(format=format).list_artifacts() == ["p/good"]
