"""Maps over thousands of items: each child is an execution of its own, with an input and a context of its own."""

import csv
import io
import json
import time
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clinops_prefect import MapStep, PipelineStep, Retry, S3Items, S3Results, StepFunctionsPipeline
from clinops_prefect.errors import ExecutionFailedError
from clinops_prefect.step_functions.language.states_language import states_language
from clinops_prefect.testing.step_functions_emulator import Emulator

Function = Callable[[str], str]


@pytest.fixture
def pipeline(aws: Emulator, name: str, monkeypatch: pytest.MonkeyPatch) -> StepFunctionsPipeline:
    for key, value in aws.environment.items():
        monkeypatch.setenv(key, value)
    return StepFunctionsPipeline(name=name, role_arn=aws.role_arn)


@pytest.fixture
def bucket(aws: Emulator, name: str) -> str:
    aws.client("s3").create_bucket(Bucket=name)
    return name


def output_of(pipeline: StepFunctionsPipeline, step: MapStep, given: Any) -> Any:
    pipeline.steps = [step]
    pipeline.deploy()
    return pipeline.wait(pipeline.execute(given))


def test_the_runs_own_values_reach_every_step_of_every_child(
    pipeline: StepFunctionsPipeline, function: Function
) -> None:
    steps = [
        PipelineStep("First", function("count"), {"date": "static", "source": "mimic"}),
        PipelineStep("Plain", function("echo")),
        PipelineStep("Last", "arn:aws:states:::lambda:invoke", {"FunctionName": "echo", "Payload": {"date": "other"}}),
    ]
    given = {"patients": [{"id": 1}, {"id": 2, "date": "the item's own"}], "date": "2024-01-15", "undeclared": 1}
    output = output_of(pipeline, MapStep("All", steps, "$.patients"), given)
    expected = {"source": "mimic", "n": 1, "date": "2024-01-15"}
    assert output == [{"id": 1} | expected, {"id": 2} | expected]
    # Without the values, the parameters count.
    assert output_of(pipeline, MapStep("All", steps[:2], "$"), [{"id": 1}]) == [
        {"id": 1, "date": "static", "source": "mimic", "n": 1}
    ]


@pytest.mark.parametrize("batch_size", [0, 2])
def test_the_definition_hands_the_values_over_and_the_children_read_no_context(batch_size: int) -> None:
    step = PipelineStep("Each", "arn:aws:lambda:::function:f", {"date": "x"})
    state = states_language([MapStep("M", [step], "$.p", batch_size=batch_size)], "c", 0, "aws")["States"]["M"]
    handed = state["ItemBatcher"]["BatchInput"] if batch_size else state["ItemSelector"]
    assert "$states.context.Execution.Input" in handed["run"]
    assert '["date"]' in handed["run"]
    assert "$states.context" not in json.dumps(state["ItemProcessor"])


def test_a_map_whose_steps_declare_nothing_stays_plain() -> None:
    step = PipelineStep("Each", "arn:aws:lambda:::function:f")
    state = states_language([MapStep("M", [step], "$.p")], "c", 0, "aws")["States"]["M"]
    assert state["ItemsPath"] == "$.p"
    assert not {"QueryLanguage", "ItemSelector"} & set(state)
    assert list(state["ItemProcessor"]["States"]) == ["Each"]


@pytest.mark.parametrize("path", ["$.deep[0].patient-list", "$['deep'][0]['patient-list']"])
@pytest.mark.parametrize("parameters", [{}, {"date": "x"}])
def test_items_are_found_by_any_path(
    path: str, parameters: dict[str, Any], pipeline: StepFunctionsPipeline, function: Function
) -> None:
    step = MapStep("All", [PipelineStep("Each", function("count"), parameters)], path)
    output = output_of(pipeline, step, {"deep": [{"patient-list": [{"id": 1}]}]})
    assert output == [{"id": 1, "n": 1} | parameters]


ROWS = [{"id": str(number), "unit": "MICU"} for number in range(5)]


def parquet() -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(ROWS), buffer)
    return buffer.getvalue()


def text_of_csv() -> bytes:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, ["id", "unit"])
    writer.writeheader()
    writer.writerows(ROWS)
    return buffer.getvalue().encode()


FILES: dict[str, Callable[[], bytes]] = {
    "rows.json": lambda: json.dumps(ROWS).encode(),
    "rows.jsonl": lambda: "".join(json.dumps(row) + "\n" for row in ROWS).encode(),
    "rows.csv": text_of_csv,
    "rows.parquet": parquet,
}


