"""A host with many networks and endpoints, as the page is told of it."""

from dataclasses import replace
from typing import Any

from mdnp.admin.topology import Seen, topology
from mdnp.admin.views import Facts
from mdnp.engine.directory import Health, Names
from mdnp.kernel import Traffic
from mdnp.model.endpoint import Phase
from mdnp.reconcile.diff import Difference
from mdnp.store import Promises
from tests.world import a_network, an_endpoint


def crowd(*, networks: int, endpoints: int) -> dict[str, Any]:
    """Networks team-N with the containers app-N-0, app-N-1, … on them in turn."""
    made = [a_network(f"{number:04x}" * 16, f"10.{number}.0.0/16 10.{number}.0.1/16") for number in range(networks)]
    ends = [
        an_endpoint(
            f"{number:04x}" * 16,
            f"10.{number % networks}.{1 + number // networks // 200}.{1 + number // networks % 200}/16",
            network=made[number % networks].id,
            phase=Phase.JOINED,
        )
        for number in range(endpoints)
    ]
    names = Names(
        {one.id: f"team-{number}" for number, one in enumerate(made)},
        {one.id: f"app-{number % networks}-{number // networks}" for number, one in enumerate(ends)},
    )
    traffic = {f"mdv-{one.id[:11]}": replace(Traffic(), rx_bytes=number) for number, one in enumerate(ends)}
    return topology(
        host="crowded",
        promises=Promises({one.id: one for one in made}, {one.id: one for one in ends}, {}),
        seen=Seen(Difference(()), {}, traffic, 1.0),
        names=names,
        counts={},
        facts=Facts("9.9.9", 1.0, 0, "", Health("28.5.2")),
    )
