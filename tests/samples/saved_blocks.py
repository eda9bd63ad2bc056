"""The blocks that the examples of docstrings load."""

from clinops_prefect import (
    AzurePipelineStore,
    GCSPipelineStore,
    LocalPipelineStore,
    PipelineStep,
    S3PipelineStore,
    StepFunctionsPipeline,
)

S3PipelineStore("my-clinical-bucket", prefix="docstrings").save("prod", overwrite=True)
GCSPipelineStore("my-clinical-bucket", prefix="docstrings").save("prod", overwrite=True)
AzurePipelineStore("my-clinical-bucket", prefix="docstrings").save("prod", overwrite=True)
LocalPipelineStore("artifacts").save("prod", overwrite=True)
pipeline = StepFunctionsPipeline(
    name="daily", role_arn="arn:aws:iam::123456789012:role/StepFunctionsRole", region="us-east-1"
)
pipeline.add_step(PipelineStep("Ingest", "arn:aws:lambda:us-east-1:123456789012:function:clinops-ingest"))
pipeline.save("prod", overwrite=True)
