"""The steps of a Step Functions pipeline. This module imports neither Prefect nor boto3.

`states_language` translates the steps to a definition, and `check` finds what AWS would refuse.
"""

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from clinops_prefect.errors import InvalidPipelineError
from clinops_prefect.field_checks import is_reading_saved, reasons, without_unknown
from clinops_prefect.names import nearest_word


class UnknownKeywordError(TypeError, ValueError):
    """A keyword argument that is not the name of a field.

    The error is a TypeError, as for any Python call. It is also a ValueError, since pydantic tries one kind of step
    after another and goes on to the next kind only after a ValueError.
    """


def refuse_unknown(cls: type[BaseModel], given: Sequence[str]) -> None:
    """Raise for a keyword argument that is not a field. The message names the field that was probably meant.

    Raises:
        UnknownKeywordError: A keyword is unknown. Without this check, a Prefect block would store it silently.
    """
    fields = [field.alias or name for name, field in cls.model_fields.items()]
    if cls.model_config.get("populate_by_name"):
        fields = list(cls.model_fields)
    for name in given:
        if name not in fields:
            near = nearest_word(name, fields, likeness=0.5)
            hint = f"; did you mean {near!r}?" if near else f"; it has {', '.join(sorted(fields))}"
            raise UnknownKeywordError(f"{cls.__name__} has no field {name!r}{hint}")


# Without `kw_only=False` below, type checkers would refuse positional arguments. pydantic ignores it.
class _Part(BaseModel):
    # hide_input_in_errors: pydantic would otherwise quote the whole input, with the parameters, in its errors.
    # extra: a newer version may have saved marks of its fields, see `fields`. `__init__` refuses other extra fields.
    model_config = ConfigDict(hide_input_in_errors=True, extra="allow")

    def __init__(self, *args: Any, **data: Any) -> None:
        fields = list(type(self).model_fields)
        if len(args) > len(fields) or (twice := set(data) & set(fields[: len(args)])):
            problem = f"gets {sorted(twice)[0]!r} twice" if len(args) <= len(fields) else "gets too many arguments"
            raise UnknownKeywordError(f"{type(self).__name__} {problem}")
        if is_reading_saved():
            # A field of another kind of step is not from a newer version. It shows that the data is of that kind.
            fields_of_all = [item for kind in _Part.__subclasses__() for item in kind.model_fields.items()]
            known = {name for name, field in fields_of_all} | {field.alias or name for name, field in fields_of_all}
            data = without_unknown("a step of a pipeline", data, known)
            refuse_unknown(type(self), [name for name in data if name in known])
        else:
            refuse_unknown(type(self), list(data))
        try:
            super().__init__(**dict(zip(fields, args, strict=False)), **data)
        except ValidationError as error:
            if is_reading_saved():
                raise  # pydantic adds the place in the document
            raise InvalidPipelineError(f"{type(self).__name__}: {reasons(error)}") from None


class Retry(_Part):
    """When and how often a step is tried again.

    A step's own `Retry` objects come before the default ones. A `Retry` for `States.ALL` comes last, as AWS demands.
    After the default for `States.TaskFailed`, it applies to timeouts only. To change the default, name that error.

    Args:
        errors: The error names, such as `["MyError"]`, or `["States.ALL"]` alone.
        attempts: How many times the step is tried again. 0 means not at all.
        interval: Seconds before the first retry, at least 1.
        backoff: The factor by which the interval grows with each retry, at least 1.
        max_delay: The longest interval in seconds. 0 means no maximum.
        jitter: Wait a random part of the interval, so that steps that failed at once do not all retry at once.

    Example:
        ```python
        from clinops_prefect import PipelineStep, Retry

        resource = "arn:aws:lambda:us-east-1:123456789012:function:load"
        PipelineStep("Load", resource, retry=[Retry(["Database.Locked"], attempts=10, max_delay=60)])
        ```
    """

    errors: list[str] = Field(kw_only=False, description="The names of the errors to retry.")
    attempts: int = Field(
        kw_only=False, default=3, description="How many times the step is tried again. 0 means never."
    )
    interval: int = Field(default=2, description="Seconds to wait before the first retry.")
    backoff: float = Field(default=2.0, description="The factor by which the interval grows with each retry.")
    max_delay: int = Field(default=300, description="The longest interval in seconds. 0 means no limit.")
    jitter: bool = Field(
        default=True,
        description="Whether to wait a random part of the interval, so that many steps do not retry at once.",
    )


