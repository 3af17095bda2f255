"""
Names across hosts, made from the settings: what Docker calls things is learned, and whoever asks is answered.

Nothing of it runs, and the library that reads questions is not loaded, until a network has names or the host asks for
them.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mdnp.config import Settings
from mdnp.dns import Scope, Scopes
from mdnp.dns.catalogue import Catalogue
from mdnp.engine import NameSource
from mdnp.kernel.doorway import Doorways
from mdnp.member import News, Outlook
from mdnp.model.identity import NetworkID
from mdnp.model.network import IPAddress
from mdnp.store import Store

_RESOLVERS = Path("/etc/resolv.conf")
