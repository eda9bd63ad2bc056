"""Runs the handler of one Lambda function, call after call, in its own process. `lambdas` starts it as a program.

Each call is one line of JSON on standard input, and its answer one line on standard output. What the handler prints
goes to standard error.
"""

import decimal
import importlib
import json
import os
import sys
import traceback

answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
os.dup2(2, 1)

code, handler = sys.argv[1:]
sys.path.insert(0, code)
module, _, name = handler.rpartition(".")


class MarshalError(Exception):
    """Lambda's error for a result that is no JSON."""


def marshalled(returned: object) -> str:
    """The result as JSON. As in AWS's Python runtime, a Decimal becomes a number.

    AWS's runtime writes NaN, which Step Functions then refuses. Here both are one failure.
    """

    def number(value: object) -> float:
        if isinstance(value, decimal.Decimal):
            return float(value)
        raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")

    try:
        return json.dumps(returned, default=number, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise MarshalError(f"Unable to marshal response: {error}") from error


for line in sys.stdin:
    try:
        returned = getattr(importlib.import_module(module), name)(json.loads(line), None)
        answer: dict[str, object] = {"payload": marshalled(returned)}
    except MarshalError as error:
        answer = {"payload": json.dumps({"errorMessage": str(error), "errorType": "Runtime.MarshalError"})}
        answer["failed"] = True
    except Exception as error:
        trace = traceback.format_tb(error.__traceback__)[1:]
        failure = {"errorMessage": str(error), "errorType": type(error).__name__, "stackTrace": trace}
        answer = {"payload": json.dumps(failure), "failed": True}
    answers.write(json.dumps(answer) + "\n")
    answers.flush()
