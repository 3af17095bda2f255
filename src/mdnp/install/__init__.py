"""
Puts mdnp under systemd, and takes it out again.

`units` says what the files say and `plan` what becomes of each, both pure; `place` reads and writes them below a root,
and `systemctl` speaks to a systemd that runs. A file that was changed since we wrote it is its changer's: it is neither
written over nor removed. Nothing here touches the kernel.
"""

from mdnp.model.errors import MdnpError


class NotDone(MdnpError):
    """Mend what it names and run it again: what was done is recorded, and is not done twice."""
