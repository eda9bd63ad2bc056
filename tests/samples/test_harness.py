"""What runs the samples notices what is wrong with one."""

import json

import pytest

from tests.samples.commands import problems
from tests.samples.conftest import RunPage
from tests.samples.pages import ROOT, Sample, _samples
from tests.samples.test_samples import steps

PAGE = """
<!-- no-run: it needs an account -->
```bash
aws s3 ls
```

text in between

```python title="my_flow.py"
print("a file")
```

=== "S3"

    ```python hl_lines="2"
    one = 1
      # indented
    ```
"""
GOES_ON = """
```python
import asyncio
number = 1
```
```bash
export NUMBER=2 AWS_ENDPOINT_URL=http://127.0.0.1:1
mkdir inside && cd inside
```
```bash
test $NUMBER = 2 && test $(basename $PWD) = inside
test $AWS_ENDPOINT_URL != http://127.0.0.1:1
```
```python
await asyncio.sleep(0)
assert number == 1
```
"""


def samples(text: str) -> list[Sample]:
    return list(_samples(ROOT / "page.md", text, first_line=1))


def test_blocks_are_found_with_their_marks_titles_and_indentation() -> None:
    marked, titled, indented = samples(PAGE)
    assert (marked.mark, marked.reason, marked.line) == ("no-run", "it needs an account", 4)
    assert (titled.mark, titled.file_name, titled.language) == ("", "my_flow.py", "python")
    assert (indented.mark, indented.code, indented.line) == ("", "one = 1\n  # indented\n", 16)


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        ("make demo SOURCE=/data && make tset", "make has no target tset"),
        ("make demo SUORCE=/data", "make has no variable SUORCE"),
        ("python -m flows.icu_features --sorce DIR", "python -m flows.icu_features has no option --sorce"),
        ("python -m flows.no_such_flow --source DIR", "python -m flows.no_such_flow does not run"),
        ("pip install 'clinops-prefect[aws,gpc]'", "no extra gpc"),
        ("docker build -f deployments/Dockerfil .", "no file deployments/Dockerfil"),
        ("gsutil ls", "gsutil: no program that the samples know; run the block, or mark it no-run"),
    ],
)
def test_a_command_with_a_mistake_is_found(command: str, problem: str) -> None:
    assert problems(command) == [problem]


def test_a_command_of_prefect_with_an_unknown_option_is_found() -> None:
    assert problems("prefect worker start --pool clinops-local") == []
    assert len(problems("prefect worker start --pol clinops-local")) == 1


def test_a_page_goes_on_in_python_and_in_the_shell(run_page: RunPage) -> None:
    run_page(json.dumps(steps(samples(GOES_ON))))


@pytest.mark.parametrize("code", ["```python\nmissing\n```\n", "```bash\nfalse | true\n```\n"])
def test_a_sample_that_fails_is_named_by_its_line(code: str, run_page: RunPage) -> None:
    with pytest.raises(AssertionError, match=r"--- page\.md:2"):
        run_page(json.dumps(steps(samples(code))))
