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
from clinops_prefect.frames.parquet.known_schemas import KnownSchemas
from clinops_prefect.storage.backend import Backend

# Keep at most these bytes of parsed footers: about a thousand narrow parts, or seventy parts of a thousand columns.
# Other parts are opened again.
_KEPT_BYTES = 192 << 20


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
        schemas: The schemas of the parts that were opened by earlier calls.
    """

    def __init__(
        self,
        backend: Backend,
        codec: Codec,
        parts: Sequence[Part],
        csv_options: CsvOptions | None,
        known: dict[int, Described],
        schemas: KnownSchemas,
    ) -> None:
        self._backend, self._codec, self._parts, self._options = backend, codec, parts, csv_options
        self._kept: dict[int, tuple[OpenPart, int]] = {}
        self._described = known
        self._schemas = schemas
        self._held = 0
        self._lock = threading.Lock()

    def open(self, number: int) -> OpenPart:
        """Open the part with this number."""
        opened = self._kept_or_opened(number)
        self._keep(number, opened)
        return opened

    def prepare(self, number: int, look: Callable[[int, OpenPart], bool]) -> None:
        """Call `look` with an open part, and keep the part only if the result is true. `look` may make it smaller."""
        opened = self._kept_or_opened(number)
        self._settle(number, opened, is_read=look(number, opened))

    def where(self, number: int) -> str:
        """The URI of a part."""
        return self._backend.uri(self._parts[number].key)

    def forget(self, number: int) -> None:
        """Release a part that will not be read."""
        with self._lock:
            self._held -= self._kept.pop(number, (None, 0))[1]

    def release(self) -> None:
        """Release all parts."""
        with self._lock:
            self._kept, self._held = {}, 0

    def described(
        self, numbers: Sequence[int], kind: FrameKind, look: Callable[[int, OpenPart], bool] | None = None
    ) -> list[Described]:
        """The descriptions of these parts, with the schema for this kind of frame.

        Args:
            numbers: The parts.
            kind: The kind of frame.
            look: Called with the number of a part and the part while it is open. Returns whether it will be read.
        """

        def opened(number: int) -> Described:
            part = self._kept_or_opened(number)
            # Make the schema in this thread, because it may depend on INT96 values of an old file, which must be
            # fetched.
            schema = part.schema(kind)
            # Missing values matter only for pandas, because only its dtypes depend on them. `look` may release the part
            # of the footer that tells them.
            complete = part.complete if kind == "pandas" else frozenset[str]()
            self._settle(number, part, is_read=look is None or look(number, part))
            return Described(part.where, part.rows, complete, part.empty, {kind: schema})

        missing = [n for n in numbers if n not in self._described or kind not in self._described[n].schemas]
        for number, new in zip(missing, in_order(opened, missing, lambda _: 1), strict=True):
            known = self._described.setdefault(number, new)
            known.schemas |= new.schemas
            known.complete |= new.complete
        return [self._described[number] for number in numbers]

    def rows(self, numbers: Sequence[int]) -> int:
        """The number of rows of these parts."""
        missing = [number for number in numbers if number not in self._described]
        for number, opened in zip(missing, in_order(self.open, missing, lambda _: 1), strict=True):
            self._described[number] = Described(opened.where, opened.rows, frozenset(), opened.empty)
        return sum(self._described[number].rows for number in numbers)

    def _kept_or_opened(self, number: int) -> OpenPart:
        with self._lock:
            if number in self._kept:
                return self._kept[number][0]
        part, known = self._parts[number], self._schemas
        return open_part(self._backend, self._codec, part, self._options, known)

    def _settle(self, number: int, opened: OpenPart, *, is_read: bool) -> None:
        self.forget(number)
        if is_read:
            self._keep(number, opened)

    def _keep(self, number: int, opened: OpenPart) -> None:
        with self._lock:
            if number not in self._kept and self._held + opened.held_bytes <= _KEPT_BYTES:
                self._kept[number] = opened, opened.held_bytes
                self._held += opened.held_bytes
