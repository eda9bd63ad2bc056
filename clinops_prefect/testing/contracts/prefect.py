"""Laws of a store as a Prefect block: it can be pickled, and it stores results."""

import asyncio
import copy
import pickle

import cloudpickle  # type: ignore[import-untyped]
import pytest

from clinops_prefect import locations, registry
from clinops_prefect.errors import ArtifactNotFoundError, InvalidArtifactNameError, UntrustedResultError
from clinops_prefect.testing.contracts.access import DirectAccess
from clinops_prefect.testing.contracts.frames import MakeStore, assert_equal, clinical


class PrefectLaws:
    """See `StoreContract`."""

    def test_the_store_is_registered_under_the_scheme_of_its_uris(self, make_store: MakeStore) -> None:
        store = make_store()
        kind = registry.by_slug(type(store).get_block_type_slug())
        assert kind is not None, (
            "no entry point of the group clinops_prefect.stores names this class; install the package again if its "
            "pyproject.toml has one"
        )
        assert kind.load() is type(store)
        assert registry.by_scheme(store.uri("x").partition("://")[0]) is kind

    def test_the_first_argument_is_a_field_and_the_form_describes_every_field(self, make_store: MakeStore) -> None:
        kind = type(make_store())
        assert kind._first_field in kind.model_fields, f"set _first_field of {kind.__name__} to the name of a field"
        assert [name for name, field in kind.model_fields.items() if not field.description] == []

    @pytest.mark.parametrize("prefix", ["", "p/q"])
    def test_the_uri_of_a_store_opens_the_same_store(self, make_store: MakeStore, prefix: str) -> None:
        store = make_store(prefix=prefix)
        kind = type(store)
        store.upload(clinical(), "x")
        found = locations.parse(store.uri("x").rpartition("/")[0])
        assert isinstance(found, locations.Location)
        # A URI names what is required. Other fields, such as credentials, are given beside it.
        required = [name for name, field in kind.model_fields.items() if field.is_required()]
        others = {
            name: getattr(store, name) for name in store.model_fields_set - {"prefix", kind._first_field, *required}
        }
        opened = kind._at(found.path, is_uri=found.is_uri, **others)
        assert opened.uri("x") == store.uri("x")
        assert_equal(opened.download("x"), clinical())

    def test_a_pickled_or_copied_store_reaches_the_same_artifacts(self, make_store: MakeStore) -> None:
        store = make_store(prefix="p")
        store.upload(clinical(), "x")
        for other in (pickle.loads(pickle.dumps(store)), cloudpickle.loads(cloudpickle.dumps(store))):
            assert_equal(other.download("x"), clinical())
        assert_equal(copy.deepcopy(store).download("x"), clinical())

    def test_the_async_wrappers_do_what_their_methods_do(self, make_store: MakeStore) -> None:
        store = make_store()

        async def use() -> None:
            await store.aupload(clinical(), "x")
            assert await store.aexists("x")
            assert_equal(await store.adownload("x"), clinical())
            assert await store.alist_artifacts() == ["x"]
            await store.adelete_artifact("x")
            assert not await store.aexists("x")

        asyncio.run(use())

    def test_plain_objects_come_back(self, make_store: MakeStore, direct: DirectAccess) -> None:
        store = make_store(prefix="p")
        for data in (b"", b"\x00\xff" * 10, bytes(range(256)) * 40_000):
            uri = store.write_bytes("day/report.html", data)
            assert uri.endswith("/p/day/report.html")
            assert store.read_bytes("day/report.html") == data == direct.get("p/day/report.html")
        with pytest.raises(TypeError):
            store.write_bytes("x", "text")  # type: ignore[arg-type]
        with pytest.raises(ArtifactNotFoundError):
            store.read_bytes("day/other.html")

    def test_a_browser_finds_a_plain_object_by_its_path_and_by_its_uri(self, make_store: MakeStore) -> None:
        store, beside = make_store(prefix="p"), make_store(prefix="p2")
        url = store.browser_url(store.write_bytes("a b/report.html", b"<p>"))
        assert url == store.browser_url("a b/report.html")
        assert url != beside.browser_url("a b/report.html")
        with pytest.raises(InvalidArtifactNameError):
            store.browser_url("../report.html")

    def test_a_result_that_could_run_code_is_refused(self, make_store: MakeStore, direct: DirectAccess) -> None:
        store = make_store()
        pickled = b'{"metadata": {"serializer": {"type": "pickle"}}, "result": "gASVCQAAAAAAAACMBWhlbGxvlC4="}'
        safe = b'{"metadata": {"serializer": {"type": "json"}, "storage_key": "k"}, "result": "1"}'
        with pytest.raises(UntrustedResultError):
            store.write_path("k", pickled)
        assert direct.keys() == []
        store.write_path("k", safe)
        assert store.read_path("k") == safe
        direct.put("k", pickled)
        with pytest.raises(UntrustedResultError):
            store.read_path("k")
