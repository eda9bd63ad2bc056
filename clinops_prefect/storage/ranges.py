"""The bytes of an object that a request asks for: all, a range, or the last ones."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ByteRange:
    """A range of bytes. The functions `whole`, `span` and `suffix` of this module make one.

    Attributes:
        start: Position of the first byte; 0 for a suffix.
        length: Maximum number of bytes. None means all bytes from `start` on.
        is_suffix: Whether these are the last bytes of the object.
    """

    start: int
    length: int | None
    is_suffix: bool = False

    def within(self, size: int) -> tuple[int, int]:
        """The range as `(start, end)` in an object of `size` bytes, `end` excluded."""
        if self.length is None:
            return min(self.start, size), size
        if self.is_suffix:
            return max(0, size - self.length), size
        return min(self.start, size), min(self.start + self.length, size)

    @property
    def header(self) -> str:
        """The value of HTTP's `Range` header."""
        if self.is_suffix:
            return f"bytes=-{self.length}"
        return f"bytes={self.start}-{'' if self.length is None else self.start + self.length - 1}"


def whole() -> ByteRange:
    """All bytes."""
    return ByteRange(0, None)


def span(start: int, length: int) -> ByteRange:
    """`length` bytes from `start` on, or fewer if the object ends before."""
    return ByteRange(start, length)


def suffix(length: int) -> ByteRange:
    """The last `length` bytes, or all if the object has fewer."""
    return ByteRange(0, length, is_suffix=True)
