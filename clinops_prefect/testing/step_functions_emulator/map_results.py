"""The results of a Distributed Map: its files in S3, and the list of its children."""

import json
from types import SimpleNamespace
from typing import Any

from moto.core.responses import ActionResult
from moto.stepfunctions.responses import StepFunctionResponse

from clinops_prefect.testing.step_functions_emulator.items import own_client

# From the ARN of a map run to its children.
children_of_run: dict[str, list[SimpleNamespace]] = {}


def write_results(record: Any, children: list[SimpleNamespace], where: dict[str, str]) -> dict[str, Any]:
    """Write the files that AWS writes, a manifest and one file of children for each status, and return the output."""
    prefix = where.get("Prefix", "")
    folder = f"{prefix}{'' if not prefix or prefix.endswith('/') else '/'}{record.map_run_arn.rpartition(':')[2]}"
    s3 = own_client("s3")
    files: dict[str, list[dict[str, Any]]] = {"FAILED": [], "PENDING": [], "SUCCEEDED": []}
    for status in ("FAILED", "SUCCEEDED"):
        described = [_result(child) for child in children if (child.status == "SUCCEEDED") == (status == "SUCCEEDED")]
        if described:
            body, key = json.dumps(described).encode(), f"{folder}/{status}_0.json"
            s3.put_object(Bucket=where["Bucket"], Key=key, Body=body)
            files[status].append({"Key": key, "Size": len(body)})
    manifest = {"DestinationBucket": where["Bucket"], "MapRunArn": record.map_run_arn, "ResultFiles": files}
    s3.put_object(Bucket=where["Bucket"], Key=f"{folder}/manifest.json", Body=json.dumps(manifest).encode())
    details = {"Bucket": where["Bucket"], "Key": f"{folder}/manifest.json"}
    return {"MapRunArn": record.map_run_arn, "ResultWriterDetails": details}


def _result(child: SimpleNamespace) -> dict[str, Any]:
    result = {
        "ExecutionArn": child.exec_arn,
        "Input": child.execution_input,
        "Name": child.name,
        "StartDate": child.start_date.isoformat(),
        "StateMachineArn": child.state_machine_arn,
        "Status": child.status,
        "StopDate": child.stop_date.isoformat(),
    }
    ended = {"Output": json.dumps(child.output)} if child.status == "SUCCEEDED" else {}
    return result | ended | ({"Error": child.error, "Cause": child.cause} if child.error else {})


def list_children(response: StepFunctionResponse) -> ActionResult:
    """The answer to ListExecutions of a map run."""
    wanted = response._get_param("statusFilter")
    listed = [
        child
        for child in children_of_run.get(str(response._get_param("mapRunArn")), [])
        if wanted in (None, "", child.status)
    ]
    start, size = int(response._get_param("nextToken") or 0), int(response._get_param("maxResults") or 100)
    page: dict[str, Any] = {
        "executions": [
            {
                "executionArn": child.exec_arn,
                "stateMachineArn": child.state_machine_arn,
                "name": child.name,
                "status": child.status,
                "startDate": child.start_date,
                "mapRunArn": child.map_run_arn,
                "itemCount": child.items,
            }
            for child in listed[start : start + size]
        ]
    }
    if start + size < len(listed):
        page["nextToken"] = str(start + size)
    return ActionResult(page)
