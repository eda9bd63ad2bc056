"""StepFunctionsPipeline: a pipeline of steps on AWS Step Functions, as a Prefect block."""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

from prefect_aws import AwsCredentials
from pydantic import ConfigDict, HttpUrl

from clinops_prefect.asynchronous import asynchronous, asynchronous_iterator
from clinops_prefect.aws.clients import aws_client
from clinops_prefect.errors import InvalidExecutionError, InvalidPipelineError
from clinops_prefect.registry import STEP_FUNCTIONS_GUIDE
from clinops_prefect.saved_block import OfInstances
from clinops_prefect.step_functions.runs import start_and_wait
from clinops_prefect.step_functions.runs.cancellation import announce
from clinops_prefect.step_functions.runs.job import StepFunctionsRun
from clinops_prefect.step_functions.runs.pipeline_protocol import SLUG
from clinops_prefect.step_functions.runs.tasks import PipelineTask, task_of
from clinops_prefect.step_functions.service import deployment, executions, inspection, versions
from clinops_prefect.step_functions.service import history as state_history
from clinops_prefect.step_functions.state_machine import StateMachine

if TYPE_CHECKING:
    from mypy_boto3_stepfunctions import SFNClient

_CLIENT_CONFIG = {
    # "legacy" counts the retries of each request separately. In the other modes, all requests of a client share one
    # quota of retries. Our client lives as long as the process, so outages would use the quota up and end all retries.
    "retries": {"mode": "legacy", "total_max_attempts": 6},
    "connect_timeout": 10,
    "read_timeout": 30,
    # A connection for each of the threads that may wait at once, within reason.
    "max_pool_connections": 50,
}


