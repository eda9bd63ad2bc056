"""The ICU chain on AWS Step Functions, deployed and run from Prefect: three Lambda steps with one S3 store.

    make demo-step-functions            # on this machine, on an emulator, with synthetic data or SOURCE=…

    python -m flows.icu_features_on_step_functions --date 2024-01-15 \\
        --source s3://raw/mimic-iv --store s3://features/clinops \\
        --role-arn arn:aws:iam::123456789012:role/icu-features \\
        --functions arn:aws:lambda:eu-central-1:123456789012:function:icu-
"""

import datetime as dt
from typing import Any
from uuid import UUID

from prefect import flow, runtime

from clinops_prefect import PipelineStep, StepFunctionsPipeline
from clinops_prefect.command_line import Parser, run, server_for_a_command
from clinops_prefect.step_functions.runs.flow_runs import lasting_name
from clinops_prefect.tasks import run_step_functions_pipeline, stop_executions_on_cancellation
from flows.icu.disclosure import told
from flows.icu.windows import check_window
from flows.running import scheduling

STEPS = ("ingest", "preprocess", "features")


def icu_pipeline(role_arn: str, functions: str, **fields: Any) -> StepFunctionsPipeline:
    """The state machine with three steps. Each step's output is the input of the next.

    Args:
        role_arn: The role that the state machine assumes. It needs `lambda:InvokeFunction` on the three functions.
        functions: The common start of the functions' ARNs, which end in `ingest`, `preprocess` and `features`.
        **fields: Other fields of `StepFunctionsPipeline`.
    """
    pipeline = StepFunctionsPipeline(
        name="icu-features", role_arn=role_arn, comment="ICU features from raw MIMIC-IV tables", **fields
    )
    for step in STEPS:
        # AWS stops a Lambda function after fifteen minutes.
        pipeline.add_step(PipelineStep(name=step.capitalize(), resource=f"{functions}{step}", timeout_seconds=900))
    return pipeline


@flow(
    name="icu-features-on-step-functions",
    flow_run_name=scheduling.run_name,
    description="The ICU feature chain as three Lambda steps of a state machine.",
    on_cancellation=[stop_executions_on_cancellation],
)
def icu_features_on_step_functions(
    source: str,
    store: str,
    role_arn: str,
    functions: str,
    date: dt.date | None = None,
    shards: int = 4,
    window_hours: int = 6,
    horizon_hours: int = 48,
) -> dict[str, Any]:
    """Compute the ICU features of a date on AWS Step Functions.

    Args:
        source: The raw tables in MIMIC-IV layout: `s3://…`.
        store: The store for the artifacts: `s3://…`.
        role_arn: The state machine's role.
        functions: The common start of the three functions' ARNs.
        date: The partition's date. If None, the day for which the run is scheduled.
        shards: The number of parts into which the subjects are split.
        window_hours: The length of a window, in whole hours.
        horizon_hours: The latest end of a window, in hours after ICU admission; a multiple of `window_hours`.

    Returns:
        `store`, `date`, `windows` and `artifacts`.

    Raises:
        ExecutionFailedError: A step failed. The error names the step.
        InvalidPipelineError: AWS would refuse the definition.
    """
    check_window(window_hours, horizon_hours)
    given = {
        "source": source,
        "store": store,
        "date": scheduling.date_of_run(date).isoformat(),
        # The name stays the same when this flow run or its caller is retried, so a retry finds its execution.
        "run": lasting_name(UUID(runtime.flow_run.id)),
        "shards": shards,
        "window_hours": window_hours,
        "horizon_hours": horizon_hours,
    }
    output: dict[str, Any] = run_step_functions_pipeline(icu_pipeline(role_arn, functions), given)
    return output


def main() -> None:
    """Run the command line: parse the arguments, run the flow, and print what it wrote."""
    example = (
        "--date 2024-01-15 --source s3://raw/mimic-iv --store s3://features/clinops \\\n"
        "      --role-arn arn:aws:iam::123456789012:role/icu-features \\\n"
        "      --functions arn:aws:lambda:eu-central-1:123456789012:function:icu-"
    )
    text = "The ICU chain on AWS Step Functions: three Lambda steps over one S3 store."
    parser = Parser("flows.icu_features_on_step_functions", text, example)
    for name, text in (
        ("source", "where the raw tables are: s3://…"),
        ("store", "where the artifacts go: s3://…"),
        ("date", "the partition, YYYY-MM-DD"),
        ("role-arn", "the state machine's role"),
        ("functions", "what the three functions' ARNs begin with"),
    ):
        parser.add_argument(f"--{name}", required=True, help=text)
    parser.add_argument("--shards", type=int, default=4)
    arguments = vars(parser.parse_args())
    debug = arguments.pop("debug")
    server_for_a_command()
    output = run(lambda: icu_features_on_step_functions(**arguments), debug=debug)
    print(f"{told(output['windows'])} windows, in {output['store']}:", *output["artifacts"], sep="\n  ")


if __name__ == "__main__":
    main()
