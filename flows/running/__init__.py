"""How the steps are run: Prefect tasks and engines, partitions of a store, command lines, Lambda handlers."""
