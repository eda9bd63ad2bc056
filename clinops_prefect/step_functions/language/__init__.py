"""A pipeline's steps, what they become in the Amazon States Language, and what AWS would refuse.

Neither Prefect nor boto3 is imported here, so a Lambda function can use it.
"""
