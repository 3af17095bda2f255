"""Who wants to know when promises change."""

from mdnp.store import Drop, Fact, Put
from mdnp.store.sqlite import SqliteStore
from tests.world import a_network, quick_folder


async def test_each_change_of_promises_is_told_once_it_is_there() -> None:
    with quick_folder() as folder:
        store = await SqliteStore.open(folder)
        seen: list[int] = []
        store.heed(lambda: seen.append(len(store.promises.networks)))

        await store.commit(Put(a_network()))
        await store.commit(Fact("name", "value"))
        await store.commit(Drop(a_network()))

        assert seen == [1, 0]
        await store.close()
