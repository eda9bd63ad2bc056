"""The real UI of a real server: a store made in the form, used by name, and what its runs look like.

The screenshots are left in `tests/browser/screenshots`, to be looked at.
"""

import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect
from prefect_aws import AwsCredentials

from clinops_prefect import S3PipelineStore, StorageFormat
from tests.browser.conftest import PATIENCE, opened_page, run, shoot
from tests.doors import S3Door
from tests.prefect.server import PrefectServer
from tests.prefect.test_tasks import assets

# Moto looks at no key; what matters is that this one is used and shown nowhere.
SECRET = "hunter2-in-the-browser"


# Of each artifact of the run, something that can be read on its page.
SAYS = {
    "icu-quality": "chartevents",
    "icu-artifacts": "features/shard-000",
    "icu-progress": "100%",
}


def field(page: Page, label: str) -> Locator:
    """The form's field of that label."""
    return page.locator(".p-label", has=page.get_by_text(label, exact=True)).first


def fill(page: Page, label: str, text: str) -> None:
    field(page, label).locator("textarea, input").first.fill(text)


@pytest.fixture(scope="module")
def store(server: PrefectServer, bucket: S3Door) -> S3PipelineStore:
    """The store that was made in the form, loaded by its name."""
    AwsCredentials(aws_access_key_id="someone", aws_secret_access_key=SECRET).save("login", _sync=True)
    with opened_page() as page:
        page.goto(f"{server.ui_url}/blocks/catalog/s3-pipeline-store")
        expect(page.get_by_text("Hand DataFrames from step to step")).to_be_visible()
        shoot(page, "01-block-type")
        page.get_by_role("link", name="Create").click()
        fill(page, "Block Name", "prod")
        fill(page, "Bucket", bucket.bucket)
        fill(page, "Prefix (Optional)", "clinops/prod")
        fill(page, "Region (Optional)", "us-east-1")
        fill(page, "Endpoint URL (Optional)", bucket.endpoint)
        page.locator(".block-documents-select .p-select-button__icon").click()
        page.locator(".p-select-option", has_text="login").click()
        shoot(page, "02-form")
        page.get_by_role("button", name="Create").click()
        page.wait_for_url("**/blocks/block/**")
        expect(page.get_by_text("Paste this snippet")).to_be_visible()
        shoot(page, "03-saved-block")
    loaded = S3PipelineStore.load("prod", _sync=True)
    assert isinstance(loaded, S3PipelineStore)
    assert loaded.list_artifacts() == []
    return loaded


def test_the_form_makes_the_store_that_python_loads(store: S3PipelineStore, bucket: S3Door) -> None:
    assert (store.bucket, store.prefix, store.region) == (bucket.bucket, "clinops/prod", "us-east-1")
    assert store.endpoint_url == bucket.endpoint
    assert store.format is StorageFormat.PARQUET
    assert (store.profile, store.kms_key_id, store.allow_http, store.allow_pickle) == ("", "", False, False)
    assert isinstance(store.credentials, AwsCredentials)
    assert store.credentials.aws_access_key_id == "someone"


