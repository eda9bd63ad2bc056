"""Cleaning, rule by rule, on rows computed by hand. `tests/property` compares it with the definition on random rows."""

import pandas as pd
import pytest

from flows.icu.catalogue import load_catalogue
from flows.icu.cohort import build_cohort
from flows.icu.events import LAB_REASONS, REASONS, clean
from flows.icu.raw import RAW_DTYPES, empty_raw

CATALOGUE = load_catalogue()
HEART, TEMPERATURE_C, TEMPERATURE_F, GLUCOSE, GLUCOSE_CAREVUE, POTASSIUM = 220045, 676, 678, 220621, 807, 50971
STAYS = build_cohort(
    pd.DataFrame(
        {
            "subject_id": pd.array([1, 2, 1], "Int64"),
            "stay_id": pd.array([10, 20, 30], "Int64"),
            "hadm_id": pd.array([5, 6, 7], "Int64"),
            "first_careunit": "MICU",
            "intime": pd.to_datetime(["2150-01-01 08:00", "2150-01-01 08:00", "2150-02-01 00:00"]),
            "outtime": pd.to_datetime(["2150-01-03 08:00", "2150-01-03 08:00", None]),
        }
    )
).stays
GOOD = ("chartevents", 1, 10, HEART, "2150-01-01 09:00", "2150-01-01 09:05", 80.0, "bpm")


def row(**cells):
    return dict(zip(RAW_DTYPES, GOOD, strict=True)) | cells


def run(*rows):
    return clean([pd.DataFrame(list(rows), columns=list(RAW_DTYPES)).astype(RAW_DTYPES)], STAYS, CATALOGUE)


def dropped(*rows):
    return {reason: n for reason, n in run(*rows).counts["tables"]["chartevents"]["dropped"].items() if n}


@pytest.mark.parametrize(
    ("reason", "cells"),
    [
        ("not_in_catalogue", {"itemid": 999}),
        ("no_stay", {"stay_id": None}),
        ("unknown_stay", {"stay_id": 999}),
        ("other_subject", {"stay_id": 20}),
        ("other_subject", {"subject_id": None}),
        ("no_time", {"charttime": None}),
        ("no_number", {"valuenum": None}),
        ("no_number", {"valuenum": float("inf")}),
        ("before_stay", {"charttime": "2150-01-01 07:59", "storetime": None}),
        ("after_stay", {"charttime": "2150-01-03 08:00", "storetime": None}),
        ("after_stay", {"storetime": "2150-01-03 08:00"}),
    ],
)
def test_a_row_is_dropped_for_the_right_reason(reason, cells):
    assert dropped(row(**cells)) == {reason: 1}


def test_the_first_reason_that_holds_is_counted():
    cells = {}
    worse = [
        {"charttime": "2150-01-01 07:00", "storetime": None},
        {"valuenum": None},
        {"charttime": None},
        {"subject_id": 2},
        {"stay_id": 999},
        {"stay_id": None},
        {"itemid": 999},
    ]
    for reason, more in zip(reversed(REASONS[:-2]), worse, strict=True):
        cells |= more
        assert dropped(row(**cells)) == {reason: 1}


def test_a_row_that_is_stored_after_intime_belongs_to_the_stay_though_charted_before():
    cleaned = run(row(charttime="2150-01-01 07:00", storetime="2150-01-01 08:00"))
    assert cleaned.events["time"].item() == pd.Timestamp("2150-01-01 08:00")


def test_a_stay_without_an_end_has_no_upper_bound():
    assert len(run(row(stay_id=30, charttime="2190-01-01", storetime=None)).events) == 1


