"""
Reads and writes the files below a root, and the record of what was put there.

The record is written before the files, with the digests of what was there and of what comes: whatever dies in between,
the next run knows our own. Its folder is the daemon's state folder.
"""

import json
import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from mdnp.install import NotDone
from mdnp.install.plan import Decision, Fate, digest

RECORD = "/var/lib/mdnp/installed.json"
_FOLDER_MODE = {"/var/lib/mdnp": 0o700, "/run/docker/plugins": 0o700}
# Folders that we may have made, and that go when nothing is left in them.
_OURS = ("/etc/mdnp", "/var/lib/mdnp", "docker.service.d", "resolved.conf.d")
# What a record raises that is not as we write it.
_UNREADABLE = (ValueError, LookupError, TypeError, AttributeError)


class Place:
    """The host whose files are below `root`. Errors: NotDone names the file."""

    def __init__(self, root: Path = Path("/")) -> None:
        self.root = root

    def present(self, paths: Iterable[str]) -> dict[str, str | None]:
        """The digest of each; "" for what is no file, and so nothing of ours."""
        return {path: self._digest(path) for path in paths}

    def recorded(self) -> Mapping[str, Sequence[str]]:
        return self._record()[1]

    def version(self) -> str:
        """Of the mdnp that wrote the record; "" if there is none."""
        return self._record()[0]

    def put(self, decisions: Sequence[Decision], version: str, *, recorded: bool = True) -> None:
        """Carry out what was decided for an installation, `recorded` unless a package manager does that."""
        before = self.recorded()
        wanted = {one.path: one.file.digest for one in decisions if one.file is not None and one.fate is not Fate.KEEP}
        kept = {one.path: before[one.path] for one in decisions if one.fate is Fate.KEEP and one.path in before}
        if recorded:
            coming = {path: [*before.get(path, ()), one] for path, one in wanted.items()}
            self._write_record({**before, **coming}, version)
        for one in decisions:
            if one.fate in (Fate.WRITE, Fate.REPLACE) and one.file is not None:
                self._write(one.path, one.file.text, one.file.mode)
            elif one.fate is Fate.REMOVE:
                self._remove(one.path)
        if recorded:
            self._write_record({**kept, **{path: [one] for path, one in wanted.items()}}, version)

    def text(self, path: str) -> str:
        """What a file of somebody else says; "" if it is not there."""
        try:
            return self._at(path).read_text(errors="surrogateescape")
        except FileNotFoundError:
            return ""
        except OSError as error:
            raise _not_done("read", self._at(path), error) from error

    def rewrite(self, path: str, text: str) -> None:
        """A file of somebody else, of which we change a part: its owner and its mode stay."""
        try:
            seen = self._at(path).stat()
            self._write(path, text, stat.S_IMODE(seen.st_mode))
            os.chown(self._at(path), seen.st_uid, seen.st_gid)
        except OSError as error:
            raise _not_done("write", self._at(path), error) from error

    def take_out(self, decisions: Sequence[Decision]) -> None:
        """Carry out what was decided for an uninstallation. What is kept is its changer's from now on."""
        for one in decisions:
            if one.fate is Fate.REMOVE:
                self._remove(one.path)
        self._remove(RECORD)

    def _record(self) -> tuple[str, dict[str, list[str]]]:
        path = self._at(RECORD)
        try:
            found = json.loads(path.read_text())
            files = {str(name): [str(one) for one in digests] for name, digests in found["files"].items()}
            return str(found["version"]), files
        except FileNotFoundError:
            return "", {}
        except PermissionError as error:
            raise _not_done("read", path, error) from error
        except (OSError, *_UNREADABLE) as error:
            raise NotDone(
                f"{path} cannot be read, so what mdnp wrote is not known: mend it, or move it away: what differs from"
                f" what this version writes counts as yours ({error!r})"
            ) from error

    def _write_record(self, files: Mapping[str, Sequence[str]], version: str) -> None:
        self._write(RECORD, json.dumps({"version": version, "files": files}, indent=2) + "\n", 0o600)

    def _digest(self, path: str) -> str | None:
        try:
            found = self._at(path)
            if not stat.S_ISREG(found.lstat().st_mode):
                return ""
            return digest(found.read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise _not_done("read", self._at(path), error) from error

    def _write(self, path: str, text: str, mode: int) -> None:
        """At once or not at all."""
        final = self._at(path)
        half = final.with_name(f".{final.name}.new")
        try:
            self._make_folder(Path(path).parent)
            half.unlink(missing_ok=True)
            with half.open("x", errors="surrogateescape") as file:
                os.fchmod(file.fileno(), mode)
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            half.rename(final)
        except OSError as error:
            raise _not_done("write", final, error) from error

    def _make_folder(self, folder: Path) -> None:
        for one in (*reversed(folder.parents), folder):
            here = self._at(str(one))
            if not here.is_dir():
                here.mkdir(mode=_FOLDER_MODE.get(str(one), 0o755))

    def _remove(self, path: str) -> None:
        try:
            self._at(path).unlink(missing_ok=True)
            folder = self._at(path).parent
            if str(folder).endswith(_OURS) and folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
        except OSError as error:
            raise _not_done("remove", self._at(path), error) from error

    def _at(self, path: str) -> Path:
        return self.root / path.lstrip("/")


def _not_done(verb: str, path: Path, error: OSError) -> NotDone:
    hint = ": run it as root" if isinstance(error, PermissionError) else ""
    return NotDone(f"cannot {verb} {path}: {error.strerror}{hint}")
