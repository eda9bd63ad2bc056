"""What Prefect asks its server for each task run of the flows."""

import pytest
from prefect import Task

from flows import backfill, quality_report
from flows.running import tasks

_TASKS = {
    task.name: task for module in (tasks, backfill, quality_report) for task in vars(module).values()
    if isinstance(task, Task)
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(_TASKS))
def test_no_task_has_a_tag_for_which_prefect_would_ask_its_server_before_the_task_begins(name: str) -> None:
    assert not _TASKS[name].tags


def test_the_tasks_of_all_three_flows_are_looked_at() -> None:
    assert {"ingest-events", "features-shard", "publish-artifact", "backfill-date", "count-shard"} <= set(_TASKS)
