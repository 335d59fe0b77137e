"""The reference's fold: `client.reduce(key, request, acc, fun)` calls `acc = fun(event, acc)` for every event.

`fun` runs in this process and thread. Its exceptions reach the caller unchanged; a stream that breaks raises a
`StreamError` that carries the accumulator so far, so that what was received is not lost.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from _provider import errors_in_one_line, provider

from pixir_actors import Client, Data, Event, Metadata, Status, StreamError
from pixir_actors.simulator import FAULTS


@dataclass(frozen=True)
class Seen:
    """What the fold gathers: a value, made anew for every event."""

    text: str = ""
    events: int = 0
    status: int | None = None
    evidence: tuple[tuple[str, Any], ...] = ()


def gather(event: Event, seen: Seen) -> Seen:
    """Take one event in."""
    match event:
        case Metadata(values):
            return replace(seen, evidence=(*seen.evidence, *values.items()))
        case Status(code):
            return replace(seen, status=code)
        case Data():
            body = event.json()
            text = body["delta"] if body["type"] == "response.output_text.delta" else ""
            return replace(seen, text=seen.text + text, events=seen.events + 1)


def main() -> None:
    """Fold a stream that completes, and (with the simulator) one that is cut."""
    with provider() as there, Client.embedded() as client:
        request = there.request([{"role": "user", "content": "Greet a stranger in a few words."}])
        seen = client.reduce("greeting", request, Seen(), gather)
        print(f"status {seen.status}, {seen.events} events: {seen.text}")
        print("\n".join(f"  {name}: {value}" for name, value in dict(seen.evidence).items()))
        if there.simulator is not None:
            there.simulator.inject(FAULTS["cut_mid_text"](2))
            try:
                client.reduce("cut", request, Seen(), gather)
            except StreamError as error:
                print(f"cut: {error}")
                print(f"  so far: {error.acc.text!r}, {error.acc.events} events")


if __name__ == "__main__":
    with errors_in_one_line():
        main()
