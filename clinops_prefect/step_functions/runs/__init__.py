"""What a Prefect run adds to an execution: a lasting name, log lines, progress, cancellation, the task and the job."""
