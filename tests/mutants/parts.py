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


# What every service has to pass beyond the contract: lost answers, counted requests, many objects.
_SERVICE_TESTS = (
    "tests/contract/test_writing.py::test_a_conditional_write_whose_answer_was_lost_is_not_a_lost_race",
    "tests/contract/test_writing.py::test_a_small_artifact_is_one_request_each_way",
    "tests/contract/test_many_artifacts.py",
)
_S3_TESTS = (
    "tests/contract/test_odd_answers.py::test_an_answer_that_cannot_be_read_is_named",
    "tests/contract/test_odd_answers.py::test_what_is_missing_in_a_listing_is_named",
    "tests/contract/test_odd_answers.py::test_a_listing_that_breaks_off_is_not_a_short_listing",
    "tests/faults/test_outages.py::test_a_completion_that_was_carried_out_and_lost_is_a_success",
)

PARTS = (
    Part(
        "storage",
        _in(_STORAGE, "backend", "service", "transfer", "ranges"),
        (
            *_unit("transfer", "service_backend"),
            *_S3_TESTS,
            *_SERVICE_TESTS,
            *_contract("backends", "versions", "failures", "races"),
            *("-k", "transfer or s3 or service_backend"),
        ),
        "s3",
    ),
    Part(
        "s3",
        _in(f"{_STORAGE}/s3", "backend", "errors"),
        (
            *_unit("errors", "browser_url"),
            *_S3_TESTS,
            *_SERVICE_TESTS,
            *_contract("backends", "versions", "settings", "failures", "races"),
            *("-k", "s3 or botocore or browser_url"),
        ),
        "s3",
    ),
    Part(
        "gcs",
        _in(f"{_STORAGE}/gcs", "backend", "client", "errors", "upload"),
        (
            *_unit("errors", "browser_url", "transfer"),
            "tests/contract/test_odd_answers.py::test_a_copy_that_ends_before_all_is_copied_is_named",
            *_SERVICE_TESTS,
            *_contract("backends", "versions", "endpoints", "settings", "failures", "races"),
            *("-k", "gcs or google or cloud_storage"),
        ),
        "gcs",
    ),
    Part(
        "azure",
        _in(f"{_STORAGE}/azure", "backend", "client", "errors"),
        (
            *_unit("errors", "browser_url"),
            *_SERVICE_TESTS,
            *_contract("backends", "versions", "endpoints", "races"),
            *("-k", "azure"),
        ),
        "azure",
    ),
    Part(
        "local",
        _in(f"{_STORAGE}/local", "backend", "atomic_file"),
        (
            *_contract("backends", "links", "writing", "failures"),
            "tests/contract/test_versions.py::test_a_version_that_never_was_is_not_found",
            "tests/faults/test_local_disk.py",
            *_contract("races"),
            # Another user runs the test of a read-only folder, and may not enter the folders of the mutants.
            *("-k", "(local or links) and not read_only"),
        ),
    ),
    Part(
        "artifacts",
        _in(f"{_PACKAGE}/artifacts", "codec", "csv", "info", "parquet", "plain", "reader", "sidecars"),
        (
            *_unit("sidecars", "sidecar_model", "format"),
            "tests/unit/test_frames_in.py::test_a_polars_frame_in_csv_comes_back_equal_or_is_refused",
            *_contract("writing", "copies", "integrity", "batches", "selection", "foreign_csv", "versions", "races"),
            # A folder keeps no versions.
            *("-k", "sidecar or format or frames_in or local or (test_versions and s3)"),
        ),
        "local s3",
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
        (
            *_in("tests/step_functions", "test_polling", "test_service_errors", "test_pipeline"),
            *("tests/step_functions/test_maps.py", "-k", "not maps or failed"),
        ),
    ),
    Part(
        "machines",
        _in(_SERVICE, "deployment", "versions", "requests", "inspection", "policies", "role_policy", "caller_policy"),
        (
            *_in(
                "tests/step_functions",
                "test_policies",
                "test_inspection",
                "test_aliases",
                "test_check",
                "test_pipeline",
            ),
            *("-k", "not test_pipeline or deploy or publish or versions or role or refusal"),
        ),
    ),
)
