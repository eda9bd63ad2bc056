"""Drift: the index follows its definition, and nothing is shown about fewer than ten people."""

import math
import re

import numpy as np
import pandas as pd
import pytest

from flows.icu.catalogue import load_catalogue
from flows.icu.counts import add_counts
from flows.icu.drift import drift_document, psi
from flows.icu.quality import count_features
from flows.icu.windows import feature_columns
from flows.reports.drift_page import drift_page
from flows.reports.plots import variable_plot

CATALOGUE = load_catalogue()


def features(people: int, mean: float, seed: int, missing: float = 0.0) -> pd.DataFrame:
    """One window for each subject, with a heart rate about the mean and no other value."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(index=range(people), columns=list(feature_columns(CATALOGUE)))
    frame["subject_id"] = frame["stay_id"] = np.arange(people)
    frame["split"] = "train"
    for name in CATALOGUE.names:
        frame[f"{name}_missing"] = 1
        for feature in ("mean", "filled"):
            frame[f"{name}_{feature}"] = np.nan
    rates = np.clip(rng.normal(mean, 15, people), 1, 300)
    frame["heart_rate_mean"] = np.where(rng.random(people) < missing, np.nan, rates)
    frame["heart_rate_missing"] = frame["heart_rate_mean"].isna().astype(int)
    return frame


def document(reference: pd.DataFrame, date: pd.DataFrame, **limits: float | None):
    counted = [count_features(frame, CATALOGUE, ["mean"]) for frame in (reference, date)]
    return drift_document(*counted, CATALOGUE, **{"max_psi": None, "max_missing_change": None} | limits)


def test_the_index_follows_its_definition():
    # Ten bins with ten values each, compared with bins two of which differ. Half a count is added to each bin.
    reference, date = np.full(10, 1000), np.array([1500, 500] + [1000] * 8)
    p, q = 1000.5 / 10005, (1500.5 / 10005, 500.5 / 10005)
    assert psi(reference, date) == pytest.approx(sum((x - p) * math.log(x / p) for x in q), rel=1e-9)


def test_equal_data_have_not_drifted_and_a_larger_shift_has_a_larger_index():
    base = features(5000, 85, 1)
    found = [document(base, features(5000, 85 + shift, 2))["variables"]["heart_rate"]["psi"] for shift in (0, 5, 15)]
    assert document(base, base)["variables"]["heart_rate"]["psi"] == 0
    assert found[0] < 0.02 < found[1] < 0.25 < found[2]


def test_the_index_of_fine_bins_is_near_the_index_of_the_exact_values():
    base, other = features(20000, 85, 1), features(20000, 90, 2)
    edges = np.quantile(base["heart_rate_mean"], np.linspace(0, 1, 11))
    edges[[0, -1]] = -np.inf, np.inf
    p, q = (np.histogram(frame["heart_rate_mean"], edges)[0] / 20000 for frame in (base, other))
    found = document(base, other)["variables"]["heart_rate"]["psi"]
    assert found == pytest.approx(((q - p) * np.log(q / p)).sum(), rel=0.05)


def test_the_index_is_the_same_if_shards_are_counted_separately():
    base, other = features(900, 85, 1), features(900, 90, 2, missing=0.2)
    whole = document(base, other)
    parts = [
        add_counts(*(count_features(frame.iloc[n::3], CATALOGUE, ["mean"]) for n in range(3)))
        for frame in (base, other)
    ]
    assert drift_document(*parts, CATALOGUE, max_psi=None, max_missing_change=None) == whole
    assert whole["variables"]["heart_rate"]["missing_rate"]["reference"] == 0


def test_limits_name_every_variable_that_exceeds_them():
    base, other = features(1000, 85, 1, missing=0.5), features(1000, 105, 2, missing=0.2)
    assert document(base, other)["variables"]["heart_rate"]["exceeds"] == []
    found = document(base, other, max_psi=0.25, max_missing_change=0.1)["variables"]
    assert found["heart_rate"]["exceeds"] == ["psi", "missing_change"]
    assert found["heart_rate"]["missing_change"] == pytest.approx(-0.3, abs=0.06)
    assert [name for name, variable in found.items() if variable["exceeds"]] == ["heart_rate"]


def test_nothing_is_shown_about_fewer_than_ten_people():
    found = document(features(9, 85, 1), features(1000, 105, 2), max_psi=0.0)
    rate = found["variables"]["heart_rate"]
    assert rate["psi"] is None
    assert not any(rate["distribution"]["reference"]["windows"])
    assert found["windows"]["reference"] is None


def test_the_page_shows_every_variable_and_needs_nothing_from_outside():
    page = drift_page(document(features(500, 85, 1), features(500, 105, 2), max_psi=0.2), "2024-02-01", "2024-01-01")
    assert page.count('role="img"') == 3
    for name in ("Heart rate", "SBP", "Glucose", "2024-02-01", "2024-01-01"):
        assert name in page
    assert not re.search("src=.http|<link|@import", page)


def test_a_plot_is_coloured_by_its_own_findings_only():
    page = drift_page(document(features(500, 85, 1), features(500, 105, 2), max_psi=0.2), "2024-02-01", "2024-01-01")
    stability, missing, *_ = re.findall(r'<svg class="plot".*?</svg>', page, re.DOTALL)
    assert "var(--bad)" in stability
    assert "var(--bad)" not in missing
    assert "100.0% → 100.0%" in missing


def test_the_table_has_units_and_limits_in_words():
    limits = {"max_psi": 0.2, "max_missing_change": 0.1}
    both = document(features(500, 85, 1, missing=0.5), features(500, 105, 2), **limits)
    page = drift_page(both, "2024-02-01", "2024-01-01")
    rows = {cells[0]: cells[1:] for row in page.split("<tr")[1:] if (cells := re.findall(r"<t[hd][^>]*>([^<]*)<", row))}
    assert rows["Heart rate"][0] == "bpm"
    assert rows["Heart rate"][-1] == "stability index and missing"
    # UCUM's unit of a ratio is 1, which a reader would take for a value.
    assert rows["INR"][0] == "no unit"


def test_a_share_is_computed_over_all_windows_including_hidden_ones():
    shown = {"edges": [0.0, 1.0, 2.0, 3.0], "windows": [None, 20, None], "below": 0, "above": 0}
    plot = variable_plot("a title", "mg/dL", shown, None, [], other=shown, totals=(80, 80))
    ticks = {float(text) for text in re.findall(r">\s*([\d.]+)\s*</text>", plot)}
    assert 20 in ticks
    assert max(ticks) <= 30
