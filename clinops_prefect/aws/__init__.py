"""The AWS clients and errors that S3 and Step Functions share."""
