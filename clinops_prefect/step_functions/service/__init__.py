"""What is asked of AWS Step Functions. Each function takes a boto3 client; nothing here knows Prefect."""
