"""Makes the work pools and variables that `prefect.yaml` names: `python deployments/prepare.py local`. Safe to repeat.

Existing pools and variables do not change. Name the pools that you need, such as `local ecs`: the UI shows a pool in
red until a worker serves it. Without names, you are asked if there is a terminal, and Enter means the local pool.
Without a terminal, all pools are made. `prefect deploy --all` needs all of them. If you have fewer, deploy by name
(`prefect deploy -n '*-local'`). Install the worker packages of the pools first: `pip install --group deploy
'.[aws,gcp]'`.
"""

import asyncio
import sys
from collections.abc import Collection

from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.actions import VariableCreate, WorkPoolCreate
from prefect.exceptions import ObjectAlreadyExists
from prefect.workers.utilities import get_default_base_job_template_for_infrastructure_type

from clinops_prefect.command_line import LATER, UNUSABLE, WRONG_ARGUMENT, Parser, run, stop

# Name: (type, the most flow runs at once).
POOLS = {
    "clinops-local": ("process", 2),
    "clinops-docker": ("docker", 2),
    "clinops-ecs": ("ecs", 20),
    "clinops-cloud-run": ("cloud-run-v2", 20),
    "clinops-kubernetes": ("kubernetes", 20),
}
# Placeholders in the right form. Set your own values: prefect variable set NAME VALUE --overwrite
VARIABLES = {
    "clinops_image": "registry.example.com/clinops-prefect:0.1.0",
    "clinops_source": "/srv/mimic-iv",
    "clinops_vpc": "vpc-00000000000000000",
    "clinops_task_role": "arn:aws:iam::123456789012:role/clinops-task",
    "clinops_execution_role": "arn:aws:iam::123456789012:role/clinops-execution",
    # For the flow on Step Functions: raw tables, artifacts, the machine's role, the start of the functions' ARNs.
    "clinops_raw": "s3://my-clinical-bucket/raw",
    "clinops_store": "s3://my-clinical-bucket/clinops",
    "clinops_machine_role": "arn:aws:iam::123456789012:role/clinops-machine",
    "clinops_functions": "arn:aws:lambda:eu-central-1:123456789012:function:icu-",
    "clinops_region": "europe-west4",
    "clinops_service_account": "clinops-job@my-project.iam.gserviceaccount.com",
}


def chosen(text: str) -> list[str]:
    """The pools that `text` names, such as `local ecs`. All pools if it names none.

    Raises:
        Stopped: There is no such pool.
    """
    known = {name.removeprefix("clinops-"): name for name in POOLS}
    given = [word.removeprefix("clinops-") for word in text.replace(",", " ").split()]
    if unknown := sorted(set(given) - set(known)):
        stop(f"there is no pool {', '.join(unknown)}; choose of {', '.join(known)}", WRONG_ARGUMENT)
    return [known[word] for word in given] or list(POOLS)


async def prepare(client: PrefectClient, pools: Collection[str] = tuple(POOLS)) -> None:
    """Make the pools and variables that do not exist yet.

    Args:
        client: A client of the Prefect server.
        pools: The names of the pools to make, of `POOLS`.

    Raises:
        Stopped: The server does not answer, or the package of a pool's worker is not installed.
    """
    if problem := await client.api_healthcheck():
        remedy = "start it (prefect server start), or correct PREFECT_API_URL"
        stop(f"no Prefect server answers at {client.api_url} ({type(problem).__name__}): {remedy}", LATER)
    for name, (kind, limit) in POOLS.items():
        if name not in pools:
            continue
        template = await get_default_base_job_template_for_infrastructure_type(kind)
        if template is None:
            stop(f"the worker package of {kind} is not installed: pip install --group deploy '.[aws,gcp]'", UNUSABLE)
        pool = WorkPoolCreate(name=name, type=kind, base_job_template=template, concurrency_limit=limit)
        try:
            await client.create_work_pool(pool)
            print(f"pool {name} ({kind}), {limit} flow runs at a time")
        except ObjectAlreadyExists:
            print(f"pool {name} is there")
    for name, value in VARIABLES.items():
        if await client.read_variable_by_name(name) is None:
            await client.create_variable(VariableCreate(name=name, value=value))
            print(f"variable {name} = {value}")


def parser() -> Parser:
    """The parser of the command's arguments."""
    text = "Make the work pools and variables that prefect.yaml names. Safe to repeat."
    parser = Parser("deployments.prepare", text, "local")
    known = ", ".join(name.removeprefix("clinops-") for name in POOLS)
    parser.add_argument("pools", nargs="*", help=f"of {known}; all if there is no terminal to ask at")
    return parser


def asked() -> list[str]:
    """The pools that the arguments name, or the answer to a question."""
    text = " ".join(parser().parse_args().pools)
    if not text and sys.stdin.isatty():
        names = ", ".join(name.removeprefix("clinops-") for name in POOLS)
        text = input(f"Which pools ({names}; Enter for local)? ") or "local"
    return chosen(text)


async def main(pools: Collection[str] = ()) -> None:
    """Prepare the Prefect server of the current profile. Without pools, see `asked`."""
    pools = pools or asked()
    async with get_client() as client:
        await prepare(client, pools)


if __name__ == "__main__":
    debug = parser().parse_args().debug
    # Ask outside of the event loop, which would keep the question waiting after Ctrl-C.
    run(lambda: asyncio.run(main(asked())), debug=debug, otherwise="Start it again to go on.")
