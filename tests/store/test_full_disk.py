"""The store on a disk that is really full."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from mdnp.model.errors import StoreUnavailable
from mdnp.model.network import Network
from mdnp.store import Put, Store
from mdnp.store.sqlite import SqliteStore
from tests.kernel.grounds import run
from tests.world import a_network

pytestmark = pytest.mark.root


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    run("mount", "-t", "tmpfs", "-o", "size=256k", "mdnp-test", str(tmp_path))
    try:
        yield tmp_path
    finally:
        run("umount", str(tmp_path))


def fill(disk: Path) -> Path:
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(512)):
                pass
        except OSError:
            os.fsync(file.fileno())
    return filler


async def outcome(store: Store, network: Network) -> Exception | None:
    try:
        await store.commit(Put(network))
    except StoreUnavailable as error:
        return error
    return None


async def test_a_full_disk_refuses_and_a_mended_one_goes_on(small_disk: Path) -> None:
    store = await SqliteStore.open(small_disk)
    networks = [a_network(f"{n:012}", f"10.{n}.0.0/24") for n in range(100)]
    await store.commit(Put(networks[0]))
    filler = fill(small_disk)

    results = [await outcome(store, network) for network in networks[1:]]
    accepted = [network for network, error in zip(networks[1:], results, strict=True) if error is None]
    while_full = list(store.promises.networks.values())
    filler.unlink()
    await store.commit(Put(networks[-1]))
    await store.close()

    assert {type(error) for error in results[len(accepted) :]} == {StoreUnavailable}
    assert while_full == [networks[0], *accepted]
    store = await SqliteStore.open(small_disk)
    assert list(store.promises.networks.values()) == [*while_full, networks[-1]]
    await store.close()


async def test_a_store_cannot_be_made_on_a_full_disk(small_disk: Path) -> None:
    filler = fill(small_disk)

    with pytest.raises(StoreUnavailable, match="cannot use the state"):
        await SqliteStore.open(small_disk)
    filler.unlink()
    store = await SqliteStore.open(small_disk)
    await store.commit(Put(a_network()))

    assert list(store.promises.networks.values()) == [a_network()]
    await store.close()
