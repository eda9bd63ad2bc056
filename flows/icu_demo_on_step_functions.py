"""The ICU chain on an emulated Step Functions, with one command: `make demo-step-functions`.

python -m flows.icu_demo_on_step_functions --source DIR --date 2024-01-15
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from clinops_prefect import PipelineStore
from clinops_prefect.command_line import Parser, run, server_for_a_command
from clinops_prefect.testing.step_functions_emulator import Emulator, emulator
from flows.icu.disclosure import told
from flows.running.command_line import refuse_absent_folder
from flows.running.terminal import counting_line

BUCKET = "icu-demo"


@contextmanager
def icu_cloud(source: Path) -> Iterator[tuple[Emulator, dict[str, Any]]]:
    """An emulator with the raw tables in a bucket and the three functions, and the parameters of a flow run on it."""
    with emulator() as aws:
        before = {name: os.environ.get(name) for name in aws.environment}
        os.environ |= aws.environment
        try:
            aws.client("s3").create_bucket(Bucket=BUCKET)
            raw = PipelineStore.from_uri(f"s3://{BUCKET}/raw")
            paths = sorted(source.glob("*/*.*"))
            size = sum(path.stat().st_size for path in paths)
            with counting_line("upload of the raw tables", size, "MB", 1_000_000) as uploaded:
                for path in paths:
                    raw.write_bytes(path.relative_to(source).as_posix(), path.read_bytes())
                    uploaded(path.stat().st_size)
            for step in ("ingest", "preprocess", "features"):
                aws.function(
                    f"icu-{step}", "", handler=f"flows.running.lambda_handlers.{step}", timeout=600, **aws.environment
                )
            yield (
                aws,
                {
                    "source": f"s3://{BUCKET}/raw",
                    "store": f"s3://{BUCKET}/clinops",
                    "role_arn": aws.role_arn,
                    "functions": f"arn:aws:lambda:{aws.region}:{aws.account}:function:icu-",
                },
            )
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value


def main() -> None:
    """Run the chain, and print what it wrote and how it went."""
    from flows.icu_features_on_step_functions import icu_features_on_step_functions

    text = "The ICU chain on an emulated Step Functions."
    parser = Parser("flows.icu_demo_on_step_functions", text, "--source demo/mimic-iv-synthetic --date 2024-01-15")
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--date", default="2024-01-01")
    arguments = parser.parse_args()
    refuse_absent_folder(parser, str(arguments.source))
    with icu_cloud(arguments.source.resolve()) as (_, parameters):
        server_for_a_command()
        work = partial(icu_features_on_step_functions, date=arguments.date, **parameters)
        output = run(work, debug=arguments.debug)
        store = PipelineStore.from_uri(output["store"])
        print(
            f"\n{told(output['windows'])} windows, made by three Lambda functions of a state machine, "
            f"in {output['store']}:"
        )
        for name in output["artifacts"]:
            print(f"  {name}  {told(store.stat(name).rows or 0)} rows")
        print("The emulator, and all of this with it, is gone when this command ends.")


if __name__ == "__main__":
    main()
