"""The steps of a Step Functions pipeline. Pure: no Prefect, no AWS.

`states_language` makes the definition of them, and `check` says what AWS would refuse.
"""

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from clinops_prefect.errors import InvalidPipelineError
from clinops_prefect.fields import is_reading_saved, reasons, without_unknown
from clinops_prefect.names import nearest_word


class UnknownKeywordError(TypeError, ValueError):
    """A keyword that is no field.

    A TypeError, as of any Python call, and a ValueError, which pydantic expects where it tries one kind of step after
    the other.
    """


def refuse_unknown(cls: type[BaseModel], given: Sequence[str]) -> None:
    """Raise for a keyword that is no field, naming the field that was probably meant.

    Raises:
        UnknownKeywordError: Prefect's blocks would otherwise keep it, silently.
    """
    fields = [field.alias or name for name, field in cls.model_fields.items()]
    if cls.model_config.get("populate_by_name"):
        fields = list(cls.model_fields)
    for name in given:
        if name not in fields:
            near = nearest_word(name, fields, likeness=0.5)
            hint = f"; did you mean {near!r}?" if near else f"; it has {', '.join(sorted(fields))}"
            raise UnknownKeywordError(f"{cls.__name__} has no field {name!r}{hint}")


# `kw_only=False` below is for type checkers, which otherwise refuse a positional argument; pydantic ignores it.
class _Part(BaseModel):
    # pydantic would quote the whole input, parameters included.
    # extra: marks of what a newer version has saved, see `fields`; `__init__` refuses any other.
    model_config = ConfigDict(hide_input_in_errors=True, extra="allow")

    def __init__(self, *args: Any, **data: Any) -> None:
        fields = list(type(self).model_fields)
        if len(args) > len(fields) or (twice := set(data) & set(fields[: len(args)])):
            problem = f"gets {sorted(twice)[0]!r} twice" if len(args) <= len(fields) else "gets too many arguments"
            raise UnknownKeywordError(f"{type(self).__name__} {problem}")
        if is_reading_saved():
            # But a field of another kind of step tells the kinds apart, and is no news.
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
                raise  # pydantic adds where in the document it is
            raise InvalidPipelineError(f"{type(self).__name__}: {reasons(error)}") from None


class Retry(_Part):
    """When and how often a step is tried again.

    A step's own `Retry` objects come before the default ones; one for `States.ALL` comes last, as AWS demands.

    Args:
        errors: The error names, such as `["MyError"]`, or `["States.ALL"]` alone.
        attempts: How many times it is tried again; 0, not at all.
        interval: Seconds before the first time, at least 1.
        backoff: By what the interval is multiplied each time, at least 1.
        max_delay: The longest interval in seconds; 0, any.
        jitter: Wait a random part of the interval, so that steps that failed together do not come back together.

    Example:
        ```python
        from clinops_prefect import PipelineStep, Retry

        resource = "arn:aws:lambda:us-east-1:123456789012:function:load"
        PipelineStep("Load", resource, retry=[Retry(["Database.Locked"], attempts=10, max_delay=60)])
        ```
    """

    errors: list[str] = Field(kw_only=False, description="The error names.")
    attempts: int = Field(kw_only=False, default=3, description="How many times the step is tried again; 0, never.")
    interval: int = Field(default=2, description="Seconds before the first time.")
    backoff: float = Field(default=2.0, description="By what the interval is multiplied each time.")
    max_delay: int = Field(default=300, description="The longest interval in seconds; 0, any.")
    jitter: bool = Field(default=True, description="Wait a random part of the interval.")


