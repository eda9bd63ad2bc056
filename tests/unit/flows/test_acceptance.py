"""A bad result does not replace a good one: which findings stop a run before it publishes, and their messages."""

from pathlib import Path
from typing import Any

import pytest

from flows.icu.acceptance import NotAcceptedError, accept, objections, summary
from flows.icu.catalogue import CatalogueError, Limits, load_catalogue

DEFAULT = Limits()


def totals(windows: int = 1000, **variables: tuple[int, int]) -> dict[str, Any]:
    """A run's summary, with the usable values of each variable and the windows without a value."""
    return {
        "stays": 100 if windows else 0,
        "windows": windows,
        "tables": {"chartevents": 500, "labevents": 50},
        "variables": {name: {"usable": usable, "missing": missing} for name, (usable, missing) in variables.items()},
    }


GOOD = totals(hr=(800, 200), lactate=(90, 900), glucose=(100, 700))


def found(now: dict[str, Any], before: dict[str, Any] | None = GOOD, limits: Limits = DEFAULT) -> list[str]:
    return [objection.text for objection in objections(now, before, limits)]


def test_an_equal_or_slightly_worse_result_is_accepted() -> None:
    assert found(GOOD) == found(GOOD, None) == []
    assert found(totals(hr=(700, 399), lactate=(1, 999), glucose=(60, 899))) == []
    assert found(totals(hr=(990, 10), lactate=(900, 100), glucose=(900, 100))) == []


def test_an_empty_result_is_refused_also_in_the_first_run() -> None:
    for before in (None, GOOD):
        assert found(totals(0), before) == ["there is no window: the cohort has no stay"]
        assert found(totals(hr=(0, 1000)), before)[0] == "no variable has a usable value"


def test_a_variable_or_a_table_that_had_values_and_has_none_is_named() -> None:
    assert found(totals(hr=(800, 200), lactate=(0, 1000), glucose=(100, 700))) == [
        "lactate had usable values, and has none now"
    ]
    without = GOOD | {"tables": {"chartevents": 500, "labevents": 0}}
    assert found(without) == ["labevents had rows, and has none now"]
    # New values are no loss, and neither is a variable that only another catalogue has.
    assert found(GOOD, without) == []
    assert found(totals(hr=(800, 200))) == []


def test_a_missing_rate_that_rises_much_is_named_if_there_were_enough_values() -> None:
    assert found(totals(hr=(600, 400), lactate=(90, 900), glucose=(100, 700))) == [
        "hr is missing in 40% of the windows, and was in 20%"
    ]
    assert found(totals(hr=(800, 200), lactate=(90, 900), glucose=(10, 900))) == [
        "glucose is missing in 90% of the windows, and was in 70%"
    ]
    fewer = totals(hr=(800, 200), lactate=(90, 900), glucose=(99, 700))
    assert found(totals(hr=(800, 200), lactate=(90, 900), glucose=(10, 900)), fewer) == []
    assert found(totals(hr=(10, 900), lactate=(90, 900), glucose=(100, 700)), limits=Limits(0.8)) == []


def test_an_accepted_finding_passes_and_the_message_says_how_to_accept_it() -> None:
    empty, worse = totals(0), totals(hr=(600, 400), lactate=(90, 900), glucose=(100, 700))
    accept(objections(empty, GOOD, DEFAULT), accept_empty=True)
    with pytest.raises(NotAcceptedError, match=r"not published: there is no window.*--accept-empty"):
        accept(objections(empty, GOOD, DEFAULT), accept_empty=False)
    with pytest.raises(NotAcceptedError, match=r"hr is missing in 40%.*raise missing_jump under \[limits\]"):
        accept(objections(worse, GOOD, DEFAULT), accept_empty=True)


def test_a_summary_is_of_the_exact_counts() -> None:
    features = {"splits": {"train": {"windows": 3}, "test": {"windows": 4}}, "features": {"hr": {"missing": 2}}}
    cleaned = {"tables": {"chartevents": {"kept": 5}}, "variables": {"hr": {"usable": 4}}}
    assert summary({"stays": 2}, cleaned, features) == {
        "stays": 2,
        "windows": 7,
        "tables": {"chartevents": 5},
        "variables": {"hr": {"usable": 4, "missing": 2}},
    }


def test_the_catalogue_sets_the_limits(tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    variable = '[hr]\nunit = "bpm"\nplausible = [1, 300]\nitems = [211]\n'
    own.write_text("[limits]\nmissing_jump = 0.5\n" + variable)
    assert load_catalogue(own).limits == Limits(0.5, 100)
    assert load_catalogue(own).names == ["hr"]
    assert load_catalogue().limits == DEFAULT
    for wrong in ("missing_jump = 0", "missing_jump = 2", "of_values = 0.5", "missing_jmp = 0.5"):
        own.write_text(f"[limits]\n{wrong}\n{variable}")
        with pytest.raises(CatalogueError, match="limits"):
            load_catalogue(own)
