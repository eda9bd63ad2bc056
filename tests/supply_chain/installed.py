"""What must hold of the installed package, run by an interpreter that sees nothing of the source tree."""

import importlib.metadata
import importlib.resources
import sys
import tempfile

import pandas as pd
from packaging.requirements import Requirement

import clinops_prefect

SOURCE = sys.argv[1]
assert not clinops_prefect.__file__.startswith(SOURCE), clinops_prefect.__file__
assert importlib.resources.files("clinops_prefect").joinpath("py.typed").is_file()

for name in clinops_prefect.__all__:
    assert getattr(clinops_prefect, name) is not None, name
import clinops_prefect.tasks  # noqa: E402

for name in clinops_prefect.tasks.__all__:
    assert getattr(clinops_prefect.tasks, name) is not None, name

(entry,) = importlib.metadata.entry_points(group="prefect.collections", name="clinops_prefect")
entry.load()
(entry,) = importlib.metadata.entry_points(group="prefect.plugins", name="clinops_prefect")
entry.load()
distribution = importlib.metadata.distribution("clinops-prefect")
assert {"aws", "gcp", "dask"} <= set(distribution.metadata.get_all("Provides-Extra") or ())
assert all(Requirement(line).specifier for line in distribution.requires or ())

frame = pd.DataFrame(
    {"stay_id": pd.array([1, None], dtype="Int64"), "code": ["007", None], "unit": pd.Categorical(["a", "b"])},
    index=pd.date_range("2024-01-01", periods=2, freq="h", tz="Europe/Berlin", name="at"),
)
for format in clinops_prefect.StorageFormat:
    with tempfile.TemporaryDirectory() as folder:
        store = clinops_prefect.LocalPipelineStore(folder, prefix="p", format=format)
        store.upload(frame, "a/b", metadata={"k": "v"})
        pd.testing.assert_frame_equal(store.download("a/b"), frame)
        pd.testing.assert_frame_equal(pd.concat(store.iter_batches("a/b", rows=1)), frame, check_freq=False)
        pd.testing.assert_frame_equal(
            store.download("a/b", columns=["code"], filters=[("stay_id", "==", 1)]),
            frame[["code"]][:1],
            check_freq=False,
        )
        assert store.stat("a/b").metadata == {"k": "v"}
        assert store.list_artifacts() == ["a/b"]
value = {"frame": frame, 3: frame["code"]}
serializer = clinops_prefect.DataFrameSerializer()
pd.testing.assert_frame_equal(serializer.loads(serializer.dumps(value))["frame"], frame)

pipeline = clinops_prefect.StepFunctionsPipeline(name="p", role_arn="arn:aws:iam::123456789012:role/R")
pipeline.add_step(clinops_prefect.PipelineStep("S", "arn:aws:lambda:us-east-1:123456789012:function:f"))
assert pipeline.definition()["StartAt"] == "S"
print("installed:", clinops_prefect.__version__, "Python", sys.version.split()[0])
