"""Values that must never be seen outside of the data (a patient, a cell, a secret), and where to look for them."""

import logging
import pickle
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

PATIENT = "canary-patient-7c41e9"
SUBJECT = 87_654_321_09
CELL = "canary-cell-b20f56"
NUMBER = 271_828.182845
SECRET = "canary-secret-e5d3a8"
ALL = (PATIENT, str(SUBJECT), CELL, str(NUMBER), SECRET)


def led_to(error: BaseException) -> Iterator[BaseException]:
    """The error, and all that it leads to: error trackers also ask for a context that a traceback leaves out."""
    todo: list[BaseException | None] = [error]
    while todo:
        one = todo.pop()
        if one is not None:
            yield one
            todo += [one.__cause__, one.__context__]


class Watch(logging.Handler):
    """Records as text everything that is logged within the `with` block, and every error that it is given."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        # With the traceback of `logger.exception`, and the causes of the error.
        self.said.append(self.format(record))
        self.said.append(f"{record.args!r}")

    def error(self, error: BaseException) -> None:
        """Record everything that may be seen of an error, in this process or in another, and of those it leads to."""
        again = pickle.loads(pickle.dumps(error)) if type(error).__module__.startswith("clinops") else error
        for shown in (error, again):
            self.said += [str(shown), repr(shown), *traceback.format_exception(shown)]
        for one in led_to(error):
            self.said += [f"{one!r}", *(f"{key}={value!r}" for key, value in vars(one).items())]

    def found(self) -> dict[str, list[str]]:
        """Canary -> where it was seen."""
        seen = {canary: [text[-600:] for text in self.said if canary in text] for canary in ALL}
        return {canary: texts for canary, texts in seen.items() if texts}


@contextmanager
def watching() -> Iterator[Watch]:
    """Listen to the loggers of this package, of the flows and of Prefect, at every level."""
    watch = Watch()
    loggers = [logging.getLogger(name) for name in ("clinops_prefect", "flows", "prefect", "py.warnings", "")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        # Prefect's loggers do not propagate to the root logger.
        logger.addHandler(watch)
        if logger.name:
            logger.setLevel(logging.DEBUG)
    logging.captureWarnings(True)
    try:
        yield watch
    finally:
        logging.captureWarnings(False)
        for logger, level in zip(loggers, levels, strict=True):
            logger.removeHandler(watch)
            logger.setLevel(level)
