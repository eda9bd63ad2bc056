"""The errors of parts that do not agree on a column."""

from collections.abc import Sequence

import pyarrow as pa

from clinops_prefect.dataset.parts import DescribedPart
from clinops_prefect.errors import ArtifactDecodeError
from clinops_prefect.frames.conversion.schemas import layout_of


def check_names(parts: Sequence[DescribedPart], schemas: Sequence[pa.Schema]) -> None:
    """Raise an `ArtifactDecodeError` if a part has several columns of one name."""
    # Most parts share one schema object.
    repeated = {key for key, one in {id(one): one for one in schemas}.items() if len(set(one.names)) < len(one.names)}
    for part, schema in zip(parts, schemas, strict=True):
        if id(schema) in repeated:
            raise ArtifactDecodeError(
                f"{part.where} has several columns of one name, of which a dataset can make only a pandas frame: read "
                "its parts one by one, with as_='arrow'",
                uri=part.where,
            )


def missing(where: str, name: str, other: str) -> ArtifactDecodeError:
    """The error for a part without a column that another part has."""
    return ArtifactDecodeError(
        f"{where} has no column {name!r}, which {other} has: upload it with the same columns, or leave this "
        "one out with columns=",
        uri=where,
    )


def differs(where: str, name: str, schema: pa.Schema, first: pa.Schema, other: str) -> ArtifactDecodeError:
    """The error for a part whose column has another type or dtype than in the first part."""
    left, right = _dtype(schema, name), _dtype(first, name)
    kinds = f"as {left}, not as {right}"
    if left == right:
        kinds = f"as another kind of {left}"
    return ArtifactDecodeError(
        f"{where} has column {name!r} {kinds}, which {other} has: upload it with the same dtype, or leave it out with "
        "columns=",
        uri=where,
    )


def _dtype(schema: pa.Schema, name: str) -> str:
    note = (layout_of(schema) or {}).get("columns", {}).get(name)
    kind = schema.field(name).type
    if not note:
        return str(kind)
    if "category" in note:
        return "category"
    if "dtype" in note:
        return str(note["dtype"])
    if "string" in note:
        return "text (str)"
    if "object" in note:
        return f"objects ({kind})"
    return str(kind)