class PipelineStep(_Part):
    """One task of a pipeline: a Lambda function, an activity, or another AWS service.

    `parameters` are merged into what flows into a Lambda function or an activity: the previous step's output, then the
    parameters, then those keys of the execution's input that the parameters declare; the later wins. The same holds for
    the `Payload` of `lambda:invoke` and the `Input` of `states:startExecution`. For any other service the parameters
    are the API request, and nothing is merged into them.

    Args:
        name: The state's name, unique in the pipeline, at most 80 characters.
        resource: The ARN of a Lambda function or an activity, or of a service integration such as
            `arn:aws:states:::ecs:runTask.sync`.
        parameters: Static parameters. With a key that ends in `.$`, at any depth, all of them are JSONPath of your own:
            they are handed to AWS as they are, and **nothing is merged into them**, neither what flows in nor the
            execution's input. `StepFunctionsPipeline.check()` says so; `pass_input=False` says that you mean it.
        retry_attempts: How many times a failed step is tried again.
        timeout_seconds: How long one attempt may take.
        comment: A remark, kept in the definition.
        heartbeat_seconds: How long an activity or a callback may be silent; 0, for ever.
        catch: Catchers of the Amazon States Language; `Next` names a step of the pipeline, and `ResultPath` may be a
            path such as `$.error`, to add the error to the step's input.
        retry_on: The error names to retry on, instead of `States.TaskFailed`. A Lambda step retries Lambda's own
            service errors too, whatever is named here.
        pass_input: False, and a step receives its parameters only.
        retry: `Retry` objects, which come before the default retries.
        output: What flows on: what the step returned (`replace`), what flowed in with that merged into it (`merge`), or
            what flowed in (`keep`).
        result_key: What the step returned is put under this key of what flowed in.
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
    # Keys and values are not restricted here: `check()` reports them with all other problems, naming the step.
    parameters: dict[Any, Any] = Field(default_factory=dict, description="Static parameters, merged into the input.")
    retry_attempts: int = Field(default=3, description="How many times a failed step is tried again.")
    timeout_seconds: int = Field(default=3600, description="How long one attempt may take, in seconds.")
    comment: str = Field(default="", description="A remark, kept in the definition.")
    heartbeat_seconds: int = Field(
        default=0, description="How long an activity or a callback may be silent; 0, for ever."
    )
    catch: list[dict[str, Any]] = Field(default_factory=list, description="Catchers of the Amazon States Language.")
    retry_on: list[str] = Field(default_factory=list, description="The error names to retry on; empty, the usual ones.")
    pass_input: bool = Field(default=True, description="Merge the parameters into the input, instead of replacing it.")
    retry: list[Retry] = Field(default_factory=list, description="Retries that come before the default ones.")
    output: Literal["replace", "merge", "keep"] = Field(
        default="replace", description="What flows on: the result, the input with the result merged in, or the input."
    )
    result_key: str = Field(default="", description="Put the result under this key of what flowed in.")
    assume_role_arn: str = Field(default="", description="A role, such as of another account, to run the step with.")


class S3Items(_Part):
    """The items of a `MapStep`, in S3: one object that holds them, or all objects under a prefix.

    A path (`$.key`, `$$.Execution.Input.key`) or an intrinsic function (`States.Format('{}.csv', $.date)`) is
    evaluated.

    Args:
        bucket: The bucket.
        key: The object that holds the items.
        prefix: Instead of a key: each object below this prefix, at any depth, is an item (`{"Key": …, "Size": …, …}`).
            With an `input_type`, the objects are read, and each of their rows is an item.
        input_type: `JSON` (an array), `JSONL`, `CSV` (with a header line), `PARQUET`, or `MANIFEST` (an S3 inventory);
            empty, as the key's extension says.
        max_items: At most this many items; 0, all.
        pointer: Where in a JSON object the array of items is, as a JSON Pointer: `/ward/patients`.
        csv_headers: The names of the columns of a CSV file without a header line.
        csv_delimiter: What separates the values of a CSV file.
    """

    bucket: str = Field(kw_only=False, description="The bucket.")
    key: str = Field(kw_only=False, default="", description="The object that holds the items.")
    prefix: str = Field(default="", description="Instead of a key: every object below this prefix is an item.")
    input_type: Literal["", "JSON", "JSONL", "CSV", "PARQUET", "MANIFEST"] = Field(
        default="", description="The format of the object; empty, as its extension says."
    )
    max_items: int = Field(default=0, description="At most this many items; 0, all.")
    pointer: str = Field(default="", description="Where in a JSON object the items are, such as /ward/patients.")
    csv_headers: list[str] = Field(default_factory=list, description="The columns of a CSV file without a header line.")
    csv_delimiter: Literal["COMMA", "PIPE", "SEMICOLON", "SPACE", "TAB"] = Field(
        default="COMMA", description="What separates the values of a CSV file."
    )

    def format(self) -> str:
        """The object's format: `input_type`, or what the key's extension says; empty when nothing says it."""
        extension = self.key.rpartition(".")[2].lower()
        known = {"json": "JSON", "jsonl": "JSONL", "ndjson": "JSONL", "csv": "CSV", "parquet": "PARQUET"}
        return self.input_type or known.get(extension, "")


class S3Results(_Part):
    """Where a `MapStep` writes its results: `prefix/<id of the run>/` in `bucket`, beside a manifest.

    Args:
        bucket: The bucket.
        prefix: The prefix; empty, none.
    """

    bucket: str = Field(kw_only=False, description="The bucket.")
    prefix: str = Field(kw_only=False, default="", description="The prefix; empty, none.")


class MapStep(_Part):
    """Steps that run once for each item, thousands at a time: a Distributed Map.

    Each item is the input of its own child execution, so the 25,000 events of one history do not bound it, and a
    redrive runs only the failed ones again. Those keys of the execution's input that the steps' parameters declare
    reach every child: the map hands them over. A Lambda step of a map retries throttling for about an hour and a half.

    Args:
        name: The state's name.
        steps: The steps that each item goes through.
        items: An `S3Items`, or a path into the step's input, such as `$.patients`, where a list is.
        max_concurrency: How many children run at once; 0, as many as AWS allows (10,000).
        tolerated_failure_percentage: How many of the children may fail before the step does.
        batch_size: How many items one child gets, as `{"Items": […]}`; 0, one item as it is.
        item_selector: What a child gets instead of its item, as a template. A key that ends in `.$` has a path:
            `$$.Map.Item.Value` is the item, `$$.Map.Item.Index` its number, and `$` what flows into the map.
        batch_input: What each batch gets beside its items, as `{"Items": […], "BatchInput": {…}}`; a template too.
        results: Where the children's outputs go; without it they are the step's output, of at most 256 KiB.
        execution_type: `STANDARD` children, or `EXPRESS` ones of at most five minutes each.
        comment: A remark, kept in the definition.
        retry: `Retry` objects. A map has no default ones: each of its steps has.
        catch: Catchers of the Amazon States Language, as of a `PipelineStep`.
        output: `replace`: the list of the children's outputs flows on. `keep`: what flowed in does.
        result_key: The list is put under this key of what flowed in.
    """

    name: str = Field(kw_only=False, description="The state's name, unique in the pipeline, at most 80 characters.")
    steps: list[PipelineStep] = Field(kw_only=False, description="The steps that each item goes through.")
    items: S3Items | str = Field(kw_only=False, description="The items in S3, or a path to a list in the step's input.")
    max_concurrency: int = Field(default=0, description="How many children run at once; 0, as many as AWS allows.")
    tolerated_failure_percentage: float = Field(default=0, description="How many children may fail, of a hundred.")
    batch_size: int = Field(default=0, description="How many items one child gets; 0, one item as it is.")
    results: S3Results | None = Field(default=None, description="Where the children's outputs go.")
    execution_type: Literal["STANDARD", "EXPRESS"] = Field(
        default="STANDARD", description="What kind the children are."
    )
    comment: str = Field(default="", description="A remark, kept in the definition.")
    retry: list[Retry] = Field(default_factory=list, description="Retries of the whole map.")
    catch: list[dict[str, Any]] = Field(default_factory=list, description="Catchers of the Amazon States Language.")
    output: Literal["replace", "keep"] = Field(
        default="replace", description="What flows on: the children's outputs, or what flowed in."
    )
    result_key: str = Field(default="", description="Put the children's outputs under this key of what flowed in.")
    item_selector: dict[Any, Any] = Field(
        default_factory=dict, description="What a child gets instead of its item; keys that end in .$ have paths."
    )
    batch_input: dict[Any, Any] = Field(
        default_factory=dict, description="What each batch gets beside its items; keys that end in .$ have paths."
    )


class Handler(_Part):
    """A step off the main chain, which runs when a `catch` leads to it.

    Args:
        step: The step; the name that a catcher's `Next` has.
        fails: End the execution as failed after it, with the error that was caught; False, as succeeded.
    """

    step: PipelineStep = Field(kw_only=False, description="The step, to which a catcher leads.")
    fails: bool = Field(default=True, description="Whether the execution fails after it, with the error caught.")


Step = PipelineStep | MapStep
