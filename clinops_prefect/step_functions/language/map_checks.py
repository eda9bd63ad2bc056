"""What AWS would refuse in a `MapStep` itself. `check` looks at the steps inside."""

import math
from collections.abc import Iterator

from clinops_prefect.step_functions.language.aws_limits import data_problems, short
from clinops_prefect.step_functions.language.paths import (
    is_dynamic,
    is_reference,
    looks_dynamic,
    path_problems,
    paths,
)
from clinops_prefect.step_functions.language.steps import MapStep, S3Items

_WITHOUT_JSONATA = (
    "cannot stand in a map whose steps have parameters: they make it JSONata. Take a path such as '$.key', and compute "
    "it in the step before"
)


def map_problems(step: MapStep, *, evaluated: bool) -> Iterator[str]:
    """Why AWS would refuse the map. `evaluated` says whether the map's state is JSONata."""
    if not step.steps:
        yield "the map has no steps"
    if not (math.isfinite(step.tolerated_failure_percentage) and 0 <= step.tolerated_failure_percentage <= 100):
        yield f"tolerated_failure_percentage is {step.tolerated_failure_percentage}, and may be 0 to 100"
    for name in ("max_concurrency", "batch_size"):
        if getattr(step, name) < 0:
            yield f"{name} is {getattr(step, name)}, and may not be negative"
    yield from _of_inputs(step, evaluated)
    if isinstance(step.items, S3Items):
        yield from _of_format(step.items)
        yield from _of_place(step, evaluated)
    elif not is_reference(step.items):
        yield f"items is {short(step.items)}, and must be an S3Items or a path such as '$.patients'"
    if step.results and not step.results.bucket:
        yield "results has no bucket"


def _of_inputs(step: MapStep, evaluated: bool) -> Iterator[str]:
    if step.batch_input and not step.batch_size:
        yield "batch_input goes to batches, and the map has none: set batch_size"
    for name in ("item_selector", "batch_input"):
        template = getattr(step, name)
        problems = data_problems(template, name) or list(path_problems(template, name))
        yield from problems
        if not problems and evaluated:
            found = sorted({path for path in paths(template) if not is_reference(path)})
            yield from (f"{name} has {short(path)}, which {_WITHOUT_JSONATA}" for path in found)


def _of_format(items: S3Items) -> Iterator[str]:
    kind = items.format()
    if bool(items.key) == bool(items.prefix) and items.key:
        yield "items has both a key and a prefix"
    if items.key and not kind:
        yield "items has an input_type that its key's extension does not tell: set it"
    if items.prefix and kind == "MANIFEST":
        yield "items has a prefix with input_type='MANIFEST': give the manifest's own key"
    if (items.csv_headers or items.csv_delimiter != "COMMA") and kind != "CSV":
        yield f"items has csv_headers or a csv_delimiter, and its input_type is {kind or 'not set'}: set 'CSV'"
    if items.pointer and kind != "JSON":
        yield f"items has a pointer into JSON, and its input_type is {kind or 'not set'}: set 'JSON'"
    if items.pointer and not items.pointer.startswith("/"):
        yield f"items' pointer is {short(items.pointer)}, and must be a JSON Pointer such as '/patients'"
    if items.max_items < 0:
        yield f"items' max_items is {items.max_items}, and may not be negative"


def _of_place(step: MapStep, evaluated: bool) -> Iterator[str]:
    items, results = step.items, step.results
    assert isinstance(items, S3Items)
    if not items.bucket:
        yield "items has no bucket"
    for value in (items.bucket, items.key, items.prefix, *((results.bucket, results.prefix) if results else ())):
        if not looks_dynamic(value):
            continue
        if not is_dynamic(value):
            yield f"items has {short(value)}, which is no path and no intrinsic function that AWS has"
        elif not is_reference(value) and evaluated:
            yield f"items has {short(value)}, which {_WITHOUT_JSONATA}"
