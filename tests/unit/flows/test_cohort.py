"""The cohort: every stay that is left out is counted, and nothing is guessed."""

import pandas as pd
import pytest

from flows.icu.cohort import COHORT_DTYPES, COHORT_REASONS, OUTCOME_DTYPES, build_cohort
from flows.sources.tables import LAYOUTS, read_frame


def table(tmp_path, name, text):
    path = tmp_path / f"{name}.csv"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return read_frame(tmp_path, name)


STAYS = "subject_id,hadm_id,stay_id,first_careunit,intime,outtime\n"


def stays(tmp_path, *rows):
    return table(tmp_path, "icu/icustays", STAYS + "".join(f"{row}\n" for row in rows))


def test_the_schema_is_the_same_with_and_without_the_other_tables(tmp_path):
    some = stays(tmp_path, "1,2,3,MICU,2150-01-01 10:00:00,2150-01-02 10:00:00")
    patients = table(tmp_path, "hosp/patients", "subject_id,gender,anchor_age,anchor_year\n1,F,60,2148\n")
    admissions = table(tmp_path, "hosp/admissions", "hadm_id,admission_type,hospital_expire_flag\n2,URGENT,1\n")
    for cohort in (build_cohort(some), build_cohort(some.iloc[:0]), build_cohort(some, patients, admissions)):
        assert cohort.stays.dtypes.to_dict() == COHORT_DTYPES
        assert cohort.outcomes.dtypes.to_dict() == OUTCOME_DTYPES
    row = build_cohort(some, patients, admissions).stays.iloc[0]
    assert (row["gender"], row["age"], row["admission_type"], row["died_in_hospital"]) == ("F", 62, "URGENT", True)
    assert build_cohort(some).stays[["gender", "age", "died_in_hospital"]].isna().all(axis=None)


@pytest.mark.parametrize(
    ("dob", "age"), [("2100-06-15", 49), ("2100-01-01", 50), ("2100-01-02", 49), ("1850-01-01", 91), ("2059-01-01", 91)]
)
def test_the_age_is_in_whole_years_and_the_oldest_are_one_group(tmp_path, dob, age):
    some = stays(tmp_path, "1,2,3,MICU,2150-01-01 10:00:00,2150-01-02 10:00:00")
    patients = table(tmp_path, "hosp/patients", f"subject_id,dob\n1,{dob} 00:00:00\n")
    assert build_cohort(some, patients).stays["age"].item() == age


def test_rows_that_are_left_out_are_counted_and_the_rest_is_kept(tmp_path):
    some = stays(
        tmp_path,
        "1,2,33,MICU,2150-01-01,2150-01-02",
        "1,2,33,MICU,2150-01-01,2150-01-02",  # the same row again
        "1,2,,MICU,2150-01-01,2150-01-02",
        ",2,34,MICU,2150-01-01,2150-01-02",
        "1,2,35,MICU,,2150-01-02",
        "1,2,32,MICU,2150-01-01,",
        "1,2,31,MICU,2150-01-02,2150-01-01",
        "1,2,36,MICU,2150-01-01,2150-01-02",  # a stay in two admissions
        "1,3,36,MICU,2150-01-01,2150-01-02",
        "9,2,37,MICU,2150-01-01,2150-01-02",  # a subject who is not in patients
        "1,2,38,MICU,2150-01-01,2150-01-01",  # a stay of zero length, which has one window
    )
    patients = table(tmp_path, "hosp/patients", "subject_id,gender\n1,F\n")
    cohort = build_cohort(some, patients)
    assert cohort.counts == {
        "rows_in": 11,
        "no_id": 2,
        "no_intime": 1,
        "several_rows": 2,
        "unknown_subject": 1,
        "outtime_before_intime": 1,
        "repeated": 1,
        "stays": 3,
        "no_outtime": 1,
        "ambiguous_patient": 0,
        "ambiguous_admission": 0,
    }
    assert list(cohort.counts)[1:6] == list(COHORT_REASONS)
    assert cohort.stays["stay_id"].to_list() == cohort.outcomes["stay_id"].to_list() == [32, 33, 38]
    assert build_cohort(some).counts["unknown_subject"] == 0


