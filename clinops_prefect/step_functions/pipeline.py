"""StepFunctionsPipeline: a pipeline of steps on AWS Step Functions, as a Prefect block."""

import asyncio
import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from prefect.blocks.abstract import JobBlock
from prefect_aws import AwsCredentials
from pydantic import ConfigDict, Field, HttpUrl

from clinops_prefect.aws import aws_client
from clinops_prefect.definition import MapStep, PipelineStep, Step, refuse_unknown
from clinops_prefect.definition_check import DEFINITION_BYTES, definition_problems, name_problems
from clinops_prefect.endpoints import check_endpoint
from clinops_prefect.errors import InvalidExecutionError, InvalidPipelineError
from clinops_prefect.links import LOGO, UI_GUIDE
from clinops_prefect.machine_check import logging_problems, tag_problems
from clinops_prefect.states_language import states_language
from clinops_prefect.step_functions import deployment, executions, history, running
from clinops_prefect.step_functions.cancellation import announce
from clinops_prefect.step_functions.diagram import Diagram
from clinops_prefect.step_functions.job import StepFunctionsRun

if TYPE_CHECKING:
    from mypy_boto3_stepfunctions import SFNClient

    from clinops_prefect.step_functions.tasks import PipelineTask

_ROLE = re.compile(r"arn:(aws[a-z-]*):iam::(\d+):role/.+")
# What Prefect puts into the data of a block that it hydrates; context hydration would lose them.
_PREFECT_KEYS = ("_block_document_id", "_block_document_name", "_is_anonymous")
_CLIENT_CONFIG = {
    "retries": {"mode": "adaptive", "max_attempts": 5},
    "connect_timeout": 10,
    "read_timeout": 30,
    # As many threads as may wait at once, within reason.
    "max_pool_connections": 50,
}


