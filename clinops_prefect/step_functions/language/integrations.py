"""The service integrations that Step Functions has, and what each can wait for.

https://docs.aws.amazon.com/step-functions/latest/dg/integrate-optimized.html
"""

from collections.abc import Iterator

from clinops_prefect.names import nearest

# Service -> its actions that only answer at once, and its actions that can also wait for a job to end (`.sync`).
OPTIMIZED: dict[str, tuple[set[str], set[str]]] = {
    "apigateway": ({"invoke"}, set()),
    "athena": ({"stopQueryExecution", "getQueryExecution", "getQueryResults"}, {"startQueryExecution"}),
    "batch": (set(), {"submitJob"}),
    "bedrock": ({"invokeModel"}, {"createModelCustomizationJob"}),
    "codebuild": (
        {"stopBuild", "batchDeleteBuilds", "batchGetReports", "stopBuildBatch", "deleteBuildBatch"},
        {"startBuild", "startBuildBatch", "retryBuildBatch"},
    ),
    "databrew": (set(), {"startJobRun"}),
    "dynamodb": ({"getItem", "putItem", "deleteItem", "updateItem"}, set()),
    "ecs": (set(), {"runTask"}),
    "eks": (
        {"call"},
        {
            *("createCluster", "deleteCluster", "createFargateProfile", "deleteFargateProfile"),
            *("createNodegroup", "deleteNodegroup", "runJob"),
        },
    ),
    "elasticmapreduce": (
        {
            *("setClusterTerminationProtection", "cancelStep", "modifyInstanceFleetByName"),
            "modifyInstanceGroupByName",
        },
        {"createCluster", "terminateCluster", "addStep"},
    ),
    "emr-containers": ({"createVirtualCluster"}, {"deleteVirtualCluster", "startJobRun"}),
    "emr-serverless": (
        set(),
        {
            *("createApplication", "startApplication", "stopApplication", "deleteApplication", "startJobRun"),
            "cancelJobRun",
        },
    ),
    "events": ({"putEvents"}, set()),
    "glue": (set(), {"startJobRun"}),
    "http": ({"invoke"}, set()),
    "lambda": ({"invoke"}, set()),
    "mediaconvert": (set(), {"createJob"}),
    "sagemaker": (
        {"createEndpoint", "createEndpointConfig", "createModel", "updateEndpoint"},
        {
            *("createHyperParameterTuningJob", "createLabelingJob", "createTrainingJob", "createTransformJob"),
            "createProcessingJob",
        },
    ),
    "sns": ({"publish"}, set()),
    "sqs": ({"sendMessage"}, set()),
    "states": (set(), {"startExecution"}),
}
# Services whose actions can wait until somebody returns the task token (`.waitForTaskToken`).
_CALLBACK = {"apigateway", "ecs", "eks", "events", "lambda", "sns", "sqs", "states", "aws-sdk"}


def integration_problems(action: str) -> Iterator[str]:
    """Why Step Functions does not have the integration `action`, such as `ecs:runTask.sync`."""
    operation, _, pattern = action.partition(".")
    service, _, name = operation.partition(":")
    if service != "aws-sdk":
        if service not in OPTIMIZED:
            yield f"there is no integration with {service!r}{nearest(service, OPTIMIZED)}; other services: aws-sdk:…"
            return
        actions = set().union(*OPTIMIZED[service])
        if name not in actions:
            yield f"{service} has no action {name!r}{nearest(name, actions)}; other actions: aws-sdk:{service}:{name}"
            return
    waits = service in OPTIMIZED and name in OPTIMIZED[service][1]
    if pattern in ("sync", "sync:2") and not waits:
        yield f"{service if service == 'aws-sdk' or not OPTIMIZED[service][1] else operation} does not support .sync"
    elif pattern == "sync:2" and service != "states":
        yield f"{operation} does not support .sync:2, which only states:startExecution has"
    if pattern == "waitForTaskToken" and service not in _CALLBACK:
        yield f"{service} does not support .waitForTaskToken"