class PipelineStep(_Part):
    """One task of a pipeline: a Lambda function, an activity, or another AWS service.

    A Lambda function or an activity gets the previous step's output, merged with `parameters`, and then with the keys
    of the execution's input that the parameters declare. A later value wins. The same holds for the `Payload` of
    `lambda:invoke` and the `Input` of `states:startExecution`. For any other service the parameters are the API
    request, and nothing is merged into them.

    Args:
        name: The state's name, unique in the pipeline, at most 80 characters.
        resource: The ARN of a Lambda function or an activity, or of a service integration such as
            `arn:aws:states:::ecs:runTask.sync`.
        parameters: Static parameters. If any key, at any depth, ends in `.$`, AWS gets the parameters unchanged, as
            JSONPath of your own, and **nothing is merged into them**: neither the previous step's output nor the
                execution's input. `StepFunctionsPipeline.check()` tells you. Set `pass_input=False` if you intend it.
        retry_attempts: How many times a failed step is tried again.
        timeout_seconds: How long one attempt may take, in seconds.
        comment: A comment in the definition.
        heartbeat_seconds: How long an activity or a callback may be silent, in seconds. 0 means no limit.
        catch: Catchers of the Amazon States Language. `Next` names a step of the pipeline, and `ResultPath` may be a
            path such as `$.error`, to add the error to the step's input.
        retry_on: The error names to retry on, instead of `States.TaskFailed`. A Lambda step always retries Lambda's own
            service errors too.
        pass_input: If False, the step gets its parameters only.
        retry: `Retry` objects, which come before the default retries.
        output: What the next step gets: `replace`, the step's result; `merge`, the step's input with the result merged
            into it; `keep`, the step's input.
        result_key: Put the step's result under this key of its input, and pass both on.
        assume_role_arn: A role, usually of another AWS account, that the state machine's own role assumes to run the
            step.

    Example:
        ```python
        from clinops_prefect import PipelineStep

        PipelineStep("Preprocess", "arn:aws:lambda:us-east-1:123456789012:function:preprocess", retry_attempts=2)
        ```
    """

    name: str = Field(kw_only=False, description="The state's name, unique in the pipeline, at most 80 characters.")
    resource: str = Field(
        kw_only=False, description="The ARN of a Lambda function, an activity or a service integration."
    )
    # The types of keys and values are open here, so that `check()` can report wrong ones with all other problems.
    parameters: dict[Any, Any] = Field(
        default_factory=dict, description="Fixed parameters, which are merged into the input."
    )
    retry_attempts: int = Field(default=3, description="How many times a failed step is tried again.")
    timeout_seconds: int = Field(default=3600, description="How long one attempt may take, in seconds.")
    comment: str = Field(default="", description="A comment in the definition.")
    heartbeat_seconds: int = Field(
        default=0, description="How long an activity or a callback may send no heartbeat, in seconds. 0 means no limit."
    )
    catch: list[dict[str, Any]] = Field(default_factory=list, description="Catchers of the Amazon States Language.")
    retry_on: list[str] = Field(
        default_factory=list, description="The names of the errors to retry. If empty, the usual ones."
    )
    pass_input: bool = Field(
        default=True, description="Whether the parameters are merged into the input. If not, they replace the input."
    )
    retry: list[Retry] = Field(default_factory=list, description="Retries that come before the default ones.")
    output: Literal["replace", "merge", "keep"] = Field(
        default="replace",
        description="What the next step gets: the result, the input with the result merged in, or the input.",
    )
    result_key: str = Field(default="", description="The key of the input under which the result is put.")
    assume_role_arn: str = Field(default="", description="The role that runs the step, such as one of another account.")


class S3Items(_Part):
    """The items of a `MapStep`, in S3: one object that holds them, or all objects under a prefix.

    A path (`$.key`, `$$.Execution.Input.key`) or an intrinsic function (`States.Format('{}.csv', $.date)`) is
    evaluated.

    Args:
        bucket: The bucket.
        key: The object that holds the items.
        prefix: Use this instead of a key: each object below the prefix, at any depth, is an item
            (`{"Key": …, "Size": …, …}`). With an `input_type`, the objects are read, and each of their rows is an item.
        input_type: `JSON` (an array), `JSONL`, `CSV` (with a header line), `PARQUET`, or `MANIFEST` (an S3 inventory).
            If empty, the key's extension decides.
        max_items: At most this many items. 0 means all.
        pointer: Where in a JSON object the array of items is, as a JSON Pointer: `/ward/patients`.
        csv_headers: The names of the columns of a CSV file without a header line.
        csv_delimiter: The name of the character between the values of a CSV file.
    """

    bucket: str = Field(kw_only=False, description="The bucket.")
    key: str = Field(kw_only=False, default="", description="The object that holds the items.")
    prefix: str = Field(default="", description="A prefix instead of a key: every object below it is an item.")
    input_type: Literal["", "JSON", "JSONL", "CSV", "PARQUET", "MANIFEST"] = Field(
        default="", description="The format of the object. If empty, its extension decides."
    )
    max_items: int = Field(default=0, description="The maximum number of items. 0 means all.")
    pointer: str = Field(default="", description="The place of the items in a JSON object, such as /ward/patients.")
    csv_headers: list[str] = Field(default_factory=list, description="The columns of a CSV file without a header line.")
    csv_delimiter: Literal["COMMA", "PIPE", "SEMICOLON", "SPACE", "TAB"] = Field(
        default="COMMA", description="The delimiter of a CSV file."
    )

    def format(self) -> str:
        """The object's format, from `input_type` or the key's extension. Empty if neither says the format."""
        extension = self.key.rpartition(".")[2].lower()
        known = {"json": "JSON", "jsonl": "JSONL", "ndjson": "JSONL", "csv": "CSV", "parquet": "PARQUET"}
        return self.input_type or known.get(extension, "")


