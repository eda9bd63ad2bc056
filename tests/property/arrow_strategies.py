"""Arrow tables and polars frames at random: every type, nested ones, whatever lies under a missing value."""

from typing import Any

import polars as pl
import pyarrow as pa
from hypothesis import reject
from hypothesis import strategies as st
from polars.testing.parametric import dataframes


class Unknown(pa.ExtensionType):  # type: ignore[misc]
    """A type of a program that did not register it here."""

    name = "clinic.unknown"

    def __init__(self) -> None:
        super().__init__(pa.int16(), self.name)

    def __arrow_ext_serialize__(self) -> bytes:
        return b"1"

    @classmethod
    def __arrow_ext_deserialize__(cls, storage_type: pa.DataType, serialized: bytes) -> "Unknown":
        return cls()


class Known(Unknown):
    """A type of a program that did."""

    name = "clinic.known"


pa.register_extension_type(Known())

_UNITS = st.sampled_from(["s", "ms", "us", "ns"])
_TEXTS = st.text(max_size=4) | st.sampled_from(["007", "", "NA", "nan", "null", "true", "1e5", " ", "a,b", '"', "\r\n"])
_ZONES = st.sampled_from(
    ["UTC", "Europe/Berlin", "America/St_Johns", "Asia/Kathmandu", "+05:30", "-00:30", "Etc/GMT+5"]
)
_NUMBERS = [
    *(pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()),
    *(pa.float16(), pa.float32(), pa.float64(), pa.bool_()),
]
_BYTES = [
    *(pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary(), pa.binary_view()),
    *(pa.binary(1), pa.binary(3)),
]
_DAY = 86_400
_TIMES = {"s": pa.time32("s"), "ms": pa.time32("ms"), "us": pa.time64("us"), "ns": pa.time64("ns")}
_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_EXTENSIONS = [pa.uuid(), pa.json_(), pa.bool8(), pa.opaque(pa.int8(), "point", "clinic"), Unknown(), Known()]
_EXTENSIONS.append(pa.fixed_shape_tensor(pa.int32(), [2]))


@st.composite
def _decimals(draw: st.DrawFn) -> pa.DataType:
    of, most = draw(st.sampled_from([(pa.decimal32, 9), (pa.decimal64, 18), (pa.decimal128, 38), (pa.decimal256, 76)]))
    precision = draw(st.integers(1, most))
    return of(precision, draw(st.integers(0, precision) | st.integers(-3, precision + 3)))