@pytest.mark.parametrize("parameters", [{}, {"date": "x"}], ids=["plain", "merged"])
@pytest.mark.parametrize("key", FILES)
def test_every_format_is_read(
    key: str,
    parameters: dict[str, Any],
    pipeline: StepFunctionsPipeline,
    aws: Emulator,
    function: Function,
    bucket: str,
) -> None:
    aws.client("s3").put_object(Bucket=bucket, Key=key, Body=FILES[key]())
    each = PipelineStep("Each", function("count"), parameters)
    run = {"date": "2024-01-15"} if parameters else {}
    output = output_of(pipeline, MapStep("All", [each], S3Items(bucket, key, max_items=4)), {"date": "2024-01-15"})
    assert output == [row | run | {"n": 1} for row in ROWS[:4]]


def test_the_objects_below_a_prefix_and_an_inventory_are_items(
    pipeline: StepFunctionsPipeline, aws: Emulator, function: Function, bucket: str
) -> None:
    s3 = aws.client("s3")
    for number in range(3):
        s3.put_object(Bucket=bucket, Key=f"raw/{number}.csv", Body=b"x")
    each = PipelineStep("Each", function("echo"), {"date": "x"})
    output = output_of(pipeline, MapStep("All", [each], S3Items(bucket, prefix="$.where")), {"where": "raw/"})
    assert [(item["Key"], item["Size"], item["date"]) for item in output] == [
        (f"raw/{number}.csv", 1, "x") for number in range(3)
    ]
    s3.put_object(Bucket=bucket, Key="data.csv", Body=f"{bucket},raw/0.csv\n{bucket},raw/1.csv\n".encode())
    manifest = {
        "destinationBucket": f"arn:aws:s3:::{bucket}",
        "fileSchema": "Bucket, Key",
        "files": [{"key": "data.csv"}],
    }
    s3.put_object(Bucket=bucket, Key="manifest.json", Body=json.dumps(manifest).encode())
    items = S3Items(bucket, "manifest.json", input_type="MANIFEST")
    output = output_of(pipeline, MapStep("All", [each], items), {})
    assert [item["Key"] for item in output] == ["raw/0.csv", "raw/1.csv"]


def test_where_the_items_are_may_be_a_context_path_or_a_function(
    pipeline: StepFunctionsPipeline, aws: Emulator, function: Function, bucket: str
) -> None:
    aws.client("s3").put_object(Bucket=bucket, Key="rows-2024.json", Body=json.dumps(ROWS).encode())
    each = [PipelineStep("Each", function("echo"))]
    for key in ("States.Format('rows-{}.json', $.year)", "$$.Execution.Input.key"):
        step = MapStep("All", each, S3Items(bucket, key, input_type="JSON"))
        assert output_of(pipeline, step, {"year": 2024, "key": "rows-2024.json"}) == ROWS


def test_batches_get_their_items_and_the_runs_values(pipeline: StepFunctionsPipeline, function: Function) -> None:
    each = PipelineStep("Each", function("echo"), {"date": "x"})
    step = MapStep("All", [each], "$.patients", batch_size=2)
    output = output_of(pipeline, step, {"patients": [1, 2, 3], "date": "2024"})
    assert output == [{"Items": [1, 2], "date": "2024"}, {"Items": [3], "date": "2024"}]


@pytest.mark.parametrize("parameters", [{}, {"date": "x"}], ids=["plain", "merged"])
def test_a_selector_and_the_runs_values_both_reach_the_children(
    parameters: dict[str, Any], pipeline: StepFunctionsPipeline, function: Function
) -> None:
    selector = {
        "run": "the user's own",
        "where": {"ward.$": "$.ward", "path": "$.ward"},
        "all": [{"patient.$": "$$.Map.Item.Value"}],
        "place.$": "$$.Map.Item.Index",
        "text": "{% $x %}",
    }
    step = MapStep("All", [PipelineStep("Each", function("echo"), parameters)], "$.patients", item_selector=selector)
    given = {"patients": [{"id": 7}, {"id": 8}], "ward": "MICU", "date": "2024"}
    run = {"date": "2024"} if parameters else {}
    expected = {"run": "the user's own", "where": {"ward": "MICU", "path": "$.ward"}, "text": "{% $x %}"}
    assert output_of(pipeline, step, given) == [
        expected | {"all": [{"patient": patient}], "place": place} | run
        for place, patient in enumerate(given["patients"])
    ]


