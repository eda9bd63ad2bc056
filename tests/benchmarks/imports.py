"""What a process pays for having a store at all: the time to import and make it, and the memory that it then keeps."""

import importlib

from tests.benchmarks.case import Bench, Case, Outcome, at_most
from tests.benchmarks.meter import Meter
from tests.benchmarks.processes import Contestant

_OURS, _BLOCK, _PREFECT = "clinops_prefect `S3PipelineStore`", "prefect-aws `S3Bucket`", "Prefect alone"
_CLASSES = {_OURS: ("clinops_prefect", "S3PipelineStore"), _BLOCK: ("prefect_aws", "S3Bucket")}


def make(meter: Meter, way: str) -> None:
    """Import the class and make one, as a worker does that then waits for work."""
    with meter():
        if way == _PREFECT:
            import prefect.flows  # noqa: F401
        else:
            module, name = _CLASSES[way]
            made = getattr(importlib.import_module(module), name)
            made(**{"bucket" if way == _OURS else "bucket_name": "bench"})


def _imports(bench: Bench) -> Outcome:
    results = bench.compare([Contestant(way, f"{__name__}:make", {"way": way}) for way in (_OURS, _BLOCK, _PREFECT)])
    time = 1 / results[_OURS].times_faster(results[_BLOCK])
    memory = 1 / results[_OURS].times_faster(results[_BLOCK], "memory")
    goals = [at_most(f"the time of {_BLOCK}", 1.1, time), at_most("its memory", 1.1, memory)]
    return Outcome("Importing and making a store", "nothing", results, goals)


CASES = [Case("import", _imports, rounds=5)]
