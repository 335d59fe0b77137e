"""How a stream is printed: its words for a person, or its events as JSON lines for a program."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, Final, Protocol

import orjson

from pixir_actors.cli.terminal import duration, is_terminal, printable
from pixir_actors.errors import ProviderError, StreamError
from pixir_actors.events import Data, Event, Metadata, Status
from pixir_actors.stream import Stream

TEXT_DELTAS: Final = ("response.output_text.delta", "response.refusal.delta")


class Printer(Protocol):
    """Prints a stream's events to standard output; every method may raise BrokenPipeError."""

    def event(self, event: Event) -> None:
        """Print an event as soon as it is there."""

    def outcome(self, stream: Stream | None, error: StreamError | None) -> None:
        """Print what is left to print at the end; `stream` is None where no connection was to be had."""


class Words:
    """The text alone, as it comes, and a newline at the end. On a terminal it moves no cursor."""

    def __init__(self) -> None:
        self._harmless = is_terminal(sys.stdout)
        self._last = ""

    def event(self, event: Event) -> None:
        """Print the text of a delta."""
        if not isinstance(event, Data) or b".delta" not in event.raw:
            return
        fields = event.json()
        if fields.get("type") in TEXT_DELTAS and isinstance(fields.get("delta"), str):
            self._write(fields["delta"])

    def outcome(self, stream: Stream | None, error: StreamError | None) -> None:
        """End the line; where the provider sent no deltas, print the text that its last event has."""
        if stream is not None and not self._last:
            self._write(stream.text)
        if self._last and not self._last.endswith("\n"):
            self._write("\n")

    def _write(self, text: str) -> None:
        if text:
            self._last = text
            sys.stdout.write(printable(text) if self._harmless else text)
            sys.stdout.flush()


class Lines:
    """One JSON object a line: the provider's events as they are, ours with a `type` that begins with "pixir."."""

    def event(self, event: Event) -> None:
        """Print an event."""
        match event:
            case Metadata(values):
                self._write(orjson.dumps({"type": "pixir.metadata", "metadata": dict(values)}))
            case Status(code):
                self._write(orjson.dumps({"type": "pixir.status", "status": code}))
            case Data(raw):
                # A newline within an event can only stand between its parts.
                self._write(raw if b"\n" not in raw and b"\r" not in raw else orjson.dumps(orjson.loads(raw)))

    def outcome(self, stream: Stream | None, error: StreamError | None) -> None:
        """Print the last line: how it ended."""
        response = (stream.response if stream is not None else None) or {}
        line: dict[str, Any] = {
            "type": "pixir.outcome",
            "ok": error is None,
            "status": response.get("status"),
            "response_id": response.get("id"),
        }
        if error is not None:
            line |= _error_fields(error)
        self._write(orjson.dumps(line))

    def _write(self, line: bytes) -> None:
        # As bytes: JSON is UTF-8, whatever the terminal's encoding is.
        sys.stdout.flush()
        sys.stdout.buffer.write(line + b"\n")
        sys.stdout.buffer.flush()


def _error_fields(error: StreamError) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "code": error.code,
        "delivery": error.delivery,
        "retryable": error.retryable,
        "retry_after": error.retry_after,
        "details": error.details,
    }
    if isinstance(error, ProviderError):
        fields |= {"provider_status": error.status, "provider_error": error.error}
    return fields


def evidence_line(metadata: Mapping[str, Any]) -> str:
    """Return in one line what went over the wire, and why: "delta: 169 of 412 bytes sent, socket open for 3.2s"."""
    reason = metadata.get("continuation_reset_reason")
    if not metadata:
        return "evidence: nothing was sent"
    what = "delta" if metadata.get("continuation_attempted") and not reason else f"full ({reason})"
    parts = [f"{what}: {metadata.get('wire_bytes')} of {metadata.get('full_bytes')} bytes sent"]
    age = metadata.get("connection_age_ms")
    if isinstance(age, (int, float)):
        parts.append(f"socket open for {duration(age / 1000)}")
    if metadata.get("delivery_attempts", 1) != 1:
        parts.append(f"{metadata['delivery_attempts']} attempts")
    if metadata.get("active_transport") == "http_sse":
        why = metadata.get("fallback_reason")
        parts.append(f"over HTTP ({why})" if why else "over HTTP")
    return ", ".join(parts)