@pytest.mark.parametrize("parameters", [{}, {"date": "x"}], ids=["plain", "merged"])
def test_a_batch_gets_what_the_user_shares_and_the_runs_values(
    parameters: dict[str, Any], pipeline: StepFunctionsPipeline, function: Function
) -> None:
    shared = {"run": 1, "ward.$": "$.ward"}
    selected = {"id.$": "$$.Map.Item.Value.id"}
    each = PipelineStep("Each", function("echo"), parameters)
    step = MapStep("All", [each], "$.p", batch_size=2, batch_input=shared, item_selector=selected)
    given = {"p": [{"id": 1, "x": 0}, {"id": 2}, {"id": 3}], "ward": "MICU", "date": "2024"}
    run = {"date": "2024"} if parameters else {}
    beside = {"BatchInput": {"run": 1, "ward": "MICU"}} | run
    assert output_of(pipeline, step, given) == [
        {"Items": [{"id": 1}, {"id": 2}]} | beside,
        {"Items": [{"id": 3}]} | beside,
    ]


def test_the_rows_of_all_objects_below_a_prefix_are_items(
    pipeline: StepFunctionsPipeline, aws: Emulator, function: Function, bucket: str
) -> None:
    for number, row in enumerate(ROWS):
        key = f"raw/2024/{number % 2}/{number}.jsonl"
        aws.client("s3").put_object(Bucket=bucket, Key=key, Body=json.dumps(row) + "\n")
    items = S3Items(bucket, prefix="$.where", input_type="JSONL")
    output = output_of(pipeline, MapStep("All", [PipelineStep("Each", function("echo"))], items), {"where": "raw/"})
    assert sorted(output, key=lambda row: row["id"]) == ROWS


def test_an_array_inside_an_object_and_other_csv_are_items(
    pipeline: StepFunctionsPipeline, aws: Emulator, function: Function, bucket: str
) -> None:
    each = [PipelineStep("Each", function("echo"), {"date": "x"})]
    s3 = aws.client("s3")
    s3.put_object(Bucket=bucket, Key="ward.json", Body=json.dumps({"wards": [{"patients": ROWS[:2]}]}))
    nested = MapStep("All", each, S3Items(bucket, "ward.json", pointer="/wards/0/patients"))
    assert [row["id"] for row in output_of(pipeline, nested, {})] == ["0", "1"]
    s3.put_object(Bucket=bucket, Key="rows.csv", Body="7;MICU\n8;SICU\n")
    headless = S3Items(bucket, "rows.csv", csv_headers=["id", "unit"], csv_delimiter="SEMICOLON")
    assert output_of(pipeline, MapStep("All", each, headless), {"date": "2024"}) == [
        {"id": "7", "unit": "MICU", "date": "2024"},
        {"id": "8", "unit": "SICU", "date": "2024"},
    ]


def test_a_map_with_a_failed_child_fails_unless_it_is_tolerated(
    pipeline: StepFunctionsPipeline, aws: Emulator, function: Function, bucket: str
) -> None:
    aws.function(
        f"{bucket}-picky", "def handler(event, context):\n    if event['id'] == 3:\n        raise ValueError\n"
    )
    each = [PipelineStep("Each", function(f"{bucket}-picky"), retry_attempts=0)]
    given = {"patients": [{"id": number} for number in range(10)]}
    with pytest.raises(ExecutionFailedError) as caught:
        output_of(pipeline, MapStep("All", each, "$.patients"), given)
    assert caught.value.error == "States.ExceedToleratedFailureThreshold"
    assert caught.value.failed_state == "All"
    assert len(output_of(pipeline, MapStep("All", each, "$.patients", tolerated_failure_percentage=10), given)) == 9
    results = S3Results(bucket, "out")
    tolerant = MapStep(
        "All", each, "$.patients", tolerated_failure_percentage=10, results=results, result_key="written"
    )
    output = output_of(pipeline, tolerant, given)
    assert output["patients"] == given["patients"]
    written = aws.client("s3").get_object(Bucket=bucket, Key=output["written"]["ResultWriterDetails"]["Key"])["Body"]
    files = json.load(written)["ResultFiles"]
    assert len(files["FAILED"]) == len(files["SUCCEEDED"]) == 1


def test_a_map_is_patient_with_throttling_and_with_nothing_else() -> None:
    step = PipelineStep("Each", "arn:aws:lambda:::function:f", retry=[Retry(["Own"], attempts=1, jitter=False)])
    state = states_language([MapStep("M", [step], "$")], "c", 0, "aws")["States"]["M"]
    own, throttled, rest = state["ItemProcessor"]["States"]["Each"]["Retry"]
    assert own["ErrorEquals"] == ["Own"]
    assert "JitterStrategy" not in own
    assert throttled["ErrorEquals"] == ["Lambda.TooManyRequestsException"]
    pauses = [min(60.0, 2.0 * 2.0**number) for number in range(throttled["MaxAttempts"])]
    # Full jitter waits half of each pause on average.
    assert sum(pauses) / 2 > 3600
    assert throttled["JitterStrategy"] == "FULL"
    assert rest["MaxAttempts"] == 3
    assert "Lambda.TooManyRequestsException" not in rest["ErrorEquals"]


