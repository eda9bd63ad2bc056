"""The cohort: the ICU stays that the features are about, checked, and each subject's split.

No stay is dropped for being short or empty: those are often the patients who died. Left out, and counted, is only what
no window could be made for or attributed to anyone. How the stays ended is kept apart from the features: it is known
only later.
"""

from dataclasses import dataclass
from typing import Any

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


OUTCOME_DTYPES: dict[str, object] = {
    "subject_id": np.dtype("int64"),
    "stay_id": np.dtype("int64"),
    "los_hours": np.dtype("float64"),
    "died_in_hospital": pd.BooleanDtype(),
    "death_hours": np.dtype("float64"),
    "died_in_icu": pd.BooleanDtype(),
}
# A cohort row is dropped for the first of these that holds; one that says the same as another is `repeated`.
COHORT_REASONS = ("no_id", "no_intime", "several_rows", "unknown_subject", "outtime_before_intime")

# What is noted of the stays, and of the patients; all other counts of the cohort are of rows.
COHORT_NOTES = ("no_outtime", "ambiguous_patient", "ambiguous_admission", "any_encounter")
PATIENT_NOTES = ("patient_no_id", "patient_superseded")

_HOUR = np.timedelta64(1, "h")
_PATIENT = ["gender", "anchor_age", "anchor_year", "dob"]
_ADMISSION = ["admission_type", "hospital_expire_flag", "deathtime"]


@dataclass(frozen=True)
class Cohort:
    """The stays, how they ended, and what was left out.

    Attributes:
        stays: One row a stay, sorted by `stay_id`, with the columns and dtypes of `COHORT_DTYPES`.
        outcomes: One row a stay, sorted by `stay_id`, with the columns and dtypes of `OUTCOME_DTYPES`: `los_hours`
            (`outtime - intime`) and `death_hours` (`deathtime - intime`, of those who died in the hospital) in hours;
            the flags are null where the source does not tell.
        counts: `rows_in` = `repeated` + those of `COHORT_REASONS` + `stays`; and, of the stays, `no_outtime`,
            `ambiguous_patient` and `ambiguous_admission` (several rows that contradict each other: nothing of them is
            used). Of FHIR also those of `fhir_cohort.read_encounters` and `read_patients`.
        warnings: What a person should look at, for the run's log.
    """

    stays: pd.DataFrame
    outcomes: pd.DataFrame
    counts: Counts
    warnings: tuple[str, ...] = ()


def build_cohort(
    icustays: pd.DataFrame,
    patients: pd.DataFrame | None = None,
    admissions: pd.DataFrame | None = None,
    *,
    names_all_subjects: bool = True,
) -> Cohort:
    """Check the stays, add what is known of the patient and the admission, and split the subjects.

    A stay without an end is kept: no upper bound. Rows that no window could be made for, or attributed to anyone, are
    left out, each for the first reason that holds; the events of such a stay become `unknown_stay`.

    Args:
        icustays: As `tables.read_frame` gives `icu/icustays`. Where it has the columns `hospital_expire_flag` and
            `deathtime` itself, as FHIR's stays do, these count.
        patients: As `hosp/patients`; without, the columns made of it are null.
        admissions: Likewise, as `hosp/admissions`.
        names_all_subjects: Whether a stay of a subject that `patients` does not name is one of nobody.

    Returns:
        The cohort; `split` is a function of the subject alone. `age` is in whole years at `intime`, 91 above 89.
    """
    counts: Counts = {"rows_in": len(icustays), **dict.fromkeys(COHORT_REASONS, 0)}

    def drop(stays: pd.DataFrame, reason: str, bad: "pd.Series[bool]") -> pd.DataFrame:
        counts[reason] += int(bad.sum())
        return stays[~bad.astype("bool")]

    stays = icustays.drop_duplicates()
    counts["repeated"] = len(icustays) - len(stays)
    stays = drop(stays, "no_id", stays["stay_id"].isna() | stays["subject_id"].isna())
    stays = drop(stays, "no_intime", stays["intime"].isna())
    stays = drop(stays, "several_rows", stays["stay_id"].duplicated(keep=False))
    if patients is not None and names_all_subjects:
        stays = drop(stays, "unknown_subject", ~stays["subject_id"].isin(patients["subject_id"].dropna()))
    stays = drop(stays, "outtime_before_intime", stays["outtime"] < stays["intime"])
    stays = stays.sort_values("stay_id", ignore_index=True)
    known = [column for column in _ADMISSION if column in stays]
    stays, ambiguous_admission = _join(stays, admissions, "hadm_id", [name for name in _ADMISSION if name not in known])
    stays, ambiguous_patient = _join(stays, patients, "subject_id", _PATIENT)
    stays["age"] = _age(stays)
    stays["died_in_hospital"] = _died(stays)
    stays["split"] = np.array(SPLITS, dtype=object)[split_of(stays["subject_id"].to_numpy("int64"))]
    counts["stays"] = len(stays)
    counts["no_outtime"] = int(stays["outtime"].isna().sum())
    counts["ambiguous_patient"], counts["ambiguous_admission"] = ambiguous_patient, ambiguous_admission
    cohort = stays[list(COHORT_DTYPES)].astype(COHORT_DTYPES)  # type: ignore[arg-type]
    return Cohort(cohort, _outcomes(stays), counts)


