"""Text is cut at stop strings, however it is split into pieces."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from handlers.inference.output import StopStrings


def cut(pieces: list[str], stops: list[str]) -> tuple[str, bool]:
    scanner = StopStrings(stops)
    sent = ""
    for piece in pieces:
        sent += scanner.feed(piece)
        if scanner.hit:
            return sent, True
    return sent + scanner.flush(), False


def test_text_before_the_stop_is_sent_and_the_stop_is_not() -> None:
    assert cut(["one tw", "o three"], ["two"]) == ("one ", True)


def test_a_held_beginning_of_a_stop_is_sent_when_nothing_follows() -> None:
    assert cut(["one t", "w"], ["two"]) == ("one tw", False)


def test_the_earliest_of_several_stops_wins() -> None:
    assert cut(["abcdef"], ["ef", "bc"]) == ("a", True)


def test_nothing_is_held_back_without_stops() -> None:
    assert StopStrings([]).feed("abc") == "abc"


@given(
    st.lists(st.text(alphabet="ab", max_size=4), max_size=12),
    st.lists(st.text(alphabet="ab", min_size=1, max_size=3), max_size=3),
)
def test_pieces_do_not_change_where_text_is_cut(pieces: list[str], stops: list[str]) -> None:
    """A stop met earlier may end before a longer one is complete; the cut is then earlier."""
    sent, hit = cut(pieces, stops)
    whole = "".join(pieces)
    assert whole.startswith(sent)
    assert hit == any(stop in whole for stop in stops)
    assert not any(stop in sent for stop in stops)
    if not hit:
        assert sent == whole