def test_a_map_can_be_retried_and_caught(pipeline: StepFunctionsPipeline, function: Function) -> None:
    pipeline.add_step(
        MapStep(
            "All",
            [PipelineStep("Each", function("fail"), retry_attempts=0)],
            "$.patients",
            retry=[Retry(["States.ExceedToleratedFailureThreshold"], attempts=1, interval=1)],
            catch=[{"ErrorEquals": ["States.ALL"], "Next": "Handler", "ResultPath": "$.error"}],
        )
    )
    pipeline.add_step(PipelineStep("Handler", function("echo")))
    pipeline.deploy()
    arn = pipeline.execute({"patients": [{"id": 1}]})
    output = pipeline.wait(arn)
    assert output["error"]["Error"] == "States.ExceedToleratedFailureThreshold"
    assert len(pipeline.client().list_map_runs(executionArn=arn)["mapRuns"]) == 2


def test_a_redrive_runs_only_the_children_that_failed(
    pipeline: StepFunctionsPipeline, aws: Emulator, name: str, tmp_path: Any
) -> None:
    source = (
        "import os\n\ndef handler(event, context):\n"
        "    with open(os.environ['LOG'], 'a') as log:\n        log.write(str(event['id']))\n"
        "    if event['id'] == 1 and not os.path.exists(os.environ['GATE']):\n        raise RuntimeError\n"
        "    return event\n"
    )
    log, gate = tmp_path / "log", tmp_path / "gate"
    arn = aws.function(name, source, LOG=str(log), GATE=str(gate))
    each = [PipelineStep("Each", arn, retry_attempts=0)]
    pipeline.steps = [MapStep("All", each, "$", max_concurrency=1)]
    pipeline.deploy()
    execution = pipeline.execute([{"id": 0}, {"id": 1}])
    with pytest.raises(ExecutionFailedError):
        pipeline.wait(execution)
    gate.touch()
    time.sleep(0.1)
    pipeline.redrive(execution)
    assert pipeline.wait(execution) == [{"id": 0}, {"id": 1}]
    assert log.read_text() == "011"


def test_the_one_patient_of_a_thousand_that_failed_is_found_and_named_in_no_log(
    pipeline: StepFunctionsPipeline, aws: Emulator, bucket: str, caplog: pytest.LogCaptureFixture
) -> None:
    source = (
        "def handler(event, context):\n    if event['id'] == '617':\n"
        "        raise ValueError('Jane of bed ' + event['bed'])\n    return event\n"
    )
    arn = aws.function(bucket, source)
    rows = "id,bed\n" + "".join(f"{number},bed-{number}-x\n" for number in range(1000))
    aws.client("s3").put_object(Bucket=bucket, Key="patients.csv", Body=rows)
    each = [PipelineStep("Each", arn, {"date": "x"}, retry_attempts=0)]
    step = MapStep("All", each, S3Items(bucket, "patients.csv"), max_concurrency=40)
    with caplog.at_level("DEBUG", "clinops_prefect"), pytest.raises(ExecutionFailedError) as caught:
        output_of(pipeline, step, {"date": "2024-01-15"})
    (failed,) = caught.value.failed_items
    assert failed.item == {"id": "617", "bed": "bed-617-x"}
    assert failed.error == "ValueError"
    assert "Jane" in failed.cause
    assert "1 item failed" in str(caught.value)
    for text in (str(caught.value), repr(caught.value), repr(failed), caplog.text):
        assert "bed-617-x" not in text
        assert "Jane" not in text


def test_a_question_about_failed_items_that_is_refused_hides_no_failure(
    pipeline: StepFunctionsPipeline, aws: Emulator, function: Function
) -> None:
    aws.forget_calls()
    aws.fail("ListMapRuns", "AccessDeniedException", times=10, message="states:ListMapRuns")
    each = [PipelineStep("Each", function("fail"), retry_attempts=0)]
    with pytest.raises(ExecutionFailedError) as caught:
        output_of(pipeline, MapStep("All", each, "$"), [{"id": 1}])
    aws.forget_calls()
    assert caught.value.failed_items == []
    assert caught.value.failed_state == "All"
    assert "failed_items" not in str(caught.value)
