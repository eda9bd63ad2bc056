"""Runs tests on a mutant, in a process forked from one that has everything imported but the code under test."""

import contextlib
import importlib
import importlib.abc
import importlib.machinery
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn, Self

import psutil

from tests.mutants.covering import Chooser, FirstFailure, Recorder, Tests
from tests.mutants.mutations import Mutant
from tests.mutants.parts import Part

# What takes the tests their time to import. Nothing of ours: it would be there before it is changed.
_IMPORTED = (
    "pytest", "coverage", "_pytest.assertion.rewrite", "hypothesis", "numpy", "pandas",
    "polars", "pyarrow.parquet", "pyarrow.csv", "pyarrow.dataset",
    "boto3", "botocore.session", "prefect", "prefect.blocks.core", "prefect.results", "prefect.flows", "prefect.tasks",
    "prefect_aws", "prefect_gcp", "prefect_azure", "google.cloud.storage", "azure.storage.blob", "azure.identity",
)  # fmt: skip
# A mutant that waits for ever is ended after so many times the time of the tests, and some more for a busy machine.
_PATIENCE, _MORE_SECONDS = 4, 20
_POLL_SECONDS = 0.02
_PASSED, _FAILED, _NO_TESTS = 0, 1, 5


class Outcome(Enum):
    """What became of a mutant."""

    KILLED = "killed"
    TIMED_OUT = "timed out"
    SURVIVED = "SURVIVED"


@dataclass
class _Task:
    """A run of a part's tests: all of them, some, or (of none) the collection; on a mutant or on the code as it is."""

    part: Part
    mutant: Mutant | None = None
    tests: Sequence[str] | None = None
    seconds: float = math.inf
    seconds_each: float = 300
    record: bool = False


@dataclass
class _Running:
    process: int
    task: _Task
    copy: Path
    begun: float


