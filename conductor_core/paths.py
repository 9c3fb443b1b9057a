"""Paths on disk: the state directory, and the project folder of SETTINGS.md.

A Unix socket path has at most 107 bytes, which limits the path of the run folder.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

from conductor_core.catalogue import ModelRef
from conductor_core.files import NotARegularFile, fault

LONGEST_RUN_PATH = 70
"""Most bytes of the run folder's path; leaves room below 107 for socket names and TorchServe's suffixes."""


class StateDirError(Exception):
    """The state directory cannot be used; the message names the folder and the reason in one line."""


@dataclass(frozen=True, slots=True)
class StateDir:
    """One gateway's state directory, private to its user."""

    root: Path

    @classmethod
    def at(cls, path: Path | str) -> StateDir:
        """The state directory at `path`, made absolute; `~` is the home folder."""
        return cls(Path(os.path.abspath(Path(path).expanduser())))

    @property
    def store(self) -> Path:
        """Archives that `conductor serve` builds; TorchServe's model store."""
        return self.root / "store"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def run(self) -> Path:
        """Folder of all sockets: `<root>/run`, or one in the temporary folder if that path is too long."""
        inside = self.root / "run"
        if len(os.fsencode(inside)) <= LONGEST_RUN_PATH:
            return inside
        name = "conductor-" + hashlib.sha256(os.fsencode(self.root)).hexdigest()[:16]
        outside = Path(tempfile.gettempdir()) / name
        return outside if len(os.fsencode(outside)) <= LONGEST_RUN_PATH else Path("/tmp") / name

    @property
    def run_file(self) -> Path:
        """JSON file of the running gateway: its address, processes and run folder."""
        return self.root / "run.json"

    @property
    def lock_file(self) -> Path:
        """Lock file that the one gateway of this directory holds."""
        return self.root / "lock"

    @property
    def owner_token(self) -> Path:
        """File of the owner's token, see `conductor_core.owner`."""
        return self.run / "owner.token"

    @property
    def keys_file(self) -> Path:
        """API keys as hashes with their scopes; the file does not exist before the first key."""
        return self.root / "keys.json"

    @property
    def first_key(self) -> Path:
        """The text of the key that the gateway itself made with CONDUCTOR_CREATE_KEY."""
        return self.root / "admin.key"

    @property
    def audit_file(self) -> Path:
        """JSON lines: one when an operator begins an action, and one for its outcome."""
        return self.logs / "audit.jsonl"

    @property
    def reads_file(self) -> Path:
        """As `audit_file`, for read requests with a key that may change things."""
        return self.logs / "reads.jsonl"

    @property
    def refusals_file(self) -> Path:
        """As `audit_file`, for requests that were refused because a key or its scope was missing."""
        return self.logs / "refusals.jsonl"

    @property
    def reserve_file(self) -> Path:
        """Reserved disk space, freed so that a key can be revoked on a full disk."""
        return self.root / "reserve"

    @property
    def peaks_file(self) -> Path:
        """Memory peaks of worker sets, measured on this machine."""
        return self.root / "peaks.json"

    @property
    def torchserve(self) -> Path:
        """TorchServe's own working directory."""
        return self.root / "torchserve"

    @property
    def torchserve_keys(self) -> Path:
        """Keys for TorchServe's APIs, which TorchServe writes at each start."""
        return self.torchserve / "key_file.json"

    @property
    def torchserve_tmp(self) -> Path:
        """TorchServe's TMPDIR and TEMP; in the run folder because TorchServe puts sockets there."""
        return self.run / "tmp"

    @property
    def inference_socket(self) -> Path:
        return self.run / "inference.sock"

    @property
    def management_socket(self) -> Path:
        return self.run / "management.sock"

    def worker_socket(self, pid: int) -> Path:
        """The Unix socket of the worker process `pid`."""
        return self.run / f"{pid}.sock"

    def create(self) -> None:
        """Creates all folders with mode 0700; StateDirError if one cannot be created or made private."""
        for folder in (self.root, self.store, self.logs, self.run, self.torchserve, self.torchserve_tmp):
            try:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                found = folder.lstat()
                if not stat.S_ISDIR(found.st_mode) and not folder.is_dir():
                    raise StateDirError(f"{folder} is not a folder")
                # In a shared temporary folder another user may have created it, or a link, before.
                if stat.S_ISLNK(found.st_mode) or found.st_uid != os.geteuid():
                    raise StateDirError(f"{folder} is a symbolic link or belongs to another user")
                folder.chmod(0o700)
            except OSError as error:
                bare = OSError(error.errno, error.strerror)  # the message names the path already
                raise StateDirError(f"{folder} cannot be created: {fault(bare)}") from error

    def check_files(self) -> None:
        """Raises StateDirError if something else is at a file's path, such as a FIFO, which would block."""
        for folder in (self.root, self.logs):
            for path in sorted(folder.iterdir()):
                if path.suffix not in _FILE_ENDINGS and path.name not in _FILES:
                    continue
                try:
                    is_file = stat.S_ISREG(path.stat().st_mode)
                except FileNotFoundError:
                    continue  # a dangling link, or deleted since
                except OSError as error:
                    raise StateDirError(fault(error)) from error
                if not is_file:
                    raise StateDirError(fault(NotARegularFile(path)))


_FILE_ENDINGS = frozenset({".json", ".jsonl", ".log", ".db", ".key", ".lock", ".new"})
_FILES = frozenset({"lock", "reserve"})


@dataclass(frozen=True, slots=True)
class ProjectPaths:
    """Folders of the project, next to the settings file `settings`."""

    settings: Path

    @classmethod
    def at(cls, settings: Path | str) -> ProjectPaths:
        """The project of the file `settings`, made absolute; `~` is the home folder."""
        return cls(Path(os.path.abspath(Path(settings).expanduser())))

    @property
    def root(self) -> Path:
        return self.settings.parent

    @property
    def models(self) -> Path:
        """Downloaded and converted weights."""
        return self.root / "models"

    @property
    def store(self) -> Path:
        """Archives that `make archives` builds, for TorchServe without the gateway."""
        return self.root / "archives" / "store"

    def local_model(self, ref: ModelRef) -> Path:
        """Absolute path of a `path` reference; a relative one is relative to the settings file."""
        return Path(os.path.abspath(self.root / Path(ref.source).expanduser()))