def test_a_row_is_left_out_for_the_first_reason_that_holds(tmp_path):
    worst = stays(tmp_path, ",2,,MICU,,2150-01-02", "9,2,5,MICU,,2150-01-02", "9,2,6,MICU,2150-01-02,2150-01-01")
    counts = build_cohort(worst, table(tmp_path, "hosp/patients", "subject_id\n1\n")).counts
    assert [counts[reason] for reason in COHORT_REASONS] == [1, 1, 0, 1, 0]


def test_rows_that_contradict_each_other_are_not_used_and_do_not_multiply_the_stays(tmp_path):
    some = stays(tmp_path, "1,2,3,MICU,2150-01-01,2150-01-02", "5,6,7,MICU,2150-01-01,2150-01-02")
    patients = table(tmp_path, "hosp/patients", "subject_id,gender\n1,F\n1,M\n5,M\n")
    admissions = table(tmp_path, "hosp/admissions", "hadm_id,hospital_expire_flag\n2,1\n6,0\n6,1\n")
    cohort = build_cohort(some, patients, admissions)
    assert cohort.stays["gender"].isna().to_list() == [True, False]
    assert cohort.outcomes["died_in_hospital"].to_list() == [True, pd.NA]
    assert (cohort.counts["ambiguous_patient"], cohort.counts["ambiguous_admission"]) == (1, 1)


@pytest.mark.parametrize(
    ("outtime", "flag", "deathtime", "expected"),
    [
        ("2150-01-03 12:00", "0", "", (60.0, False, None, False)),
        ("2150-01-03 12:00", "1", "2150-01-03 12:00", (60.0, True, 60.0, True)),
        ("2150-01-03 12:00", "1", "2150-01-03 13:00", (60.0, True, 61.0, False)),
        ("2150-01-03 12:00", "1", "2149-12-31 23:00", (60.0, True, -1.0, False)),
        ("2150-01-03 12:00", "1", "", (60.0, True, None, None)),
        ("2150-01-03 12:00", "0", "2150-01-02 00:00", (60.0, False, None, False)),
        ("2150-01-03 12:00", "", "2150-01-02 00:00", (60.0, None, None, None)),
        ("", "1", "2151-01-01 00:00", (None, True, 8760.0, True)),
        ("", "0", "", (None, False, None, False)),
    ],
)
def test_outcomes_say_how_a_stay_ended(tmp_path, outtime, flag, deathtime, expected):
    some = stays(tmp_path, f"1,2,3,MICU,2150-01-01,{outtime}")
    admissions = table(tmp_path, "hosp/admissions", f"hadm_id,hospital_expire_flag,deathtime\n2,{flag},{deathtime}\n")
    row = build_cohort(some, None, admissions).outcomes.drop(columns=["subject_id", "stay_id"]).iloc[0]
    assert tuple(None if pd.isna(value) else value for value in row) == expected
    # The end of another admission does not concern this stay.
    elsewhere = admissions.assign(hadm_id=pd.array([4], "Int64"))
    assert build_cohort(some, None, elsewhere).outcomes["died_in_icu"].isna().all()


def test_all_stays_of_a_subject_are_in_one_split(tmp_path):
    rows = [f"{n % 40},2,{n},MICU,2150-01-01,2150-01-02" for n in range(1, 200)]
    frame = build_cohort(stays(tmp_path, *rows)).stays
    assert (frame.groupby("subject_id")["split"].nunique() == 1).all()
    assert set(frame["split"]) == {"train", "validation", "test"}


def test_every_column_that_is_read_is_in_the_layout(tmp_path):
    frame = stays(tmp_path, "1,2,3,MICU,2150-01-01,2150-01-02")
    assert list(frame.columns) == list(LAYOUTS["icu/icustays"].columns)
    assert frame["intime"].dtype == "datetime64[us]"
    assert frame["stay_id"].dtype == pd.Int64Dtype()
