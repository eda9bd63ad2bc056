"""The names of variables: every page, artifact, verdict and plot shows them as clinicians write them."""

from pathlib import Path
from typing import Any

import pytest

from flows.icu.catalogue import DEFAULT_CATALOGUE, load_catalogue
from flows.icu.verdict import drift_verdict, quality_verdict
from flows.icu.wording import in_text, label
from flows.reports.drift_page import drift_page
from flows.reports.quality_page import quality_page
from flows.reports.summary import drift_markdown, quality_markdown
from tests.unit.flows.test_drift import document as drift_of
from tests.unit.flows.test_drift import features as drifting
from tests.unit.flows.test_quality import make_document


@pytest.mark.parametrize(
    ("name", "begins", "within"),
    [
        ("heart_rate", "Heart rate", "heart rate"),
        ("troponin_t", "Troponin T", "troponin T"),
        ("troponin_i", "Troponin I", "troponin I"),
        ("ck_mb", "CK MB", "CK MB"),
        ("vitamin_b12", "Vitamin B12", "vitamin B12"),
        ("gcs_motor", "GCS motor", "GCS motor"),
        ("ph", "pH", "pH"),
        ("arterial_ph", "Arterial pH", "arterial pH"),
        ("venous_pco2", "Venous pCO₂", "venous pCO₂"),
        ("spo2", "SpO₂", "SpO₂"),
        ("fio2", "FiO₂", "FiO₂"),
        ("egfr", "eGFR", "eGFR"),
        ("bun", "BUN", "BUN"),
        ("inr", "INR", "INR"),
        ("ptt", "PTT", "PTT"),
        ("map_invasive", "MAP invasive", "MAP invasive"),
        ("lactate", "Lactate", "lactate"),
        ("_", "_", "_"),
    ],
)
def test_a_name_is_written_as_clinicians_write_it(name: str, begins: str, within: str) -> None:
    assert (label(name), in_text(name)) == (begins, within)


@pytest.mark.parametrize(
    ("own", "begins"),
    [("Glasgow coma scale", "Glasgow coma scale"), ("base excess", "Base excess"), ("pH, arterial", "pH, arterial")],
)
def test_a_label_of_the_catalogue_is_used_unchanged(own: str, begins: str) -> None:
    assert (label("x", own), in_text("x", own)) == (begins, own)


def test_every_label_of_the_catalogue_reaches_the_documents(tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    text = DEFAULT_CATALOGUE.read_text(encoding="utf-8")
    own.write_text(text.replace("[heart_rate]\n", '[heart_rate]\nlabel = "pulse at the wrist"\n'), encoding="utf-8")
    known = {variable.name: variable.label for variable in load_catalogue(own).variables}
    assert known["heart_rate"] == "pulse at the wrist"
    assert known["lactate"] is None
    assert make_document()["variables"]["resp_rate"]["label"] == "respiratory rate"
    drift = drift_of(drifting(30, 80, 1), drifting(30, 80, 2))
    assert drift["variables"]["resp_rate"]["label"] == "respiratory rate"


def renamed(document: dict[str, Any], name: str, own: str | None) -> dict[str, Any]:
    """The document with another label for the heart rate, as if the catalogue had that label."""

    def one(key: str, value: Any) -> tuple[str, Any]:
        return (name, value | ({"label": own} if own else {})) if key == "heart_rate" else (key, value)

    made = document | {"variables": dict(one(*entry) for entry in document["variables"].items())}
    if "course" in document:
        course = {name if key == "heart_rate" else key: value for key, value in document["course"]["variables"].items()}
        made["course"] = document["course"] | {"variables": course}
    return made


@pytest.mark.parametrize(("own", "begins"), [(None, "Troponin T"), ("high-sensitivity cTnT", "High-sensitivity cTnT")])
def test_pages_plots_and_artifacts_use_the_same_name_for_a_variable(own: str | None, begins: str) -> None:
    limits = load_catalogue().limits
    quality = renamed(make_document(), "troponin_t", own)
    quality["variables"]["troponin_t"] |= {"usable": 500, "unknown_unit": 400, "delay": [10, 10, 10, 10, 500]}
    quality["verdict"] = quality_verdict(quality, limits)
    drift = renamed(drift_of(drifting(3000, 60, 1), drifting(3000, 120, 2)), "troponin_t", own)
    drift["verdict"] = drift_verdict(drift, limits)
    pages = [quality_page(quality), drift_page(drift, "2024-01-02", "2024-01-01")]
    for page in pages:
        for where in (
            f'<th scope="row">{begins}</th>',
            f"<figcaption>{begins} <",
            f'aria-label="{begins}: distribution',
        ):
            assert where in page
    said = [*pages, quality_markdown(quality, "2024-01-02", "x", "x"), drift_markdown(drift, "d", "r", "x", "x")]
    assert all(begins in text and "Troponin t<" not in text and "troponin_t" not in text for text in said)
    findings = [finding["text"] for document in (quality, drift) for finding in document["verdict"]["findings"]]
    within = own or "troponin T"
    assert any(f"% of {within} have an unknown unit" in text for text in findings)
    assert f"{begins} is distributed differently" in "\n".join(findings)
