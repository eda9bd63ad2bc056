"""The state machine of a Prefect block: its steps, checks and definition. Nothing here calls AWS."""

import copy
import json
import re
from abc import ABC
from pathlib import Path
from typing import Any, Self

from clinops_prefect.errors import InvalidPipelineError
from clinops_prefect.field_checks import protections
from clinops_prefect.network.endpoints import check_endpoint
from clinops_prefect.step_functions.language.aws_limits import json_problems, name_problems
from clinops_prefect.step_functions.language.check import (
    DEFINITION_BYTES,
    account_problems,
    definition_problems,
    merge_notes,
    place_problems,
)
from clinops_prefect.step_functions.language.diagram import Diagram
from clinops_prefect.step_functions.language.machine_settings import (
    alias_problems,
    key_problems,
    logging_problems,
    tag_problems,
)
from clinops_prefect.step_functions.language.states_language import states_language
from clinops_prefect.step_functions.language.steps import Handler, PipelineStep, Step, refuse_unknown
from clinops_prefect.step_functions.language.structure import (
    read_definition,
    resources_of,
    states_of,
    structure_problems,
)
from clinops_prefect.step_functions.machine_fields import MachineFields
from clinops_prefect.step_functions.service.requests import request_problems

# AWS's limit for one state machine: https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html
VERSIONS_AT_MOST = 1000
_ROLE = re.compile(r"arn:(aws[a-z-]*):iam::(\d+):role/.+")


def _refuse(problems: list[str]) -> None:
    if problems:
        raise InvalidPipelineError("AWS would refuse this pipeline:\n- " + "\n- ".join(problems), problems=problems)