class S3Results(_Part):
    """Where a `MapStep` writes its results: `prefix/<id of the run>/` in `bucket`, beside a manifest.

    Args:
        bucket: The bucket.
        prefix: The prefix. If empty, there is none.
    """

    bucket: str = Field(kw_only=False, description="The bucket.")
    prefix: str = Field(
        kw_only=False, default="", description="The prefix below which the results go. If empty, there is none."
    )


class MapStep(_Part):
    """Steps that run once for each item, thousands at a time: a Distributed Map.

    Each item is the input of its own child execution. The limit of 25,000 events in one history therefore does not
    limit the map, and a redrive runs only the failed children again. Every child gets the keys of the execution's input
    that the steps' parameters declare. A Lambda step of a map retries throttling for about an hour and a half.

    Args:
        name: The state's name.
        steps: The steps that each item goes through.
        items: An `S3Items`, or a path to a list in the step's input, such as `$.patients`.
        max_concurrency: How many children run at once. 0 means as many as AWS allows (10,000).
        tolerated_failure_percentage: The percentage of children that may fail before the step fails, 0 to 100.
        batch_size: How many items one child gets, as `{"Items": […]}`. 0 means that a child gets one item, unchanged.
        item_selector: A template of what a child gets instead of its item. A key that ends in `.$` has a path:
            `$$.Map.Item.Value` is the item, `$$.Map.Item.Index` its number, and `$` what flows into the map.
        batch_input: A template of what each batch gets besides its items, as `{"Items": […], "BatchInput": {…}}`.
        results: Where the children's outputs are written. If None, they are the step's output, of at most 256 KiB.
        execution_type: Children are `STANDARD` executions, or `EXPRESS` ones of at most five minutes each.
        comment: A comment in the definition.
        retry: `Retry` objects. A map has no default retries, since each of its steps has them.
        catch: Catchers of the Amazon States Language, as in `PipelineStep`.
        output: What the next step gets: `replace`, the list of the children's outputs; `keep`, the map's input.
        result_key: Put the list under this key of the map's input, and pass both on.
    """

    name: str = Field(kw_only=False, description="The state's name, unique in the pipeline, at most 80 characters.")
    steps: list[PipelineStep] = Field(kw_only=False, description="The steps that each item goes through.")
    items: S3Items | str = Field(kw_only=False, description="The items in S3, or a path to a list in the step's input.")
    max_concurrency: int = Field(
        default=0, description="How many child executions run at once. 0 means as many as AWS allows."
    )
    tolerated_failure_percentage: float = Field(
        default=0, description="The percentage of child executions that may fail."
    )
    batch_size: int = Field(
        default=0,
        description="How many items one child execution gets as a batch. 0 means one item, without a batch around it.",
    )
    results: S3Results | None = Field(
        default=None, description="The place in S3 for the outputs of the child executions."
    )
    execution_type: Literal["STANDARD", "EXPRESS"] = Field(
        default="STANDARD", description="The type of the child executions."
    )
    comment: str = Field(default="", description="A comment in the definition.")
    retry: list[Retry] = Field(default_factory=list, description="Retries of the whole map.")
    catch: list[dict[str, Any]] = Field(default_factory=list, description="Catchers of the Amazon States Language.")
    output: Literal["replace", "keep"] = Field(
        default="replace",
        description="What the next step gets: the outputs of the child executions, or the map's input.",
    )
    result_key: str = Field(
        default="", description="The key of the input under which the outputs of the child executions are put."
    )
    item_selector: dict[Any, Any] = Field(
        default_factory=dict,
        description="What a child execution gets instead of its item. A key that ends in .$ has a path as its value.",
    )
    batch_input: dict[Any, Any] = Field(
        default_factory=dict,
        description="What each batch gets beside its items. A key that ends in .$ has a path as its value.",
    )


class Handler(_Part):
    """A step outside the main chain, which runs when a `catch` leads to it.

    Args:
        step: The step. A catcher's `Next` has its name.
        fails: Whether the execution then ends as failed, with the error that was caught. If False, it succeeds.
    """

    step: PipelineStep = Field(kw_only=False, description="The step to which a catcher leads.")
    fails: bool = Field(default=True, description="Whether the execution fails after this step, with the caught error.")


Step = PipelineStep | MapStep
