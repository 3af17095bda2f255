"""Where the daemon is called: Docker's sockets, the operator's, and the port for who may only look."""

import socket
import ssl

from mdnp.admin import routes as admin_routes
from mdnp.admin.routes import Admin
from mdnp.admin.window import Window
from mdnp.config import Settings
from mdnp.http import BODY_LIMIT, Listener, Response
from mdnp.systemd import Systemd
from mdnp.wire import routes as wire_routes
from mdnp.wire.calls import Calls
from mdnp.wire.verbs import failure

_SOCKET_UNIT = "mdnp.socket"
_TOO_LARGE = f"the body is larger than {BODY_LIMIT} bytes"


async def listen_plugin(
    settings: Settings, systemd: Systemd, calls: Calls, secured: ssl.SSLContext | None
) -> list[Listener]:
    """On the socket, and on TCP if asked; first there, since what fails there leaves no file behind."""

    async def answer(_method: str, path: str, body: bytes) -> Response:
        answered = await calls.answer(path, body)
        return Response(answered.status, answered.body, wire_routes.CONTENT_TYPE)

    too_large = failure(413, _TOO_LARGE)
    refusal = Response(too_large.status, too_large.body, wire_routes.CONTENT_TYPE)
    found = []
    if settings.listen is not None and secured is not None:
        inherited = systemd.tcp_listener(settings.listen)
        found.append(await Listener.open_tcp(settings.listen, secured, answer, refusal, inherited))
    inherited = systemd.listener(settings.socket, _SOCKET_UNIT)
    return [*found, await Listener.open(settings.socket, answer, refusal, inherited)]


async def listen_admin(settings: Settings, inherited: socket.socket | None, admin: Admin) -> Listener:
    async def answer(method: str, path: str, body: bytes) -> Response:
        answered = await admin.answer(method, path, body)
        return Response(answered.status, answered.body, answered.content_type, answered.headers)

    too_large = admin_routes.failure(413, _TOO_LARGE)
    refusal = Response(too_large.status, too_large.body, too_large.content_type)
    return await Listener.open(settings.admin_socket, answer, refusal, inherited)


async def listen_window(settings: Settings, window: Window) -> Listener | None:
    """On the loopback port, if one is asked for."""
    if settings.metrics is None:
        return None

    async def answer(method: str, path: str, _body: bytes) -> Response:
        answered = await window.answer(method, path)
        return Response(answered.status, answered.body, answered.content_type, answered.headers)

    too_large = admin_routes.failure(413, _TOO_LARGE)
    refusal = Response(too_large.status, too_large.body, too_large.content_type)
    return await Listener.open_loopback(settings.metrics.address, settings.metrics.port, answer, refusal)
