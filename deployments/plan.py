"""Computes what 40 million stays and 30 TB cost. `python deployments/plan.py` prints the plan of the README.

Every figure that is not computed is at the top, with its source. Change it there.
"""

from math import ceil

STAYS = 40e6
SOURCE_BYTES = 30e12  # bytes of chart events, as uncompressed CSV
DATES = 3650  # ten years, one partition a day
SHARDS = 4  # shards of each date

ROW_BYTES, COMPRESSED = 86, 0.23  # measured on synthetic rows: bytes of a row as CSV, and the share left as csv.gz
CATALOGUE_SHARE = 0.14  # measured on the MIMIC-III demo
# Seconds of one slow core for ten million rows (tests/benchmarks/flow.py). One core reads a file.
INGEST_S, SHARDS_S, HASH_S = 3.6, 1.5, 0.4
START_S = 40.0  # assumed: start of a container, its imports, and the flow's own steps
SHARD_ROW_BYTES = 300  # estimated: peak memory for each kept row of a shard, with the arrays made from it
EVENT_BYTES, STAY_BYTES = 22, 8 * 90 * 4  # stored bytes of a cleaned event, and of a stay's eight windows of 78 columns
SERVER_TASK_S = 0.1  # assumed: time of Prefect's server (PostgreSQL) for the states, events and logs of a task run
# Assumed list prices in dollars for 1,000 writes, 10,000 reads, and a TB a month. Look up the present ones.
WRITES, READS, TB_MONTH = 0.005, 0.004, 23.0

# Engine: (dates at once, cores per date, dollars per core hour with 4 GB, the limit that is reached first).
ENGINES = {
    "processes, one machine of 96 cores": (24, 4, 0.048, "none; its disk has to read 0.9 GB/s"),
    "Dask, 64 spot machines of 4 cores": (64, 4, 0.015, "EC2 spot vCPUs: new accounts have 5 to 32"),
    "ECS on Fargate, 64 tasks of 4 cores": (64, 4, 0.058, "Fargate vCPUs: new accounts have 6 to 16"),
    "Cloud Run, 64 jobs of 4 cores": (64, 4, 0.093, "CPU a region and project: 200 at first"),
    "Kubernetes, 64 pods of 4 cores": (64, 4, 0.048, "nodes of the group: set its maximum to 64"),
}


def main() -> None:
    """Print the plan."""
    rows = SOURCE_BYTES / ROW_BYTES
    date_rows, kept = rows / DATES, rows * CATALOGUE_SHARE
    reading, computing = (seconds * date_rows / 10e6 for seconds in (INGEST_S + HASH_S, SHARDS_S))
    # One file per shard for each million kept rows. The constants are notes, staging, publishing and the three pages.
    files = ceil(date_rows * CATALOGUE_SHARE / 1e6) * SHARDS
    writes, reads = DATES * (files + 6 * SHARDS + 10), DATES * (2 * files + 12 * SHARDS + 10)
    tasks = DATES * (4 * SHARDS + 5)
    stored = (kept * EVENT_BYTES + STAYS * STAY_BYTES) / 1e12
    memory = date_rows * CATALOGUE_SHARE / SHARDS * SHARD_ROW_BYTES / 1e9
    print(f"- {rows:.1e} rows, {kept:.1e} of the catalogue; {SOURCE_BYTES * COMPRESSED / 1e12:.1f} TB as csv.gz.")
    print(
        f"- A date: {STAYS / DATES:,.0f} stays, {date_rows / 1e6:.0f} million rows, {memory:.1f} GB a shard ({SHARDS})."
    )
    print(f"- Requests: {writes / 1e6:.1f} million writes, {reads / 1e6:.1f} million reads", end=": ")
    print(f"${writes / 1e3 * WRITES + reads / 1e4 * READS:,.0f}.", end=" ")
    print(f"Stored: {stored:.1f} TB, ${stored * TB_MONTH:,.0f} a month.")
    together = max(engine[0] for engine in ENGINES.values())
    speed = together * date_rows * ROW_BYTES * COMPRESSED / (date_rows / 10e6 * INGEST_S) / 1e9
    print(f"- {together} dates at a time read {speed:.1f} GB/s of csv.gz.")
    print(f"- Prefect: {tasks:,} task runs, {tasks * SERVER_TASK_S / 3600:.1f} h of one server process.\n")
    print("| engine | a date | all dates | cores cost | what binds first |\n|---|---:|---:|---:|---|")
    for name, (together, cores, price, binds) in ENGINES.items():
        seconds = START_S + reading + computing / min(cores, SHARDS)
        hours = ceil(DATES / together) * seconds / 3600
        print(f"| {name} | {seconds:.0f} s | {hours:.1f} h | ${hours * together * cores * price:,.0f} | {binds} |")


if __name__ == "__main__":
    main()
