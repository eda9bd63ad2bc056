"""Which bytes of an object a request wants: all of them, some in the middle, or the last ones."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ByteRange:
    """Made by `whole`, `span` or `suffix`.

    Attributes:
        start: The first byte; of a suffix, 0.
        length: How many bytes at most; None, all from `start` on.
        is_suffix: Whether the bytes are the last ones.
    """

    start: int
    length: int | None
    is_suffix: bool = False

    def within(self, size: int) -> tuple[int, int]:
        """The first byte, and the one after the last, in an object of so many bytes."""
        if self.length is None:
            return min(self.start, size), size
        if self.is_suffix:
            return max(0, size - self.length), size
        return min(self.start, size), min(self.start + self.length, size)

    @property
    def header(self) -> str:
        """As HTTP's `Range`."""
        if self.is_suffix:
            return f"bytes=-{self.length}"
        return f"bytes={self.start}-{'' if self.length is None else self.start + self.length - 1}"


def whole() -> ByteRange:
    """All bytes."""
    return ByteRange(0, None)


def span(start: int, length: int) -> ByteRange:
    """`length` bytes from `start` on, or as many as there are."""
    return ByteRange(start, length)


def suffix(length: int) -> ByteRange:
    """The last `length` bytes, or all where there are fewer."""
    return ByteRange(0, length, is_suffix=True)
