"""
The page: one file, read once, and the rules under which a browser may show it.

It asks /topology of whoever served it and nobody else. Nothing that it shows can become markup or script: what may run
is named by its hash, and the browser refuses to make markup of text (trusted types).
"""

import base64
import hashlib
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from mdnp.admin.routes import Answer

CONTENT_TYPE = "text/html; charset=utf-8"

_FILE = Path(__file__).with_name("page.html")
_INLINE = re.compile(rb"<(style|script)>(.*?)</\1>", re.DOTALL)


@cache
def page() -> bytes:
    return _FILE.read_bytes()


@cache
def headers() -> Mapping[str, str]:
    """For every answer that a browser may get."""
    hashes: dict[str, str] = {}
    for kind, content in _INLINE.findall(page()):
        digest = base64.b64encode(hashlib.sha256(content).digest()).decode()
        hashes[kind.decode()] = f"'sha256-{digest}'"
    policy = (
        "default-src 'none'",
        f"script-src {hashes['script']}",
        f"style-src {hashes['style']}",
        "img-src data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
    return {
        "Content-Security-Policy": "; ".join(policy),
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cache-Control": "no-store",
    }


async def answer() -> Answer:
    return Answer(200, page(), CONTENT_TYPE, headers())