LEAVES = (
    st.sampled_from(_NUMBERS)
    | st.sampled_from(_BYTES)
    | st.builds(pa.timestamp, _UNITS, st.none() | _ZONES)
    | st.builds(pa.duration, _UNITS)
    | st.sampled_from(sorted(_TIMES.values(), key=str))
    | st.sampled_from([pa.date32(), pa.date64(), pa.null()])
    | _decimals()
)
_INDICES = st.sampled_from([pa.int8(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16()])
_DICTIONARIES = st.builds(
    pa.dictionary,
    _INDICES,
    st.sampled_from([pa.string(), pa.large_string()]) | LEAVES.filter(lambda kind: kind != pa.null()),
    st.booleans(),
)
_NOTES = st.none() | st.dictionaries(
    st.sampled_from([b"unit", b"PARQUET:field_id", b"_PL_x", b"clinops.x", b"", b"ARROW:x"]),
    st.sampled_from([b"7", b"", b"\xff\x00"]),
    max_size=2,
)
NAMES = st.text(max_size=4) | st.sampled_from(
    ["index", "__index_level_0__", "a.b", "", "item", "element", "key", "value", "list", "A", "a", "\x00", "a\nb"]
)


def _fields(
    kinds: st.SearchStrategy[pa.DataType], names: st.SearchStrategy[str] = NAMES
) -> st.SearchStrategy[pa.Field]:
    return st.builds(
        lambda name, kind, full, notes: pa.field(name, kind, pa.types.is_null(kind) or not full, notes),
        names,
        kinds,
        st.sampled_from([False, False, True]),
        _NOTES,
    )


def _nested(inner: st.SearchStrategy[pa.DataType]) -> st.SearchStrategy[pa.DataType]:
    child = inner | _fields(inner, st.sampled_from(["item", "element", "x"]))
    keys = inner.filter(lambda kind: not pa.types.is_null(kind)).map(lambda kind: pa.field("key", kind, nullable=False))
    items = _fields(inner, st.just("value"))
    lists = st.builds(pa.list_, child) | st.builds(pa.large_list, child) | st.builds(pa.list_, child, st.integers(0, 3))
    views = st.builds(pa.list_view, child) | st.builds(pa.large_list_view, child)
    structs = st.lists(_fields(inner), max_size=3).map(pa.struct)
    runs = st.builds(pa.run_end_encoded, st.sampled_from([pa.int16(), pa.int32(), pa.int64()]), inner)
    return lists | views | structs | structs | st.builds(pa.map_, keys, items, st.booleans()) | runs


_FLAT = LEAVES | _DICTIONARIES | st.sampled_from(_EXTENSIONS)
TYPES = _FLAT | st.recursive(_FLAT, _nested, max_leaves=4)


@st.composite
def _numbers_of(draw: st.DrawFn, kind: pa.DataType, rows: int, missing: list[bool]) -> pa.Array:
    width = kind.bit_width
    whole = pa.int32() if width == 32 else pa.int64()
    if pa.types.is_time(kind):
        values = st.integers(0, _DAY * _PER_SECOND[kind.unit] - 1)
    elif pa.types.is_date64(kind):
        values = st.integers(-(10**5), 10**5).map(lambda day: day * _DAY * 1000) | st.just(1)
    elif pa.types.is_date32(kind):
        values = st.integers(-(10**5), 10**5) | st.sampled_from([-(2**31), 2**31 - 1])
    else:
        values = st.integers(-(2**40), 2**40) | st.sampled_from([2**63 - 1, -(2**63) + 1, -(2**63), 2**62])
    drawn = draw(st.lists(values, min_size=rows, max_size=rows))
    return pa.array([None if gone else value for value, gone in zip(drawn, missing, strict=True)], whole).view(kind)


def _validity(missing: list[bool]) -> pa.Buffer | None:
    return pa.array([not gone for gone in missing], pa.bool_()).buffers()[1] if missing else None


def _leaf_values(kind: pa.DataType) -> st.SearchStrategy[Any]:
    types = pa.types
    if types.is_boolean(kind):
        return st.booleans()
    if types.is_integer(kind):
        least = 0 if types.is_unsigned_integer(kind) else -(2 ** (kind.bit_width - 1))
        return st.integers(least, least + 2**kind.bit_width - 1)
    if types.is_floating(kind):
        return st.floats(width=kind.bit_width)
    if types.is_fixed_size_binary(kind):
        return st.binary(min_size=kind.byte_width, max_size=kind.byte_width)
    if types.is_decimal(kind):
        most = 10**kind.precision - 1
        return st.integers(-most, most)
    return st.binary(max_size=4) if "binary" in str(kind) else _TEXTS


@st.composite
def arrays(draw: st.DrawFn, kind: pa.DataType, rows: int, nullable: bool = True) -> pa.Array:
    """An array of a type, shape (rows,)."""
    types = pa.types
    holes = st.booleans() if nullable and draw(st.booleans()) else st.just(False)
    if types.is_null(kind):
        return pa.nulls(rows)
    if isinstance(kind, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(kind, draw(arrays(kind.storage_type, rows, nullable)))
    if types.is_run_end_encoded(kind):
        ends = sorted(draw(st.sets(st.integers(1, rows), max_size=rows)) | {rows}) if rows else []
        values = draw(arrays(kind.value_type, len(ends), nullable))
        try:
            return pa.RunEndEncodedArray.from_arrays(pa.array(ends, kind.run_end_type), values, kind)
        except pa.ArrowInvalid:
            reject()  # this one checks its values, such as a date64 within a day
    missing = draw(st.lists(holes, min_size=rows, max_size=rows))
    mask = pa.array(missing, pa.bool_()) if any(missing) else None
    if types.is_dictionary(kind):
        # Arrow finds no duplicates among narrow decimals.
        most = 1 if types.is_decimal(kind.value_type) else 4
        values = draw(arrays(kind.value_type, draw(st.integers(1, most)), nullable=False))
        values = values if most == 1 else values.unique()
        places = draw(st.lists(st.integers(0, len(values) - 1), min_size=rows, max_size=rows))
        indices = pa.array([None if gone else at for at, gone in zip(places, missing, strict=True)], kind.index_type)
        return pa.DictionaryArray.from_arrays(indices, values, ordered=kind.ordered)
    if types.is_struct(kind):
        inside = list(kind)
        if not inside:
            return pa.array([None if gone else {} for gone in missing], kind)
        children = [draw(arrays(field.type, rows, field.nullable)) for field in inside]
        return pa.StructArray.from_arrays(children, fields=inside, mask=mask)
    if types.is_fixed_size_list(kind):
        values = draw(arrays(kind.value_type, rows * kind.list_size, kind.value_field.nullable))
        if kind.list_size:
            return pa.FixedSizeListArray.from_arrays(values, type=kind, mask=mask)
        return pa.Array.from_buffers(kind, rows, [_validity(missing)], children=[values])
    if types.is_list_view(kind) or types.is_large_list_view(kind):
        of, width = (pa.ListViewArray, pa.int32()) if types.is_list_view(kind) else (pa.LargeListViewArray, pa.int64())
        values = draw(arrays(kind.value_type, draw(st.integers(0, 4)), kind.value_field.nullable))
        starts = draw(st.lists(st.integers(0, len(values)), min_size=rows, max_size=rows))
        sizes = [draw(st.integers(0, len(values) - start)) for start in starts]
        return of.from_arrays(pa.array(starts, width), pa.array(sizes, width), values, type=kind, mask=mask)
    if types.is_nested(kind):
        sizes = draw(st.lists(st.integers(0, 2), min_size=rows, max_size=rows))
        starts = [sum(sizes[:at]) for at in range(rows + 1)]
        if types.is_map(kind):
            keys = draw(arrays(kind.key_type, starts[-1], nullable=False))
            items = draw(arrays(kind.item_type, starts[-1], kind.item_field.nullable))
            return pa.MapArray.from_arrays(pa.array(starts, pa.int32()), keys, items, type=kind, mask=mask)
        of, width = (pa.LargeListArray, pa.int64()) if types.is_large_list(kind) else (pa.ListArray, pa.int32())
        values = draw(arrays(kind.value_type, starts[-1], kind.value_field.nullable))
        return of.from_arrays(pa.array(starts, width), values, type=kind, mask=mask)
    if types.is_temporal(kind):
        return draw(_numbers_of(kind, rows, missing))
    drawn = draw(st.lists(_leaf_values(kind), min_size=rows, max_size=rows))
    values = [None if gone else value for value, gone in zip(drawn, missing, strict=True)]
    if types.is_decimal(kind):
        bits = [0 if value is None else value for value in values]
        data = b"".join(value.to_bytes(kind.byte_width, "little", signed=True) for value in bits)
        return pa.Array.from_buffers(kind, rows, [_validity(missing), pa.py_buffer(data)])
    return pa.array(values, kind)


@st.composite
def tables(
    draw: st.DrawFn, types: st.SearchStrategy[pa.DataType] = TYPES, max_rows: int = 6, max_columns: int = 3
) -> pa.Table:
    """A table of any types, names and metadata, in chunks, which are slices of larger arrays."""
    lengths = draw(st.lists(st.integers(0, max_rows // 2), min_size=0, max_size=3))
    fields = draw(st.lists(_fields(types), max_size=max_columns, unique_by=lambda field: field.name))
    if draw(st.integers(0, 19)) == 19 and fields:
        fields = [*fields, fields[0]]
    columns = [draw(chunks(field, lengths)) for field in fields]
    found = pa.Table.from_arrays(columns, schema=pa.schema(fields, draw(_NOTES | st.just({b"pandas": b"{}"}))))
    found.validate(full=False)
    return found


@st.composite
def chunks(draw: st.DrawFn, field: pa.Field, lengths: list[int]) -> pa.ChunkedArray:
    """A column in chunks of these lengths."""
    made = []
    for rows in lengths:
        before, after = draw(st.sampled_from([(0, 0), (0, 0), (1, 0), (2, 1)]))
        whole = draw(arrays(field.type, before + rows + after, field.nullable))
        made.append(whole.slice(before, rows))
    return pa.chunked_array(made, field.type)


_POLARS = [
    *(pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64, pl.Float32, pl.Float64),
    *(pl.Boolean, pl.String, pl.Binary, pl.Date, pl.Time, pl.Null, pl.Categorical, pl.Enum, pl.Decimal),
    *(pl.Datetime, pl.Duration, pl.List, pl.Array, pl.Struct),
]


@st.composite
def polars_frames(draw: st.DrawFn, max_rows: int = 6, max_columns: int = 3) -> pl.DataFrame:
    """A frame of any dtypes and names, now in one chunk, now a slice of chunks."""
    found = draw(dataframes(max_cols=max_columns, max_size=max_rows, allowed_dtypes=_POLARS, allow_null=True))
    names = draw(st.lists(NAMES, min_size=found.width, max_size=found.width, unique=True))
    found = found.rename(dict(zip(found.columns, names, strict=True)))
    if draw(st.booleans()):
        found = pl.concat([found, found], rechunk=False)
    return found.slice(draw(st.integers(0, 2))) if draw(st.booleans()) else found
