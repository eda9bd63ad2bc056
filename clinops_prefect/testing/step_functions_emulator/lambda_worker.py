"""Runs one Lambda function's handler, call after call, in a process of its own. Started by `lambdas`, never imported.

One line of JSON in, one line out. Standard output is for the handler's own prints, which go to standard error.
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
