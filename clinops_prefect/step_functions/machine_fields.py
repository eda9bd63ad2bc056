"""The fields of a state machine, and the form that Prefect's UI makes of them."""

from abc import ABC
from typing import Any, ClassVar, Literal

from prefect.blocks.abstract import JobBlock
from prefect_aws import AwsCredentials
from pydantic import ConfigDict, Field

from clinops_prefect.errors import InvalidPipelineError
from clinops_prefect.form_schemas import REGION_PATTERN, URL_PATTERN, form_schema, part_schema, unwrapped
from clinops_prefect.saved_block import SavedBlock
from clinops_prefect.step_functions.language.machine_settings import ALIAS, KMS_KEY
from clinops_prefect.step_functions.language.steps import Handler, MapStep, PipelineStep

# The form's equivalent of `aws_limits.name_problems`.
_NAME_PATTERN = r"""^[^\s<>{}\[\]?*"#%\\^|~`$&,;:/]{1,80}$"""
_EXAMPLE_STEPS: Any = [
    {"name": "Ingest", "resource": "arn:aws:lambda:us-east-1:123456789012:function:clinops-ingest"},
    {
        "name": "Preprocess",
        "resource": "arn:aws:lambda:us-east-1:123456789012:function:clinops-preprocess",
        "retry_attempts": 2,
    },
]
_EXAMPLE_HANDLERS: Any = [
    {"step": {"name": "Notify", "resource": "arn:aws:lambda:us-east-1:123456789012:function:clinops-notify"}}
]
# The classes whose descriptions we shorten for the form. Those of the credentials belong to prefect-aws.
_PARTS = ("PipelineStep", "MapStep", "Handler", "Retry", "S3Items", "S3Results")


class MachineFields(SavedBlock, JobBlock, ABC):  # type: ignore[type-arg]
    """The fields of a state machine that a user sets. `StateMachine` makes a definition from them."""

    name: str = Field(
        title="State machine name",
        description="The state machine's name at AWS, of at most 80 characters, such as letters, digits, - and _.",
        json_schema_extra={"position": 0, "pattern": _NAME_PATTERN, "example": "clinops-daily-ingest"},
    )
    role_arn: str = Field(
        title="Role ARN",
        description="The ARN of the IAM role that Step Functions assumes.",
        json_schema_extra={
            "position": 1,
            "pattern": "^arn:aws[a-z-]*:iam::[0-9]+:role/.+$",
            "example": "arn:aws:iam::123456789012:role/StepFunctionsRole",
        },
    )
    region: str = Field(
        default="",
        title="Region",
        description="An AWS region, such as us-east-1. If empty, it is taken from the credentials or the environment.",
        json_schema_extra={"position": 2, "pattern": REGION_PATTERN},
    )
    steps: list[PipelineStep | MapStep] = Field(
        default_factory=list,
        title="Steps",
        description=(
            "The steps in their order: a list of objects with a name, the ARN of a resource, and optional fields."
        ),
        json_schema_extra={"position": 3, "example": _EXAMPLE_STEPS},
    )
    handlers: list[Handler] = Field(
        default_factory=list,
        title="Handlers",
        description="Steps off the chain, which run when a step's catch leads to them: a list of objects with a step.",
        json_schema_extra={"position": 4, "example": _EXAMPLE_HANDLERS},
    )
    comment: str = Field(
        default="", title="Comment", description="The comment of the state machine.", json_schema_extra={"position": 5}
    )
    profile: str = Field(
        default="",
        title="AWS profile",
        description="A named AWS profile. If empty, the default credential chain is used.",
        json_schema_extra={"position": 7},
    )
    credentials: AwsCredentials | None = Field(
        default=None,
        title="AWS credentials",
        repr=False,  # its repr contains the session token
        description="An AWS credentials block. If empty, the profile or the default credential chain is used.",
        json_schema_extra={"position": 6},
    )
    endpoint_url: str = Field(
        default="",
        title="Endpoint URL",
        description="An endpoint other than AWS's own, such as an emulator's. If empty, the environment decides.",
        json_schema_extra={"position": 8, "pattern": URL_PATTERN},
    )
    timeout_seconds: int = Field(
        default=0,
        title="Timeout in seconds",
        description="How long one execution may take, in seconds. 0 means no timeout: AWS ends it after a year.",
        json_schema_extra={"position": 9, "minimum": 0},
    )
    type: Literal["STANDARD", "EXPRESS"] = Field(
        default="STANDARD",
        # Forms and saved blocks use this name. With Prefect's newer form, the server reads the values as if they were
        # a schema (Prefect 3.9.1), in which `type` is a keyword: a block with a field `type` could not be saved.
        alias="machine_type",
        title="Type",
        description="What kind of state machine it is. An EXPRESS one can be started, but not waited for.",
        json_schema_extra={"position": 10},
    )
    tags: dict[str, str] = Field(
        default_factory=dict,
        title="Tags",
        description="Tags of the state machine.",
        json_schema_extra={"position": 11, "example": {"team": "icu"}},
    )
    logging_configuration: dict[str, Any] = Field(
        default_factory=dict,
        title="Logging",
        description="What AWS logs, as in the API's CreateStateMachine. If empty, nothing changes.",
        json_schema_extra={"position": 12},
    )
    tracing_configuration: dict[str, Any] = Field(
        default_factory=dict,
        title="Tracing",
        description="Whether AWS X-Ray traces, as in the API's CreateStateMachine. If empty, nothing changes.",
        json_schema_extra={"position": 13, "example": {"enabled": True}},
    )
    kms_key_id: str = Field(
        default="",
        title="KMS key",
        description=(
            "The KMS key (id, ARN or alias) that encrypts the definition and the data. If empty, nothing changes."
        ),
        json_schema_extra={"position": 14, "pattern": f"^({KMS_KEY})?$"},
    )
    alias: str = Field(
        default="",
        title="Alias",
        description="An alias: each deployment moves it to the new version, and executions start through it.",
        json_schema_extra={"position": 15, "pattern": f"^({ALIAS})?$"},
    )
    keep_versions: int = Field(
        default=100,
        title="Versions to keep",
        description="How many of the newest published versions stay; those with an alias stay too, older ones are "
        "deleted. 0 keeps all, and AWS takes 1,000 of them.",
        json_schema_extra={"position": 16, "minimum": 0},
    )
    allow_http: bool = Field(
        default=False,
        title="Allow HTTP",
        description="Whether to accept an http:// endpoint outside this machine, to which data travels unencrypted.",
        json_schema_extra={"position": 17},
    )
    own_definition: dict[str, Any] = Field(
        default_factory=dict,
        title="Definition of your own",
        json_schema_extra={"position": 18},
        description="A definition of your own in the Amazon States Language, instead of steps.",
    )
    show_cause: bool = Field(
        default=False,
        title="Show causes",
        description="Whether to show the cause of a failure, which your functions write, in messages and logs.",
        json_schema_extra={"position": 19},
    )

    # Code, and blocks of earlier versions, use the field's own name, `type`.
    model_config = ConfigDict(populate_by_name=True, loc_by_alias=False)
    _invalid: ClassVar[Any] = InvalidPipelineError

    @classmethod
    def model_json_schema(cls, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Prefect's schema, with shorter descriptions for the form in the UI."""
        schema = form_schema(super().model_json_schema(*args, **kwargs), cls.model_fields)
        for part in _PARTS:
            if definition := schema.get("definitions", {}).get(part):
                part_schema(definition)
                definition["description"] = unwrapped(definition.get("description")).partition("\n\n")[0]
        return schema
