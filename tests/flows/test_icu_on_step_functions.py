"""The ICU chain on Step Functions, executed on the emulator, gives the same features as the local flow."""

import json
from pathlib import Path

import pandas as pd

from clinops_prefect import PipelineStore
from flows.icu_demo_on_step_functions import icu_cloud
from flows.icu_features import icu_features
from flows.icu_features_on_step_functions import icu_features_on_step_functions
from flows.synthetic.tables import generate
from tests.flows.expected import assert_adds_up

DATE = "2024-01-15"


def features(store: PipelineStore) -> pd.DataFrame:
    names = store.list_artifacts(f"icu/{DATE}/features")
    return pd.concat([store.download(name) for name in names]).sort_values(["stay_id", "window"], ignore_index=True)


def test_the_state_machines_features_equal_the_local_flows(tmp_path: Path) -> None:
    source = tmp_path / "source"
    generate(source, 30, seed=11)
    with icu_cloud(source) as (aws, parameters):
        output = icu_features_on_step_functions(date=DATE, shards=3, **parameters)
        assert aws.calls()["StartExecution"] == 1
        cloud = PipelineStore.from_uri(output["store"])
        assert cloud.list_artifacts() == output["artifacts"]
        made = features(cloud)
        assert output["windows"] == len(made)
        account = json.loads(cloud.read_bytes(f"icu/{DATE}/quality.json"))["tables"]["chartevents"]
    icu_features(str(source), str(tmp_path / "local"), DATE, shards=2)
    local = PipelineStore.from_uri(tmp_path / "local")
    pd.testing.assert_frame_equal(made, features(local), check_exact=True)
    assert_adds_up(account)
