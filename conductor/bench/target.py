"""Target of a bench: the archive that the running gateway serves, as setup and prompts of both sides.

Reads the archive's own configuration, so that the direct side gets the same weights, threads and tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conductor.errors import CommandError
from conductor.stored_archives import UnreadableArchive, newest, read_config
from conductor_core.paths import StateDir
from handlers.engines.registry import engine_class
from handlers.inference.tokenizer import TextTokenizer
from handlers.wire import GenerateRequest, Message, Sampling
from handlers.worker_config import WorkerConfig

SYSTEM = "You are a helpful assistant."
"""System message of each request, so that both sides get the same conversation whatever the persona is."""

_FOLDER = Path(__file__).parent
CLIENT = _FOLDER / "gateway_client.py"


@dataclass(frozen=True, slots=True)
class BenchTarget:
    """One row of a running gateway. `engine` is the row's own, the configuration that of its worker set."""

    category: str
    engine: str
    config: WorkerConfig

    @property
    def direct_script(self) -> Path:
        """Script that calls this runtime's library. Raises CommandError if there is none."""
        script = _FOLDER / f"direct_{self.config.runtime}.py"
        if not script.exists():
            raise CommandError(f"bench cannot measure the library alone for runtime {self.config.runtime}")
        return script

    @property
    def threads(self) -> int:
        return self.config.runtime_config.threads or 1

    def direct_setup(self) -> dict[str, Any]:
        """First line for the direct side."""
        return {
            "model": str(self.config.model_path),
            "threads": self.threads,
            "precision": self.config.precision,
            "device": self.config.device,
        }

    def messages(self, prompt: str) -> list[dict[str, str]]:
        """The conversation that both sides answer, as the gateway's body has it."""
        return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": prompt}]

    def tokenised(self, prompts: Sequence[str]) -> list[list[int]]:
        """Token ids of those conversations as the worker makes them."""
        tokenizer, engine = TextTokenizer(self.config.model_path), engine_class(self.engine)()
        sampling = Sampling(temperature=0.0)
        found = []
        for prompt in prompts:
            messages = [Message.model_validate(one) for one in self.messages(prompt)]
            request = GenerateRequest(id="bench", engine=self.engine, messages=messages, sampling=sampling)
            found.append(tokenizer.encode_chat(engine.prepare(request).messages))
        return found


def worker_config(state: StateDir, set_name: str) -> WorkerConfig:
    """The configuration in the newest archive of a worker set that `conductor serve` built."""
    archive = newest(state, set_name)
    if archive is None:
        raise CommandError(
            f"no archive of {set_name} in {state.store}; give the gateway's folder with --state-dir"
        )
    try:
        return read_config(archive)
    except UnreadableArchive as error:
        raise CommandError(f"{error}; start the gateway again: conductor serve") from error