@pytest.fixture(scope="module")
def icu_run(server: PrefectServer, store: S3PipelineStore, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The id of a run of the ICU feature flow on the store made in the form."""
    source = str(tmp_path_factory.mktemp("mimic"))
    run(server, "flows.synthetic", "--out", source, "--stays", "60")
    where = ["--source", source, "--store", "s3-pipeline-store/prod", "--date", "2024-01-01", "--shards", "2"]
    run(server, "flows.icu_features", *where)
    (newest, *_) = server.post("flow_runs/filter", sort="START_TIME_DESC")
    assert newest["state_type"] == "COMPLETED"
    return str(newest["id"])


def test_the_flow_wrote_to_the_bucket_of_the_form(icu_run: str, bucket: S3Door) -> None:
    assert {key.split("/")[2] for key in bucket.keys()} == {"icu"}
    assert any(key.endswith("features/shard-000.parquet") for key in bucket.keys())


def test_the_run_its_artifacts_and_its_assets_can_be_read(icu_run: str, server: PrefectServer) -> None:
    with opened_page() as page:
        page.goto(f"{server.ui_url}/runs/flow-run/{icu_run}")
        expect(page.get_by_text("icu-features-2024-01-01").first).to_be_visible()
        shoot(page, "04-flow-run")
        page.get_by_text("Artifacts", exact=True).click()
        expect(page.get_by_text(re.compile("^icu-quality-")).first).to_be_visible()
        shoot(page, "05-artifacts-of-the-run")
        artifacts = server.post("artifacts/filter", artifacts={"flow_run_id": {"any_": [icu_run]}})
        # The end of a key is the store's.
        ids = {"-".join(artifact["key"].split("-")[:2]): artifact["id"] for artifact in artifacts}
        for number, (key, said) in enumerate(SAYS.items(), start=6):
            page.goto(f"{server.ui_url}/artifacts/artifact/{ids[key]}")
            expect(page.get_by_text(said).first).to_be_visible()
            shoot(page, f"{number:02d}-{key}")
        (made, *_) = assets(server, icu_run, "materialization.succeeded", 6)
        page.goto(f"{server.ui_url}/events/event/{made['occurred'][:10]}/{made['id']}")
        expect(page.get_by_text("materialization").first).to_be_visible()
        expect(page.get_by_text(made["resource"]["prefect.resource.id"]).first).to_be_visible()
        shoot(page, "11-asset")
        page.get_by_text("Raw", exact=True).click()
        expect(page.get_by_text("number of columns").first).to_be_visible()
        shoot(page, "12-asset-as-the-server-keeps-it")


@pytest.mark.parametrize("interface", ["", "/v2"])
def test_the_verdict_is_on_the_artifact_s_page_with_a_link_that_a_browser_can_follow(
    icu_run: str, server: PrefectServer, bucket: S3Door, store: S3PipelineStore, interface: str
) -> None:
    verdict = json.loads(store.read_bytes("icu/2024-01-01/quality.json"))["verdict"]
    artifacts = server.post("artifacts/filter", artifacts={"flow_run_id": {"any_": [icu_run]}})
    (quality,) = (artifact["id"] for artifact in artifacts if artifact["key"].startswith("icu-quality-"))
    with opened_page() as page:
        page.goto(f"{server.ui_url}{interface}/artifacts/artifact/{quality}")
        # By their texts: the newer interface hides the artifact's roles.
        expect(page.get_by_text(verdict["level"].capitalize()).first).to_be_visible()
        assert verdict["findings"]
        for finding in verdict["findings"][:3]:
            expect(page.get_by_text(finding["text"], exact=True).first).to_be_visible()
        link = page.locator("a", has_text="Open the whole report, with plots")
        address = link.get_attribute("href")
        assert address == store.browser_url("icu/2024-01-01/quality.html")
        shoot(page, f"15-verdict{interface.replace('/', '-')}")
        # As someone who has signed in: the emulator has no page to sign in on.
        key = "clinops/prod/icu/2024-01-01/quality.html"
        bucket.client.put_object_acl(Bucket=bucket.bucket, Key=key, ACL="public-read")
        opened = page.request.get(address, timeout=PATIENCE)
        assert opened.ok
        assert 'aria-label="Verdict"' in opened.text()


@pytest.mark.parametrize("interface", ["", "/v2"])
def test_the_graph_on_a_run_s_page_is_whole(icu_run: str, server: PrefectServer, interface: str) -> None:
    # They arrive by and by: three that read, two of each shard, six that publish, the report and the end.
    server.eventually("task_runs/filter", 3 + 2 * 2 + 6 + 2, flow_runs={"id": {"any_": [icu_run]}})
    with opened_page() as page:
        with page.expect_response(re.compile(f"/flow_runs/{icu_run}/graph-v2")) as asked:
            page.goto(f"{server.ui_url}{interface}/runs/flow-run/{icu_run}")
        nodes = dict(asked.value.json()["nodes"])
        expect(page.locator("canvas").first).to_be_visible()
        page.wait_for_timeout(2000)  # it is drawn step by step
        shoot(page, f"16-run{interface.replace('/', '-')}")
    named = {node["label"]: node for node in nodes.values()}
    assert not [name for name, node in named.items() if node["encapsulating"]], "a task is drawn within another"
    before = {name: {nodes[one["id"]]["label"] for one in node["parents"]} for name, node in named.items()}
    for shard in ("000", "001"):
        assert before[f"publish-features/shard-{shard}"] == {f"features-shard-{shard}"}
    assert before["write-quality"] == {"features-shard-000", "features-shard-001"}
    assert {name for name, parents in before.items() if not parents} == {
        "make-cohort",
        "ingest-chartevents",
        "ingest-labevents",
    }
    assert before["finish"] == {"write-quality", *(name for name in named if name.startswith("publish-"))}


def test_the_reports_can_be_read(icu_run: str, server: PrefectServer, store: S3PipelineStore) -> None:
    compared = ["--store", "s3-pipeline-store/prod", "--date", "2024-01-01", "--reference", "2024-01-01"]
    run(server, "flows.quality_report", *compared, "--max-psi", "0.25")
    drift = store.read_bytes("icu/2024-01-01/drift/2024-01-01.html").decode()
    quality = store.read_bytes("icu/2024-01-01/quality.html").decode()
    with opened_page() as page:
        for name, content in (("13-drift-page", drift), ("14-quality-page", quality)):
            # Whatever the page asks of the network fails, and shows here.
            asked: list[str] = []
            page.on("request", lambda request, asked=asked: asked.append(request.url))
            page.set_content(content)
            expect(page.get_by_role("img")).to_have_count(content.count('role="img"'))
            expect(page.get_by_role("region", name="Verdict")).to_be_visible()
            # On a phone nothing but the tables scrolls sideways, and letters keep their size.
            page.set_viewport_size({"width": 390, "height": 900})
            assert page.evaluate("document.documentElement.scrollWidth") <= 390
            letters = "[...document.querySelectorAll('svg.plot')].map(p => 11 * p.getBoundingClientRect().width / 360)"
            assert min(page.evaluate(letters)) >= 10
            page.set_viewport_size({"width": 1280, "height": 1500})
            expect(page.locator("tbody tr", has_text="Heart rate").first).to_be_visible()
            assert asked == []
            shoot(page, name)


def test_no_page_says_the_secret(icu_run: str, server: PrefectServer) -> None:
    documents = json.dumps(server.post("block_documents/filter", limit=200))
    assert SECRET not in documents
    assert "login" in documents


def test_the_screenshots_are_not_committed() -> None:
    assert "tests/browser/screenshots/" in (Path(__file__).parents[2] / ".gitignore").read_text()
