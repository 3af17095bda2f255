"""What may be looked at through a loopback port, where nobody is asked who he is. Nothing can be changed there."""

from collections.abc import Mapping

from mdnp.admin.routes import Answer, Look, failure


class Window:
    """`looks` are what is shown, by path ("/metrics")."""

    def __init__(self, looks: Mapping[str, Look]) -> None:
        self._looks = looks

    async def answer(self, method: str, path: str) -> Answer:
        look = self._looks.get(path)
        if look is None:
            return failure(404, f"nothing is at {path[:80]}: {', '.join(self._looks)} can be looked at")
        if method not in ("GET", "HEAD"):
            return failure(405, f"{path} is to be looked at: GET it")
        return await look()
