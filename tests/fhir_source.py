"""Converts a source of tables to FHIR R4."""

import gzip
import json
from pathlib import Path
from typing import Any

import pandas as pd

from flows.sources.tables import read_frame

MIMIC = "http://mimic.mit.edu/fhir/mimic/CodeSystem/mimic-chartevents-d-items"


def write(path: Path, resources: list[dict[str, Any]]) -> Path:
    text = "".join(json.dumps(resource) + "\n" for resource in resources)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def to_fhir(source: Path, out: Path, *, encounters: bool) -> None:
    """Write a source of tables as FHIR, with each chart row as an Observation of its item."""
    out.mkdir()
    chart = read_frame(source, "icu/chartevents")

    def resource(row: Any) -> dict[str, Any]:
        texts = {"unit": None if pd.isna(row.valueuom) else row.valueuom}
        number = {} if pd.isna(row.valuenum) else {"value": row.valuenum}
        return {
            "resourceType": "Observation",
            "status": "final",
            "code": {"coding": [{"system": MIMIC, "code": str(row.itemid)}]},
            "subject": {"reference": f"Patient/{row.subject_id}"},
            **({} if pd.isna(row.stay_id) else {"encounter": {"reference": f"Encounter/{row.stay_id}"}}),
            **({} if pd.isna(row.charttime) else {"effectiveDateTime": f"{row.charttime.isoformat()}Z"}),
            **({} if pd.isna(row.storetime) else {"issued": f"{row.storetime.isoformat()}Z"}),
            "valueQuantity": {key: text for key, text in {**texts, **number}.items() if text is not None},
        }

    resources = [resource(row) for row in chart.itertuples()]
    write(out / "Observation.000.ndjson.gz", resources[::2])
    write(out / "Observation.001.ndjson", resources[1::2])
    if encounters:
        stays = read_frame(source, "icu/icustays")
        write(out / "MimicEncounterICU.ndjson", [encounter(row) for row in stays.itertuples()])
        write(out / "MimicEncounter.ndjson", [])
    else:
        (out / "icu").mkdir()
        (table,) = (source / "icu").glob("icustays*")
        (out / "icu" / table.name).write_bytes(table.read_bytes())


def encounter(row: Any) -> dict[str, Any]:
    period = {"start": f"{row.intime.isoformat()}Z"} | (
        {} if pd.isna(row.outtime) else {"end": f"{row.outtime.isoformat()}Z"}
    )
    return {
        "resourceType": "Encounter",
        "id": str(row.stay_id),
        "status": "finished",
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "ACUTE"},
        "subject": {"reference": f"Patient/{row.subject_id}"},
        "partOf": {"reference": f"Encounter/{row.hadm_id}"},
        "period": period,
        "location": [{"location": {"display": row.first_careunit}}],
    }