@pytest.mark.parametrize(
    ("item", "unit", "number", "value", "what"),
    [
        (TEMPERATURE_F, "?F", 98.6, 37.0, "converted"),
        (TEMPERATURE_F, None, 113.0, 45.0, "converted"),
        (TEMPERATURE_F, "Deg. C", 32.0, None, "implausible"),
        (TEMPERATURE_C, "Deg. F", 37.0, 37.0, None),
        (GLUCOSE, "mg/dL", 100.0, 100.0, None),
        (GLUCOSE, " MG / DL", 100.0, 100.0, None),
        (GLUCOSE, "mmol/L", 5.0, 90.09, "converted"),
        (GLUCOSE, None, 100.0, None, "unknown_unit"),
        (GLUCOSE, "mg", 100.0, None, "unknown_unit"),
        (GLUCOSE_CAREVUE, "mmol/L", 100.0, 100.0, None),
        (HEART, "furlongs", 300.0, 300.0, None),
        (HEART, "bpm", 300.5, None, "implausible"),
        (HEART, "bpm", 1.0, 1.0, None),
        (HEART, "bpm", 0.0, None, "implausible"),
    ],
)
def test_units_and_plausible_ranges(item, unit, number, value, what):
    cleaned = run(row(itemid=item, valueuom=unit, valuenum=number))
    got = cleaned.events["value"].item()
    assert pd.isna(got) if value is None else got == pytest.approx(value, rel=1e-15)
    counts = cleaned.counts["variables"][cleaned.events["variable"].item()]
    assert counts["usable"] == (value is not None)
    if what:
        assert counts[what] == 1
    assert counts["unknown_unit"] + counts["implausible"] == (value is None)


@pytest.mark.parametrize(
    ("one", "other", "value"),
    [
        ({"valuenum": 0.0, "storetime": None}, {"valuenum": 90.0}, 90.0),  # usable before null, though stored later
        ({"valuenum": 90.0, "storetime": "2150-01-01 09:01"}, {"valuenum": 70.0}, 90.0),  # then the earliest
        ({"valuenum": 90.0}, {"valuenum": 70.0}, 70.0),  # then the lowest
    ],
)
def test_the_preferred_duplicate_is_kept_in_either_order(one, other, value):
    for rows in ((row(**one), row(**other)), (row(**other), row(**one))):
        cleaned = run(*rows)
        assert cleaned.events["value"].to_list() == [value]
        assert cleaned.counts["tables"]["chartevents"]["dropped"]["duplicate"] == 1


def test_duplicates_are_converted_and_counted_before_one_is_kept():
    cleaned = run(*[row(itemid=TEMPERATURE_F, valuenum=98.6)] * 3)
    assert cleaned.counts["variables"]["temperature"] == {
        "converted": 3,
        "unknown_unit": 0,
        "implausible": 0,
        "usable": 1,
        "no_storetime": 0,
    }


def test_different_items_are_no_duplicates():
    assert len(run(row(itemid=220050), row(itemid=220179)).events) == 2


def lab(**cells):
    return row(table="labevents", itemid=POTASSIUM, stay_id=None, valuenum=4.1, valueuom="mEq/L") | cells


@pytest.mark.parametrize(
    ("reason", "cells"),
    [
        ("not_in_catalogue", {"itemid": 999}),
        ("unknown_subject", {"subject_id": 99}),
        ("unknown_subject", {"subject_id": None}),
        ("no_time", {"charttime": None}),
        ("no_number", {"valuenum": None}),
        ("outside_stays", {"charttime": "2150-01-01 07:59", "storetime": None}),
        ("outside_stays", {"charttime": "2150-01-03 08:00", "storetime": None}),
        ("outside_stays", {"storetime": "2150-01-03 08:00"}),
    ],
)
def test_a_lab_row_is_dropped_for_the_right_reason(reason, cells):
    account = run(lab(**cells)).counts["tables"]["labevents"]
    assert list(account["dropped"]) == list(LAB_REASONS)
    assert account == {"rows_in": 1, "kept": 0, "dropped": dict.fromkeys(LAB_REASONS, 0) | {reason: 1}}


def test_a_lab_row_belongs_to_the_stay_that_is_under_way_when_it_is_known():
    cleaned = run(
        lab(charttime="2150-01-01 07:00", storetime="2150-01-01 08:00"),
        lab(charttime="2170-01-01", storetime=None),
        lab(subject_id=2, stay_id=10),  # the stay that the row names is ignored
    )
    assert cleaned.events["stay_id"].to_list() == [10, 20, 30]
    assert cleaned.counts["variables"]["potassium"]["no_storetime"] == 1


