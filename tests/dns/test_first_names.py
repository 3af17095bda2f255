"""Engines from 29 on tell IPAM what a container is called: it is so before Docker can be asked."""

import asyncio
from contextlib import suppress

from mdnp.dns.learner import Learner
from mdnp.model.names import Called, Names
from tests.dns.docker import FakeDocker
from tests.fleet import open_fleet, quiet, until


async def test_a_container_is_called_by_the_name_that_came_with_its_address_and_other_hosts_hear_it() -> None:
    async with open_fleet("a", "b") as (a, b):
        await a.create()
        await b.create()
        assert a.member
        docker = FakeDocker()
        docker.away = True
        learner = Learner(docker, a.store, a.member.tell, a.ipam.holder)
        learning = asyncio.create_task(learner.run())

        address = await a.run("web")
        learner.look()
        await until(lambda: bool(a.store.promises.called), "the name to be learned")
        _, endpoint, _ = a.containers["web"]
        assert a.store.promises.called == {endpoint: Called(endpoint, Names("web"))}
        await quiet(a, b)
        assert b.member
        assert [one.names for one in b.member.remotes.values() if str(one.addresses[0]) == address] == [Names("web")]

        await a.kill("web")
        learner.look()
        await until(lambda: not a.store.promises.called, "the name to go")
        learning.cancel()
        with suppress(asyncio.CancelledError):
            await learning
