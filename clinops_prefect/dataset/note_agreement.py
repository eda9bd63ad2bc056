"""Joins the notes of polars and Arrow frames from all parts.

A stored table has a note of the caller's schema and of its dictionaries; see `frames.conversion.arrow_frames`.
"""

import base64
import json
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa

from clinops_prefect.frames.conversion.arrow_frames import categories_of, note_of, packed, unpacked
from clinops_prefect.frames.text_types import is_text_or_view


def join(schemas: Sequence[pa.Schema], added: Sequence[pa.Field], differs: Callable[[int, str], None]) -> bytes | None:
    """The joined note of all parts. None if a part has no note, because then all columns have types that Parquet has.

    Args:
        schemas: The stored schemas.
        added: The partition columns.
        differs: Called with the number of a part and a column that has another type there than in the first part.
    """
    # Most parts share one schema object, which needs to be compared only once.
    places: dict[int, int] = {}
    for number, each in enumerate(schemas):
        places.setdefault(id(each), number)
    notes = {number: note_of(schemas[number]) for number in places.values()}
    if all(note is None for note in notes.values()):
        return None
    given = {number: _given(note) if note else schemas[number] for number, note in notes.items()}
    dtypes = {number: (note or {}).get("dtypes", {}) for number, note in notes.items()}
    dictionaries = {number: (note or {}).get("dictionaries", {}) for number, note in notes.items()}
    joined: dict[str, str] = dict(dictionaries[0])
    for number in list(notes)[1:]:
        names = set(given[number].names)
        for name in given[0].names:
            if name not in names:
                continue  # `agree` reports the missing column
            first, other = given[0].field(name).type, given[number].field(name).type
            if not _same(first, other) or dtypes[0].get(name) != dtypes[number].get(name):
                differs(number, name)
            elif dictionaries[number].get(name) != joined.get(name):
                both = [unpacked(text) for text in (joined.get(name), dictionaries[number].get(name)) if text]
                # The categories of an Enum or of an ordered dictionary belong to the type, so they must not differ.
                if len(both) < 2 or name in dtypes[0] or (pa.types.is_dictionary(first) and first.ordered):
                    differs(number, name)
                else:
                    joined[name] = packed(_union(both))
    if notes[0] is None or any(note is None for note in notes.values()):
        return None
    schema = _with_types_of(given[0], list(given.values()))
    for field in added:
        schema = schema.append(field)
    text = base64.b64encode(schema.serialize().to_pybytes()).decode()
    return json.dumps({**notes[0], "schema": text, "dictionaries": joined}).encode()


def _with_types_of(schema: pa.Schema, others: Sequence[pa.Schema]) -> pa.Schema:
    """The schema, in which a column without any value has the type that it has in the first part with values."""
    for place, field in enumerate(schema):
        if pa.types.is_null(field.type):
            same = (other.field(field.name) for other in others if field.name in other.names)
            schema = schema.set(place, next((one for one in same if not pa.types.is_null(one.type)), field))
    return schema


def _given(note: dict[str, Any]) -> pa.Schema:
    return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(note["schema"])))


def _same(one: pa.DataType, other: pa.DataType) -> bool:
    if pa.types.is_dictionary(one) and pa.types.is_dictionary(other):
        return one.ordered == other.ordered and _same(one.value_type, other.value_type)
    return bool(
        one == other
        or (is_text_or_view(one) and is_text_or_view(other))
        or pa.types.is_null(one)
        or pa.types.is_null(other)
    )


def _union(both: list[pa.Array]) -> pa.Array:
    kind, none = both[0].type, pa.array([], pa.int32())
    dictionaries = [pa.DictionaryArray.from_arrays(none, values.cast(kind)) for values in both]
    return categories_of([pa.chunked_array([one]) for one in dictionaries], kind)
