"""AWS: the clients and the errors, once for S3 and for Step Functions."""
