"""What a Prefect run adds to an execution: a name for all attempts, log lines, progress, cancellation, task and job."""
