"""The verdict: its findings, their wording and limits. It reveals nothing that the document hides."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from flows.icu.bins import count_bins, distribution, grid_of
from flows.icu.catalogue import DEFAULT_CATALOGUE, CatalogueError, Limits, load_catalogue
from flows.icu.cohort import COHORT_DTYPES, OUTCOME_DTYPES
from flows.icu.counts import add_counts
from flows.icu.description import count_course, course_document, describe_cohort, lost_document
from flows.icu.verdict import drift_verdict, one_line, quality_verdict
from flows.reports.plots import Bar, bar_plot, line_plot
from flows.reports.summary import quality_markdown
from tests.unit.flows.test_drift import document as drift_of
from tests.unit.flows.test_drift import features as drifting
from tests.unit.flows.test_quality import CATALOGUE, make_document, make_features

LIMITS = Limits()


def judged(table: dict[str, int] | None = None, /, **variables: dict[str, Any]) -> list[str]:
    """The findings about a document that is good except for these changes."""
    document = make_document()
    for name in CATALOGUE.names:
        good = {"usable": 500, "implausible": 0, "unfilled_rate": 0.2, "no_storetime": 0, "unknown_texts": {}}
        document["variables"][name] |= good | variables.get(name, {})
    if table:
        dropped = dict.fromkeys(document["tables"]["chartevents"]["dropped"], 0) | table
        document["tables"]["chartevents"] |= {"rows_in": 1000, "dropped": dropped}
    return [finding["text"] for finding in quality_verdict(document, LIMITS)["findings"]]


def test_a_good_document_has_a_good_verdict() -> None:
    assert judged() == []
    assert one_line({"level": "good", "findings": []}) == "good"


def test_a_variable_without_a_value_says_where_its_rows_went() -> None:
    outside = {"usable": 0, "unknown_unit": 0, "dropped": {"outside_stays": 578}}
    assert judged(lactate=outside) == ["Lactate has no usable value; 578 of 578 rows fell outside of a stay"]
    unknown = {"usable": 0, "unknown_unit": 30, "unknown_texts": {"mg%": 12}, "dropped": {"no_number": 10}}
    assert judged(ph=unknown) == ["pH has no usable value; 30 of 40 rows have an unknown unit: mg%"]
    assert judged(map={"usable": 0, "dropped": {"no_stay": None}}) == [
        "MAP has no usable value; too few rows to say why"
    ]
    assert judged(alt={"usable": 0, "dropped": {}}) == ["ALT has no row in the source"]


def test_shares_beyond_a_limit_are_reported_with_the_units_that_may_be_shown() -> None:
    glucose = {"usable": 830, "unknown_unit": 170, "unknown_texts": {"mg%": 40, "": 11}}
    assert judged(glucose=glucose) == ["17 % of glucose have an unknown unit: mg%, none given"]
    assert judged(glucose=glucose | {"unknown_texts": {}}) == ["17 % of glucose have an unknown unit"]
    assert judged(glucose={"usable": 995, "unknown_unit": None}) == []
    (text,) = judged(heart_rate={"usable": 900, "implausible": 100})
    assert text == "10 % of heart rate are implausible"


def test_many_variables_with_the_same_fault_are_one_finding() -> None:
    late = {name: {"usable": 100, "no_storetime": 100} for name in CATALOGUE.names[8:]}
    found = judged(sbp={"usable": 900, "implausible": 100}, **late)
    assert len(found) == 2
    assert "and a share of 22 more variables have no storing time" in " ".join(found)


@pytest.mark.parametrize(
    ("dropped", "text"),
    [
        (
            {"after_stay": 600, "before_stay": 200},
            "80 % of the rows of chartevents fell outside of a stay: 800 of 1,000",
        ),
        ({"other_subject": 50}, "5 % of the rows of chartevents name no stay or patient that is known: 50 of 1,000"),
        (
            {"no_number": 400, "not_in_catalogue": 200},
            "50 % of the rows of chartevents have no number or no time: 400 of 800",
        ),
    ],
)
def test_lost_rows_of_a_table_are_reported(dropped: dict[str, int], text: str) -> None:
    assert judged(dropped) == [text]


def test_the_worst_finding_comes_first_and_no_finding_hides_another() -> None:
    bad = {"usable": 100, "unknown_unit": 900}
    found = judged(
        {"other_subject": 30},
        glucose=bad | {"unknown_texts": {}},
        sbp={"usable": 900, "implausible": 100},
        dbp={"usable": 800, "implausible": 200},
    )
    assert found[0] == "90 % of glucose have an unknown unit"
    assert found[1].startswith("20 % of DBP")
    assert "chartevents" in found[2]


def test_too_few_patients_are_reported_without_their_number() -> None:
    verdict = make_document(make_features(9))["verdict"]
    assert verdict["level"] == "do not use"
    assert any("too few patients to be told" in finding["text"] for finding in verdict["findings"])
    assert not re.search(r"\b9\b", str(verdict))


def test_a_drift_is_judged_by_the_catalogue_and_by_the_limits_of_the_run() -> None:
    same, other = drifting(1000, 85, 1), drifting(1000, 105, 2)
    assert drift_of(same, same)["verdict"] == {"level": "good", "findings": []}
    assert drift_of(same, other)["verdict"]["level"] == "do not use"
    few = drift_of(drifting(60, 85, 1), drifting(60, 105, 2))
    assert few["verdict"]["level"] == "good", "an index of sixty values is mostly chance"
    moved = drift_of(same, drifting(1000, 85, 2, missing=0.2), max_missing_change=0.15)
    assert moved["verdict"]["level"] == "do not use"
    assert drift_verdict(moved, LIMITS)["findings"][0]["text"].startswith("Heart rate is missing in ")


def test_the_catalogue_sets_the_limits(tmp_path: Path) -> None:
    assert load_catalogue().limits == LIMITS
    own = tmp_path / "own.toml"
    text = DEFAULT_CATALOGUE.read_text()
    own.write_text(text.replace("unknown_unit = [0.01, 0.5]", "unknown_unit = [0.3, 0.5]"))
    glucose = make_document()
    glucose["variables"]["glucose"] |= {"usable": 830, "unknown_unit": 170}
    kinds = [finding["kind"] for finding in quality_verdict(glucose, load_catalogue(own).limits)["findings"]]
    assert "unknown_unit" not in kinds
    for wrong in ("[0.5, 0.1]", "0.5", "[1]", '["a", 2]', "[-1, 2]"):
        own.write_text(text.replace("psi = [0.1, 0.25]", f"psi = {wrong}"))
        with pytest.raises(CatalogueError, match="limits"):
            load_catalogue(own)


def test_the_artifact_shows_the_verdict_and_escapes_a_text_of_the_source() -> None:
    document = make_document()
    text = "17 % of glucose have an unknown unit: <b>|mg*"
    document["verdict"] = {"level": "look at this", "findings": [{"text": text}]}
    said = quality_markdown(document, "2024-01-01", "s3://b/p.html", "https://console.example/p")
    assert "Look at this" in said
    assert "[Open the whole report, with plots](https://console.example/p)" in said
    assert r"&lt;b&gt;\|mg\*" in said
    assert "another machine" not in said
    assert "patients · " in said
    document["verdict"]["findings"] *= 4
    assert "1 more is in the report" in quality_markdown(
        document, "2024-01-01", "s3://b/p.html", "https://console.example/p"
    )
    assert "another machine" in quality_markdown(document, "2024-01-01", "file:///p.html", "file:///p.html")


@pytest.mark.parametrize(
    "name", ["heart_rate", "spo2", "sodium", "temperature", "potassium", "ph", "platelets", "lactate"]
)
def test_rounded_values_make_no_gaps_in_a_histogram(name: str) -> None:
    variable = next(variable for variable in CATALOGUE.variables if variable.name == name)
    edges = grid_of(variable).bar_edges
    # Each number that a bar can distinguish occurs once, so all bars must be equally high.
    digit = 10.0 ** np.floor(np.log10(edges[1] - edges[0]) + 1e-9)
    numbers = np.arange(round(edges[0] / digit) + 1, round(edges[-1] / digit)) * digit
    values = np.repeat(numbers, 20)
    found = distribution(count_bins(values, np.tile(np.arange(20), len(numbers)), variable), variable)
    inside = [windows for windows in found["windows"][1:-1] if windows]
    assert len(inside) > 10
    assert len(set(inside)) == 1, found["windows"]


def test_bins_cover_all_plausible_values() -> None:
    for variable in CATALOGUE.variables:
        edges = grid_of(variable).edges
        assert edges[0] <= variable.low
        assert edges[-1] >= variable.high
        assert (np.diff(edges) > 0).all()
        ends = np.repeat([variable.low, variable.high], 20)
        found = distribution(count_bins(ends, np.tile(np.arange(20), 2), variable), variable)
        assert sum(filter(None, [found["below"], *found["windows"], found["above"]])) == 40


def cohort(stays: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    ids = {"subject_id": np.arange(stays), "stay_id": np.arange(stays)}
    whole = pd.DataFrame(ids).assign(
        hadm_id=pd.NA, intime=pd.Timestamp("2110-01-01"), outtime=pd.NaT, split="train", admission_type=None,
        first_careunit=["MICU" if n % 2 else "SICU" for n in range(stays)], gender="F",
        age=[91.0 if n < 3 else 64.0 for n in range(stays)], died_in_hospital=pd.NA,
    )  # fmt: skip
    whole.loc[0, "first_careunit"] = "the unit of one patient"
    outcomes = pd.DataFrame(ids).assign(
        los_hours=30.0, died_in_hospital=[n % 4 == 0 for n in range(stays)], death_hours=np.nan,
        died_in_icu=[True if n % 8 == 0 else None if n == 4 else False for n in range(stays)],
    )  # fmt: skip
    return whole[list(COHORT_DTYPES)].astype(COHORT_DTYPES), outcomes[list(OUTCOME_DTYPES)].astype(OUTCOME_DTYPES)


def test_the_cohort_is_described_without_its_small_groups() -> None:
    described = describe_cohort(*cohort(200))
    assert described["age"] == {"60 to 69": None, "90 and older": None}
    assert described["sex"] == {"F": 200}
    assert described["length_of_stay"] == {"1 to 2 days": 200}
    assert "the unit of one patient" not in str(described)
    assert set(described["unit"]) == {"MICU", "SICU", "other"}
    assert described["outcome"]["left the hospital alive"] == 150
    assert described["outcome"]["died in the hospital"] is None
    assert sum(n is None for n in described["outcome"].values()) == 2


def test_the_course_over_windows_adds_up_over_shards() -> None:
    frame = make_features(200)
    counted = count_course(frame, CATALOGUE)
    assert add_counts(*(count_course(part, CATALOGUE) for _, part in frame.groupby(frame["subject_id"] % 3))) == counted
    course = course_document(counted, CATALOGUE, 6)
    heart = course["variables"]["heart_rate"]
    assert course["hours"] == [6, 12, 18]
    assert heart["missing"] == [0, 0, 1]
    medians = frame.groupby("window")["heart_rate_mean"].median().to_list()
    assert heart["p50"][:2] == pytest.approx(medians[:2], abs=1.5)
    assert heart["p50"][2] is None
    assert course["variables"]["glucose"]["missing"] == [1, 1, 1]
    few = course_document(count_course(make_features(9), CATALOGUE), CATALOGUE, 6)["variables"]["heart_rate"]
    assert few["p50"] == few["missing"] == [None] * 3
    assert course_document(count_course(make_features(0), CATALOGUE), CATALOGUE, 6)["hours"] == []


def test_a_hidden_window_cannot_be_computed_from_the_overall_rate() -> None:
    frame = make_features(100, windows=4)
    frame["heart_rate_mean"] = 80.0
    frame.loc[(frame["window"] == 0) & (frame["subject_id"] < 1005), "heart_rate_mean"] = np.nan
    frame.loc[(frame["window"] == 1) & (frame["subject_id"] < 1030), "heart_rate_mean"] = np.nan
    frame.loc[(frame["window"] == 2) & (frame["subject_id"] < 1040), "heart_rate_mean"] = np.nan
    missing = course_document(count_course(frame, CATALOGUE), CATALOGUE, 6)["variables"]["heart_rate"]["missing"]
    assert missing == [None, None, 0.4, 0]


def test_lost_rows_of_a_variable_do_not_reveal_what_the_table_hides() -> None:
    lost = {
        "sbp": {"no_number": 40, "after_stay": 20},
        "dbp": {"no_number": 3, "after_stay": 30},
        "map": {"no_number": 50},
    }
    tables = {"chartevents": {"dropped": {"no_number": 93, "after_stay": None}}}
    told = lost_document(lost, tables, ["sbp", "dbp", "map"])
    assert told == {
        "sbp": {"no_number": None, "after_stay": None},
        "dbp": {"no_number": None, "after_stay": None},
        "map": {"no_number": 50},
    }


def test_a_label_of_a_plot_is_not_interpreted_and_stands_beside_its_bars() -> None:
    plot = bar_plot([Bar("Lactate", 0.827, "0.199"), Bar("pH", 0.2, "0.25 → 0.75", inner=0.75)], "title", top=1)
    assert {"0.199", "0.25 → 0.75"} <= set(re.findall(r">\s*([^<>]+?)\s*</text>", plot))
    (drawn,) = re.findall(r'x="([\d.]+)"[^>]*>0.25 → 0.75<', plot)
    (under,) = re.findall(r'x="([\d.]+)"[^>]*>0.199<', plot)
    # The label is beside the longer one of its two bars, not inside it.
    assert float(drawn) > float(under) - 30


def test_a_bar_with_a_hidden_inner_number_looks_different_from_an_inner_bar() -> None:
    plot = bar_plot([Bar("SBP", 0.05, "5% / -"), Bar("pH", 0.9, "90% / 70%", inner=0.7)], "title", top=1)
    assert plot.count("fill: var(--second)") == 2
    assert plot.count("fill: var(--value)") == 1


def test_the_highest_point_of_a_line_is_not_cut_off() -> None:
    points = re.findall(r"<g([^>]*)>\s*<use", line_plot(["2024-01-01", "2024-01-02"], [74, 71], "title", "%"))
    assert points
    assert not [attributes for attributes in points if "clip-path" in attributes]
