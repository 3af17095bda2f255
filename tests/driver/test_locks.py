"""Locks by key."""

import asyncio

from mdnp.driver.locks import Locks


async def test_one_key_is_held_by_one_at_a_time_in_order_of_asking() -> None:
    locks, log = Locks(), list[str]()

    async def work(name: str) -> None:
        async with locks.hold("one"):
            log.append(f"{name} in")
            await asyncio.sleep(0)
            log.append(f"{name} out")

    await asyncio.gather(work("a"), work("b"), work("c"))

    assert log == ["a in", "a out", "b in", "b out", "c in", "c out"]


async def test_different_keys_do_not_wait_for_each_other() -> None:
    locks = Locks()

    async with locks.hold("one"), asyncio.timeout(1), locks.hold("other"):
        pass


async def test_a_lock_is_free_again_after_an_error_and_after_a_caller_that_gave_up() -> None:
    locks = Locks()
    async with locks.hold("one"):
        waiting = asyncio.create_task(_hold(locks))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)

    async with asyncio.timeout(1), locks.hold("one"):
        pass


async def _hold(locks: Locks) -> None:
    async with locks.hold("one"):
        pass
