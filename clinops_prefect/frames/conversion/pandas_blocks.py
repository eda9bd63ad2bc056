"""The blocks of a frame: pandas stores columns of the same NumPy dtype together, as the rows of one array.

The arrangement of the blocks changes the pickle of a frame. Prefect's default cache policy hashes pickles, so a frame
restored with other blocks would be a different input for it. Only frames of numbers, booleans and times can have the
same pickle again.

Some names here are private to pandas, which has no public way to ask. Without them, Prefect's cache would miss frames
that were read back, and tests/unit/test_pandas_blocks.py would fail.
"""

import importlib
import sys
from collections.abc import Hashable, Sequence
from typing import Any, Final, cast

import numpy as np
import pandas as pd

Note = dict[str, Any]

# Attributes that an array of times caches once they have been read, and that are then in its pickle.
_REMEMBERED: Final = ("unit", "_creso", "_readonly")


def note_of(df: pd.DataFrame) -> Note | None:
    """The arrangement of the frame's blocks; None if it is pandas' usual one, or if no pickle would come back equal.

    - `columns`: the positions of each block's columns.
    - `fortran`: the numbers of the blocks in Fortran order.
    - `interned`: the numbers of the blocks of zoned times whose unit is the interned text. This matters because a
      pickle contains an object only once.
    - `asked`: block number -> the attributes that a block of times has cached.
    - `dtypes`: block number -> which dtypes of blocks of times, and of their memory, are the same object.
    - `index`: the attributes that an index of times has cached.
    """
    if not all(_is_numpy_like(dtype) for dtype in df.dtypes):
        return None
    held: Any = getattr(df, "_mgr", None)
    found = list(getattr(held, "blocks", ()))
    note: Note = {
        "columns": [[int(position) for position in block.mgr_locs] for block in found],
        "fortran": [number for number, block in enumerate(found) if is_fortran(block.values)],
        "interned": [],
        "asked": {},
        "dtypes": {},
        "index": _asked(getattr(df.index, "_data", None)),
    }
    zoned = [number for number, block in enumerate(found) if isinstance(block.dtype, pd.DatetimeTZDtype)]
    if len(zoned) > 1:
        note["interned"] = [
            number for number in zoned if found[number].dtype.unit is sys.intern(found[number].dtype.unit)
        ]
    times = {number: block.values for number, block in enumerate(found) if block.dtype.kind in "mM"}
    seen: dict[int, int] = {}
    same = {
        str(number): [seen.setdefault(id(dtype), len(seen)) for dtype in (values._dtype, values._ndarray.dtype)]
        for number, values in times.items()
    }
    if len(seen) < 2 * len(times):
        note["dtypes"] = same
    for number, block in enumerate(found):
        if block.dtype.kind in "mM" and (asked := _asked(block.values)) != _usually_asked(block.dtype):
            note["asked"][str(number)] = asked
    usual = default([dtype if isinstance(dtype, np.dtype) else None for dtype in df.dtypes])
    is_usual = note["columns"] == usual and not any(note[key] for key in note if key != "columns")
    return None if is_usual else note


def default(dtypes: Sequence[Hashable | None]) -> list[list[int]]:
    """The positions of each block's columns if pandas makes a frame from columns.

    Args:
        dtypes: The NumPy dtype of each column; None for a column that gets its own block.
    """
    groups: dict[Hashable, list[int]] = {}
    for position, dtype in enumerate(dtypes):
        groups.setdefault(position if dtype is None else (dtype,), []).append(position)
    return list(groups.values())


def fits(note: Note, dtypes: Sequence[Hashable | None]) -> bool:
    """Whether each block of the note has columns of one dtype. It has not if the columns are read in another order."""
    for positions in note["columns"]:
        # A set, because NumPy says that `None` equals float64.
        if len(positions) > 1 and (len(of := {dtypes[p] for p in positions if p < len(dtypes)}) > 1 or None in of):
            return False
    return True


