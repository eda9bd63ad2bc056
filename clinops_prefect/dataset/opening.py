"""Opens the parts of a dataset, several at once, and keeps small ones open."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from clinops_prefect.artifacts.codec import Codec
from clinops_prefect.dataset.listing import Part
from clinops_prefect.dataset.parts import OpenPart, open_part
from clinops_prefect.dataset.reading import in_order
from clinops_prefect.frames.csv.options import CsvOptions
from clinops_prefect.frames.kinds import FrameKind
from clinops_prefect.storage.backend import Backend

# Of footers, in all: the footers of a thousand narrow parts, or of two hundred wide ones. Others are read again.
_KEPT_BYTES = 48 << 20


@dataclass
class Described:
    """The description of a part that we keep after it was opened; see `parts.DescribedPart`."""

    where: str
    rows: int
    complete: frozenset[str]
    empty: frozenset[str]
    schemas: dict[FrameKind, pa.Schema] = field(default_factory=dict)

    def schema(self, kind: FrameKind) -> pa.Schema:
        """The schema in which the part is read for this kind of frame."""
        return self.schemas[kind]


class Opener:
    """Opens the parts of one dataset for one call. A later call reads the parts from the store again.

    Args:
        backend: The backend that has the parts.
        codec: The codec of their format.
        parts: The parts.
        csv_options: As in `PipelineStore.download`.
        known: Number of a part -> its description from earlier calls.
    """

    def __init__(
        self,
        backend: Backend,
        codec: Codec,
        parts: Sequence[Part],
        csv_options: CsvOptions | None,
        known: dict[int, Described],
    ) -> None:
        self._backend, self._codec, self._parts, self._options = backend, codec, parts, csv_options
        self._kept: dict[int, OpenPart] = {}
        self._described = known
        self._held = 0
        self._lock = threading.Lock()

    def open(self, number: int) -> OpenPart:
        """Open the part with this number."""
        if number in self._kept:
            return self._kept[number]
        opened = open_part(self._backend, self._codec, self._parts[number], self._options)
        with self._lock:
            if number not in self._kept and self._held + opened.held_bytes <= _KEPT_BYTES:
                self._kept[number] = opened
                self._held += opened.held_bytes
        return opened

    def described(self, numbers: Sequence[int], kind: FrameKind) -> list[Described]:
        """What these parts say about themselves."""
        missing = [n for n in numbers if n not in self._described or kind not in self._described[n].schemas]
        for number, opened in zip(missing, in_order(self._open_with(kind), missing, lambda _: 1), strict=True):
            new = Described(opened.where, opened.rows, opened.complete, opened.empty)
            self._described.setdefault(number, new).schemas[kind] = opened.schema(kind)
        return [self._described[number] for number in numbers]

    def rows(self, numbers: Sequence[int]) -> int:
        """The number of rows of these parts."""
        missing = [number for number in numbers if number not in self._described]
        for number, opened in zip(missing, in_order(self.open, missing, lambda _: 1), strict=True):
            self._described[number] = Described(opened.where, opened.rows, opened.complete, opened.empty)
        return sum(self._described[number].rows for number in numbers)

    def _open_with(self, kind: FrameKind) -> Callable[[int], OpenPart]:
        def opened(number: int) -> OpenPart:
            part = self.open(number)
            part.schema(kind)  # in this thread: of old files it takes a look at their times
            return part

        return opened
