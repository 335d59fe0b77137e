"""A canary token, prompt and key go through everything that can go wrong, and are looked for everywhere afterwards."""

from __future__ import annotations

import logging
import os
import pickle
import subprocess
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

from pixir_actors import Client, PixirError, Request, Settings
from pixir_actors.dispatch.embedded import EmbeddedLink
from pixir_actors.simulator import FAULTS, Reply, Simulator
from tests.conftest import within
from tests.robustness.conftest import ROOT

TOKEN = "canary-token-5f1d"
PROMPT = "canary-prompt-9c2e"
KEY = "canary-key-77ab"
PROXY_PASSWORD = "canary-proxy-31c4"
CANARIES = (TOKEN, PROMPT, KEY, PROXY_PASSWORD)


def request(sim: Simulator, **fields: object) -> Request:
    items = [{"role": "user", "content": PROMPT}]
    return Request.responses(model="m", input=items, api_key=TOKEN, base_url=sim.base_url, **fields)


def leaks(text: str) -> list[str]:
    return [canary for canary in CANARIES if canary in text]


@pytest.fixture
def printed(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> Iterator[list[str]]:
    """Collect texts; at the end they, the log and what was printed hold no canary."""
    caplog.set_level(logging.DEBUG)
    texts: list[str] = []
    yield texts
    out, err = capfd.readouterr()
    for text in (*texts, caplog.text, out, err):
        assert not leaks(text), f"{leaks(text)} leaked: ...{text[-500:]}"


ENDS = {
    "completed": lambda: None,
    "an error event": lambda: FAULTS["error_429"](),
    "not found": lambda: FAULTS["not_found"](),
    "cut": lambda: FAULTS["cut_mid_text"](1),
    "closed with a reason": lambda: FAULTS["close_with"](1008, f"the prompt {PROMPT} of {TOKEN} is not allowed"),
    "invalid JSON": lambda: FAULTS["invalid_json"](),
    "refused upgrade that quotes": lambda: FAULTS["refuse_upgrade"](401, {"x-echo": TOKEN}, f"bad token {TOKEN}"),
    "redirect": lambda: FAULTS["redirect"](f"http://127.0.0.1:9/{TOKEN}"),
}


@pytest.mark.parametrize("end", ENDS)
def test_no_failure_shows_a_secret(end: str, printed: list[str]) -> None:
    with Client.embedded() as client, Simulator() as sim:
        fault = ENDS[end]()
        if fault is not None:
            sim.inject(fault)
        asked = request(sim)
        try:
            with client.stream(KEY, asked) as stream:
                printed += [repr(stream), repr(asked)]
                printed += [repr(event) for event in stream if "Metadata" not in repr(event)]
                stream.raise_for_failure()
        except PixirError as error:
            shown = str(error) + repr(error) + "".join(traceback.format_exception(error))
            # The server's own words may say anything; a close reason is passed on as such.
            printed.append(shown if end != "closed with a reason" else "")
        printed += [repr(client.status()), repr(client.status(KEY)), repr(client)]
        assert isinstance(client._link, EmbeddedLink)
        for pid in client._link.pids():
            for name in ("cmdline", "comm", "environ"):
                printed.append(Path(f"/proc/{pid}/{name}").read_bytes().decode(errors="replace"))
    printed += [path.read_text(errors="replace") for path in Path(os.environ["TMPDIR"]).rglob("*") if path.is_file()]


def test_bad_input_shows_no_secret(printed: list[str]) -> None:
    with Client.embedded() as client, Simulator() as sim:
        for wrong in (
            lambda: client.stream(KEY, Request(sim.url, {"Authorization": TOKEN}, f'["{PROMPT}"')),
            lambda: client.stream(KEY, Request(sim.url, {"Authorization": TOKEN}, f'["{PROMPT}"]')),
            lambda: Request(sim.url, {"Authorization": f"{TOKEN}\r\n"}, "{}"),
            lambda: client.stream((KEY, 1.5), request(sim)),
            lambda: client.stream(KEY * 200, request(sim)),
            lambda: client.stream(KEY, request(sim), max_request_bytes=10),
            lambda: client.stream(KEY, request(sim), proxy=5),
        ):
            with pytest.raises(PixirError) as refused:
                wrong()
            printed.append("".join(traceback.format_exception(refused.value, chain=True)))
            printed.append(str(refused.value))
        assert sim.handshakes == []


def test_settings_with_a_proxy_password_do_not_print_it(printed: list[str]) -> None:
    settings = Settings(proxy=f"http://user:{PROXY_PASSWORD}@127.0.0.1:9")
    printed.append(repr(settings))
    printed.append(str(settings))
    assert pickle.loads(pickle.dumps(settings)).proxy == settings.proxy
    with Client.embedded(settings=settings) as client, Simulator() as sim:
        with pytest.raises(PixirError) as refused, client.stream(KEY, request(sim)) as stream:
            printed += [repr(event) for event in stream]
        printed.append("".join(traceback.format_exception(refused.value)))
        printed.append(repr(client.status(KEY)))


def test_thespians_own_log_and_its_poison_messages_show_no_secret(tmp_path: Path, printed: list[str]) -> None:
    log = tmp_path / "thespian.log"
    verbose = {"THESPLOG_FILE": str(log), "THESPLOG_THRESHOLD": "DEBUG", "THESPLOG_FILE_MAXSIZE": str(50 * 1024 * 1024)}
    with Simulator() as sim:
        command = [sys.executable, "-m", "tests.robustness.programs", "verbose", sim.url, TOKEN, PROMPT, KEY]
        ran = subprocess.run(
            command,
            cwd=ROOT,
            env=os.environ | verbose,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=within(60),
        )
    assert ran.returncode == 0, ran.stderr
    assert "Submit(" in log.read_text(errors="replace"), "the log is not as verbose as this test needs"
    assert "clumsy" in ran.stdout + ran.stderr, "no message came back as poison"
    printed += [log.read_text(errors="replace"), ran.stdout, ran.stderr]


def test_a_defect_in_an_actor_shows_no_secret(printed: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from pixir_actors.actors.connection import ConnectionActor

    def broken(*_: object) -> None:
        raise RuntimeError(f"{TOKEN} {PROMPT}")

    monkeypatch.setattr(ConnectionActor, "connect", staticmethod(broken))
    with Client.local() as client, Simulator(lambda turn: Reply.text("never")) as sim:
        with pytest.raises(PixirError) as failed, client.stream(KEY, request(sim), connect_timeout=within(5)) as stream:
            for _ in stream:
                pass
        printed.append("".join(traceback.format_exception(failed.value)))
        assert "internal_error" in str(failed.value)
