"""Asks the servers of the cluster as the daemon would ask them, each by itself."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path

from mdnp.cluster import ClusterUnavailable
from mdnp.cluster.access import Access, connect
from mdnp.doctor import Etcd
from mdnp.model.etcd_url import EtcdURL, parse_etcd_url

_OFF = "off"
_SMALL = "/mdnp/v1/epoch"  # what is read to see whether it can be


def ask(settings: Mapping[str, str]) -> dict[str, Etcd]:
    """
    Each server of `settings`, which are in words, all at once; none if there is none.

    Errors: MdnpError, as for a file that cannot be used.
    """
    told = {name: text for name, text in settings.items() if text != _OFF}
    urls = [parse_etcd_url(text) for text in told.get("etcd", "").split()]
    files = {name: Path(told[f"etcd_{name}"]) for name in ("ca", "cert", "key") if f"etcd_{name}" in told}
    password = Path(told["etcd_password_file"]) if "etcd_password_file" in told else None
    access = Access(**files, user=told.get("etcd_user", ""), password_file=password)
    return asyncio.run(_asked_all(urls, access)) if urls else {}


async def _asked_all(urls: Sequence[EtcdURL], access: Access) -> dict[str, Etcd]:
    answers = await asyncio.gather(*(_asked(url, access) for url in urls))
    return dict(zip(map(str, urls), answers, strict=True))


async def _asked(url: EtcdURL, access: Access) -> Etcd:
    server = connect([url], access)
    try:
        return Etcd((await server.snapshot(_SMALL)).cluster)
    except ClusterUnavailable as error:
        return Etcd(trouble=str(error).partition(f"{url}: ")[2] or str(error))
    finally:
        await server.close()
