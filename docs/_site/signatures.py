"""An extension of griffe: what a pydantic class takes, and which methods have an async form.

The blocks and steps take their fields as keywords through a common `__init__`, of which griffe, which reads the source
and does not run it, knows only `**data`. This reads the fields of the imported class.
"""

import copy
import inspect
import re
from enum import Enum
from typing import Any

import griffe
from pydantic import BaseModel
from pydantic.fields import FieldInfo

import clinops_prefect

_TASKS = {
    "run_step_functions_pipeline": "_run",
    "start_step_functions_pipeline": "_start",
    "wait_for_step_functions_execution": "_wait",
}
_ASYNCHRONOUS = re.compile(r"asynchronous(?:_iterator)?\((\w+)\)")


class Signatures(griffe.Extension):
    """Gives each public pydantic class its fields as parameters, and each method the name of its async form."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        if pkg.name != clinops_prefect.__name__:
            return
        for name in clinops_prefect.__all__:
            cls = getattr(clinops_prefect, name)
            for base in cls.__mro__:
                if base.__module__.startswith("clinops_prefect"):
                    _name_async_forms(_documented(pkg, base))
            if issubclass(cls, BaseModel):
                documented = _documented(pkg, cls)
                parameters = _parameters(pkg, cls)
                documented.set_member("__init__", griffe.Function("__init__", parameters=parameters))
        tasks = pkg["tasks"]
        for name, function in _TASKS.items():
            # The task is made of a private function, in another module.
            task = copy.copy(pkg[f"step_functions.runs.tasks.{function}"])
            task.name = name
            tasks.set_member(name, task)


def _documented(pkg: griffe.Module, cls: type) -> griffe.Class:
    found = pkg[f"{cls.__module__}.{cls.__qualname__}".removeprefix("clinops_prefect.")]
    assert isinstance(found, griffe.Class)
    return found


def _parameters(pkg: griffe.Module, cls: type[BaseModel]) -> griffe.Parameters:
    fields = cls.model_fields
    first = [name for name, field in fields.items() if field.kw_only is False]
    if not first:
        taken = inspect.signature(cls).parameters.values()
        first = [parameter.name for parameter in taken if parameter.kind is parameter.POSITIONAL_ONLY]
        first = [name for name in first if name in fields]
    found = [griffe.Parameter("self", kind=griffe.ParameterKind.positional_or_keyword)]
    for name in [*first, *(name for name in fields if name not in first)]:
        kind = griffe.ParameterKind.positional_or_keyword if name in first else griffe.ParameterKind.keyword_only
        found.append(
            griffe.Parameter(name, annotation=_annotation(pkg, cls, name), kind=kind, default=_default(fields[name]))
        )
    return griffe.Parameters(*found)


def _annotation(pkg: griffe.Module, cls: type, field: str) -> Any:
    for base in cls.__mro__:
        if base.__module__.startswith("clinops_prefect") and field in _documented(pkg, base).members:
            return getattr(_documented(pkg, base).members[field], "annotation", None)
    return None


def _default(field: FieldInfo) -> str | None:
    if field.is_required():
        return None
    value = field.get_default(call_default_factory=True, validated_data={})
    return f"{type(value).__name__}.{value.name}" if isinstance(value, Enum) else repr(value)


def _name_async_forms(cls: griffe.Class) -> None:
    for name, member in cls.members.items():
        if not member.is_attribute or not (found := _ASYNCHRONOUS.fullmatch(str(member.value))):
            continue
        method = cls.members.get(found[1])
        if method is not None and method.docstring and f"`{name}`" not in method.docstring.value:
            first, *rest = method.docstring.value.split("\n\n", 1)
            method.docstring.value = "\n\n".join([first, f"In async code: `await …{name}(…)`.", *rest])
