"""Which code is mutated, and which tests have to notice: the quick ones, in the order in which they are run."""

from dataclasses import dataclass

_PACKAGE = "clinops_prefect"


@dataclass(frozen=True)
class Part:
    """Modules that the same tests are for.

    Attributes:
        name: How the command line and the list of survivors call it.
        modules: Files, from the root of the repository.
        tests: Arguments of pytest, the tests that fail soonest first.
        stores: The stores that these tests run on.
    """

    name: str
    modules: tuple[str, ...]
    tests: tuple[str, ...]
    stores: str = "local"


def _contract(*names: str) -> tuple[str, ...]:
    return tuple(f"tests/contract/test_{name}.py" for name in names)


def _unit(*names: str) -> tuple[str, ...]:
    return tuple(f"tests/unit/test_{name}.py" for name in names)


_STORAGE = f"{_PACKAGE}/storage"
_SERVICE = f"{_PACKAGE}/step_functions/service"


def _in(folder: str, *names: str) -> tuple[str, ...]:
    return tuple(f"{folder}/{name}.py" for name in names)


PARTS = (
    Part(
        "storage",
        _in(_STORAGE, "backend", "service", "transfer", "ranges"),
        (
            *_unit("transfer"),
            "tests/contract/test_odd_answers.py::test_an_answer_that_cannot_be_read_is_named",
            *_contract("backends", "versions", "races"),
            *("-k", "transfer or s3"),
        ),
        "s3",
    ),
    Part(
        "s3",
        _in(f"{_STORAGE}/s3", "backend", "errors"),
        (
            *_unit("errors"),
            "tests/contract/test_odd_answers.py::test_an_answer_that_cannot_be_read_is_named",
            *_contract("backends", "versions", "races"),
            *("-k", "s3 or botocore"),
        ),
        "s3",
    ),
    Part(
        "gcs",
        _in(f"{_STORAGE}/gcs", "backend", "client", "errors", "upload"),
        (*_unit("errors"), *_contract("backends", "endpoints", "races"), "-k", "gcs or google or cloud_storage"),
        "gcs",
    ),
    Part(
        "azure",
        _in(f"{_STORAGE}/azure", "backend", "client", "errors"),
        (*_unit("errors"), *_contract("backends", "endpoints", "races"), "-k", "azure"),
        "azure",
    ),
    Part(
        "local",
        _in(f"{_STORAGE}/local", "backend", "atomic_file"),
        (*_contract("backends", "races", "links", "writing"), "-k", "local"),
    ),
    Part(
        "artifacts",
        _in(f"{_PACKAGE}/artifacts", "codec", "csv", "info", "parquet", "plain", "reader", "sidecars"),
        (
            *_unit("sidecars", "sidecar_model", "format"),
            *_contract("writing", "races"),
            "-k",
            "sidecar or format or local",
        ),
    ),
    Part(
        "results",
        _in(f"{_PACKAGE}/results", "guard", "refusals", "scalars", "serializer", "stored_exceptions", "values"),
        (
            *_unit("exact_results", "serializer", "stored_failures", "stored_results"),
            "tests/prefect/test_refused_results.py",
        ),
    ),
    Part(
        "executions",
        _in(_SERVICE, "executions", "polling", "history", "errors", "map_runs"),
        _in("tests/step_functions", "test_polling", "test_service_errors", "test_pipeline"),
    ),
    Part(
        "machines",
        _in(_SERVICE, "deployment", "versions", "requests", "inspection", "policies", "role_policy", "caller_policy"),
        _in("tests/step_functions", "test_policies", "test_inspection", "test_aliases"),
    ),
)
