"""A `MapStep` -> a Distributed Map of the Amazon States Language.

https://docs.aws.amazon.com/step-functions/latest/dg/state-map-distributed.html
"""

from typing import Any

from clinops_prefect.step_functions.language.merge import (
    EXECUTION_INPUT,
    RUN_VARIABLE,
    declared_input,
    inert,
    kept_input,
)
from clinops_prefect.step_functions.language.paths import as_jsonata, looks_dynamic
from clinops_prefect.step_functions.language.retries import retriers
from clinops_prefect.step_functions.language.steps import MapStep, S3Items

# The key of the user's own `batch_input` in a child's input, which also has the values of the run.
_OWN = "own"


def input_state_of(step: MapStep) -> str:
    """The name of the first state of a map's children when the map hands them values of the run."""
    return f"{step.name[:65]}: an item"


def values_of_run(keys: list[str]) -> str:
    """The JSONata expression by which a map's children read the execution's input, of which they get `keys`."""
    return f"${RUN_VARIABLE}" if keys else EXECUTION_INPUT


def map_state(step: MapStep, chain: dict[str, Any], keys: list[str], partition: str) -> dict[str, Any]:
    """The Map state of `step`.

    Args:
        step: The map.
        chain: The states of its children.
        keys: The keys of the execution's input that the children get. If there is any, the map's state is JSONata.
        partition: The AWS partition of the integrations, such as `aws` or `aws-cn`.
    """
    config = {"ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": step.execution_type}}
    if keys:
        chain = _with_input_state(step, chain)
    state: dict[str, Any] = {"Type": "Map"}
    if keys:
        state["QueryLanguage"] = "JSONata"
    state["ItemProcessor"] = config | chain
    state["ToleratedFailurePercentage"] = float(step.tolerated_failure_percentage)
    if step.max_concurrency:
        state["MaxConcurrency"] = step.max_concurrency
    state |= _inputs(step, keys)
    if not isinstance(step.items, str):
        state["ItemReader"] = _reader(step.items, partition, evaluated=bool(keys))
    elif keys:
        state["Items"] = f"{{% {as_jsonata(step.items)} %}}"
    else:
        state["ItemsPath"] = step.items
    if step.results:
        where = {"Bucket": step.results.bucket, "Prefix": step.results.prefix}
        state["ResultWriter"] = {"Resource": f"arn:{partition}:states:::s3:putObject", **_where(where, bool(keys))}
    if step.output == "keep" or step.result_key:
        if keys:
            state["Output"] = kept_input("$states.result", step.result_key)
        else:
            state["ResultPath"] = f"$.{step.result_key}" if step.result_key else None
    return state | ({"Retry": retriers(step.retry)} if step.retry else {})


def _inputs(step: MapStep, keys: list[str]) -> dict[str, Any]:
    """The fields of the Map state that make a child's input: the user's selection and the values of the run."""
    selector = _template(step.item_selector, bool(keys))
    if not step.batch_size:
        if keys:
            item = selector or "{% $states.context.Map.Item.Value %}"
            return {"ItemSelector": {"item": item, RUN_VARIABLE: declared_input(keys)}}
        return {"ItemSelector": selector} if selector else {}
    batcher: dict[str, Any] = {"MaxItemsPerBatch": step.batch_size}
    shared = _template(step.batch_input, bool(keys))
    if keys:
        batcher["BatchInput"] = {RUN_VARIABLE: declared_input(keys)} | ({_OWN: shared} if shared else {})
    elif shared:
        batcher["BatchInput"] = shared
    return ({"ItemSelector": selector} if selector else {}) | {"ItemBatcher": batcher}


def _template(value: Any, evaluated: bool) -> Any:
    """The user's template, in which keys that end in `.$` have paths: unchanged, or translated to JSONata."""
    if not evaluated:
        return value
    if isinstance(value, dict):
        return {
            key.removesuffix(".$"): f"{{% {as_jsonata(item)} %}}" if key.endswith(".$") else _template(item, evaluated)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [_template(item, evaluated) for item in value]
    return inert(value)


def _with_input_state(step: MapStep, chain: dict[str, Any]) -> dict[str, Any]:
    """`chain` with a new first state, which stores the values of the run in a variable and passes on only the item."""
    source, item = "", "$states.input.item"
    if step.batch_size:
        own = f', "BatchInput": $states.input.BatchInput.{_OWN}' if step.batch_input else ""
        source, item = "BatchInput.", f'{{"Items": $states.input.Items{own}}}'
    first = {
        "Type": "Pass",
        "QueryLanguage": "JSONata",
        "Assign": {RUN_VARIABLE: f"{{% $states.input.{source}{RUN_VARIABLE} %}}"},
        "Output": f"{{% {item} %}}",
        "Next": chain["StartAt"],
    }
    return {"StartAt": input_state_of(step), "States": {input_state_of(step): first} | chain["States"]}


def _reader(items: S3Items, partition: str, *, evaluated: bool) -> dict[str, Any]:
    config: dict[str, Any] = {}
    kind = items.format()
    if items.key:
        operation, where = "getObject", {"Bucket": items.bucket, "Key": items.key}
    else:
        operation, where = "listObjectsV2", {"Bucket": items.bucket, "Prefix": items.prefix}
        if kind:
            config["Transformation"] = "LOAD_AND_FLATTEN"
    if kind:
        config["InputType"] = kind
    if kind == "CSV":
        config["CSVHeaderLocation"] = "GIVEN" if items.csv_headers else "FIRST_ROW"
        if items.csv_headers:
            config["CSVHeaders"] = items.csv_headers
        if items.csv_delimiter != "COMMA":
            config["CSVDelimiter"] = items.csv_delimiter
    if items.pointer:
        config["ItemsPointer"] = items.pointer
    if items.max_items:
        config["MaxItems"] = items.max_items
    reader = {"Resource": f"arn:{partition}:states:::s3:{operation}", **_where(where, evaluated)}
    return reader | ({"ReaderConfig": config} if config else {})


def _where(parameters: dict[str, str], evaluated: bool) -> dict[str, Any]:
    """The parameters that are not empty: in JSONata, or with `.$` added to the key of a path or a function."""
    given = {key: value for key, value in parameters.items() if value}
    if evaluated:
        paths_as = {
            key: f"{{% {as_jsonata(value)} %}}" if looks_dynamic(value) else inert(value)
            for key, value in given.items()
        }
        return {"Arguments": paths_as}
    return {"Parameters": {f"{key}.$" if looks_dynamic(value) else key: value for key, value in given.items()}}
