"""The example pipeline of aws-map-caller.json and aws-map-role.json: a map over patients in S3, and further options.

python -m clinops_prefect.step_functions policy deployments.permissions.example:pipeline --only role
"""

from clinops_prefect import MapStep, PipelineStep, S3Items, S3Results, StepFunctionsPipeline

_HERE = "eu-central-1:123456789012"
_EXTRACT = {
    "Cluster": "clinops",
    "TaskDefinition": "extract",
    "LaunchType": "FARGATE",
    "Overrides": {"TaskRoleArn": "arn:aws:iam::123456789012:role/clinops-task"},
}

pipeline = StepFunctionsPipeline(
    name="patients",
    role_arn="arn:aws:iam::123456789012:role/clinops-machine",
    region="eu-central-1",
    alias="live",
    tags={"team": "icu"},
    kms_key_id=f"arn:aws:kms:{_HERE}:key/00000000-0000-0000-0000-000000000000",
    logging_configuration={
        "level": "ERROR",
        "destinations": [{"cloudWatchLogsLogGroup": {"logGroupArn": f"arn:aws:logs:{_HERE}:log-group:patients:*"}}],
    },
    tracing_configuration={"enabled": True},
    steps=[
        PipelineStep("Extract", "arn:aws:states:::ecs:runTask.sync", parameters=_EXTRACT),
        MapStep(
            "Patients",
            [PipelineStep("Features", f"arn:aws:lambda:{_HERE}:function:patient-features")],
            S3Items("my-clinical-bucket", "clinops/patients.jsonl"),
            results=S3Results("my-clinical-bucket", "clinops/features"),
        ),
        PipelineStep(
            "Registry",
            "arn:aws:lambda:eu-central-1:210987654321:function:register",
            assume_role_arn="arn:aws:iam::210987654321:role/registry",
        ),
    ],
)