def test_a_lab_row_belongs_to_the_stay_that_began_last():
    times = {7: ("08:00", "20:00"), 8: ("09:00", "10:00"), 9: ("09:00", "10:00"), 6: ("09:30", "09:40")}
    stays = build_cohort(
        pd.DataFrame(
            {
                "subject_id": pd.array([1] * 4, "Int64"),
                "stay_id": pd.array(list(times), "Int64"),
                "hadm_id": pd.array([5] * 4, "Int64"),
                "first_careunit": "MICU",
                "intime": pd.to_datetime([f"2150-01-01 {begins}" for begins, _ in times.values()]),
                "outtime": pd.to_datetime([f"2150-01-01 {ends}" for _, ends in times.values()]),
            }
        )
    ).stays
    when = {"08:30": 7, "09:00": 9, "09:35": 6, "09:45": 9, "10:00": 7, "19:59": 7}
    rows = [lab(charttime=f"2150-01-01 {time}", storetime=None) for time in [*when, "20:00", "07:59"]]
    cleaned = clean([pd.DataFrame(rows).astype(RAW_DTYPES)], stays, CATALOGUE)
    by_time = cleaned.events.set_index(cleaned.events["time"].dt.strftime("%H:%M"))["stay_id"]
    assert by_time.to_dict() == when
    assert cleaned.counts["tables"]["labevents"]["dropped"]["outside_stays"] == 2


def test_an_observation_is_judged_by_its_stay_or_else_by_its_time():
    def seen(**cells):
        account = run(row(table="observations") | cells).counts["tables"]["observations"]
        return account["kept"], {reason: n for reason, n in account["dropped"].items() if n}

    assert seen() == (1, {})
    assert seen(stay_id=20) == (0, {"other_subject": 1})
    assert seen(charttime="2150-01-01 07:00", storetime=None) == (0, {"before_stay": 1})
    # An outpatient's encounter or no encounter: the time decides.
    assert seen(stay_id=777) == seen(stay_id=None) == (1, {})
    assert seen(stay_id=None, charttime="2150-01-01 07:00", storetime=None) == (0, {"outside_stays": 1})
    assert seen(stay_id=777, subject_id=99) == (0, {"unknown_subject": 1})


def test_an_unknown_unit_is_counted_by_its_text_and_its_subjects():
    texts = [("mg%", 1, 10), (" MG %", 1, 10), ("mg%", 2, 20), (None, 2, 20)]
    rows = [
        row(itemid=GLUCOSE, valueuom=text, subject_id=subject, stay_id=stay, charttime=f"2150-01-01 09:{minute:02d}")
        for minute, (text, subject, stay) in enumerate(texts)
    ]
    assert run(*rows).counts["unknown_texts"] == {"glucose": {"mg%": 2, "": 1}}


def test_of_equal_rows_in_two_tables_the_chart_row_is_kept_in_either_order():
    chart, same = row(), row(table="labevents")
    for rows in ((chart, same), (same, chart)):
        tables = run(*rows).counts["tables"]
        assert (tables["chartevents"]["kept"], tables["labevents"]["dropped"]["duplicate"]) == (1, 1)


def test_events_are_sorted_so_that_the_last_value_of_a_window_comes_last():
    same = "2150-01-01 09:30"
    rows = [
        row(itemid=211, charttime="2150-01-01 09:10", storetime=same),
        row(itemid=220045, charttime="2150-01-01 09:10", storetime=same),
        row(itemid=211, charttime="2150-01-01 09:05", storetime=same),
        row(itemid=211, charttime="2150-01-01 09:20", storetime=None),
    ]
    got = run(*rows).events
    minutes = got["charttime"].dt.minute
    assert list(zip(minutes, got["itemid"], strict=True)) == [(20, 211), (5, 211), (10, 220045), (10, 211)]


@pytest.mark.parametrize("frames", [[], [empty_raw()]], ids=["no frame", "an empty frame"])
def test_an_empty_shard_has_the_same_schema(frames):
    empty = clean(frames, STAYS, CATALOGUE)
    full = run(row())
    assert empty.events.dtypes.to_dict() == full.events.dtypes.to_dict()
    assert empty.counts.keys() == full.counts.keys()
    assert clean(frames, STAYS.iloc[:0], CATALOGUE).events.empty


def test_without_any_stay_every_row_has_an_unknown_stay():
    cleaned = clean([pd.DataFrame([row()]).astype(RAW_DTYPES)], STAYS.iloc[:0], CATALOGUE)
    assert cleaned.counts["tables"]["chartevents"]["dropped"]["unknown_stay"] == 1
