"""Fill-in-the-middle: its control tokens in each model family, and the order of its parts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from handlers.engines.base import ControlToken


@dataclass(frozen=True, slots=True)
class Family:
    """Tokens before prefix, suffix and middle; a family without a middle token puts the suffix first.

    `ends` are tokens that may end the middle, besides the model's own end of text.
    """

    prefix: str
    suffix: str
    middle: str = ""
    ends: tuple[str, ...] = ()

    @property
    def tokens(self) -> tuple[str, ...]:
        return tuple(filter(None, (self.prefix, self.suffix, self.middle)))

    def parts(self, prefix: str, suffix: str) -> Sequence[str | ControlToken]:
        """The parts of the prompt: the user's texts as text, the family's tokens as control tokens."""
        if not self.middle:
            return (ControlToken(self.suffix), suffix, ControlToken(self.prefix), prefix)
        return (
            ControlToken(self.prefix),
            prefix,
            ControlToken(self.suffix),
            suffix,
            ControlToken(self.middle),
        )


FAMILIES = (
    # Qwen-Coder and CodeGemma
    Family(
        "<|fim_prefix|>",
        "<|fim_suffix|>",
        "<|fim_middle|>",
        ("<|endoftext|>", "<|fim_pad|>", "<|file_sep|>", "<|file_separator|>", "<|repo_name|>"),
    ),
    # StarCoder, Granite
    Family(
        "<fim_prefix>",
        "<fim_suffix>",
        "<fim_middle>",
        ("<|endoftext|>", "<fim_pad>", "<file_sep>", "<repo_name>"),
    ),
    # SantaCoder
    Family("<fim-prefix>", "<fim-suffix>", "<fim-middle>", ("<|endoftext|>", "<fim-pad>")),
    # CodeLlama
    Family("▁<PRE>", "▁<SUF>", "▁<MID>", ("▁<EOT>",)),
    # DeepSeek-Coder: its "hole" stands before the suffix
    Family("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>", ("<｜end▁of▁sentence｜>", "<|EOT|>")),
    # Codestral
    Family("[PREFIX]", "[SUFFIX]"),
)


def family_of(knows: Callable[[str], bool]) -> Family | None:
    """The family all of whose tokens the model has."""
    return next((family for family in FAMILIES if all(map(knows, family.tokens))), None)
