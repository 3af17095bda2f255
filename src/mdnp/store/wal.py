"""The head of SQLite's write-ahead log, which SQLite passes over without a word if it is damaged. Pure."""

import struct

HEAD_SIZE = 32
_MAGICS = (0x377F0682, 0x377F0683)
_UINT32 = 0xFFFFFFFF


def is_head(head: bytes) -> bool:
    """
    Whether the first bytes of a log are a head whose checksum holds: sqlite.org/fileformat2.html, 4.1 and 4.2.

    A log without one counts as empty for SQLite, and what was committed to it as never written.
    """
    if len(head) < HEAD_SIZE:
        return False
    magic, *_, stored1, stored2 = struct.unpack(">8I", head[:HEAD_SIZE])
    if magic not in _MAGICS:
        return False
    # The last bit of the magic number says in which order the bytes of a word were summed up.
    words = struct.unpack(">6I" if magic & 1 else "<6I", head[:24])
    sum1 = sum2 = 0
    for one, other in zip(words[::2], words[1::2], strict=True):
        sum1 = (sum1 + one + sum2) & _UINT32
        sum2 = (sum2 + other + sum1) & _UINT32
    return (sum1, sum2) == (stored1, stored2)