def _outcomes(stays: pd.DataFrame) -> pd.DataFrame:
    intime, outtime = (stays[column].to_numpy("datetime64[us]") for column in ("intime", "outtime"))
    died = stays["died_in_hospital"]
    has_died = died.eq(True).fillna(False).to_numpy("bool")
    death = np.where(has_died, pd.to_datetime(stays["deathtime"]).to_numpy("datetime64[us]"), np.datetime64("NaT"))
    in_icu = has_died & (death >= intime) & ((death <= outtime) | np.isnat(outtime))
    # Of who died, and nobody knows when, it is not known whether they had left the unit.
    unknown = died.isna().to_numpy() | (has_died & np.isnat(death))
    return pd.DataFrame(
        {
            "subject_id": stays["subject_id"].to_numpy("int64"),
            "stay_id": stays["stay_id"].to_numpy("int64"),
            "los_hours": (outtime - intime) / _HOUR,
            "died_in_hospital": died.array,
            "death_hours": (death - intime) / _HOUR,
            "died_in_icu": pd.arrays.BooleanArray(in_icu, unknown),
        }
    )


def _died(stays: pd.DataFrame) -> "pd.Series[Any]":
    flag = pd.to_numeric(stays["hospital_expire_flag"])
    return flag.eq(1).astype("boolean").mask(flag.isna())


def _join(stays: pd.DataFrame, table: pd.DataFrame | None, key: str, columns: list[str]) -> tuple[pd.DataFrame, int]:
    """Add columns of a table; and how many stays have several rows in it that contradict each other."""
    if table is None:
        return stays.assign(**dict.fromkeys(columns, np.nan)), 0
    table = table.loc[table[key].notna(), [key, *columns]].drop_duplicates()
    # Either might be the true one, and a join would multiply the stays.
    several = table.loc[table[key].duplicated(keep=False), key]
    table = table[~table[key].isin(several)]
    return stays.merge(table, how="left", on=key, validate="many_to_one"), int(stays[key].isin(several).sum())


def _age(stays: pd.DataFrame) -> pd.Series:
    intime, dob = stays["intime"].dt, pd.to_datetime(stays["dob"]).dt
    # MIMIC-IV gives the age in one shifted year; MIMIC-III a date of birth.
    anchored = stays["anchor_age"] + (intime.year - stays["anchor_year"])
    before_birthday = (intime.month < dob.month) | ((intime.month == dob.month) & (intime.day < dob.day))
    born = intime.year - dob.year - before_birthday
    age = anchored.fillna(born).astype("float64")
    return pd.Series(np.where(age > _OLDEST, _OLDEST_AS, age), index=stays.index)
