"""The log: a line for each fact, and in it the call that it is about."""

import asyncio
import gc
import io
import json
import logging
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from mdnp import logs

log = logging.getLogger("mdnp.test")


@pytest.fixture(params=[logs.TEXT, logs.JSON])
def form(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Where is logged; afterwards all is as before."""
    root = logging.getLogger()
    handlers, level, hooks = root.handlers[:], root.level, (threading.excepthook, sys.unraisablehook)
    yield io.StringIO()
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)
    threading.excepthook, sys.unraisablehook = hooks


@contextmanager
def during(identity: str) -> Iterator[None]:
    before = logs.call.set(identity)
    try:
        yield
    finally:
        logs.call.reset(before)


def facts(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def fail() -> None:
    raise ValueError("no\nsuch thing")


def test_a_line_of_text_ends_in_its_call(stream: io.StringIO) -> None:
    logs.set_up("info", logs.TEXT, stream)
    log.info("before")
    with during("3f9a1c"):
        log.warning("link %s is gone", "mdv-web")
    log.debug("not said")

    first, second = stream.getvalue().splitlines()
    assert first.endswith(" INFO mdnp.test: before")
    assert second.endswith(" WARNING mdnp.test: link mdv-web is gone (call 3f9a1c)")


def test_a_line_of_json_has_time_level_logger_message_and_call(stream: io.StringIO) -> None:
    logs.set_up("info", logs.JSON, stream)
    log.info("before")
    with during("3f9a1c"):
        log.warning("link %s is gone", "mdv-web")

    first, second = facts(stream)
    assert first.pop("time").endswith("+00:00")
    assert first == {"level": "info", "logger": "mdnp.test", "message": "before", "call": ""}
    second.pop("time")
    assert second == {
        "level": "warning",
        "logger": "mdnp.test",
        "message": "link mdv-web is gone",
        "call": "3f9a1c",
    }


def test_a_message_of_several_lines_is_one_line(stream: io.StringIO, form: str) -> None:
    logs.set_up("info", form, stream)

    log.info("option %s", "a\nFORGED b\r\nc")

    [line] = stream.getvalue().splitlines()
    assert "option a\\nFORGED b\\r\\nc" in line


def test_text_that_is_no_utf_8_is_logged(stream: io.StringIO) -> None:
    logs.set_up("info", logs.JSON, stream)

    log.info("%s", "\udcff")

    assert facts(stream)[0]["message"] == "\udcff"
    stream.getvalue().encode()


def test_a_traceback_is_inside_of_its_line_of_json(stream: io.StringIO) -> None:
    logs.set_up("info", logs.JSON, stream)

    try:
        fail()
    except ValueError:
        log.exception("failed")

    [line] = facts(stream)
    assert (line["level"], line["message"]) == ("error", "failed")
    assert line["error"].startswith("Traceback (most recent call last):\n")
    assert line["error"].endswith("ValueError: no\nsuch thing")


def test_a_traceback_is_left_as_people_know_it_in_text(stream: io.StringIO) -> None:
    logs.set_up("info", logs.TEXT, stream)

    with during("3f9a1c"):
        try:
            fail()
        except ValueError:
            log.exception("failed")

    assert " failed (call 3f9a1c)\nTraceback (most recent call last):\n" in stream.getvalue()


async def test_tasks_and_threads_that_a_call_starts_bear_its_id_and_no_other_call_s(stream: io.StringIO) -> None:
    logs.set_up("info", logs.JSON, stream)

    async def answered(identity: str) -> None:
        with during(identity):
            await asyncio.sleep(0)
            log.info("%s", identity)
            await asyncio.to_thread(log.info, "%s in a thread", identity)
            await asyncio.create_task(later(identity))

    async def later(identity: str) -> None:
        await asyncio.sleep(0)
        log.info("%s in a task", identity)

    await asyncio.gather(answered("aaaaaa"), answered("bbbbbb"))
    log.info("outside")

    lines = facts(stream)
    assert len(lines) == 7
    assert all(line["message"].startswith(line["call"]) for line in lines[:-1])
    assert lines[-1]["call"] == ""


def test_what_python_says_itself_is_logged_in_the_same_form(stream: io.StringIO) -> None:
    logs.set_up("info", logs.JSON, stream)

    class Careless:
        def __del__(self) -> None:
            fail()

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)
        warnings.warn("old ways", DeprecationWarning, stacklevel=1)
        Careless()
        gc.collect()
        thread = threading.Thread(target=fail, name="worker")
        thread.start()
        thread.join()

    lines = facts(stream)
    assert [line["logger"] for line in lines] == ["py.warnings", "mdnp.logs", "mdnp.logs"]
    assert "old ways" in lines[0]["message"]
    assert lines[1]["error"].endswith("ValueError: no\nsuch thing")
    assert lines[2]["message"] == "thread worker ended"
