"""What operators see of names: where they are answered, and why they are not. Pure."""

from dataclasses import asdict
from typing import Any

from mdnp.dns.standing import Place, Standing

View = dict[str, Any]


def names_view(standing: Standing) -> View:
    """Of sandboxes only those are listed whose questions do not come to us."""
    return {
        "sandboxes": sum(not trouble for trouble in standing.sandboxes.values()),
        "failed": [{"sandbox": path, "trouble": trouble} for path, trouble in standing.sandboxes.items() if trouble],
        "gateways": [_place(one) for one in standing.gateways],
        "host": _place(standing.host) if standing.host else None,
        "learned": standing.learned,
        "unlearned": standing.unlearned,
        "trouble": standing.trouble,
        "resolvers": [str(one) for one in standing.resolvers],
        "unresolved": standing.unresolved,
        "questions": {road.value: asdict(served) for road, served in standing.served.items()},
    }


def _place(one: Place) -> View:
    return {"name": one.name, "trouble": one.trouble}
