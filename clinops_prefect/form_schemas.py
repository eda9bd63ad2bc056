"""The JSON schema of a block, changed so that Prefect's UI shows a readable form. Pure.

Prefect's two user interfaces read the schema differently. In the newer one, the server checks patterns and lists of
objects. The older one shows a list as JSON, with `example` in the empty box.
"""

import inspect
from collections.abc import Mapping
from typing import Any

from pydantic.fields import FieldInfo

# An http or https URL without user and password.
URL_PATTERN = "^(https?://[^@/ ]+(/[^ ]*)?)?$"
REGION_PATTERN = "^([a-z0-9-]+)?$"


def form_schema(schema: dict[str, Any], declared: Mapping[str, FieldInfo]) -> dict[str, Any]:
    """Change Prefect's schema of a block into one for a form, and return it.

    Prefect numbers the fields in the order of declaration, inherited ones first. And for a field that may be None, the
    UI would show a tab for None.

    Args:
        schema: Prefect's schema of the block's class. It is changed in place.
        declared: The class's fields. Their `json_schema_extra` overrides the schema.
    """
    for name, field in declared.items():
        # Prefect asks for the schema once with aliases and once without.
        shown = schema["properties"].get(field.alias or name) or schema["properties"][name]
        if isinstance(field.json_schema_extra, dict):
            shown |= field.json_schema_extra
        _without_null(shown)
    return schema


def part_schema(definition: dict[str, Any]) -> None:
    """Change the schema of an object within the form in the same way: no tabs for None, and titles in sentence case."""
    for name, field in definition["properties"].items():
        _without_null(field)
        # pydantic's title would be "Assume Role Arn".
        field["title"] = name.replace("_", " ").capitalize().replace(" arn", " ARN")


def unwrapped(text: str | None) -> str:
    """The text with each paragraph on one line, because the UI would show the line breaks of the source."""
    paragraphs = inspect.cleandoc(text or "").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def _without_null(field: dict[str, Any]) -> None:
    options = [option for option in field.pop("anyOf", ()) if option != {"type": "null"}]
    options.sort(key=str)
    field |= {"anyOf": options} if len(options) > 1 else dict(*options)
    if "default" in field and field["default"] is None:
        del field["default"]
