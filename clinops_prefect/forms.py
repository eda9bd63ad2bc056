"""The schema of a block's form, so that Prefect's UI shows a form that reads well. Pure.

Prefect's two interfaces read it differently. The newer one has the server check patterns and lists of objects; the
older one shows a list as JSON, with `example` in the empty box.
"""

import inspect
from collections.abc import Mapping
from typing import Any

from pydantic.fields import FieldInfo

# An endpoint, without a user and a password in it.
URL_PATTERN = "^(https?://[^@/ ]+(/[^ ]*)?)?$"
REGION_PATTERN = "^([a-z0-9-]+)?$"


def form_schema(schema: dict[str, Any], declared: Mapping[str, FieldInfo]) -> dict[str, Any]:
    """Make of Prefect's schema one for a form.

    Prefect numbers the fields as they are declared, inherited ones first, and the UI would make a tab of the None that
    a field may be.

    Args:
        schema: What Prefect makes of the block's class; it is changed.
        declared: The class's fields. Whatever their `json_schema_extra` says wins.
    """
    for name, field in declared.items():
        # Prefect asks for the schema with aliases, and once without.
        shown = schema["properties"].get(field.alias or name) or schema["properties"][name]
        if isinstance(field.json_schema_extra, dict):
            shown |= field.json_schema_extra
        _without_null(shown)
    return schema


def part_schema(definition: dict[str, Any]) -> None:
    """Make the schema of an object within the form one for a form: no tabs for None, and titles as elsewhere in it."""
    for name, field in definition["properties"].items():
        _without_null(field)
        # pydantic's is "Assume Role Arn".
        field["title"] = name.replace("_", " ").capitalize().replace(" arn", " ARN")


def unwrapped(text: str | None) -> str:
    """A text of several lines with one line a paragraph: the UI would break where the source does."""
    paragraphs = inspect.cleandoc(text or "").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def _without_null(field: dict[str, Any]) -> None:
    options = [option for option in field.pop("anyOf", ()) if option != {"type": "null"}]
    options.sort(key=str)
    field |= {"anyOf": options} if len(options) > 1 else dict(*options)
    if "default" in field and field["default"] is None:
        del field["default"]
