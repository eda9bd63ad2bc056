"""The quality report: its numbers add up, small numbers are hidden, and the page loads no other file."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.icu.catalogue import load_catalogue
from flows.icu.counts import add_counts
from flows.icu.disclosure import about, hidden_cells, share, suppress_cells, suppress_part, told, told_account
from flows.icu.events import REASONS
from flows.icu.hashing import split_of
from flows.icu.quality import UnaccountedRowsError, count_features, quality_document
from flows.icu.windows import feature_columns
from flows.reports.quality_page import quality_page

CATALOGUE = load_catalogue()


def make_features(subjects, windows=3, seed=0):
    """Features with heart rates about 80. Every third window has none."""
    rng = np.random.default_rng(seed)
    number = subjects * windows
    columns = {}
    for column, dtype in feature_columns(CATALOGUE).items():
        columns[column] = pd.Series(np.full(number, np.nan if dtype == np.float64 else 0)).astype(dtype)
    frame = pd.DataFrame(columns)
    frame["subject_id"] = frame["stay_id"] = np.repeat(np.arange(1000, 1000 + subjects), windows)
    frame["window"] = np.tile(np.arange(windows), subjects).astype(np.int32)
    frame["split"] = np.array(["train", "validation", "test"], dtype=object)[split_of(frame["subject_id"].to_numpy())]
    has = frame["window"] != 2
    for name in ("mean", "min", "max", "last", "filled"):
        frame.loc[has, f"heart_rate_{name}"] = rng.normal(80, 12, has.sum())
    for variable in CATALOGUE.names:
        frame[f"{variable}_missing"] = frame[f"{variable}_mean"].isna().astype(np.int8)
    return frame


def row_counts(rows_in=1000, kept=600, **dropped):
    dropped = dict.fromkeys(REASONS, 0) | dropped
    other = rows_in - kept - sum(dropped.values())
    seen = rows_in - other
    ingested = {"chartevents": {"rows_in": rows_in, "not_in_catalogue": other, "passed_on": seen}}
    variables = {v: {"converted": 0, "unknown_unit": 0, "implausible": 3, "usable": 50} for v in CATALOGUE.names}
    cleaned = {"tables": {"chartevents": {"rows_in": seen, "kept": kept, "dropped": dropped}}, "variables": variables}
    return ingested, cleaned


def make_document(features=None, cohort=None, **rows):
    ingested, cleaned = row_counts(**rows)
    return quality_document(
        ingested=ingested,
        cohort=cohort or {"rows_in": 200, "no_intime": 0, "stays": 200},
        cleaned=cleaned,
        features=count_features(make_features(200) if features is None else features, CATALOGUE),
        catalogue=CATALOGUE,
        parameters={"date": "2024-01-01"},
    )


def test_counts_of_separate_shards_add_up_to_the_whole():
    frame = make_features(100)
    parts = [count_features(part, CATALOGUE) for _, part in frame.groupby(frame["subject_id"] % 7)]
    assert add_counts(*parts) == count_features(frame, CATALOGUE)


def test_adding_counts_does_not_change_them():
    one = {"a": {"b": 1, "c": [1, 2]}}
    assert add_counts(one, {"a": {"b": 2, "c": [3, 4]}, "d": 5}) == {"a": {"b": 3, "c": [4, 6]}, "d": 5}
    assert one == {"a": {"b": 1, "c": [1, 2]}}
    total = add_counts(one)
    total["a"]["c"][0] = 9
    assert one["a"]["c"] == [1, 2]
    with pytest.raises(ValueError, match="zip"):
        add_counts({"c": [1]}, {"c": [1, 2]})


def test_counts_and_document_can_be_written_as_json():
    counts = count_features(make_features(30), CATALOGUE)
    assert json.loads(json.dumps(counts)) == counts
    document = make_document()
    assert json.loads(json.dumps(document, allow_nan=False)) == document


def test_rows_in_are_rows_kept_and_dropped():
    table = make_document(kept=600, no_number=70, duplicate=10)["tables"]["chartevents"]
    assert table["dropped"]["no_number"] == 70
    assert table["dropped"]["not_in_catalogue"] == 320
    assert table["rows_in"] == table["kept"] + sum(table["dropped"].values()) == 1000
    assert table["hidden"] == 0


def test_rows_lost_between_two_steps_are_an_error():
    ingested, cleaned = row_counts()
    ingested["chartevents"]["passed_on"] += 1
    features = count_features(make_features(30), CATALOGUE)
    with pytest.raises(UnaccountedRowsError, match="cleaning saw under 10 rows fewer than ingest passed on"):
        quality_document(
            ingested=ingested,
            cohort={"rows_in": 1, "stays": 1},
            cleaned=cleaned,
            features=features,
            catalogue=CATALOGUE,
            parameters={},
        )


def test_quantiles_are_exact_to_the_width_of_a_bin():
    frame = make_features(500)
    variable = make_document(frame)["variables"]["heart_rate"]
    exact = frame["heart_rate_mean"].quantile([0.05, 0.25, 0.5, 0.75, 0.95]).to_list()
    assert list(variable["quantiles"]["mean"].values()) == pytest.approx(exact, abs=variable["quantile_resolution"])


def test_missing_rates_are_the_shares_of_windows_without_a_value():
    variables = make_document()["variables"]
    assert variables["heart_rate"]["missing_rate"] == pytest.approx(1 / 3)
    assert variables["glucose"]["missing_rate"] == 1


@pytest.mark.parametrize(
    ("people", "hidden"),
    [
        ([0, 20, 30], [False, False, False]),
        ([9, 20, 30], [True, True, False]),  # with the next smallest, because subtraction would give the 9
        ([10, 20, 30], [False, False, False]),
        ([9, 3, 30], [True, True, False]),
        ([1, 2, 30, 40], [True, True, True, False]),  # or the reader would know that three are in one of two cells
        ([9, 0, 20, 30], [True, False, True, False]),  # an empty cell is shown, since it is about nobody
        ([9, 0, 0], [True, False, False]),
    ],
)
def test_small_cells_are_hidden_and_cannot_be_computed_by_subtraction(people, hidden):
    assert hidden_cells(people) == hidden


def test_a_rate_that_reveals_a_small_cell_is_hidden():
    assert share(5, 1000) is None
    assert share(995, 1000) is None
    assert share(500, 1000) == 0.5
    assert share(0, 0) is None
    assert suppress_cells({"a": 1, "b": 50, "c": 60}) == {"a": None, "b": None, "c": 60}


def test_nothing_is_shown_about_few_patients():
    document = make_document(make_features(9))
    assert set(document["splits"]["total"].values()) == {None}
    heart = document["variables"]["heart_rate"]
    assert set(heart["quantiles"]["mean"].values()) == {None}
    assert not any(heart["distribution_of_mean"]["windows"])


def test_a_quantile_with_few_patients_beyond_it_is_hidden():
    # One patient has all the high values in many windows, and still counts as one patient.
    frame = make_features(50)
    one = make_features(1, windows=90).assign(subject_id=1, stay_id=1)
    one.loc[:, [f"heart_rate_{name}" for name in ("mean", "min", "max", "last", "filled")]] = 250.0
    quantiles = make_document(pd.concat([frame, one]))["variables"]["heart_rate"]["quantiles"]["mean"]
    assert quantiles["p25"] is not None
    assert quantiles["p95"] is None


def test_an_account_hides_small_reasons_and_still_adds_up():
    table = make_document(rows_in=10_000, kept=6000, no_number=70, after_stay=5, duplicate=1)["tables"]["chartevents"]
    # Five and one are six together, so the next smallest is hidden with them.
    assert [reason for reason, rows in table["dropped"].items() if rows is None] == [
        *("no_number", "after_stay", "duplicate")
    ]
    assert table["hidden"] == 76
    told = sum(rows for rows in table["dropped"].values() if rows is not None)
    assert table["rows_in"] == table["kept"] + told + table["hidden"] == 10_000


@pytest.mark.parametrize(
    ("kept", "dropped", "total", "kept_is_told", "hidden"),
    [
        (900, {"a": 0, "b": 50}, 950, True, 0),
        (900, {"a": 7, "b": 0}, None, True, None),  # only hiding the total protects the 7
        (900, {"a": 4, "b": 5}, None, True, None),
        (900, {"a": 4, "b": 6}, 910, True, 10),
        (3, {"a": 8, "b": 50}, 61, False, 11),
        (3, {"a": 0, "b": 50}, 53, False, 53),
        (0, {"a": 0, "b": 0}, 0, True, 0),
        (5, {"a": 0, "b": 0}, None, False, None),
    ],
)
def test_no_small_number_of_an_account_can_be_computed_by_subtraction(kept, dropped, total, kept_is_told, hidden):
    account = told_account(kept, dropped)
    assert (account.total, account.kept is not None, account.hidden) == (total, kept_is_told, hidden)
    assert not [rows for rows in (account.total, account.kept, *account.dropped.values()) if rows and rows < 10]


@given(st.integers(0, 40), st.lists(st.integers(0, 40), max_size=6))
def test_a_reader_can_compute_no_small_number(kept, reasons):
    account = told_account(kept, {str(index): rows for index, rows in enumerate(reasons)})
    told = [account.kept, *account.dropped.values()]
    assert all(rows is None or rows == 0 or rows >= 10 for rows in told)
    hidden = [rows for rows, shown in zip([kept, *reasons], told, strict=True) if shown is None]
    if account.total is None:
        assert account.hidden is None
    else:
        assert account.total - sum(rows for rows in told if rows is not None) == account.hidden == sum(hidden)
        assert not hidden or (len(hidden) > 1 and sum(hidden) >= 10)


def test_a_small_cell_of_the_cohort_is_not_the_difference_of_two_shown_numbers():
    told = make_document(cohort={"rows_in": 200, "no_intime": 3, "stays": 197, "no_outtime": 190})["cohort"]
    assert told["stays"] == 197
    assert told["dropped"]["no_intime"] is None
    assert told["rows_in"] is None
    assert told["no_outtime"] is None  # 190 of 197, so seven stays have an outtime


def test_the_page_says_that_every_encounter_was_taken_and_why_subjects_could_not_be_resolved():
    def document(errors):
        ingested, cleaned = row_counts()
        reasons = {"entered_in_error": errors, "unresolved_reference": 40, "superseded": 200, "not_in_catalogue": 0}
        ingested |= {"observations": {"rows_in": 240 + errors, **reasons, "passed_on": 0}}
        cleaned["tables"]["observations"] = {"rows_in": 0, "kept": 0, "dropped": {}}
        return quality_document(
            ingested=ingested | {"references": {"logical": 25, "contained": 15}},
            cohort={"rows_in": 200, "stays": 200, "any_encounter": 200},
            cleaned=cleaned,
            features=count_features(make_features(200), CATALOGUE),
            catalogue=CATALOGUE,
            parameters={"date": "2024-01-01"},
        )

    shown = document(errors=0)
    assert shown["unresolved_references"] == {"logical": 25, "contained": 15}
    page = " ".join(quality_page(shown).split())
    assert "every Encounter was taken for one (200)" in page
    assert "logical 25, contained 15" in page
    # A reader could compute from their sum how many rows were entered in error.
    hidden = document(errors=3)
    assert hidden["tables"]["observations"]["dropped"]["unresolved_reference"] is None
    assert hidden["unresolved_references"] == {"logical": None, "contained": None}


def test_values_are_hidden_together_since_the_rows_kept_are_their_sum():
    ingested, cleaned = row_counts()
    for variable in cleaned["variables"].values():
        variable |= {"usable": 500, "implausible": 20, "unknown_unit": 0, "converted": 0}
    cleaned["variables"]["spo2"]["implausible"] = 3
    cleaned["variables"]["temperature"]["converted"] = 497
    told = quality_document(
        ingested=ingested,
        cohort={"rows_in": 200, "stays": 200},
        cleaned=cleaned,
        features=count_features(make_features(200), CATALOGUE),
        catalogue=CATALOGUE,
        parameters={},
    )["variables"]
    assert told["spo2"]["implausible"] is None
    assert sum(variable["implausible"] is None for variable in told.values()) == 2
    assert all(variable["usable"] == 500 for variable in told.values())
    # Three values already had the canonical unit.
    assert told["temperature"]["converted"] is None
    assert suppress_part(100, 500) == 100


def test_a_page_hides_the_numbers_that_the_document_hides():
    page = quality_page(make_document(rows_in=600, kept=593, no_number=7))
    assert "hidden of hidden rows" not in page
    assert re.search(r"<b>hidden</b>\s*rows read", page)
    assert ">7<" not in page


def test_log_lines_have_no_small_number():
    assert (told(9), told(0), told(1234)) == ("under 10", "0", "1,234")
    assert (about(758_355), about(612)) == ("about 758,000", "under 1,000")


def test_an_empty_cohort_has_a_report():
    document = make_document(make_features(0), kept=0)
    assert "too few people" in quality_page(document)


def test_the_page_makes_no_request():
    page = quality_page(make_document(no_number=77))
    # The only addresses are names of XML namespaces, which no browser requests.
    assert re.findall(r'(?:src|href)="(?!#)[^"]*"|url\((?!#)[^)]*\)|@import|<script|<link', page) == []
    assert page.count('role="img"') == 3
    assert "default-src 'none'" in page


def test_the_page_escapes_texts():
    document = make_document()
    document["parameters"] = {"date": "<script>alert(1)</script>"}
    page = quality_page(document, title="A & B")
    assert "<script" not in page
    assert "A &amp; B" in page


def test_the_same_document_makes_the_same_page():
    assert quality_page(make_document()) == quality_page(make_document())


def test_the_page_shows_the_numbers():
    page = quality_page(make_document(kept=600, no_number=77))
    for text in ("1,000 rows", "600 rows were kept", "no number", ">77<", "Heart rate", "33.3%", "SpO₂", "2024-01-01"):
        assert text in page
