"""Errors, named for what the caller may do about them."""


class MdnpError(Exception):
    """What every refusal of ours is. The text says what, why and what to do; Docker shows it to its user."""


class InvalidParameter(MdnpError):
    """Fix the request."""


class NotFound(MdnpError):
    """Name something that exists."""


class Conflict(MdnpError):
    """It exists already and differs, or something else holds what was asked for."""


class Exhausted(MdnpError):
    """Nothing is left; free something or give more."""


class Unsupported(MdnpError):
    """Ask for something that is built."""


class KernelError(MdnpError):
    """The kernel refused a step."""


class InUse(KernelError):
    """Somebody else has it; take another, or make them let go."""


class StoreUnavailable(MdnpError):
    """The promise could not be written down; try again when the disk has been mended."""


class Damaged(StoreUnavailable):
    """What is on disk cannot be read; put it aside and begin anew with what can be recovered."""
