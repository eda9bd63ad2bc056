"""All requests to AWS Step Functions. Each function takes a boto3 client, and nothing here imports Prefect."""
