"""The conversation's file: read before the request, extended after it, whole or not at all."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from pixir_actors.cli.conversation import Conversation, FileChanged, load, looks_like_one, message, parse
from pixir_actors.cli.options import WrongUsage

HELLO = {"role": "user", "content": "hello"}
ANSWER = {"role": "assistant", "content": "hi"}


def nothing() -> str:
    raise AssertionError("standard input is not read")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "talk" / "talk.json"


def written(path: Path, value: Any) -> str:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(value))
    return str(path)


def test_without_a_name_there_is_none() -> None:
    assert load(None, nothing) == Conversation()


def test_a_file_is_extended(path: Path) -> None:
    conversation = load(written(path, [HELLO]), nothing)
    assert conversation.items == [HELLO]
    conversation.save([ANSWER])
    assert json.loads(path.read_text()) == [HELLO, ANSWER]
    assert os.listdir(path.parent) == ["talk.json"]


def test_a_body_stays_a_body(path: Path) -> None:
    conversation = load(written(path, {"model": "m", "input": [HELLO], "tools": []}), nothing)
    assert (conversation.items, conversation.fields) == ([HELLO], {"model": "m", "tools": []})
    conversation.save([ANSWER])
    assert json.loads(path.read_text()) == {"model": "m", "tools": [], "input": [HELLO, ANSWER]}


def test_a_body_s_text_is_one_message(path: Path) -> None:
    assert load(written(path, {"input": "hello"}), nothing).items == [HELLO]


def test_a_new_file_is_nobody_else_s_business(path: Path) -> None:
    path.parent.mkdir()
    conversation = load(str(path), nothing)
    assert conversation.items == []
    conversation.save([HELLO])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_file_keeps_its_mode_and_a_link_stays_one(path: Path, tmp_path: Path) -> None:
    written(path, [])
    path.chmod(0o640)
    link = tmp_path / "link.json"
    link.symlink_to(path)
    load(str(link), nothing).save([HELLO])
    assert link.is_symlink()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert json.loads(path.read_text()) == [HELLO]


def test_an_empty_file_is_an_empty_conversation(path: Path) -> None:
    path.parent.mkdir()
    path.touch()
    load(str(path), nothing).save([HELLO])
    assert json.loads(path.read_text()) == [HELLO]


def test_a_file_that_somebody_else_has_written_is_left_alone(path: Path) -> None:
    conversation = load(written(path, [HELLO]), nothing)
    written(path, [ANSWER])
    with pytest.raises(FileChanged):
        conversation.save([ANSWER])
    assert json.loads(path.read_text()) == [ANSWER]
    assert os.listdir(path.parent) == ["talk.json"]


def test_a_file_that_cannot_be_replaced_is_as_it_was(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    conversation = load(written(path, [HELLO]), nothing)

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        conversation.save([ANSWER])
    assert json.loads(path.read_text()) == [HELLO]
    assert os.listdir(path.parent) == ["talk.json"]


def test_a_directory_that_is_missing_is_known_before_anything_is_sent(path: Path) -> None:
    with pytest.raises(WrongUsage, match="its directory is missing or cannot be written"):
        load(str(path), nothing)


def test_standard_input_is_read_and_not_written() -> None:
    conversation = load("-", lambda: json.dumps([HELLO]))
    assert conversation.items == [HELLO]
    conversation.save([ANSWER])


@pytest.mark.parametrize("text", ['"canary"', "[1]", "{}", '{"input": [1]}', '{"input": null}', "canary", "[", ""])
def test_what_is_no_conversation_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(WrongUsage, match=r"^here: ") as caught:
        parse(text.encode(), "here")
    assert "canary" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(WrongUsage, match="cannot be read: Is a directory"):
        load(str(tmp_path), nothing)


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        (json.dumps([HELLO]), True),
        (json.dumps({"model": "m", "input": [HELLO]}), True),
        ("[]", False),
        ('[{"x": 1}]', False),
        ("[link] see there", False),
        ("hello", False),
    ],
)
def test_a_conversation_in_the_wrong_place_is_noticed(text: str, is_one: bool) -> None:
    assert looks_like_one(text) is is_one


@pytest.mark.parametrize(
    ("last", "waits"),
    [(HELLO, True), (ANSWER, False), ({"type": "function_call_output"}, True), ({"type": "function_call"}, False)],
)
def test_it_waits_for_the_model_if_the_last_word_is_not_the_model_s(last: dict[str, Any], waits: bool) -> None:
    assert Conversation([HELLO, last]).waits is waits
    assert not Conversation().waits


def test_a_conversation_does_not_print() -> None:
    assert "hello" not in repr(Conversation([message("hello")], {"instructions": "hello"}, text=b"hello"))
