"""The cohort: the checked ICU stays for the features, and each subject's split.

No stay is dropped because it is short or empty: such stays are often of patients who died. A row is left out, and
counted, only if no window can be made for it, or if it belongs to nobody. Outcomes are kept separate from the features,
since they are known only later.
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

# MIMIC-IV gives all patients above 89 the age 91. MIMIC-III moves their births 300 years back.
_OLDEST, _OLDEST_AS = 89, 91


OUTCOME_DTYPES: dict[str, object] = {
    "subject_id": np.dtype("int64"),
    "stay_id": np.dtype("int64"),
    "los_hours": np.dtype("float64"),
    "died_in_hospital": pd.BooleanDtype(),
    "death_hours": np.dtype("float64"),
    "died_in_icu": pd.BooleanDtype(),
}
# A row of stays is dropped for the first of these reasons that holds. A row equal to another one is `repeated`.
COHORT_REASONS = ("no_id", "no_intime", "several_rows", "unknown_subject", "outtime_before_intime")

# Counts of stays, and of patients. All other counts of the cohort are of rows.
COHORT_NOTES = ("no_outtime", "ambiguous_patient", "ambiguous_admission", "any_encounter")
PATIENT_NOTES = ("patient_no_id", "patient_superseded")

_HOUR = np.timedelta64(1, "h")
_PATIENT = ["gender", "anchor_age", "anchor_year", "dob"]
_ADMISSION = ["admission_type", "hospital_expire_flag", "deathtime"]


@dataclass(frozen=True)
class Cohort:
    """The stays, their outcomes, and the counts of rows that were left out.

    Attributes:
        stays: One row per stay, sorted by `stay_id`, with the columns and dtypes of `COHORT_DTYPES`.
        outcomes: One row per stay, sorted by `stay_id`, with the columns and dtypes of `OUTCOME_DTYPES`. `los_hours`
            (`outtime - intime`) and `death_hours` (`deathtime - intime`, if the patient died in the hospital) are in
            hours. The flags are null if the source does not say.
        counts: `rows_in` = `repeated` + the counts of `COHORT_REASONS` + `stays`. Of the stays also `no_outtime`,
            `ambiguous_patient` and `ambiguous_admission` (several rows contradict each other, and none is used). For
            FHIR also the counts of `fhir_cohort.read_encounters` and `read_patients`.
        warnings: Messages for the run's log that a person should read.
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
    """The cohort: checked stays with columns of the patient and the admission, and the split of each subject.

    A stay without an end is kept, and has no upper bound. A row for which no window can be made, or which belongs to
    nobody, is left out for the first reason that holds. Events of such a stay become `unknown_stay`.

    Args:
        icustays: The table `icu/icustays`, as `tables.read_frame` returns it. If it has the columns
            `hospital_expire_flag` and `deathtime` itself, as stays from FHIR do, these are used.
        patients: The table `hosp/patients`. If None, the columns made from it are null.
        admissions: The table `hosp/admissions`. If None, the columns made from it are null.
        names_all_subjects: Whether `patients` has all subjects, so that stays of other subjects are dropped.

    Returns:
        The cohort. `split` depends only on the subject. `age` is in whole years at `intime`, and 91 above 89.
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
    # If the time of a death is unknown, it is unknown whether the patient had left the unit.
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
    """The stays with columns of a table, and the number of stays with several contradicting rows in the table."""
    if table is None:
        return stays.assign(**dict.fromkeys(columns, np.nan)), 0
    table = table.loc[table[key].notna(), [key, *columns]].drop_duplicates()
    # Nothing says which of several rows is right, and a join with all of them would multiply the stays.
    several = table.loc[table[key].duplicated(keep=False), key]
    table = table[~table[key].isin(several)]
    return stays.merge(table, how="left", on=key, validate="many_to_one"), int(stays[key].isin(several).sum())


def _age(stays: pd.DataFrame) -> pd.Series:
    intime, dob = stays["intime"].dt, pd.to_datetime(stays["dob"]).dt
    # MIMIC-IV has the age in one shifted year. MIMIC-III has a date of birth.
    anchored = stays["anchor_age"] + (intime.year - stays["anchor_year"])
    before_birthday = (intime.month < dob.month) | ((intime.month == dob.month) & (intime.day < dob.day))
    born = intime.year - dob.year - before_birthday
    age = anchored.fillna(born).astype("float64")
    return pd.Series(np.where(age > _OLDEST, _OLDEST_AS, age), index=stays.index)
