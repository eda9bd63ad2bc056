"""Runs the handler of one Lambda function, call after call, in its own process. `lambdas` starts it as a program.

Each call is one line of JSON on standard input, and its answer one line on standard output. What the handler prints
goes to standard error.
"""

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

for line in sys.stdin:
    try:
        returned = getattr(importlib.import_module(module), name)(json.loads(line), None)
        answer: dict[str, object] = {"payload": json.dumps(returned)}
    except Exception as error:
        trace = traceback.format_tb(error.__traceback__)[1:]
        failure = {"errorMessage": str(error), "errorType": type(error).__name__, "stackTrace": trace}
        answer = {"payload": json.dumps(failure), "failed": True}
    answers.write(json.dumps(answer) + "\n")
    answers.flush()
