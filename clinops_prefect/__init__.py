"""Hand wide clinical DataFrames from step to step in Prefect, and run AWS Step Functions pipelines from it."""

from typing import TYPE_CHECKING, Any

from clinops_prefect import errors, registry

if TYPE_CHECKING:
    from clinops_prefect.artifacts.info import ArtifactInfo as ArtifactInfo
    from clinops_prefect.blocks.azure import AzurePipelineStore as AzurePipelineStore
    from clinops_prefect.blocks.gcs import GCSPipelineStore as GCSPipelineStore
    from clinops_prefect.blocks.local import LocalPipelineStore as LocalPipelineStore
    from clinops_prefect.blocks.s3 import S3PipelineStore as S3PipelineStore
    from clinops_prefect.caching import FrameInputs as FrameInputs
    from clinops_prefect.dataset.artifact_dataset import ArtifactDataset as ArtifactDataset
    from clinops_prefect.references import ArtifactRef as ArtifactRef
    from clinops_prefect.results import DataFrameSerializer as DataFrameSerializer
    from clinops_prefect.step_functions import StepFunctionsPipeline as StepFunctionsPipeline
    from clinops_prefect.step_functions.language.steps import MapStep as MapStep
    from clinops_prefect.step_functions.language.steps import PipelineStep as PipelineStep
    from clinops_prefect.step_functions.language.steps import Retry as Retry
    from clinops_prefect.step_functions.language.steps import S3Items as S3Items
    from clinops_prefect.step_functions.language.steps import S3Results as S3Results
    from clinops_prefect.storage_format import StorageFormat as StorageFormat
    from clinops_prefect.store import PipelineStore as PipelineStore
from clinops_prefect.errors import *  # noqa: F403

# The wheel and the sdist take their version from here.
__version__ = "0.1.0"

# Public name -> (module, extra with the packages that the module imports). Prefect's UI shows the blocks named here.
_PUBLIC = {
    "ArtifactDataset": ("clinops_prefect.dataset.artifact_dataset", ""),
    "ArtifactInfo": ("clinops_prefect.artifacts.info", ""),
    "ArtifactRef": ("clinops_prefect.references", ""),
    "DataFrameSerializer": ("clinops_prefect.results", ""),
    "FrameInputs": ("clinops_prefect.caching", ""),
    "MapStep": ("clinops_prefect.step_functions.language.steps", ""),
    "PipelineStep": ("clinops_prefect.step_functions.language.steps", ""),
    "PipelineStore": ("clinops_prefect.store", ""),
    "Retry": ("clinops_prefect.step_functions.language.steps", ""),
    "S3Items": ("clinops_prefect.step_functions.language.steps", ""),
    "S3Results": ("clinops_prefect.step_functions.language.steps", ""),
    "StepFunctionsPipeline": ("clinops_prefect.step_functions", "aws"),
    "StorageFormat": ("clinops_prefect.storage_format", ""),
    **{store.name: (store.target.partition(":")[0], store.extra) for store in registry.STORES},
}

__all__ = sorted([*_PUBLIC, *errors.__all__])


def __getattr__(name: str) -> Any:
    # Names are imported on first use (PEP 562): importing Prefect and the cloud SDKs takes seconds, and a Lambda step
    # needs neither.
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, extra = _PUBLIC[name]
    found = registry.load(f"{module}:{name}", extra)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    # `prefect block register -m clinops_prefect` imports each of these names and stops at the first failure. So names
    # whose extra is not installed are left out.
    missing = {name for name, (_, extra) in _PUBLIC.items() if not registry.is_installed(extra)}
    return sorted({*globals(), *__all__} - missing)
