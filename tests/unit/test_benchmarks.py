"""Parts of the benchmarks: their stub of Cloud Storage, used through Google's client, and their page."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from google.api_core import exceptions as api
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage

from clinops_prefect import GCSPipelineStore
from tests.benchmarks import record, report
from tests.benchmarks.__main__ import CASES, main
from tests.benchmarks.case import Case, Outcome, at_least
from tests.benchmarks.processes import Contestant, Measured, compare
from tests.benchmarks.servers import BUCKET, Server, gcs_server

_ROOT = Path(__file__).parents[2]
_PAGE = _ROOT / "docs/explanation/benchmarks.md"
_DATA = bytes(range(256)) * 4096 * 3  # three parts of a megabyte


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with gcs_server() as server:
        yield server


@pytest.fixture
def bucket(server: Server) -> storage.Bucket:
    options = {"api_endpoint": server.url}
    client = storage.Client(project="p", credentials=AnonymousCredentials(), client_options=options)
    return client.bucket(BUCKET)


@pytest.mark.parametrize("part_bytes", [None, 1 << 20], ids=["single", "resumable"])
def test_an_uploaded_object_is_downloaded(bucket: storage.Bucket, part_bytes: int | None) -> None:
    """In both directions, the client compares the CRC32C of the answer with its own."""
    blob = bucket.blob("some/name with ü", chunk_size=part_bytes)
    blob.metadata = {"rows": "3"}
    blob.upload_from_string(_DATA, checksum="crc32c")
    found = bucket.blob("some/name with ü")
    assert found.download_as_bytes(checksum="crc32c") == _DATA
    found.reload()
    assert (found.size, found.metadata) == (len(_DATA), {"rows": "3"})


def test_a_range_has_the_bytes_of_the_object(bucket: storage.Bucket) -> None:
    blob = bucket.blob("ranges", chunk_size=1 << 20)
    blob.upload_from_string(_DATA)
    for begin, end in [(0, 0), (5, 1_500_000), ((1 << 20) - 1, 1 << 20), (len(_DATA) - 7, len(_DATA) + 100)]:
        assert blob.download_as_bytes(start=begin, end=end, checksum=None) == _DATA[begin : end + 1]
    assert bucket.blob("ranges").download_as_bytes(start=-9, checksum=None) == _DATA[-9:]


def test_a_missing_object_is_an_error(bucket: storage.Bucket) -> None:
    blob = bucket.blob("removed")
    blob.upload_from_string(b"x")
    assert [one.name for one in bucket.client.list_blobs(bucket, prefix="remo")] == ["removed"]
    blob.delete()
    with pytest.raises(api.NotFound):
        blob.download_as_bytes()


def test_a_store_works_on_the_stub(server: Server) -> None:
    store = GCSPipelineStore(BUCKET, endpoint_url=server.url, project="p")
    df = pd.DataFrame({"value": range(100_000)})
    store.upload(df, "frame")
    pd.testing.assert_frame_equal(store.download("frame"), df)


def _outcome(**more: Any) -> dict[str, Any]:
    def rounds(*seconds: float, memory: int) -> list[dict[str, Any]]:
        return [{"seconds": s, "cpu": 2 * s, "memory": memory, "round": at} for at, s in enumerate(seconds)]

    goal = {"reach": "≥ 2.5× pandas + boto3", "measured": "2.00×", "reached": False, "least": "≥ 2×", "is_least": True}
    results = {"clinops_prefect": rounds(1, 3, 2, memory=35), "pandas + boto3": rounds(2, 12, 4, memory=70)}
    outcome = {"title": "Upload, wide frame", "server": "a stub", "frame_bytes": 100, "notes": ["A note."]}
    return {**outcome, "results": results, "goals": [goal], **report.circumstances(), **more}


def test_pages_quote_the_figures_of_the_benchmarks() -> None:
    assert report.quoted(_ROOT / "docs/explanation/comparison.md") == report.quoted(_PAGE)
    brief = report.quoted(_ROOT / "README.md").splitlines()
    assert brief == [line for line in report.quoted(_PAGE).splitlines() if line in brief]
    assert len(brief) == 4 + len(report.BRIEF)


def test_the_page_shows_what_was_measured() -> None:
    """Its rounds are in measured.json. `python -m tests.benchmarks.record` makes the pages of them."""
    measured = record.published()
    assert report.render(measured) == _PAGE.read_text()
    assert set(measured) <= set(CASES)


def test_the_page_is_short() -> None:
    assert len(_PAGE.read_text().splitlines()) <= 150
    assert len(report.quoted(_PAGE).splitlines()) <= 16


def test_the_short_table_has_existing_cases() -> None:
    assert set(report.QUOTED) <= set(CASES)


def test_a_case_is_shown_with_medians_ratios_and_goals() -> None:
    page = report.render({"upload-wide": _outcome()})
    (line,) = [line for line in page.splitlines() if "`upload-wide`" in line and line.startswith("|")]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells == [
        "Upload, wide frame<br>`upload-wide`, 3 rounds",
        "clinops_prefect<br>pandas + boto3",
        "2.00 (1.00 – 3.00)<br>4.00 (2.00 – 12.0)",
        "4.00<br>8.00",
        "1<br>2.00",
        "1<br>2.00",
        "0.35×<br>0.70×",
        "≥ 2.5× pandas + boto3: 2.00×, **no**, but ≥ 2×",
    ]
    assert "- `upload-wide`: A note." in page


def test_what_is_published_keeps_the_cases_that_were_not_measured_again(tmp_path: Path) -> None:
    pages = ["README.md", "docs/explanation/benchmarks.md", "docs/explanation/comparison.md"]
    for page in pages:
        (tmp_path / page).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / page).write_text(f"before\n{report.short({})}\nafter\n")
    (tmp_path / "tests/benchmarks").mkdir(parents=True)
    older = {"when": "2026-01-02", "versions": {"Python": "3.11.7", "pandas": "3.0.0"}}
    record.publish({"download-wide": _outcome(**older), "gone": _outcome()}, [*CASES, "gone"], tmp_path)
    newer = {"when": "2026-03-04", "versions": {"Python": "3.11.7", "pandas": "3.1.0"}}
    record.publish({"upload-wide": _outcome(**newer)}, list(CASES), tmp_path)
    assert list(record.published(tmp_path)) == ["upload-wide", "download-wide"]
    page = (tmp_path / pages[1]).read_text()
    assert "2026-01-02 to 2026-03-04" in page
    assert "Python 3.11.7, pandas 3.0.0 and 3.1.0." in page
    assert "`upload-wide`, 3 rounds" in page
    assert "`download-wide`, 3 rounds" in page
    for quoting in (pages[0], pages[2]):
        assert "| upload, wide frame | pandas + boto3 | 2.00 s against 4.00 s |" in (tmp_path / quoting).read_text()
    record.publish({}, list(CASES), tmp_path)
    assert (tmp_path / pages[1]).read_text() == page


def test_a_benchmark_leaves_the_documentation_alone_unless_it_is_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published: list[dict[str, Any]] = []
    monkeypatch.setattr(record, "publish", lambda measured, order: published.append(dict(measured)))
    results = {"clinops_prefect": Measured([{"seconds": 1.0, "cpu": 1.0, "round": 0}])}
    monkeypatch.setitem(CASES, "quick", Case("quick", lambda bench: Outcome("Quick", "none", results)))
    command = ["--cases", "quick", "--scratch", str(tmp_path)]
    main(command)
    assert "`quick`" in (tmp_path / "benchmarks.md").read_text()
    assert published == []
    main([*command, "--publish"])
    assert [list(measured) for measured in published] == [["quick"]]


def test_the_short_table_replaces_the_old_one_on_a_page(tmp_path: Path) -> None:
    block = report.short({"upload-wide": _outcome()})
    assert (
        "| upload, wide frame | pandas + boto3 | 2.00 s against 4.00 s | 2.0× | 2.0× | 0.35× against 0.70× |" in block
    )
    page = tmp_path / "page.md"
    page.write_text(f"before\n{report.short({})}\nafter\n")
    report.quote(block, page)
    assert page.read_text() == f"before\n{block}\nafter\n"
    page.write_text("no marks")
    with pytest.raises(ValueError, match="no table"):
        report.quoted(page)


def test_the_time_on_more_cores_is_the_serial_time_and_a_share_of_the_rest() -> None:
    assert report.split(seconds=3.0, cpu=5.0, cores=2) == (1.0, 4.0)
    # The CPU time is less than the elapsed time, so all of the elapsed time is serial.
    assert report.split(seconds=3.0, cpu=2.0, cores=2) == (3.0, 0.0)
    assert report.split(seconds=2.0, cpu=4.2, cores=2) == (0.0, 4.2)
    results = {"clinops_prefect": [{"seconds": 3.0, "cpu": 5.0, "round": 0}]}
    text = report.paper({"upload-wide": _outcome(results=results)}, cores=2)
    assert "| Upload, wide frame | clinops_prefect | 1.00 | 4.00 | 3.00 | 1.50 | 1.12 |" in text


def test_ratios_compare_the_same_rounds() -> None:
    ours = Measured([{"seconds": s, "round": at} for at, s in enumerate([1.0, 2.0, 4.0, 8.0])])
    seldom = Measured([{"seconds": 3.0, "round": 0}, {"seconds": 40.0, "round": 3}])
    assert ours.times_faster(seldom) == 4.0


def test_a_contestant_without_a_goal_runs_in_every_fifth_round(tmp_path: Path) -> None:
    (tmp_path / "quick.py").write_text("def run(meter):\n    with meter():\n        pass\n")
    always, seldom = Contestant("always", "quick:run"), Contestant("seldom", "quick:run", seldom=True)
    results = compare([always, seldom], rounds=6, environment={"PYTHONPATH": str(tmp_path)})
    assert [each["round"] for each in results["always"].rounds] == [0, 1, 2, 3, 4, 5]
    assert [each["round"] for each in results["seldom"].rounds] == [0, 5]


def test_a_goal_says_whether_it_was_reached() -> None:
    assert [at_least("polars", 0.9, got, 0.65).is_least for got in (0.6, 0.7, 1.0)] == [False, True, True]
    assert not at_least("polars", 0.9, 0.7).is_least