class StateMachine(MachineFields, ABC):
    """A state machine of steps that run one after the other. `StepFunctionsPipeline` deploys and runs it."""

    def __new__(cls, *_args: Any, **data: Any) -> Self:
        # Prefect's `Block.__new__` takes keywords only.
        return super().__new__(cls, **data)

    def __init__(self, name: str = "", role_arn: str = "", /, **data: Any) -> None:
        given: dict[str, Any] = {"name": name, "role_arn": role_arn}
        super().__init__(**{key: value for key, value in given.items() if value}, **data)
        check_endpoint(self.endpoint_url, allow_http=self.allow_http, invalid=InvalidPipelineError)

    @classmethod
    def from_definition(cls, definition: dict[str, Any] | str | Path, **fields: Any) -> Self:
        """A pipeline from a definition in the Amazon States Language, which may have choices, branches, waits and maps.

        You deploy, run, follow and redrive the pipeline like one that is built of steps.

        Args:
            definition: The definition, or the path of a JSON file with the definition.
            **fields: The other fields of the pipeline: `name`, `role_arn`, `region` and so on.

        Raises:
            InvalidPipelineError: The definition is not a JSON object, or the file cannot be read.

        Example:
            ```python
            from clinops_prefect import StepFunctionsPipeline

            machine = {"StartAt": "Wait", "States": {"Wait": {"Type": "Wait", "Seconds": 60, "End": True}}}
            role = "arn:aws:iam::123456789012:role/StepFunctionsRole"
            pipeline = StepFunctionsPipeline.from_definition(machine, name="clinops", role_arn=role)
            ```
        """
        made = read_definition(definition) if isinstance(definition, str | Path) else definition
        problems = json_problems(made, "the definition")
        if not problems and (not isinstance(made, dict) or not made):
            problems = structure_problems(made)
        _refuse(problems)
        return cls(own_definition=copy.deepcopy(made), **fields)

    @classmethod
    def _refuse_unknown(cls, data: dict[str, Any]) -> None:
        refuse_unknown(cls, list(data))

    def refuse_without_protection(self) -> None:
        """Raise for unknown fields that protect data, in the block and in its steps.

        Raises:
            InvalidPipelineError: A newer version saved a field that protects data, and this version does not know it.
        """
        super().refuse_without_protection()
        if unknown := sorted({name for step in self.steps for name in protections(step.model_extra)}):
            raise InvalidPipelineError(
                f"a step was saved by a newer version, with {', '.join(unknown)}, which is unknown here: it would run "
                "without that encryption. Install the newer clinops-prefect on this machine"
            )

    def add_step(self, step: Step) -> Self:
        """Add a step at the end, and return the pipeline.

        Raises:
            InvalidPipelineError: A step of that name is there already.
        """
        self._refuse_own_definition("add_step")
        self._refuse_twice(step.name)
        self.steps.append(step)
        return self

    def add_handler(self, step: PipelineStep, fails: bool = True) -> Self:
        """Add a step outside the main chain, which runs when a `catch` leads to it, and return the pipeline.

        Args:
            step: The step. A catcher's `Next` has its name.
            fails: Whether the execution then ends as failed, with the error that was caught. If False, it succeeds.

        Raises:
            InvalidPipelineError: A step of that name is there already.
        """
        self._refuse_own_definition("add_handler")
        self._refuse_twice(step.name)
        self.handlers.append(Handler(step, fails=fails))
        return self

    def _refuse_own_definition(self, method: str) -> None:
        if self.own_definition:
            problem = (
                f"{method}() needs a pipeline of steps, and this one has a definition of its own: add a state to that"
            )
            raise InvalidPipelineError(problem, problems=[problem])

    def _refuse_twice(self, name: str) -> None:
        if name in {other.name for other in [*self.steps, *(handler.step for handler in self.handlers)]}:
            problem = f"step {name!r}: a step of this name is already in the pipeline"
            raise InvalidPipelineError(problem, problems=[problem])

    def check(self) -> list[str]:
        """The problems for which AWS would refuse the pipeline, found without calling AWS. Empty if there is none.

        The list also names steps whose own paths (keys that end in `.$`) switch off the merge of their parameters. AWS
        accepts such a step, and it can be deployed, but you may not intend it.
        """
        problems = self._definition_problems() + self._deployment_problems(self.region)
        return problems + merge_notes(self._tasks())

    @property
    def state_count(self) -> int:
        """How many states an execution may enter, for the progress. A distributed map's children do not count."""
        own = sum(1 for _ in states_of(self.own_definition, with_children=False))
        return own or len(self.steps)

    def _tasks(self) -> list[Step]:
        if self.own_definition:
            return [PipelineStep(name, resource) for name, resource in resources_of(self.own_definition)]
        return [*self.steps, *(handler.step for handler in self.handlers)]

    def _deployment_problems(self, region: str) -> list[str]:
        """The reasons why a well-formed definition cannot be deployed."""
        return account_problems(self.role_arn, self._tasks()) + place_problems(self._partition, region, self._tasks())

    def _definition_problems(self) -> list[str]:
        problems = name_problems(self.name, "the pipeline's name")
        if not _ROLE.fullmatch(self.role_arn):
            problems.append("role_arn is not the ARN of an IAM role, such as arn:aws:iam::123456789012:role/Name")
        problems += self._own_problems() if self.own_definition else self._step_problems()
        if not 0 <= self.keep_versions < VERSIONS_AT_MOST:
            problems.append(f"keep_versions is {self.keep_versions}, and may be 0 (all) to {VERSIONS_AT_MOST - 1}")
        problems += logging_problems(self.logging_configuration) + tag_problems(self.tags)
        problems += key_problems(self.kms_key_id) + alias_problems(self.alias)
        if not problems and not self.own_definition:
            problems += request_problems(self._tasks())
        if not problems:
            problems += json_problems(self._language() | {"tags": self.tags}, "the definition")
        if not problems and (size := len(json.dumps(self._language(), ensure_ascii=False).encode())) > DEFINITION_BYTES:
            problems.append(f"the definition has {size:,} bytes, and may have {DEFINITION_BYTES:,}")
        return problems

    def _step_problems(self) -> list[str]:
        return definition_problems(
            self.steps,
            express=self.type == "EXPRESS",
            timeout_seconds=self.timeout_seconds,
            handlers=self.handlers,
        )

    def _own_problems(self) -> list[str]:
        given = [name for name in ("steps", "handlers", "comment", "timeout_seconds") if getattr(self, name)]
        problems = [f"the pipeline has {name} beside a definition of its own: put it there" for name in given]
        unreadable = json_problems(self.own_definition, "the definition")
        return problems + (unreadable or structure_problems(self.own_definition))

    def definition(self) -> dict[str, Any]:
        """The state machine in the Amazon States Language.

        Raises:
            InvalidPipelineError: `check` finds problems in the definition. The error has all of them.
        """
        _refuse(self._definition_problems())
        return self._language()

    def refuse_deployment(self, region: str) -> None:
        """Raise if AWS would refuse to deploy the pipeline in a region.

        Raises:
            InvalidPipelineError: There are such problems. The error has all of them.
        """
        _refuse(self._definition_problems() + self._deployment_problems(region))

    def definition_json(self, indent: int | None = 2) -> str:
        """`definition()` as text."""
        return json.dumps(self.definition(), indent=indent, ensure_ascii=False)

    def _language(self) -> dict[str, Any]:
        if self.own_definition:
            return copy.deepcopy(self.own_definition)
        comment = self.comment or f"{self.name} — built by clinops_prefect"
        return states_language(self.steps, comment, self.timeout_seconds, self._partition, self.handlers)

    @property
    def _partition(self) -> str:
        match = _ROLE.fullmatch(self.role_arn)
        return match[1] if match else "aws"

    @property
    def _account(self) -> str:
        match = _ROLE.fullmatch(self.role_arn)
        if not match:
            raise InvalidPipelineError("the state machine's account is unknown: role_arn is not the ARN of a role")
        return match[2]

    def visualize(self, file: str = "") -> Diagram:
        """Draw the state machine.

        Args:
            file: Also write the drawing to this file, such as `machine.png` or `machine.svg`. If empty, write no file.

        Returns:
            The drawing. Notebooks show it as an image, `view()` opens it, and `str()` is its DOT text, which needs no
            Graphviz.

        Raises:
            ImportError: A file is to be written, and Graphviz is not installed.
        """
        diagram = Diagram(self.name, self.definition())
        if file:
            diagram.save(file)
        return diagram