class StepFunctionsPipeline(StateMachine):
    """Build, deploy and run a pipeline of steps on AWS Step Functions.

    The steps run one after the other, and each step's output is the next step's input. Nothing here needs a Prefect
    server, but in a Prefect run the states are logged, and a progress bar and a link to the AWS console are shown.

    Args:
        name: The state machine's name.
        role_arn: The role that Step Functions assumes.
        region: The AWS region. If empty, it is taken from the environment.
        steps: The steps. `add_step` adds one.
        handlers: Steps outside the chain, which run when a step's `catch` leads to them. `add_handler` adds one.
        comment: The machine's comment.
        profile: A named AWS profile. If empty, the default credential chain is used.
        credentials: An `AwsCredentials` block, instead of a profile.
        endpoint_url: An endpoint other than AWS's own. If empty, the environment decides.
        timeout_seconds: Timeout of one execution, in seconds. 0 means no timeout (AWS stops it after one year).
        type: `STANDARD` or `EXPRESS`. You can deploy and start an Express machine, but not wait for it: AWS does not
            describe Express executions, and may run one twice.
        tags: Tags of the state machine. Its other tags do not change.
        logging_configuration: As in the API's CreateStateMachine. If empty, nothing changes.
        tracing_configuration: As in the API's CreateStateMachine. If empty, nothing changes.
        kms_key_id: The KMS key (id, ARN or alias) that encrypts the definition and the data. If empty, nothing changes.
        alias: An alias, such as `live`. `deploy` publishes a version and points the alias to it, and executions start
            through the alias.
        allow_http: Whether to accept an `http://` endpoint on another machine, to which data travels unencrypted.
        keep_versions: How many of the newest versions stay when a new one is published. Older versions are deleted,
            except those with an alias. 0 keeps all versions, of which AWS takes 1,000.
        own_definition: A definition of your own in the Amazon States Language, instead of steps: see `from_definition`.
        show_cause: Whether to show the cause of a failure in messages and logs. Your functions write that text, and it
            may name a patient. Otherwise the cause is an attribute of the error only.

    Example:
        ```python
        from clinops_prefect import StepFunctionsPipeline

        pipeline = StepFunctionsPipeline.load("BLOCK_NAME")
        pipeline.deploy()
        output = pipeline.wait(pipeline.execute({"date": "2024-01-15"}))
        ```
    """

    # hide_input_in_errors: pydantic would otherwise quote the whole input, with secrets, in its errors.
    model_config = ConfigDict(hide_input_in_errors=True, ignored_types=(OfInstances,))

    _block_type_name: ClassVar[str | None] = "Step Functions Pipeline"
    _block_type_slug: ClassVar[str | None] = SLUG
    # The logo that Prefect shows for AWS blocks.
    _logo_url: ClassVar[HttpUrl | None] = HttpUrl(str(AwsCredentials._logo_url))
    _documentation_url: ClassVar[HttpUrl | None] = HttpUrl(STEP_FUNCTIONS_GUIDE)

    @property
    def state_machine_arn(self) -> str:
        """The ARN that the machine has, or will have. It is in the role's account, which AWS demands."""
        # The account comes first, so that a wrong role_arn is reported before a client is made.
        account = self._account
        return f"arn:{self._partition}:states:{self.client().meta.region_name}:{account}:stateMachine:{self.name}"

    @property
    def started_arn(self) -> str:
        """The ARN with which `execute` starts executions: of the alias if the pipeline has one, else of the machine."""
        return ":".join([self.state_machine_arn, *([self.alias] if self.alias else [])])

    def client(self) -> "SFNClient":
        """The boto3 client, made once per process. The block itself keeps no client."""
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
            publish: Also publish a version, and return its ARN. An execution of a machine that was just updated may
                still run the old definition, or the definition of another process that deploys at the same time. An
                execution of the version runs exactly this definition. Old versions are deleted: see `keep_versions`.

        Returns:
            With `publish`, the ARN of the version. Else the ARN of the alias if there is one, or of the machine.

        Raises:
            InvalidPipelineError: `check` or AWS finds a problem in the pipeline.
            AccessDeniedError: The credentials lack a permission, or Step Functions may not assume the role. `deploy`
                first waits up to 30 s for a new role or log destination that AWS does not know yet.
            OperationNotSupportedError: AWS keeps no more versions of this machine, or no more machines.
            ServiceUnavailableError: AWS cannot be reached, the machine is being deleted, or others keep changing it.
        """
        self.refuse_without_protection()
        self.refuse_deployment(self.region)
        definition = self.definition()
        # The region may come from the environment, so only the client knows it.
        self.refuse_deployment(self.client().meta.region_name)
        configurations = {
            "loggingConfiguration": self.logging_configuration,
            "tracingConfiguration": self.tracing_configuration,
            "encryptionConfiguration": {"type": "CUSTOMER_MANAGED_KMS_KEY", "kmsKeyId": self.kms_key_id}
            if self.kms_key_id
            else {},
        }
        deployed = deployment.deploy(
            self.client(),
            self.state_machine_arn,
            definition=definition,
            role_arn=self.role_arn,
            kind=self.type,
            tags=self.tags,
            configurations={key: value for key, value in configurations.items() if value},
            publish=publish or bool(self.alias),
            keep_versions=self.keep_versions,
        )
        if not self.alias:
            return deployed
        alias = versions.point_alias(self.client(), self.state_machine_arn, self.alias, deployed)
        return deployed if publish else alias

    def validate(self) -> list[str]:  # type: ignore[override]  # pydantic's own, which has long been called model_validate
        """AWS's warnings about the definition. Nothing is deployed.

        Returns:
            AWS's warnings, each with its place.

        Raises:
            InvalidPipelineError: `check` or AWS finds a problem. `problems` has the words of AWS or of `check`.
            AccessDeniedError: There are no credentials, or they lack `states:ValidateStateMachineDefinition`.
            OperationNotSupportedError: The endpoint is an emulator, which cannot validate.
        """
        definition = self.definition()
        return inspection.validate(self.client(), self.state_machine_arn, definition, self.type)

    def test_step(self, name: str, input_data: Any = None, *, result: Any = None) -> inspection.StepTest:
        """Let AWS run one step with the pipeline's role. Nothing is deployed, but the task really runs.

        Args:
            name: The name of a step, which may also be in a map or a handler.
            input_data: The step's input, as any JSON value.
            result: A result to use instead of running the task. AWS tests maps, activities and tasks that wait for a
                job (`.sync`) only with a result.

        Returns:
            The step's output or error. Neither is logged, and AWS leaves out the secrets of HTTP tasks.

        Raises:
            InvalidPipelineError: There is no such step, or AWS refuses its definition.
            InvalidExecutionError: AWS refuses the input or the result.
            OperationNotSupportedError: The endpoint is an emulator, which cannot test a step.
        """
        state = inspection.state_of(self.definition(), name)
        if state is None:
            raise InvalidPipelineError(f"the pipeline has no step {name!r}")
        text = executions.encode_input(input_data)
        mocked = None if result is None else executions.encode_input(result, "result")
        return inspection.test(
            self.client(), self.state_machine_arn, state, role_arn=self.role_arn, text=text, mocked=mocked
        )

    def _delete(self, *, missing_ok: bool = False, force: bool = False) -> None:
        """Delete the state machine with its versions and aliases.

        Called on the class, `StepFunctionsPipeline.delete(name)` is Prefect's method, which deletes a saved block.

        Args:
            missing_ok: Do not raise if there is no such machine.
            force: Delete the machine although executions run. AWS then terminates them.

        Raises:
            StateMachineNotFoundError: There is no such machine, and `missing_ok` is False.
            InvalidExecutionError: Executions run, and `force` is False.
        """
        deployment.delete(self.client(), self.state_machine_arn, missing_ok=missing_ok, force=force)

    def execute(self, input_data: Any = None, execution_name: str = "", state_machine_arn: str = "") -> str:
        """Start an execution, and return its ARN without waiting.

        Args:
            input_data: The first step's input, as any JSON value.
            execution_name: The execution's name. If empty, a unique name is made. While an execution runs, its name
                with the same input means this execution. After its end, AWS refuses the name for 90 days.
            state_machine_arn: Another machine, a version or an alias. If empty, the pipeline's alias or machine.

        Raises:
            InvalidExecutionError: AWS refuses the name or the input, or the name is taken.
            StateMachineNotFoundError: There is no such machine. Call `deploy()` first.
        """
        text = executions.encode_input(input_data)
        machine = state_machine_arn or self.started_arn
        execution_arn = executions.start(self.client(), machine, execution_name, text)
        announce(self, execution_arn)
        return execution_arn

    def wait(self, execution_arn: str, timeout: float | None = None) -> Any:
        """Wait until an execution has ended, and return its output.

        In a Prefect run, states are logged as they start and end, and progress is shown. When the flow run is
        cancelled, the execution is stopped. When only the worker is evicted, the execution goes on.

        Args:
            execution_arn: The execution.
            timeout: Seconds to wait at most. None means as long as it takes.

        Raises:
            ExecutionFailedError: The execution failed, timed out, or was stopped.
            ExecutionTimeoutError: `timeout` passed. The execution goes on.
            InvalidExecutionError: It is an Express execution, for which nobody can wait.
            ExecutionNotFoundError: There is no such execution.
            AccessDeniedError: The credentials lack a permission.
            ServiceUnavailableError: AWS could not be reached for a quarter of an hour. The execution goes on.
        """
        return start_and_wait.wait(self, execution_arn, timeout)

    def refuse_express(self, execution_arn: str = "") -> None:
        """Raise InvalidExecutionError for an Express execution, for which nobody can wait."""
        if self.type == "EXPRESS" or re.match(r"arn:[^:]*:states:[^:]*:[^:]*:express:", str(execution_arn)):
            raise InvalidExecutionError(
                "an Express execution cannot be waited for: AWS does not describe it, and may run it twice. "
                "Use type='STANDARD', or start it with execute() and look at its logs",
                uri=execution_arn,
            )

    def stop(self, execution_arn: str, error: str = "", cause: str = "") -> None:
        """Stop an execution. An execution that has ended does not change.

        Args:
            execution_arn: The execution.
            error: The name of an error for the execution's history.
            cause: The reason, for the execution's history.
        """
        executions.check_arn(execution_arn)
        executions.stop(self.client(), execution_arn, error=error, cause=cause)

    def redrive(self, execution_arn: str) -> None:
        """Continue a failed execution at the state that failed, with the definition with which it was started.

        Raises:
            InvalidExecutionError: AWS cannot redrive it: it succeeded, is older than 14 days, or has too many events.
        """
        executions.check_arn(execution_arn)
        executions.redrive(self.client(), execution_arn)

    def history(self, execution_arn: str) -> Iterator[state_history.StateEvent]:
        """The events of an execution's states so far, oldest first, without inputs and outputs."""
        executions.check_arn(execution_arn)
        return state_history.read(self.client(), execution_arn)

    def run(
        self, input_data: Any = None, execution_name: str = "", *, deploy: bool = True, timeout: float | None = None
    ) -> Any:
        """The output of an execution: deploy, start it or attach to it, and wait. The Prefect task does the same.

        Args:
            input_data: The first step's input.
            execution_name: The name of what the execution does. If an execution with this name runs, `run` attaches to
                it. If one succeeded, its output is returned. If one failed, it is redriven, or run again as `name-2`.
                If the name is empty, a new execution is started.
            deploy: Update the machine first, and run exactly that version. If False, run the version of the alias.
            timeout: Seconds to wait at most. None means as long as it takes.

        Raises:
            ClinopsPrefectError: The errors of `deploy`, `execute` and `wait`.
        """
        return start_and_wait.run(self, input_data, execution_name, deploy=deploy, timeout=timeout)

    async def arun(
        self, input_data: Any = None, execution_name: str = "", *, deploy: bool = True, timeout: float | None = None
    ) -> Any:
        """Like `run`, for async code."""
        return await start_and_wait.interruptibly(self.run, input_data, execution_name, deploy=deploy, timeout=timeout)

    def as_task(self, **task_options: Any) -> PipelineTask:
        """A Prefect task that runs this pipeline: `task(input_data=None, execution_name="")`.

        Args:
            **task_options: Options of `prefect.task`, such as `name` or `retries`.
        """
        return task_of(self, **task_options)

    # Prefect declares the three methods of a job as coroutines, but its own integrations also have them as functions.
    def trigger(self, input_data: Any = None, execution_name: str = "") -> StepFunctionsRun:  # type: ignore[override]
        """Start an execution of the deployed machine, as Prefect's job blocks do."""
        self.refuse_express()
        return StepFunctionsRun(self, self.execute(input_data, execution_name))

    delete = OfInstances(_delete)  # type: ignore[assignment]
    adelete = OfInstances(asynchronous(_delete))  # type: ignore[assignment]
    adeploy = asynchronous(deploy)
    avalidate = asynchronous(validate)
    atest_step = asynchronous(test_step)
    aexecute = asynchronous(execute)
    astop = asynchronous(stop)
    aredrive = asynchronous(redrive)
    ahistory = asynchronous_iterator(history)
    atrigger = asynchronous(trigger)

    # `await` is a keyword of Python, hence the underscore.
    async def await_(self, execution_arn: str, timeout: float | None = None) -> Any:
        """Like `wait`, for async code."""
        return await start_and_wait.interruptibly(self.wait, execution_arn, timeout)
