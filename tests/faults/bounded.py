"""Reads artifacts in a process with a limit of memory, and records what the process imports and starts.

python -m tests.faults.bounded MEGABYTES STORE FORMAT NAME…

Prints one JSON object for each way to read each artifact: the error's class and message, whether its class is ours,
the peak memory of the process so far, and every module that was imported and every program that was started.
"""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.memory import peak

_ROOT = os.fspath(Path(__file__).parents[2])
# The events of code that stored bytes could run. The package's own modules are imported before.
_EVENTS = ("pickle.find_class", "exec", "compile", "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn")


def reads(megabytes: int, store: str, format: str, *names: str) -> dict[str, dict[str, dict[str, Any]]]:
    """The outcomes: artifact -> way to read it -> outcome."""
    command = [sys.executable, "-m", "tests.faults.bounded", str(megabytes), store, format, *names]
    done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, timeout=900, check=False)
    # A process that was killed, or crashed inside a decoder, has printed fewer lines.
    assert done.returncode == 0, f"the reader ended with {done.returncode}: {done.stderr[-2000:]}"
    return json.loads(done.stdout)


def _main(megabytes: int, store: str, format: str, names: list[str]) -> None:
    import pandas as pd

    from clinops_prefect import ClinopsPrefectError, PipelineStore

    opened = PipelineStore.from_uri(store, format=format)
    # The first read imports and allocates, which must happen before the limit is set and the record begins.
    opened.upload(pd.DataFrame({"a": [1], "b": ["x"], "c": pd.Categorical(["y"])}), "warm")
    ways = {
        "download": opened.download,
        "columns": lambda name: opened.download(name, columns=["a"]),
        "filters": lambda name: opened.download(name, filters=[("a", "==", 1)]),
        "stat": opened.stat,
        "batches": lambda name: [len(frame) for frame, _ in zip(opened.iter_batches(name), range(3), strict=False)],
    }
    for way in ways.values():
        way("warm")
    seen: list[str] = []

    def watch(event: str, details: tuple[Any, ...]) -> None:
        if event not in _EVENTS:
            return
        # A decoder may import an installed module only now. That is no code from the stored bytes.
        file = getattr(details[0], "co_filename", "") if event == "exec" else str(details[-1])
        if not file.startswith((sys.prefix, sys.base_prefix, "<frozen")):
            seen.append(f"{event} {details!r:.80}")

    sys.addaudithook(watch)
    resource.setrlimit(resource.RLIMIT_AS, (megabytes << 20, megabytes << 20))
    outcomes: dict[str, dict[str, dict[str, Any]]] = {}
    for name in names:
        for way, read in ways.items():
            seen.clear()
            outcome = {"error": "", "ours": True, "words": ""}
            try:
                outcome["words"] = f"{read(name)!r:.200}"
            except BaseException as error:
                ours = isinstance(error, ClinopsPrefectError)
                outcome = {"error": type(error).__name__, "ours": ours, "words": str(error)}
            outcomes.setdefault(name, {})[way] = {**outcome, "peak": peak() >> 20, "ran": list(seen)}
    print(json.dumps(outcomes))


if __name__ == "__main__":
    _main(int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4:])
