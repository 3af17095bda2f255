"""Why a server was of no use, in words: what gRPC and etcd say, for whoever must mend it. Pure."""

import re
from dataclasses import dataclass

# etcd's texts are part of its interface (api/v3rpc/rpctypes/error.go), gRPC's are not: the unknown is shown as it is.
LEASE_GONE = "requested lease not found"
COMPACTED = "required revision has been compacted"
_DENIED = "permission denied"
_NO_LEADER = "etcdserver: no leader"
_NO_CONNECTION = "failed to connect to all addresses"
_NO_NAME = "errors resolving"
_STALE = ("user name is empty", "invalid auth token", "revision of auth store is old")

_WORDS = (
    ("Connection refused", "connection refused: nobody listens there"),
    (
        r"tcp handshaker shutdown|connect\(\) timed out",
        "no connection in time: is it up, and does a firewall let us through?",
    ),
    ("(Network is unreachable|No route to host|Host is down)", r"\1"),
    (f"{_NO_NAME} .*lookup error:(.*?)]", r"its name cannot be looked up: \1"),
    ("CERTIFICATE_VERIFY_FAILED: (.*?)(: OK)?$", r"its certificate is not accepted: \1 (is it of etcd_ca?)"),
    ("Hostname Verification Check failed", "its certificate is for another host than this URL's"),
    (
        "TSI_DATA_CORRUPTED",
        "it ended the TLS handshake: it does not accept our certificate, or asks for one (etcd_cert)",
    ),
    ("WRONG_VERSION_NUMBER|Handshake read failed", "it does not speak TLS, or ended the handshake: is it http://?"),
    ("Connection timed out", "the connection broke: nothing comes through any more"),
    ("Connection reset|Broken pipe", "it broke the connection"),
    ("Socket closed", "it closed the connection: it is stopping, or expects TLS (https://)"),
    (_NO_LEADER, "no leader: most members of its cluster are down, or it is cut off from them"),
    ("user name is empty", "it asks for a user: set etcd_user and etcd_password_file, or show a user's etcd_cert"),
    ("invalid user ID or password", "wrong user or password (etcd_user, etcd_password_file)"),
    (_DENIED, "permission denied: the role of our user needs readwrite for the prefix /mdnp/"),
    ("database space exceeded", "its database is full: compact and defragment it, then `etcdctl alarm disarm`"),
    ("request timed out", "it could not do it in time: is its disk slow, or another member away?"),
)


@dataclass(frozen=True)
class Fault:
    """How a call ended: gRPC's code, as UNAVAILABLE, and what was said with it."""

    code: str
    said: str

    @property
    def not_done(self) -> bool:
        """Whether the server did nothing for sure, so that another may be asked to change something."""
        return self.said.startswith((_NO_CONNECTION, _NO_NAME)) or any(
            one in self.said for one in (_NO_LEADER, _DENIED)
        )

    @property
    def is_answer(self) -> bool:
        """Whether it is what all servers would say, and no fault of this one."""
        return LEASE_GONE in self.said or COMPACTED in self.said

    @property
    def asks_who(self) -> bool:
        """Whether another token may help."""
        return any(one in self.said for one in _STALE)


CANCELED = "CANCELED"  # a watch that etcd ends, which is none of gRPC's codes
TIMED_OUT = Fault("DEADLINE_EXCEEDED", "")
ENDED = Fault("OK", "it ended the stream")


def reason(fault: Fault) -> str:
    if fault.code == TIMED_OUT.code:
        return "no answer in time"
    if fault == ENDED:
        return fault.said
    for pattern, words in _WORDS:
        if found := re.search(pattern, fault.said):
            return found.expand(words)
    return f"{fault.code.replace('_', ' ').lower()}: {fault.said}"
