"""
The log: one line for each fact, as text or as JSON. A line that is about a call of Docker's bears the call's id, as
does the error that Docker shows for it.
"""

import json
import logging
import sys
import threading
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import IO, Any

TEXT = "text"
JSON = "json"

# The id of the call that is being answered, "" outside of calls. What a call starts, tasks and threads, inherits it.
call: ContextVar[str] = ContextVar("call", default="")

log = logging.getLogger(__name__)

_NEWLINES = str.maketrans({"\n": "\\n", "\r": "\\r"})


def mark() -> str:
    """What is put after a text that is about the call under way."""
    identity = call.get()
    return f" (call {identity})" if identity else ""


class Text(logging.Formatter):
    """For people: a traceback follows on lines of its own."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # logging's name
        return super().formatMessage(record).translate(_NEWLINES) + mark()


class Json(logging.Formatter):
    """
    For machines: an object a line, with time (RFC 3339, UTC), level, logger, message, call ("" outside of calls), and
    error with the traceback if there is one.
    """

    def format(self, record: logging.LogRecord) -> str:
        facts: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "call": call.get(),
        }
        if record.exc_info:
            facts["error"] = self.formatException(record.exc_info)
        if record.stack_info:
            facts["stack"] = record.stack_info
        return json.dumps(facts)  # of ASCII only: a text may have had bytes that are no UTF-8


def set_up(level: str, form: str, stream: IO[str] | None = None) -> None:
    """Log what is at least of `level`, to standard error if no other stream is given. Warnings of Python's too."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(Json() if form == JSON else Text())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(True)
    # What Python prints itself has many lines.
    sys.unraisablehook = _unraisable
    threading.excepthook = _in_thread


def _unraisable(found: Any) -> None:
    error = found.exc_value
    log.error("%s: %r", found.err_msg or "ignored", found.object, exc_info=(type(error), error, error.__traceback__))


def _in_thread(found: threading.ExceptHookArgs) -> None:
    error = found.exc_value
    name = found.thread.name if found.thread else "of which nothing is known"
    log.error("thread %s ended", name, exc_info=(type(error), error, error.__traceback__) if error else None)