class Plan:
    """The plan of the blocks of a new frame.

    Args:
        note: The note from `note_of`, if any.
        dtypes: The NumPy dtype of each column; None for a column that gets its own block.

    Attributes:
        columns: The positions of each block's columns.

    Raises:
        ValueError: The note does not fit these columns.
    """

    def __init__(self, note: Note | None, dtypes: Sequence[Hashable | None]) -> None:
        self.columns: list[list[int]] = default(dtypes) if note is None else note["columns"]
        self._note = {"fortran": (), "interned": (), "asked": {}, "dtypes": {}, "index": [], **(note or {})}
        self._dtypes: dict[int, Any] = {}
        if sorted(position for block in self.columns for position in block) != list(range(len(dtypes))):
            raise ValueError("a note about other columns")
        if note is not None and not fits(note, dtypes):
            raise ValueError("a block of several dtypes")

    def order(self, number: int) -> Any:
        """The memory order of a block, "F" or "C"."""
        return "F" if number in self._note["fortran"] else "C"

    def finished(self, number: int, values: Any) -> Any:
        """A block's array as pandas holds it in a frame: of shape (columns, rows), or an extension array."""
        dtype = values.dtype
        if dtype.kind not in "mM" or not isinstance(dtype, np.dtype | pd.DatetimeTZDtype):
            return values
        if isinstance(dtype, np.dtype):
            kind: Any = pd.arrays.DatetimeArray if dtype.kind == "M" else pd.arrays.TimedeltaArray
            own: Any = np.dtype(dtype.str)
        else:
            kind = type(values)
            unit = sys.intern(dtype.unit) if number in self._note["interned"] else dtype.unit
            own = pd.DatetimeTZDtype(cast(Any, unit), dtype.tz)
            values = values._ndarray.reshape(1, -1)
        # pandas' public constructors would make a new dtype and a new text each time, which a pickle shows.
        one, other = self._note["dtypes"].get(str(number), (None, None))
        own = self._one(one, own)
        of_memory = self._one(other, np.dtype(values.dtype.str))
        made = kind._simple_new(values.view(of_memory), dtype=own)
        return _ask(made, self._note["asked"].get(str(number), _usually_asked(dtype)))

    def _one(self, number: int | None, dtype: Any) -> Any:
        """The dtype object with this number, if it equals `dtype`; else `dtype`."""
        found = dtype if number is None else self._dtypes.setdefault(number, dtype)
        return found if found == dtype else dtype

    def index(self, index: "pd.Index[Any]") -> "pd.Index[Any]":
        """The same index. An index of times gets the cached attributes that the original had."""
        if isinstance(index, pd.DatetimeIndex | pd.TimedeltaIndex):
            index = type(index)(index)
            _ask(getattr(index, "_data", None), self._note["index"])
        return index


def frame_of(blocks: list[tuple[Any, list[int]]], index: "pd.Index[Any]", labels: "pd.Index[Any]") -> pd.DataFrame:
    """Make a frame from these blocks without a copy.

    Args:
        blocks: For each block, its array and the positions of its columns. The array is a NumPy array of shape
            (columns, rows), or an extension array.
        index: The index.
        labels: The column labels.
    """
    placed = [(values, np.array(positions, dtype=np.intp)) for values, positions in blocks]
    frame: Any = pd.DataFrame
    try:
        internals: Any = importlib.import_module("pandas.api.internals")
    except ImportError:  # pandas 2.3, which lacks this function; pyarrow makes frames in the same way there
        internals = importlib.import_module("pandas.core.internals")
        manager = internals.BlockManager([internals.make_block(*block, ndim=2) for block in placed], [labels, index])
        frame = frame._from_mgr(manager, manager.axes)
    else:
        frame = internals.create_dataframe_from_blocks(placed, index=index, columns=labels)
    return cast(pd.DataFrame, frame)


def _is_numpy_like(dtype: Any) -> bool:
    return isinstance(dtype, pd.DatetimeTZDtype) or (isinstance(dtype, np.dtype) and dtype.kind in "biufmM")


def is_fortran(values: Any) -> bool:
    """Whether a block's array is in Fortran order, and not in C order too."""
    flags = getattr(values, "_ndarray", values).flags
    return bool(flags.f_contiguous and not flags.c_contiguous)


def _usually_asked(dtype: Any) -> list[str]:
    return ["unit"] if isinstance(dtype, np.dtype) else []


def _asked(values: Any) -> list[str]:
    names: list[str] = []
    for name, value in getattr(values, "__dict__", {}).items():
        names += value if name == "_cache" else [name]
    return [name for name in names if name in _REMEMBERED]


def _ask(values: Any, names: list[str]) -> Any:
    for name in names:
        if name == "_readonly":
            values._readonly = False
        elif name in _REMEMBERED:
            getattr(values, name, None)
    return values
