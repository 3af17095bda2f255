"""The plugin's paths: `/Plugin.Activate`, and a verb at `/INTERFACE.VERB` for each interface that we implement."""

from collections.abc import Callable, Iterable, Mapping

from mdnp.wire.verbs import Answer, Reply, Verb, call

CONTENT_TYPE = "application/vnd.docker.plugins.v1.2+json"


class Routes:
    """
    `interfaces` are the verbs by interface ("NetworkDriver"). `activated` is called when Docker activates the plugin,
    which it does once in each run of the engine, at first use.
    """

    def __init__(self, interfaces: Mapping[str, Mapping[str, Verb]], activated: Callable[[], None]) -> None:
        self._implements = sorted(interfaces)
        self._activated = activated
        self._verbs = {
            f"{interface}.{name}": verb for interface, verbs in interfaces.items() for name, verb in verbs.items()
        }
        self._verbs["Plugin.Activate"] = Verb(None, self._activate)

    @property
    def verbs(self) -> Iterable[str]:
        """All that there is to call, as "INTERFACE.VERB"."""
        return self._verbs.keys()

    async def answer(self, path: str, body: bytes) -> Answer:
        return await call(self._verbs, path.removeprefix("/"), body)

    async def _activate(self, _body: None) -> Reply:
        self._activated()
        return {"Implements": self._implements}
