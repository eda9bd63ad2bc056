"""Finds stays by their id, or by a subject and a time."""

import numpy as np
import numpy.typing as npt
import pandas as pd

# The integer of NaT. It is the lowest int64, so the maximum of a null time and another time is the other time.
NO_TIME = np.iinfo(np.int64).min
_NEVER = np.iinfo(np.int64).max
_Ints = npt.NDArray[np.int64]


def microseconds(times: "pd.Series[pd.Timestamp]") -> _Ints:
    """Times as microseconds since 1970. A null time becomes `NO_TIME`."""
    return times.to_numpy("datetime64[us]").view("int64")


class StayTable:
    """The cohort as arrays. A *place* is the row of a stay when stays are sorted by `stay_id`.

    Args:
        stays: The whole cohort (`cohort.COHORT_DTYPES`), in any order.
    """

    def __init__(self, stays: pd.DataFrame) -> None:
        stays = stays.sort_values("stay_id", ignore_index=True)
        self._ids = stays["stay_id"].to_numpy("int64")
        self._subject = stays["subject_id"].to_numpy("int64")
        self._begins, ends = (microseconds(stays[column]) for column in ("intime", "outtime"))
        self._ends = np.where(ends == NO_TIME, _NEVER, ends)
        # Sort by subject, beginning and id. The search starts at the subject's last stay that has begun.
        self._order = np.lexsort((self._ids, self._begins, self._subject))
        self._subjects, code = np.unique(self._subject[self._order], return_inverse=True)
        self._code = code.astype(np.int64)
        # Subject and beginning form one number. Times are replaced by their ranks, since the number would overflow.
        self._times = np.unique(self._begins)
        self._keys = self._key(self._code, np.searchsorted(self._times, self._begins[self._order], side="right"))
        # The latest end of the subject's stays up to this one. If it is over, no earlier stay is under way.
        self._reach = pd.Series(self._ends[self._order]).groupby(self._code).cummax().to_numpy()

    def find(self, ids: _Ints) -> tuple[_Ints, npt.NDArray[np.bool_]]:
        """The place of the stay with each id, and whether there is such a stay."""
        return _look_up(self._ids, ids)

    def under_way(self, subject: _Ints, time: _Ints) -> tuple[_Ints, npt.NDArray[np.bool_]]:
        """The stay of each subject at a time, `intime <= time < outtime`.

        Args:
            subject: Subject ids.
            time: Times in microseconds since 1970.

        Returns:
            The place of the stay, or -1 if there is none, and whether the subject has any stay. Of several stays, the
            one that began last is returned, and of these the one with the highest id.
        """
        code, known = _look_up(self._subjects, subject)
        begun = self._key(code, np.searchsorted(self._times, time, side="right"))
        row = np.searchsorted(self._keys, begun, side="right").astype(np.int64) - 1
        row[~known] = -1
        waiting = np.flatnonzero(known)
        while len(waiting):
            at = row[waiting]
            gone = (at < 0) | (self._code[at] != code[waiting]) | (self._reach[at] <= time[waiting])
            row[waiting[gone]] = -1
            waiting = waiting[~gone]
            # This stay is over, but an earlier one may not be, so go one stay back.
            waiting = waiting[self._ends[self._order[row[waiting]]] <= time[waiting]]
            row[waiting] -= 1
        found = np.full(len(row), -1, np.int64)
        found[row >= 0] = self._order[row[row >= 0]]
        return found, known

    def id_of(self, place: _Ints) -> _Ints:
        """The ids of the stays at these places."""
        return _pick(self._ids, place)

    def subject_of(self, place: _Ints) -> _Ints:
        """The subjects of the stays at these places."""
        return _pick(self._subject, place)

    def bounds(self, place: _Ints) -> tuple[_Ints, _Ints]:
        """The beginnings and ends of the stays at these places, in microseconds. A missing end is after all times."""
        return _pick(self._begins, place), _pick(self._ends, place)

    def _key(self, code: _Ints, rank: npt.NDArray[np.intp]) -> _Ints:
        return code * (len(self._times) + 1) + rank


def _look_up(known: _Ints, wanted: _Ints) -> tuple[_Ints, npt.NDArray[np.bool_]]:
    """The position of each of `wanted` in the ascending `known`, and whether it is there."""
    position = np.minimum(np.searchsorted(known, wanted), max(len(known) - 1, 0)).astype(np.int64)
    return position, _pick(known, position) == wanted if len(known) else np.zeros(len(wanted), bool)


def _pick(column: _Ints, position: _Ints) -> _Ints:
    # Without stays, the column is empty. Then no caller uses the result.
    return column[position] if len(column) else np.zeros(len(position), np.int64)
