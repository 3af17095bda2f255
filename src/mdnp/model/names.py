"""What things are called: by whom they can be asked for."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Names:
    """
    Of an endpoint `name` is its container's, `aliases` those that Docker gives it on this network (its short id too),
    `hostname` the container's own, `service` that of Compose. Of a network only `name` is set. What is empty is not
    known, or there is none. As users wrote them: what cannot be asked for is found out where names are asked for.
    """

    name: str
    aliases: tuple[str, ...] = ()
    hostname: str = ""
    service: str = ""


@dataclass(frozen=True)
class Called:
    """What an endpoint or a network of ours, by its id, is called; as Docker told last."""

    id: str
    names: Names
