"""The cohort: the ICU stays that the features are about, checked, and each subject's split.

No stay is dropped for being short, empty or oddly timed: those are often the patients who died. Left out, and counted,
is only what no window could be made for or attributed to anyone.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from flows.icu.counts import Counts
from flows.icu.hashing import SPLITS, split_of

COHORT_DTYPES: dict[str, object] = {
    "subject_id": np.dtype("int64"),
    "stay_id": np.dtype("int64"),
    "hadm_id": pd.Int64Dtype(),
    "intime": np.dtype("datetime64[us]"),
    "outtime": np.dtype("datetime64[us]"),
    "split": pd.StringDtype(na_value=np.nan),
    "first_careunit": pd.StringDtype(na_value=np.nan),
    "admission_type": pd.StringDtype(na_value=np.nan),
    "gender": pd.StringDtype(na_value=np.nan),
    "age": np.dtype("float64"),
    "died_in_hospital": pd.BooleanDtype(),
}

# MIMIC-IV groups everyone above 89 as 91; MIMIC-III moves their birth 300 years back.
_OLDEST, _OLDEST_AS = 89, 91


class CohortError(ValueError):
    """The stays contradict each other. The message has counts, no identifiers."""


@dataclass(frozen=True)
class Cohort:
    """The stays and what was left out.

    Attributes:
        stays: One row a stay, sorted by `stay_id`, with the columns and dtypes of `COHORT_DTYPES`.
        counts: `rows_in` = `repeated` + `no_stay_id` + `no_subject_id` + `no_intime` + `stays`; and, of the stays,
            `no_outtime` and `outtime_before_intime`.
    """

    stays: pd.DataFrame
    counts: Counts


def build_cohort(
    icustays: pd.DataFrame, patients: pd.DataFrame | None = None, admissions: pd.DataFrame | None = None
) -> Cohort:
    """Check the stays, add what is known of the patient and the admission, and split the subjects.

    A stay that ends before it begins is kept: by the definition it has one window, without events. One without an end
    is kept too: no upper bound. One without a beginning, a subject or an id is left out; its events become
    `unknown_stay`.

    Args:
        icustays: As `tables.read_frame` gives `icu/icustays`.
        patients: Likewise; the columns made of it are null without.
        admissions: Likewise.

    Returns:
        The cohort; `split` is a function of the subject alone. `age` is in whole years at `intime`, 91 above 89.

    Raises:
        CohortError: Rows of one stay disagree, so either might be the true one; or a patient or an admission is there
            twice.
    """
    stays = icustays.drop_duplicates()
    counts = {"rows_in": len(icustays), "repeated": len(icustays) - len(stays)}
    for column in ("stay_id", "subject_id", "intime"):
        counts[f"no_{column}"] = int(stays[column].isna().sum())
        stays = stays[stays[column].notna()]
    ambiguous = int(stays.loc[stays["stay_id"].duplicated(keep=False), "stay_id"].nunique())
    if ambiguous:
        raise CohortError(f"icu/icustays: {ambiguous} stays have several rows that disagree")
    stays = stays.sort_values("stay_id", ignore_index=True)
    stays = _join(stays, admissions, "hadm_id", "hosp/admissions", ["admission_type", "hospital_expire_flag"])
    columns = ["gender", "anchor_age", "anchor_year", "dob"]
    stays = _join(stays, patients, "subject_id", "hosp/patients", columns)
    stays["age"] = _age(stays)
    stays["died_in_hospital"] = stays["hospital_expire_flag"].eq(1).astype("boolean")
    stays.loc[stays["hospital_expire_flag"].isna(), "died_in_hospital"] = pd.NA
    stays["split"] = np.array(SPLITS, dtype=object)[split_of(stays["subject_id"].to_numpy("int64"))]
    stays = stays[list(COHORT_DTYPES)].astype(COHORT_DTYPES)  # type: ignore[arg-type]
    counts["stays"] = len(stays)
    counts["no_outtime"] = int(stays["outtime"].isna().sum())
    counts["outtime_before_intime"] = int((stays["outtime"] < stays["intime"]).sum())
    return Cohort(stays, counts)


def _join(stays: pd.DataFrame, table: pd.DataFrame | None, key: str, name: str, columns: list[str]) -> pd.DataFrame:
    if table is None:
        return stays.assign(**dict.fromkeys(columns, np.nan))
    table = table.loc[table[key].notna(), [key, *columns]].drop_duplicates()
    twice = int(table[key].duplicated().sum())
    if twice:
        # A join would multiply the stays.
        raise CohortError(f"{name}: {twice} rows repeat a {key} and disagree")
    return stays.merge(table, how="left", on=key, validate="many_to_one")


def _age(stays: pd.DataFrame) -> pd.Series:
    intime, dob = stays["intime"].dt, pd.to_datetime(stays["dob"]).dt
    # MIMIC-IV gives the age in one shifted year; MIMIC-III a date of birth.
    anchored = stays["anchor_age"] + (intime.year - stays["anchor_year"])
    before_birthday = (intime.month < dob.month) | ((intime.month == dob.month) & (intime.day < dob.day))
    born = intime.year - dob.year - before_birthday
    age = anchored.fillna(born).astype("float64")
    return pd.Series(np.where(age > _OLDEST, _OLDEST_AS, age), index=stays.index)
