"""Streamed text is the whole text, cut at the stop string, and never shows half a character."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from modelworks.engine.language.textstream import TextStream


def decode(rows: list[list[int]]) -> list[str]:
    """Tokens are bytes."""
    return [bytes(row).decode("utf-8", "replace") for row in rows]


def streamed(ids: list[int], prompt: list[int], stop: list[str]) -> tuple[list[str], bool]:
    stream = TextStream(decode, prompt, stop)
    pieces = [stream.push(token) for token in ids]
    return [*pieces, stream.flush()], stream.stopped


@given(st.text(), st.text())
@settings(max_examples=300, deadline=None)
def test_pieces_join_to_the_text_and_hold_whole_characters(prompt: str, text: str) -> None:
    pieces, _ = streamed(list(text.encode()), list(prompt.encode()), [])
    assert "".join(pieces) == text
    if "\ufffd" not in text:
        assert "\ufffd" not in "".join(pieces)


@given(st.binary(max_size=60))
@settings(max_examples=300, deadline=None)
def test_broken_bytes_lose_nothing(data: bytes) -> None:
    pieces, _ = streamed(list(data), [], [])
    assert "".join(pieces) == data.decode("utf-8", "replace")


@given(
    st.text("ab\u00e9", max_size=30),
    st.lists(st.text("ab\u00e9", min_size=1, max_size=4), min_size=1, max_size=3),
)
@settings(max_examples=400, deadline=None)
def test_a_stop_string_ends_the_text_wherever_its_tokens_lie(text: str, stops: list[str]) -> None:
    pieces, stopped = streamed(list(text.encode()), [], stops)
    # By the definition: go on character by character until a stop string is complete.
    for end in range(len(text) + 1):
        done = [stop for stop in stops if text[:end].endswith(stop)]
        if done:
            assert "".join(pieces) == text[: end - max(map(len, done))]
            assert stopped
            return
    assert "".join(pieces) == text
    assert not stopped


def test_text_leaves_as_soon_as_it_is_certain() -> None:
    stream = TextStream(decode, [], ["\n\n"])
    assert [stream.push(byte) for byte in "h\u00e9\na".encode()] == ["h", "", "\u00e9", "", "\na"]


def test_a_token_written_by_what_it_follows_sees_the_prompt() -> None:
    def pieces(
        rows: list[list[int]],
    ) -> list[str]:  # as word pieces: 1 goes on with a word, the others begin one
        return [" ".join("abc"[token] for token in row).replace(" b", "b") for row in rows]

    stream = TextStream(pieces, [0])
    assert [stream.push(token) for token in (1, 2, 1)] == ["b", " c", "b"]


def test_bytes_shown_as_three_halves_wait_for_the_character() -> None:
    def fallback(
        rows: list[list[int]],
    ) -> list[str]:  # as sentencepiece: every byte of a broken run is a half
        found = []
        for row in rows:
            try:
                found.append(bytes(row).decode())
            except UnicodeDecodeError:
                found.append("\ufffd" * len(row))
        return found

    stream = TextStream(fallback)
    assert "".join(stream.push(byte) for byte in "\u4f60".encode()) + stream.flush() == "\u4f60"
