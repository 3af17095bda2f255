"""A set of numbers out of very many. Pure."""

_BITS = 10
_WIDTH = 1 << _BITS
_FULL = (1 << _WIDTH) - 1


class SparseSet:
    """
    A set of numbers from 0 to `size` that finds the next number not in it, in time logarithmic in `size`.

    A tree of bit blocks, by level: the lowest has a bit for each number, one above a bit for each full block below.
    Blocks without a bit are not there.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        height = max(1, -(-(size - 1).bit_length() // _BITS))
        self._levels: tuple[dict[int, int], ...] = tuple({} for _ in range(height))

    def add(self, number: int) -> None:
        for level in self._levels:
            number, bit = number >> _BITS, 1 << (number & _WIDTH - 1)
            block = level.get(number, 0) | bit
            level[number] = block
            if block != _FULL:
                return

    def remove(self, number: int) -> None:
        """Take out a number that is in the set."""
        for level in self._levels:
            number, bit = number >> _BITS, 1 << (number & _WIDTH - 1)
            block = level[number]
            level[number] = block ^ bit
            if block == bit:
                del level[number]
            if block != _FULL:
                return

    def gap(self, start: int) -> int | None:
        """The first number from `start` on that is not in the set."""
        for height, level in enumerate(self._levels):
            block = start >> _BITS
            gaps = (level.get(block, 0) ^ _FULL) >> (start & _WIDTH - 1)
            if gaps:
                return self._gap_under(height, start + _lowest_bit(gaps))
            start = block + 1
        return None

    def _gap_under(self, height: int, block: int) -> int | None:
        for level in reversed(self._levels[:height]):
            block = (block << _BITS) + _lowest_bit(level.get(block, 0) ^ _FULL)
        return block if block < self._size else None


def _lowest_bit(bits: int) -> int:
    return (bits & -bits).bit_length() - 1
