"""What a verb is, and how one call of it is answered."""

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from mdnp import logs
from mdnp.cluster import ClusterUnavailable
from mdnp.model import errors

log = logging.getLogger(__name__)

Reply = Mapping[str, Any]


@dataclass(frozen=True)
class Verb:
    """The type of the body (None for the calls that Docker makes without one), and what answers it."""

    body: type | None
    answer: Callable[[Any], Awaitable[Reply]]


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes


# Never 404 for what was not found: Docker takes that for a method that the plugin does not have, and for
# ProgramExternalConnectivity it is then no error at all.
_STATUS: Mapping[type[errors.MdnpError], int] = {
    errors.InvalidParameter: 400,
    errors.NotFound: 400,
    errors.Unsupported: 400,
    errors.Conflict: 409,
    errors.Exhausted: 409,
    errors.StoreUnavailable: 503,
    ClusterUnavailable: 503,
}
_UNKNOWN_METHOD = 404
_OUR_FAULT = 500


async def call(verbs: Mapping[str, Verb], name: str, body: bytes) -> Answer:
    """
    Answer one call. Docker reads `Err` of a network driver and `Error` of an IPAM driver: failures have both.
    """
    verb = verbs.get(name)
    if verb is None:
        log.info("no method %s", name[:80])
        return failure(_UNKNOWN_METHOD, f"mdnp has no method {name[:80]}")
    try:
        return Answer(200, msgspec.json.encode(await verb.answer(_decoded(verb, name, body))))
    except errors.MdnpError as error:
        log.warning("%s refused: %s", name, error)
        return failure(_STATUS.get(type(error), _OUR_FAULT), str(error))
    except Exception:
        # The last resort: whatever it was, this call must be answered and the next ones must be served.
        log.exception("%s failed", name)
        return failure(_OUR_FAULT, f"{name} failed inside mdnp, which is a defect: its log has the details")


def failure(status: int, text: str) -> Answer:
    """It ends in the id of the call, by which the log has more of it."""
    text += logs.mark()
    text = text.encode(errors="backslashreplace").decode()  # a path may have had bytes that are no UTF-8
    return Answer(status, msgspec.json.encode({"Err": text, "Error": text}))


def _decoded(verb: Verb, name: str, body: bytes) -> Any:
    if verb.body is None:
        return None
    if not body:
        # Docker's client repeats a call whose connection broke, with the body that the first attempt consumed.
        raise errors.InvalidParameter(f"{name} came without a body: the connection broke in the call before; try again")
    try:
        return msgspec.json.decode(body, type=verb.body)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:  # ValueError: bytes that are no UTF-8
        raise errors.InvalidParameter(f"{name}: the body cannot be read: {error}") from error