class Runner:
    """Emulators, and copies of the repository for the processes to work in.

    Args:
        root: The repository.
        workers: How many mutants at once.
        seconds: How long the tests of a part take where `check_tests` has not measured it.
    """

    def __init__(self, root: Path, workers: int, seconds: float) -> None:
        self._root = root
        self._stack = contextlib.ExitStack()
        self._workers, self._usual_seconds = workers, seconds
        self._tests: dict[Part, Tests] = {}
        self._trusted: set[Part] = set()
        self._servers: dict[str, str] = {}

    def __enter__(self) -> Self:
        for name in _IMPORTED:
            importlib.import_module(name)
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="clinops-mutants-"))).resolve()
        self._copies = [self._copy(folder / str(number)) for number in range(self._workers)]
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _copy(self, target: Path) -> Path:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=self._root, capture_output=True, check=True, text=True)
        for name in filter(None, listed.stdout.split("\0")):
            if (self._root / name).is_file():
                (target / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(self._root / name, target / name)
        if (self._root / ".node").is_dir():
            (target / ".node").symlink_to(self._root / ".node")
        (target / "tmp").mkdir(exist_ok=True)
        return target

    def serve(self, parts: set[Part]) -> None:
        """Start the emulators that the tests of these parts need, once for all mutants."""
        from tests import emulators

        servers = {"s3": emulators.moto_server, "gcs": emulators.fake_gcs_server, "azure": emulators.azurite}
        for store in {store for part in parts for store in part.stores.split()} & servers.keys():
            server = servers[store]
            self._servers[server.__name__] = self._stack.enter_context(server())

    def check_tests(self, parts: set[Part]) -> None:
        """Run the tests of each part on the code as it is, and record what each of them executes.

        Raises:
            SystemExit: They fail, so that they could not tell a mutant from it.
        """
        for done, status, seconds in self._all([_Task(part, record=True) for part in parts]):
            part = done.task.part
            _must_pass(done, status)
            self._tests[part] = Tests.read(done.copy / "executed.json")
            print(f"{part.name}: its {len(self._tests[part].seconds)} tests take {seconds:.0f} s", flush=True)

    def run(
        self, chosen: Iterable[tuple[Part, Mutant]], deadline: float = math.inf
    ) -> Iterator[tuple[Part, Mutant, Outcome, str]]:
        """What becomes of each mutant and which test failed, as far as it is known before the deadline (monotonic).

        Raises:
            SystemExit: The tests of a part were trusted, and the first one to fail fails without a mutant as well.
        """
        tasks = []
        for part, mutant in chosen:
            tests, seconds = None, [self._usual_seconds]
            if part in self._tests:
                tests = self._tests[part].that_execute(mutant.module, mutant.lines)
                seconds = [self._tests[part].seconds[test] for test in tests]
            if tests == []:
                yield part, mutant, Outcome.SURVIVED, "no test executes it in the process of the tests"
            else:
                limits = (_MORE_SECONDS + _PATIENCE * usual for usual in (sum(seconds), max(seconds)))
                tasks.append(_Task(part, mutant, tests, *limits))
        for done, status, _ in self._all(tasks, deadline):
            part, mutant = done.task.part, done.task.mutant
            assert mutant is not None
            if status is None:
                yield part, mutant, Outcome.TIMED_OUT, ""
            elif status == _NO_TESTS:
                raise SystemExit(f"no tests were found for {part.name}")
            elif status == _PASSED:
                yield part, mutant, Outcome.SURVIVED, ""
            else:
                test = (done.copy / "failed").read_text()
                if part not in self._tests.keys() | self._trusted:
                    alone = _Task(part, tests=[test] if "::" in test else [])
                    for its, its_status, _ in self._all([alone], deadline, [done.copy]):
                        _must_pass(its, its_status)
                        self._trusted.add(part)
                if part in self._tests.keys() | self._trusted:
                    yield part, mutant, Outcome.KILLED, test

    def _all(
        self, tasks: list[_Task], deadline: float = math.inf, copies: list[Path] | None = None
    ) -> Iterator[tuple[_Running, int | None, float]]:
        """Each one's process when it has ended, with pytest's code (None, it was ended) and how long it took."""
        todo, running, free = list(tasks), [], list(copies or self._copies)
        try:
            while (todo or running) and time.monotonic() < deadline:
                while todo and free:
                    running.append(self._start(todo.pop(0), free.pop()))
                time.sleep(_POLL_SECONDS)
                for one in list(running):
                    ended, status = os.waitpid(one.process, os.WNOHANG)
                    seconds = time.monotonic() - one.begun
                    if not ended and seconds > one.task.seconds:
                        _end(one.process)
                        ended, status = os.waitpid(one.process, 0)[0], -1
                    if ended:
                        running.remove(one)
                        yield one, None if status == -1 else os.waitstatus_to_exitcode(status), seconds
                        free.append(one.copy)
        finally:
            for one in running:
                _end(one.process)
                os.waitpid(one.process, 0)

    def _start(self, task: _Task, copy: Path) -> _Running:
        sys.stdout.flush()
        process = os.fork()
        if not process:
            try:
                self._test(task, copy)
            except BaseException as error:
                print(repr(error), file=sys.stderr, flush=True)
            finally:
                os._exit(_FAILED)
        return _Running(process, task, copy, time.monotonic())

    def _test(self, task: _Task, copy: Path) -> NoReturn:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # as a process that a test forks and ends expects
        output = os.open(copy / "output", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for descriptor in (1, 2):
            os.dup2(output, descriptor)
        os.chdir(copy)
        temporary = copy / "tmp"
        os.environ |= {
            "CI": "true",  # hypothesis draws the same examples each time
            "CLINOPS_STORES": task.part.stores,
            "HOME": str(temporary),
            "TMPDIR": str(temporary),
        }
        os.environ["PYTHONPATH"] = str(copy)
        tempfile.tempdir = str(temporary)
        # The code and its tests come from the copy: the repository itself is where an editable installation leads to.
        for name in [name for name in sys.modules if name.partition(".")[0] in ("tests", "clinops_prefect", "flows")]:
            del sys.modules[name]
        sys.path[:] = [str(copy), *(entry for entry in sys.path if Path(entry or ".").resolve() != self._root)]
        importlib.invalidate_caches()
        if task.mutant:
            sys.meta_path.insert(0, _Finder(task.mutant, copy))
        recorder = Recorder(copy, task.part.modules) if task.record else None
        chooser = Chooser(task.tests) if task.tests else None
        emulators: Any = importlib.import_module("tests.emulators")
        for name, url in self._servers.items():
            setattr(emulators, name, lambda url=url: contextlib.nullcontext(url))
        import pytest

        options = ["-x", "-q", "--no-header", "--tb=line"]
        options += [f"--timeout={task.seconds_each}"]
        options += [word for name in ("cacheprovider", "randomly", "xdist") for word in ("-p", f"no:{name}")]
        options += ["--collect-only"] if task.tests == [] else []
        tests = chooser.arguments(task.part.tests) if chooser else task.part.tests
        plugins = [FirstFailure(copy / "failed"), *(plugin for plugin in (recorder, chooser) if plugin)]
        code = pytest.main([*options, f"--basetemp={temporary / 'pytest'}", *tests], plugins)
        if recorder:
            recorder.write(copy / "executed.json")
        sys.stdout.flush()
        os._exit(int(code))


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.SourceLoader):
    """Loads the changed module in the place of the one in the copy; no file is changed."""

    def __init__(self, mutant: Mutant, copy: Path) -> None:
        self._name = mutant.module.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        self._source = mutant.source.encode()
        self._path = str(copy / mutant.module)

    def find_spec(self, fullname: str, path: Any, target: ModuleType | None = None) -> Any:
        """Of the one module."""
        if fullname != self._name:
            return None
        return importlib.machinery.ModuleSpec(fullname, self, origin=self._path)

    def get_filename(self, fullname: str) -> str:
        """Where the module would be."""
        return self._path

    def get_data(self, path: str | bytes) -> bytes:
        """Its changed text."""
        return self._source


def _must_pass(done: _Running, status: int | None) -> None:
    if status != _PASSED:
        print((done.copy / "output").read_text(errors="replace")[-4_000:])
        raise SystemExit(f"the tests of {done.task.part.name} fail without a mutant (pytest's code {status})")


def _end(process: int) -> None:
    """End the process and all that it started, servers of their own session included."""
    with contextlib.suppress(psutil.NoSuchProcess):
        for one in [*psutil.Process(process).children(recursive=True), psutil.Process(process)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.send_signal(signal.SIGKILL)
