"""Hand wide clinical DataFrames from step to step in Prefect, and run AWS Step Functions pipelines from it."""

import importlib
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from clinops_prefect import errors

if TYPE_CHECKING:
    from clinops_prefect.artifacts.info import ArtifactInfo as ArtifactInfo
    from clinops_prefect.definition import MapStep as MapStep
    from clinops_prefect.definition import PipelineStep as PipelineStep
    from clinops_prefect.definition import S3Items as S3Items
    from clinops_prefect.definition import S3Results as S3Results
    from clinops_prefect.results import DataFrameSerializer as DataFrameSerializer
    from clinops_prefect.step_functions import StepFunctionsPipeline as StepFunctionsPipeline
    from clinops_prefect.storage_format import StorageFormat as StorageFormat
    from clinops_prefect.store import PipelineStore as PipelineStore
    from clinops_prefect.stores.gcs import GCSPipelineStore as GCSPipelineStore
    from clinops_prefect.stores.local import LocalPipelineStore as LocalPipelineStore
    from clinops_prefect.stores.s3 import S3PipelineStore as S3PipelineStore
from clinops_prefect.errors import *  # noqa: F403

__version__ = "0.1.0"

# Public name -> its module, and the extra that brings what the module imports. A block named here is one in the UI.
_PUBLIC = {
    "ArtifactInfo": ("clinops_prefect.artifacts.info", ""),
    "DataFrameSerializer": ("clinops_prefect.results", ""),
    "GCSPipelineStore": ("clinops_prefect.stores.gcs", "gcp"),
    "LocalPipelineStore": ("clinops_prefect.stores.local", ""),
    "MapStep": ("clinops_prefect.definition", ""),
    "PipelineStep": ("clinops_prefect.definition", ""),
    "PipelineStore": ("clinops_prefect.store", ""),
    "S3PipelineStore": ("clinops_prefect.stores.s3", "aws"),
    "S3Items": ("clinops_prefect.definition", ""),
    "S3Results": ("clinops_prefect.definition", ""),
    "StepFunctionsPipeline": ("clinops_prefect.step_functions", "aws"),
    "StorageFormat": ("clinops_prefect.storage_format", ""),
}

# Extra -> the package of it that says whether it is installed.
_EXTRAS = {"aws": "prefect_aws", "gcp": "prefect_gcp"}

__all__ = sorted([*_PUBLIC, *errors.__all__])


def __getattr__(name: str) -> Any:
    # PEP 562: Prefect and the cloud SDKs take seconds to import, and a Lambda step needs none of them.
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, extra = _PUBLIC[name]
    try:
        found = getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        if not extra or (error.name or "").startswith("clinops_prefect"):
            raise
        raise ImportError(
            f"{name} needs the packages of the {extra!r} extra ({error.name} is missing): "
            f"pip install 'clinops-prefect[{extra}]'",
            name=error.name,
        ) from error
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    # `prefect block register -m clinops_prefect` gets each of these names, and ends at the first that fails.
    missing = {name for name, (_, extra) in _PUBLIC.items() if extra and find_spec(_EXTRAS[extra]) is None}
    return sorted({*globals(), *__all__} - missing)
