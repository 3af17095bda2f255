"""Why a server was of no use, from what gRPC 1.85 and etcd 3.4 said."""

import pytest

from mdnp.cluster.reasons import ENDED, TIMED_OUT, Fault, reason

NO_CONNECTION = "failed to connect to all addresses; last error: UNKNOWN: ipv4:192.0.2.2:2379: "


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (f"{NO_CONNECTION}Failed to connect to remote host: Connection refused", "connection refused"),
        (f"{NO_CONNECTION}Failed to connect to remote host: connect() timed out", "no connection in time"),
        (f"{NO_CONNECTION}tcp handshaker shutdown", "no connection in time"),
        (f"{NO_CONNECTION}connect failed: addr: ipv4:192.0.2.2:2379 error: No route to host", "No route to host"),
        ("Stream removed (recvmsg:Connection timed out (110))", "the connection broke"),
        ("recvmsg:Connection reset by peer (104)", "it broke the connection"),
        (
            "errors resolving a.invalid:1: [field:hostname lookup error:address lookup failed: Could not contact DNS]",
            "its name cannot be looked up: address lookup failed: Could not contact DNS",
        ),
        (
            f"{NO_CONNECTION}OPENSSL_internal:CERTIFICATE_VERIFY_FAILED: certificate has expired: OK",
            "its certificate is not accepted: certificate has expired (is it of etcd_ca?)",
        ),
        ("etcdserver: no leader", "no leader: "),
        ("etcdserver: request timed out", "it could not do it in time"),
        ("etcdserver: too many requests", "unavailable: etcdserver: too many requests"),
    ],
)
def test_what_was_said_is_put_in_words(said: str, words: str) -> None:
    assert reason(Fault("UNAVAILABLE", said)).startswith(words)


def test_silence_and_an_end_have_words_too() -> None:
    assert reason(TIMED_OUT) == "no answer in time"
    assert reason(Fault("DEADLINE_EXCEEDED", "Deadline Exceeded")) == "no answer in time"
    assert reason(ENDED) == "it ended the stream"
