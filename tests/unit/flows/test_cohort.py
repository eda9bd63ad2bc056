"""The cohort: nobody is dropped in silence, and nothing is guessed."""

import pandas as pd
import pytest

from flows.icu.cohort import COHORT_DTYPES, CohortError, build_cohort
from flows.sources.tables import LAYOUTS, read_frame


def table(tmp_path, name, text):
    path = tmp_path / f"{name}.csv"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return read_frame(tmp_path, name)


STAYS = "subject_id,hadm_id,stay_id,first_careunit,intime,outtime\n"


def stays(tmp_path, *rows):
    return table(tmp_path, "icu/icustays", STAYS + "".join(f"{row}\n" for row in rows))


def test_the_schema_is_fixed_with_or_without_the_other_tables(tmp_path):
    some = stays(tmp_path, "1,2,3,MICU,2150-01-01 10:00:00,2150-01-02 10:00:00")
    patients = table(tmp_path, "hosp/patients", "subject_id,gender,anchor_age,anchor_year\n1,F,60,2148\n")
    admissions = table(tmp_path, "hosp/admissions", "hadm_id,admission_type,hospital_expire_flag\n2,URGENT,1\n")
    for cohort in (build_cohort(some), build_cohort(some.iloc[:0]), build_cohort(some, patients, admissions)):
        assert cohort.stays.dtypes.to_dict() == COHORT_DTYPES
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


def test_what_is_left_out_is_counted_and_the_rest_is_kept(tmp_path):
    cohort = build_cohort(
        stays(
            tmp_path,
            "1,2,33,MICU,2150-01-01,2150-01-02",
            "1,2,33,MICU,2150-01-01,2150-01-02",  # the same row again
            "1,2,,MICU,2150-01-01,2150-01-02",
            ",2,34,MICU,2150-01-01,2150-01-02",
            "1,2,35,MICU,,2150-01-02",
            "1,2,32,MICU,2150-01-01,",
            "1,2,31,MICU,2150-01-02,2150-01-01",
        )
    )
    assert cohort.counts == {
        "rows_in": 7,
        "repeated": 1,
        "no_stay_id": 1,
        "no_subject_id": 1,
        "no_intime": 1,
        "stays": 3,
        "no_outtime": 1,
        "outtime_before_intime": 1,
    }
    assert cohort.stays["stay_id"].to_list() == [31, 32, 33]


def test_a_stay_with_rows_that_disagree_is_an_error_without_its_id(tmp_path):
    some = stays(tmp_path, "1,2,777,MICU,2150-01-01,2150-01-02", "1,2,777,MICU,2150-01-01,2150-01-03")
    with pytest.raises(CohortError, match="1 stays have several rows that disagree") as caught:
        build_cohort(some)
    assert "777" not in str(caught.value)


def test_a_patient_who_is_there_twice_does_not_multiply_the_stays(tmp_path):
    some = stays(tmp_path, "1,2,3,MICU,2150-01-01,2150-01-02")
    patients = table(tmp_path, "hosp/patients", "subject_id,gender\n1,F\n1,M\n")
    with pytest.raises(CohortError, match="hosp/patients: 1 rows repeat a subject_id"):
        build_cohort(some, patients)


def test_all_stays_of_a_subject_are_in_one_split(tmp_path):
    rows = [f"{n % 40},2,{n},MICU,2150-01-01,2150-01-02" for n in range(1, 200)]
    frame = build_cohort(stays(tmp_path, *rows)).stays
    assert (frame.groupby("subject_id")["split"].nunique() == 1).all()
    assert set(frame["split"]) == {"train", "validation", "test"}


def test_every_column_read_is_one_of_the_layout(tmp_path):
    frame = stays(tmp_path, "1,2,3,MICU,2150-01-01,2150-01-02")
    assert list(frame.columns) == list(LAYOUTS["icu/icustays"].columns)
    assert frame["intime"].dtype == "datetime64[us]"
    assert frame["stay_id"].dtype == pd.Int64Dtype()
