"""Child process: asks the Hugging Face hub for the commit of a revision, and downloads a model's safe files.

Files go to the Hugging Face cache, which resumes interrupted downloads. Files that are on this machine
already need no connection.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

from httpx2 import TransportError
from huggingface_hub import HfApi, constants, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from tqdm.auto import tqdm  # type: ignore[import-untyped]

from archives.errors import BuildError
from archives.job import Report, serve_job
from archives.safety import JSON_WITH_CODE, names_in, refuse_auto_map, wanted_files
from conductor_core.files import LARGEST_JSON, read_bounded

_OFFLINE = (
    "connect to the network, or copy the model into a folder of this machine and put that path into "
    "Technical Model Name"
)

_UNREACHABLE = (TransportError, OSError, OfflineModeIsEnabled)


def work(request: dict[str, Any], report: Report) -> dict[str, Any]:
    """`resolve` gives `{"commit"}`, `download` gives `{"path"}`: one .gguf, or the snapshot's folder.

    Files that `again` names are downloaded even if they exist.
    """
    try:
        if request["action"] == "resolve":
            return {"commit": _resolve(request["repo"], request["revision"])}
        again = frozenset(request.get("again") or ())
        path = _download(request["repo"], request["revision"], request["file"], again, report)
        return {"path": str(path)}
    except GatedRepoError as error:
        raise BuildError(
            f"{request['repo']} is gated", "accept its licence on its page, then run `hf auth login`"
        ) from error
    except RepositoryNotFoundError as error:
        raise BuildError(
            f"the hub has no {request['repo']}, or it is private", "check the name, or `hf auth login`"
        ) from error
    except LocalEntryNotFoundError as error:
        raise _offline(request["repo"]) from error
    except (RevisionNotFoundError, EntryNotFoundError) as error:
        what = request.get("file") or request["revision"]
        raise BuildError(f"{request['repo']} has no {what}", "check the revision and the file") from error
    except HfHubHTTPError as error:
        fault = f"the hub refuses {request['repo']}: {str(error).splitlines()[0]}"
        raise BuildError(fault, "try again later") from error
    except _UNREACHABLE as error:
        raise _offline(request["repo"]) from error


def _offline(repo: str) -> BuildError:
    return BuildError(f"{repo} is not on this machine and {constants.ENDPOINT} cannot be reached", _OFFLINE)


def _resolve(repo: str, revision: str | None) -> str:
    try:
        return str(HfApi().model_info(repo, revision=revision).sha)
    except (RepositoryNotFoundError, RevisionNotFoundError):
        raise
    except (HfHubHTTPError, *_UNREACHABLE):
        # A model in the cache needs no hub.
        return Path(snapshot_download(repo, revision=revision, local_files_only=True)).name


def _download(repo: str, commit: str, file: str | None, again: Collection[str], report: Report) -> Path:
    bar = _bar_class(repo, report)

    def fetched(name: str) -> Path:
        found = hf_hub_download(repo, name, revision=commit, tqdm_class=bar, force_download=name in again)
        return Path(found)

    if file is not None:
        return fetched(file)
    try:
        siblings = HfApi().model_info(repo, revision=commit).siblings or []
    except (HfHubHTTPError, *_UNREACHABLE):
        if again:
            raise
        return _cached(repo, commit)
    folder = Path()
    for name in wanted_files((sibling.rfilename for sibling in siblings), repo):
        path = fetched(name)
        if name in JSON_WITH_CODE:
            refuse_auto_map(json.loads(read_bounded(path, LARGEST_JSON)), name, repo)
        folder = path.parent
    return folder


def _cached(repo: str, commit: str) -> Path:
    folder = Path(snapshot_download(repo, revision=commit, local_files_only=True))
    try:
        wanted_files(names_in(folder), repo)
    except BuildError as error:
        raise LocalEntryNotFoundError(str(error)) from error
    return folder


def _bar_class(repo: str, report: Report) -> type[tqdm]:
    class Bar(tqdm):  # type: ignore[misc]
        """A progress bar that reports progress and draws nothing."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self._what = f"{repo} {kwargs.get('desc') or ''}".strip()
            super().__init__(*args, **{**kwargs, "disable": False, "file": io.StringIO()})

        def update(self, n: float | None = 1) -> bool | None:
            drawn = super().update(n)
            report("download", int(self.n), int(self.total) if self.total else None, self._what)
            return bool(drawn)

    return Bar


if __name__ == "__main__":
    serve_job(work)
