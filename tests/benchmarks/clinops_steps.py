"""clinops 0.6.1 on the same steps: chart rows from csv.gz to windows with lags. Runs in a Python of its own."""

from typing import Any

from tests.benchmarks.meter import Meter


def steps(meter: Meter, source: str, variables: dict[str, str], fahrenheit: list[int]) -> None:
    """Read the catalogue's items, convert units, null implausible values, window by six hours, add lags."""
    import pandas as pd
    from clinops.ingest import MimicLoader
    from clinops.preprocess import UNIT_CONVERSIONS, ClinicalOutlierClipper, UnitNormalizer
    from clinops.temporal import LagFeatureBuilder, TemporalWindower

    names = {int(item): name for item, name in variables.items()}
    with meter():
        # Not MimicTableLoader: it refuses rows without a stay, which real data have.
        loader = MimicLoader(source, strict_validation=False)
        rows: Any = loader.chartevents(item_ids=list(names)).dropna(subset=["stay_id", "valuenum"])
        # Its windows begin at the first event: a row that was charted years off would make thousands of them.
        stays = loader.icustays()[["stay_id", "intime", "outtime"]]
        rows = rows.merge(stays, on="stay_id")
        time = pd.to_datetime(rows["charttime"])
        inside = (time >= pd.to_datetime(rows["intime"])) & (time < pd.to_datetime(rows["outtime"]))
        rows = rows[inside].drop(columns=["intime", "outtime"])
        hot = rows["itemid"].isin(fahrenheit)
        normalizer = UnitNormalizer(explicit_conversions={"valuenum": UNIT_CONVERSIONS["temperature__f__c"]})
        rows.loc[hot, "valuenum"] = normalizer.transform(rows.loc[hot, ["valuenum"]])["valuenum"]
        rows["variable"] = rows["itemid"].map(names)
        keys = ["stay_id", "charttime"]
        wide = rows.pivot_table(index=keys, columns="variable", values="valuenum", aggfunc="mean").reset_index()
        features = sorted(set(names.values()) & set(wide.columns))
        wide = ClinicalOutlierClipper(action="null").fit_transform(wide)
        windower = TemporalWindower(window_hours=6, step_hours=6)
        windows = windower.fit_transform(wide, id_col="stay_id", time_col="charttime", feature_cols=features)
        windows = LagFeatureBuilder(lags=[1, 2], feature_cols=features, id_col="stay_id").fit_transform(windows)
    meter.note(windows=len(windows))
