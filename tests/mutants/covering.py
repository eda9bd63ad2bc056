"""Which tests execute which lines: pytest's plugins that record it, and that run only some tests."""

import json
import time
from collections import defaultdict
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from coverage import Coverage

# The context of what is executed on import and by fixtures that several tests share.
_SHARED = ""


@dataclass(frozen=True)
class Tests:
    """What the tests of a part take and execute, when they pass.

    Attributes:
        seconds: Of each test, in the order in which they ran.
        by_line: The tests that execute a line of a module, by `module:line`.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    by_line: dict[str, list[str]] = field(default_factory=dict)

    def that_execute(self, module: str, lines: Sequence[int]) -> list[str]:
        """The quickest first. What is shared concerns all tests: then the others follow."""
        executing = {test for line in lines for test in self.by_line.get(f"{module}:{line}", ())}
        others = self.seconds.keys() - executing if _SHARED in executing else set()
        return [
            test for group in (executing - {_SHARED}, others) for test in sorted(group, key=self.seconds.__getitem__)
        ]

    @classmethod
    def read(cls, path: Path) -> "Tests":
        """What `Recorder.write` wrote."""
        return cls(**json.loads(path.read_text()))


class Recorder:
    """Records a run. Import the code under test afterwards.

    Args:
        copy: The folder of the code.
        modules: Files in it.
    """

    def __init__(self, copy: Path, modules: Sequence[str]) -> None:
        self._files = {module: str(copy / module) for module in modules}
        self._coverage = Coverage(data_file=None, config_file=False, include=list(self._files.values()))
        self._coverage.set_option("run:core", "ctrace")  # sys.monitoring knows no contexts
        self._coverage.start()
        self._context, self._seconds = _SHARED, dict[str, float]()

    def write(self, path: Path) -> None:
        """End the recording."""
        self._coverage.stop()
        data, by_line = self._coverage.get_data(), defaultdict[str, list[str]](list)
        for module, file in self._files.items():
            for line, tests in data.contexts_by_lineno(file).items():
                by_line[f"{module}:{line}"] += tests
        path.write_text(json.dumps({"seconds": self._seconds, "by_line": by_line}))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, Any, Any]:
        begun = time.monotonic()
        result = yield from self._within(item.nodeid)
        self._seconds[item.nodeid] = time.monotonic() - begun
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> Generator[None, Any, Any]:
        return (yield from self._within(self._context if fixturedef.scope == "function" else _SHARED))

    def _within(self, context: str) -> Generator[None, Any, Any]:
        before, self._context = self._context, context
        self._coverage.switch_context(context)
        try:
            return (yield)
        finally:
            self._context = before
            self._coverage.switch_context(before)


class Chooser:
    """Runs these tests in this order, and no others.

    Args:
        tests: Node ids of pytest.
    """

    def __init__(self, tests: Sequence[str]) -> None:
        self._order = {test: number for number, test in enumerate(tests)}

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [item for item in items if item.nodeid in self._order]
        items.sort(key=lambda item: self._order[item.nodeid])

    def arguments(self, arguments: Sequence[str]) -> list[str]:
        """Of a part's arguments of pytest, those that its tests need: other files are not even imported."""
        files = {test.partition("::")[0] for test in self._order}
        return [one for one in arguments if ".py" not in one or one.partition("::")[0] in files]


class FirstFailure:
    """Writes which test failed, or which file could not be collected; nothing, if pytest itself failed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.write_text("")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._path.write_text(report.nodeid)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._path.write_text(report.nodeid)
