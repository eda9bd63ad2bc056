"""The grammar of names."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from clinops_prefect import InvalidArtifactNameError
from clinops_prefect.names import check_name, check_prefix, is_name, join, name_of
from tests.property.strategies import ANY_NAME, GOOD_NAME, INVISIBLE

EXTENSIONS = st.sampled_from(["", ".parquet", ".csv"])


@given(GOOD_NAME, GOOD_NAME | st.just(""), EXTENSIONS)
@example("x.parquet", "a.csv", ".parquet")
def test_a_name_comes_back_from_its_key(name: str, prefix: str, extension: str) -> None:
    assert name_of(join(prefix, name, extension), prefix, extension) == name


@given(GOOD_NAME, GOOD_NAME, GOOD_NAME, EXTENSIONS)
def test_two_names_are_never_one_key_and_no_key_is_of_a_sibling(
    one: str, two: str, prefix: str, extension: str
) -> None:
    assert (join(prefix, one, extension) == join(prefix, two, extension)) == (one == two)
    assert name_of(join(f"{prefix}-old", one, extension), prefix, extension) is None


@given(ANY_NAME | st.text(max_size=20))
def test_a_name_is_accepted_whole_or_refused_for_a_reason(name: str) -> None:
    """Accepted: clean segments, no control character, a UTF-8 form. The oracle is written anew."""
    clean = (
        all(segment not in ("", ".", "..") for segment in name.split("/"))
        and not any(ord(c) < 32 or 0x7F <= ord(c) < 0xA0 or 0xD800 <= ord(c) < 0xE000 for c in name)
        and not set(name) & set("\u2028\u2029\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
        and not set(name) & set(INVISIBLE)
    )
    assert is_name(name) == clean
    if clean:
        assert check_name(name) == name
        assert name.encode().decode() == name
        return
    with pytest.raises(InvalidArtifactNameError) as caught:
        check_name(name)
    # What an editor or a terminal would hide or obey is shown as an escape.
    assert str(caught.value).isascii()
    assert str(caught.value).isprintable()


@given(GOOD_NAME)
def test_a_prefix_is_a_name_or_empty_with_or_without_its_slash(prefix: str) -> None:
    assert check_prefix(prefix) == check_prefix(f"{prefix}/") == prefix
    assert check_prefix("") == check_prefix("/") == ""
