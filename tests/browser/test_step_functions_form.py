"""The form of a Step Functions pipeline in both of Prefect's interfaces: what it shows, takes, and does not refuse.

Prefect 3.9.1 checks no pattern in a browser: the older interface checks nothing when it saves a block, and the newer
one has the server check the values against themselves, as if they were the schema. So these tests assert what holds:
a good pipeline can be saved in each, and one that cannot work says why when it is loaded. The server, given the schema,
does refuse: tests/prefect/test_blocks.py.
"""

import json
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from clinops_prefect import InvalidPipelineError, StepFunctionsPipeline
from tests.browser.conftest import opened_page, shoot
from tests.prefect.server import PrefectServer

SLUG = "step-functions-pipeline"
ROLE = "arn:aws:iam::123456789012:role/StepFunctionsRole"
FUNCTION = "arn:aws:lambda:us-east-1:123456789012:function:clinops-ingest"


def field_of(page: Page, label: str) -> Any:
    """In the older interface."""
    return page.locator(".p-label", has=page.get_by_text(label, exact=True)).first.locator("textarea, input").first


def loaded(name: str) -> StepFunctionsPipeline:
    block = StepFunctionsPipeline.load(name, _sync=True)
    assert isinstance(block, StepFunctionsPipeline)
    return block


@pytest.mark.parametrize("interface", ["", "/v2"])
def test_the_form_reads_well(server: PrefectServer, interface: str) -> None:
    with opened_page() as page:
        page.goto(f"{server.ui_url}{interface}/blocks/catalog/{SLUG}/create")
        schema = StepFunctionsPipeline.model_json_schema()
        for title in ("State machine name", "Role ARN"):
            expect(page.get_by_text(title, exact=True)).to_be_visible()
        credentials = {schema["properties"]["credentials"]["title"]}
        if not interface:
            credentials = {"AwsCredentials"}  # it shows the title of the other block
        titles = {part["title"] for name, part in schema["properties"].items() if name not in schema["required"]}
        for title in titles - {"AWS credentials"} | credentials:
            expect(page.get_by_text(f"{title} (Optional)", exact=True).first).to_be_visible()
        # Each paragraph of the description is shown whole, as one element.
        for paragraph in str(StepFunctionsPipeline.get_description()).split("\n\n"):
            expect(page.get_by_text(paragraph, exact=True).first).to_be_visible()
        assert page.get_by_text("null", exact=True).count() == 0
        shoot(page, f"20-step-functions-form{interface.replace('/', '-')}")
        if not interface:
            expect(page.get_by_placeholder('"name": "Ingest"')).to_be_visible()


def test_the_newer_interface_saves_a_pipeline(server: PrefectServer) -> None:
    with opened_page() as page:
        page.goto(f"{server.ui_url}/v2/blocks/catalog/{SLUG}/create")
        page.get_by_role("button", name="Add item").first.click()
        names = page.get_by_label("Name", exact=True)
        names.nth(0).fill("of-v2")  # the block's; the other is the step's
        page.get_by_label("State machine name", exact=True).fill("clinops-daily")
        page.get_by_label("Role ARN", exact=True).fill(ROLE)
        names.nth(1).fill("Ingest")
        page.get_by_label("Resource", exact=True).fill(FUNCTION)
        shoot(page, "21-step-functions-filled")
        page.get_by_role("button", name="Save").click()
        page.wait_for_url("**/v2/blocks/block/**")
    pipeline = loaded("of-v2")
    assert (pipeline.name, pipeline.role_arn, pipeline.type) == ("clinops-daily", ROLE, "STANDARD")
    assert [(step.name, step.resource) for step in pipeline.steps] == [("Ingest", FUNCTION)]  # type: ignore[union-attr]
    assert pipeline.check() == []


def test_the_newer_interface_has_no_way_to_write_a_bare_name_as_a_step(server: PrefectServer) -> None:
    with opened_page() as page:
        page.goto(f"{server.ui_url}/v2/blocks/catalog/{SLUG}/create")
        page.get_by_role("button", name="Add item").first.click()
        # A step is an object with fields of its own, of one of two kinds.
        for kind in ("PipelineStep", "MapStep"):
            expect(page.get_by_text(kind, exact=True).first).to_be_visible()
        expect(page.get_by_label("Resource", exact=True)).to_be_visible()
        expect(page.get_by_label("Assume role ARN (Optional)", exact=True)).to_be_visible()


@pytest.mark.parametrize(
    ("name", "role", "steps", "why"),
    [
        ("good", ROLE, json.dumps([{"name": "Ingest", "resource": FUNCTION}]), ""),
        ("bare-names", ROLE, '["Ingest"]', "steps.0"),
        ("bad-role", "StepFunctionsRole", "", "role"),
    ],
)
def test_the_older_interface_saves_a_pipeline_and_loading_says_what_is_wrong_with_it(
    server: PrefectServer, name: str, role: str, steps: str, why: str
) -> None:
    with opened_page() as page:
        page.goto(f"{server.ui_url}/blocks/catalog/{SLUG}/create")
        field_of(page, "Block Name").fill(name)
        field_of(page, "State machine name").fill("clinops-daily")
        field_of(page, "Role ARN").fill(role)
        field_of(page, "Steps (Optional)").fill(steps)
        page.get_by_role("button", name="Create").click()
        page.wait_for_url("**/blocks/block/**")
    if name == "good":
        assert loaded(name).check() == []
    elif name == "bad-role":
        # The block is one for `definition_json`, as the documented example is; AWS would refuse it.
        assert any(why in problem for problem in loaded(name).check())
    else:
        with pytest.raises(InvalidPipelineError) as caught:
            loaded(name)
        assert why in str(caught.value).splitlines()[-1]
        assert f"{SLUG}/{name}" in str(caught.value)
