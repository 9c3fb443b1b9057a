"""Category names as identifiers: the name of a row in every URL, archive, file and metric."""

from __future__ import annotations

import re
import unicodedata

from conductor_core.issues import CellError, expected

SLUG = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")

# Letters that Unicode does not decompose into a Latin base letter.
_LETTERS = str.maketrans({"ø": "o", "ł": "l", "æ": "ae", "œ": "oe", "đ": "d", "ð": "d", "þ": "th", "ı": "i"})


def slug_of(name: str) -> str:
    """Turns `Conversational Chat` into `conversational_chat`; CellError if no valid slug remains.

    The slug of a slug is itself, so a category can be looked up by either. A slug that begins with a letter
    is a Python identifier too, because an engine's module has the name of its category.
    """
    folded = unicodedata.normalize("NFKD", name.casefold().translate(_LETTERS))
    plain = "".join(letter for letter in folded if not unicodedata.combining(letter))
    slug = re.sub(r"[^a-z0-9]+", "_", plain).strip("_")
    if not SLUG.fullmatch(slug):
        raise expected("a name of 1 to 64 Latin letters, digits and spaces", name)
    if slug.startswith("token"):
        raise CellError(f"{slug!r} is reserved: TorchServe takes any path with /token for its token API")
    return slug
