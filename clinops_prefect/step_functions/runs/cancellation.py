"""Links from a flow run to its executions, and the hook that stops these executions when the run is cancelled.

The hook runs in the worker, which knows the flow run but not the memory of the run's process. Each execution is
therefore announced before it starts, as an artifact of the run. The artifact has a link to the AWS console and the data
that the hook needs to stop the execution, but no secrets.
"""

import logging
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from uuid import UUID

from prefect.blocks.core import Block
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, ArtifactFilterType
from prefect.client.schemas.objects import FlowRun, State
from prefect.flows import Flow
from prefect_aws import AwsCredentials

from clinops_prefect.aws.clients import aws_client
from clinops_prefect.errors import ExecutionNotFoundError
from clinops_prefect.step_functions.runs.flow_runs import run_ids, with_subflows
from clinops_prefect.step_functions.runs.pipeline_protocol import RunnablePipeline
from clinops_prefect.step_functions.runs.progress import artifact
from clinops_prefect.step_functions.service import executions

if TYPE_CHECKING:
    from mypy_boto3_stepfunctions import SFNClient

logger = logging.getLogger(__name__)

_PAGE = 200


def announce(pipeline: RunnablePipeline, execution_arn: str) -> None:
    """Link the current flow or task run to an execution. Outside of a run, do nothing."""
    if run_ids() == (None, None):
        return
    credentials = pipeline.credentials
    # The documents' ids are private to Prefect. Without them, the process that cancels the run would find no
    # credentials to stop the execution (tests/e2e/step_functions/test_lifecycle.py).
    _link(
        run_ids(),
        execution_arn=execution_arn,
        region=execution_arn.split(":")[3],
        profile=pipeline.profile,
        endpoint_url=pipeline.endpoint_url,
        allow_http="yes" if pipeline.allow_http else "",
        pipeline=str(pipeline._block_document_id or ""),
        credentials=str((credentials and credentials._block_document_id) or ""),
    )


# The start of an execution and the wait both announce it. The cache keeps this to one artifact per run and execution.
@lru_cache(maxsize=1024)
def _link(run: tuple[UUID | None, UUID | None], **metadata: str) -> None:  # noqa: ARG001 - the cache's key
    execution_arn = metadata["execution_arn"]
    url = console_url(execution_arn)
    link = artifact(execution_arn, "link", f"`{execution_arn}` in the AWS console", f"[{url}]({url})", metadata)
    try:
        with get_client(sync_client=True) as client:
            client.create_artifact(link)
    except Exception as error:
        logger.warning("cannot link %s to its Prefect run: %s", execution_arn, error)


def console_url(execution_arn: str) -> str:
    """The URL of an execution in the AWS console."""
    partition, region = execution_arn.split(":")[1], execution_arn.split(":")[3]
    host = {"aws-cn": "console.amazonaws.cn", "aws-us-gov": "console.amazonaws-us-gov.com"}.get(
        partition, f"{region}.console.aws.amazon.com"
    )
    return f"https://{host}/states/home?region={region}#/v2/executions/details/{execution_arn}"


def stop_executions_on_cancellation(flow: "Flow[Any, Any]", flow_run: FlowRun, state: "State[Any]") -> None:  # noqa: ARG001
    """Stop every execution of a flow run that is cancelled: `@flow(on_cancellation=[stop_executions_on_cancellation])`.

    A run that waits stops its execution itself. This hook is for runs whose process is gone. It also stops the
    executions of the flows that the flow called.
    """
    for metadata in _trail(flow_run.id):
        arn = metadata["execution_arn"]
        try:
            executions.stop(_client_of(metadata), arn, error="Cancelled", cause="The Prefect flow run was cancelled.")
        except ExecutionNotFoundError:
            continue  # it was announced but never started
        except Exception:
            logger.exception("cannot stop %s", arn)
        else:
            logger.info("stopped %s", arn)


def _trail(flow_run_id: UUID) -> list[dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    with get_client(sync_client=True) as client:
        wanted = ArtifactFilter(
            flow_run_id=ArtifactFilterFlowRunId(any_=with_subflows(client, flow_run_id)),
            type=ArtifactFilterType(any_=["link"]),
        )
        offset = 0
        while page := client.read_artifacts(artifact_filter=wanted, limit=_PAGE, offset=offset):
            for shown in page:
                metadata = shown.metadata_ or {}
                if "execution_arn" in metadata:
                    found[metadata["execution_arn"]] = metadata
            offset += len(page)
    return list(found.values())


def _client_of(metadata: dict[str, str]) -> "SFNClient":
    if metadata["pipeline"]:
        pipeline: Any = Block.load_from_ref(UUID(metadata["pipeline"]), _sync=True)  # type: ignore[call-arg]
        return pipeline.client()  # type: ignore[no-any-return]
    credentials: Any = None
    if metadata["credentials"]:
        credentials = AwsCredentials.load_from_ref(UUID(metadata["credentials"]), _sync=True)  # type: ignore[call-arg]
    return aws_client(
        "stepfunctions",
        region=metadata["region"],
        profile=metadata["profile"],
        credentials=credentials,
        endpoint_url=metadata["endpoint_url"],
        allow_http=bool(metadata["allow_http"]),
    )
