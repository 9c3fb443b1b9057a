"""Fill-in-the-middle: which control tokens a model family has for it, and the order of its parts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from handlers.engines.base import Control


@dataclass(frozen=True, slots=True)
class Family:
    """The tokens before prefix, suffix and middle; a family without the last one begins with the suffix.

    `ends` are tokens that such a model may end its middle with, besides its own end of text.
    """

    prefix: str
    suffix: str
    middle: str = ""
    ends: tuple[str, ...] = ()

    @property
    def tokens(self) -> tuple[str, ...]:
        return tuple(filter(None, (self.prefix, self.suffix, self.middle)))

    def parts(self, prefix: str, suffix: str) -> Sequence[str | Control]:
        """The prompt: text of the user as text, the family's tokens as tokens."""
        if not self.middle:
            return (Control(self.suffix), suffix, Control(self.prefix), prefix)
        return (Control(self.prefix), prefix, Control(self.suffix), suffix, Control(self.middle))


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
    """The family whose tokens the model has all of."""
    return next((family for family in FAMILIES if all(map(knows, family.tokens))), None)