class StepFunctionsPipeline(JobBlock):  # type: ignore[type-arg]
    """Build, deploy and run a pipeline of steps on AWS Step Functions.

    The steps run one after the other, and each step's output is the next step's input. Nothing here needs a Prefect
    server, but in a Prefect run the states are logged, and a progress bar and a link to the AWS console are shown.

    Args:
        name: The state machine's name.
        role_arn: The role that Step Functions assumes.
        region: The AWS region; empty, as the environment says.
        steps: The steps; `add_step` adds one.
        comment: The machine's comment.
        profile: A named AWS profile; empty, the default credential chain.
        credentials: An `AwsCredentials` block, instead of a profile.
        endpoint_url: Another endpoint than AWS's own; empty, as the environment says.
        timeout_seconds: How long one execution may take; 0, a year.
        type: `STANDARD`, or `EXPRESS`, which can be deployed and started, but not waited for: AWS describes no Express
            execution, and may run one twice.
        tags: Tags of the state machine; others that it has are left alone.
        logging_configuration: As in the API's CreateStateMachine; empty, left as it is.
        tracing_configuration: As in the API's CreateStateMachine; empty, left as it is.
        allow_http: Whether a plain http endpoint on a network is acceptable.
        show_cause: Show the cause of a failure in messages and logs. It is your functions' own text, and may name a
            patient; without it, it is an attribute of the error only.

    Example:
        ```python
        from clinops_prefect import StepFunctionsPipeline

        pipeline = StepFunctionsPipeline.load("BLOCK_NAME")
        pipeline.deploy()
        output = pipeline.wait(pipeline.execute({"date": "2024-01-15"}))
        ```
    """

    # pydantic would quote the whole input, secrets included.
    model_config = ConfigDict(hide_input_in_errors=True)

    _block_type_name: ClassVar[str | None] = "Step Functions Pipeline"
    _block_type_slug: ClassVar[str | None] = "step-functions-pipeline"
    _logo_url: ClassVar[HttpUrl | None] = HttpUrl(LOGO)
    _documentation_url: ClassVar[HttpUrl | None] = HttpUrl(UI_GUIDE)

    name: str = Field(description="The state machine's name.")
    role_arn: str = Field(description="The ARN of the role that Step Functions assumes.")
    region: str = Field(default="", description="The AWS region; empty, as the environment says.")
    steps: list[PipelineStep | MapStep] = Field(default_factory=list, description="The steps, in order.")
    comment: str = Field(default="", description="The machine's comment.")
    profile: str = Field(default="", description="A named AWS profile; empty, the default credential chain.")
    credentials: AwsCredentials | None = Field(
        default=None,
        repr=False,  # it shows its session token
        description="AWS credentials, instead of a profile.",
    )
    endpoint_url: str = Field(
        default="", description="Another endpoint than AWS's own; empty, as the environment says."
    )
    timeout_seconds: int = Field(default=0, description="How long one execution may take, in seconds; 0, a year.")
    type: Literal["STANDARD", "EXPRESS"] = Field(default="STANDARD", description="What kind of state machine it is.")
    tags: dict[str, str] = Field(default_factory=dict, description="Tags of the state machine.")
    logging_configuration: dict[str, Any] = Field(
        default_factory=dict, description="What AWS logs, as in CreateStateMachine; empty, left as it is."
    )
    tracing_configuration: dict[str, Any] = Field(
        default_factory=dict, description="Whether AWS X-Ray traces, as in CreateStateMachine; empty, left as it is."
    )
    allow_http: bool = Field(
        default=False,
        title="Allow HTTP",
        description="Whether an http:// endpoint outside this machine is acceptable. Data travels unencrypted then.",
    )
    show_cause: bool = Field(
        default=False, description="Show the cause of a failure, which your functions write, in messages and logs."
    )

    def __new__(cls, *_args: Any, **data: Any) -> Self:
        # Block's own __new__ takes keywords only.
        return super().__new__(cls, **data)

    def __init__(self, name: str = "", role_arn: str = "", /, **data: Any) -> None:
        prefect = {key: data.pop(key) for key in _PREFECT_KEYS if key in data}
        data.pop("block_type_slug", None)
        refuse_unknown(type(self), list(data))
        given = {"name": name, "role_arn": role_arn}
        super().__init__(**{key: value for key, value in given.items() if value}, **data)
        check_endpoint(self.endpoint_url, allow_http=self.allow_http)
        for key, value in prefect.items():
            setattr(self, key, value)

    def add_step(self, step: Step) -> Self:
        """Add a step at the end, and return the pipeline.

        Raises:
            InvalidPipelineError: A step of that name is there already.
        """
        if step.name in {other.name for other in self.steps}:
            problem = f"step {step.name!r}: a step of this name is already in the pipeline"
            raise InvalidPipelineError(problem, problems=[problem])
        self.steps.append(step)
        return self

    def check(self) -> list[str]:
        """Everything that AWS would refuse and that can be known without asking it; empty when there is nothing."""
        problems = name_problems(self.name, "the pipeline's name")
        if not _ROLE.fullmatch(self.role_arn):
            problems.append("role_arn is not the ARN of an IAM role, such as arn:aws:iam::123456789012:role/Name")
        problems += definition_problems(
            self.steps, express=self.type == "EXPRESS", timeout_seconds=self.timeout_seconds
        )
        problems += logging_problems(self.logging_configuration) + tag_problems(self.tags)
        if not problems and (size := len(json.dumps(self._language(), ensure_ascii=False).encode())) > DEFINITION_BYTES:
            problems.append(f"the definition has {size:,} bytes, and may have {DEFINITION_BYTES:,}")
        return problems

    def definition(self) -> dict[str, Any]:
        """The state machine in the Amazon States Language.

        Raises:
            InvalidPipelineError: With every problem that `check` finds.
        """
        if problems := self.check():
            raise InvalidPipelineError("AWS would refuse this pipeline:\n- " + "\n- ".join(problems), problems=problems)
        return self._language()

    def definition_json(self, indent: int | None = 2) -> str:
        """`definition()` as text."""
        return json.dumps(self.definition(), indent=indent, ensure_ascii=False)

    def _language(self) -> dict[str, Any]:
        comment = self.comment or f"{self.name} — built by clinops_prefect"
        return states_language(self.steps, comment, self.timeout_seconds, self._partition)

    @property
    def _partition(self) -> str:
        match = _ROLE.fullmatch(self.role_arn)
        return match[1] if match else "aws"

    @property
    def state_machine_arn(self) -> str:
        """The ARN that the machine has, or will have: in the role's account, since AWS takes no other's role."""
        match = _ROLE.fullmatch(self.role_arn)
        if not match:
            raise InvalidPipelineError("the state machine's account is unknown: role_arn is not the ARN of a role")
        return f"arn:{match[1]}:states:{self.client().meta.region_name}:{match[2]}:stateMachine:{self.name}"

    def client(self) -> "SFNClient":
        """The boto3 client, made once per process; none is kept on the block."""
        return aws_client(
            "stepfunctions",
            region=self.region,
            profile=self.profile,
            credentials=self.credentials,
            endpoint_url=self.endpoint_url,
            allow_http=self.allow_http,
            config=_CLIENT_CONFIG,
        )

    def deploy(self, publish: bool = False) -> str:
        """Create the state machine at AWS, update it, or do nothing when nothing has changed.

        Args:
            publish: Publish a version too, and return its ARN. An execution started on a machine that was just updated
                may still run the old definition; one started on the version cannot.

        Returns:
            The ARN of the state machine, or of its version.

        Raises:
            InvalidPipelineError: `check` finds something, or AWS does.
            AccessDeniedError: The credentials do not suffice.
            ServiceUnavailableError: AWS cannot be reached.
        """
        definition = self.definition()
        configurations = {
            "loggingConfiguration": self.logging_configuration,
            "tracingConfiguration": self.tracing_configuration,
        }
        return deployment.deploy(
            self.client(),
            self.state_machine_arn,
            definition=definition,
            role_arn=self.role_arn,
            kind=self.type,
            tags=self.tags,
            configurations={key: value for key, value in configurations.items() if value},
            publish=publish,
        )

    def execute(self, input_data: Any = None, execution_name: str = "", state_machine_arn: str = "") -> str:
        """Start an execution, and return its ARN without waiting.

        Args:
            input_data: What the first step gets; anything that JSON has.
            execution_name: A name, unusable again for 90 days. While the execution runs, the same name with the same
                input is the same execution. Empty, a name that never collides.
            state_machine_arn: Another machine, a version or an alias; empty, the one of this pipeline.

        Raises:
            InvalidExecutionError: The name or the input is refused, or the name is taken.
            StateMachineNotFoundError: There is no such machine: `deploy()` first.
        """
        text = executions.encode_input(input_data)
        machine = state_machine_arn or self.state_machine_arn
        execution_arn = executions.start(self.client(), machine, execution_name, text)
        announce(self, execution_arn)
        return execution_arn

    def wait(self, execution_arn: str, timeout: float | None = None) -> Any:
        """Wait until an execution has ended, and return its output.

        In a Prefect run, states are logged as they start and end, progress is shown, and when the flow run is cancelled
        the execution is stopped; a worker that is merely evicted leaves it running.

        Args:
            execution_arn: The execution.
            timeout: Seconds to wait at most; None, as long as it takes.

        Raises:
            ExecutionFailedError: It failed, timed out, or was stopped.
            ExecutionTimeoutError: `timeout` passed. The execution goes on.
            InvalidExecutionError: It is an Express execution, which cannot be waited for.
            ExecutionNotFoundError: There is none.
            AccessDeniedError: The credentials do not suffice.
            ServiceUnavailableError: AWS could not be reached for long. The execution goes on.
        """
        self.refuse_express(execution_arn)
        announce(self, execution_arn)
        return running.wait(self, execution_arn, timeout)

    def refuse_express(self, execution_arn: str = "") -> None:
        """Raise InvalidExecutionError for what cannot be waited for."""
        if self.type == "EXPRESS" or ":express:" in execution_arn:
            raise InvalidExecutionError(
                "an Express execution cannot be waited for: AWS does not describe it, and may run it twice. "
                "Use type='STANDARD', or start it with execute() and look at its logs",
                uri=execution_arn,
            )

    def stop(self, execution_arn: str, error: str = "", cause: str = "") -> None:
        """Stop an execution; one that has ended stays as it is.

        Args:
            execution_arn: The execution.
            error: An error's name, kept in its history.
            cause: Why, kept in its history.
        """
        executions.stop(self.client(), execution_arn, error=error, cause=cause)

    def redrive(self, execution_arn: str) -> None:
        """Let a failed execution go on at the state that failed, with the definition that it was started with.

        Raises:
            InvalidExecutionError: AWS cannot redrive it: it succeeded, or is older than 14 days, or too long.
        """
        executions.redrive(self.client(), execution_arn)

    def history(self, execution_arn: str) -> Iterator[history.StateEvent]:
        """What the states of an execution did so far, oldest first; without inputs and outputs."""
        return history.read(self.client(), execution_arn)

    def visualize(self, file: str = "") -> Diagram:
        """Draw the state machine.

        Args:
            file: A file to draw it to, such as `machine.png` or `machine.svg`; empty, none.

        Returns:
            The drawing: shown as an image in notebooks, `view()` opens it, and `str()` is its DOT text, which needs no
            Graphviz.

        Raises:
            ImportError: Drawing to a file, and Graphviz is not installed.
        """
        diagram = Diagram(self.name, self.definition())
        if file:
            diagram.save(file)
        return diagram

    def run(
        self, input_data: Any = None, execution_name: str = "", *, deploy: bool = True, timeout: float | None = None
    ) -> Any:
        """Deploy, start or attach, wait, and return the output: what the Prefect task does.

        Args:
            input_data: What the first step gets.
            execution_name: What the execution is for. An execution of this name that runs is attached to, one that
                succeeded gives its output, one that failed is redriven, or run again as `name-2`. Empty, a new one.
            deploy: Bring the machine up to date first, and run exactly that version.
            timeout: Seconds to wait at most; None, as long as it takes.

        Raises:
            ClinopsPrefectError: Whatever `deploy`, `execute` and `wait` raise.
        """
        return running.run(self, input_data, execution_name, deploy=deploy, timeout=timeout)

    async def arun(
        self, input_data: Any = None, execution_name: str = "", *, deploy: bool = True, timeout: float | None = None
    ) -> Any:
        """Like `run`, for async code."""
        return await running.arun(self, input_data, execution_name, deploy=deploy, timeout=timeout)

    def as_task(self, **task_options: Any) -> "PipelineTask":
        """A Prefect task that runs this pipeline: `task(input_data=None, execution_name="")`.

        Args:
            **task_options: Options of `prefect.task`, such as `name` or `retries`.
        """
        from clinops_prefect.step_functions.tasks import task_of

        return task_of(self, **task_options)

    # Prefect declares the three methods of a job as coroutines; its own integrations have both kinds.
    def trigger(self, input_data: Any = None, execution_name: str = "") -> StepFunctionsRun:  # type: ignore[override]
        """Start an execution of the deployed machine, as Prefect's job blocks do."""
        self.refuse_express()
        return StepFunctionsRun(self, self.execute(input_data, execution_name))

    async def atrigger(self, input_data: Any = None, execution_name: str = "") -> StepFunctionsRun:
        """Like `trigger`, for async code."""
        return await asyncio.to_thread(self.trigger, input_data, execution_name)
