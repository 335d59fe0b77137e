"""`make run`: a coding agent's conversation over one warm WebSocket, with the evidence for every turn.

Without a key it runs against the simulator, which also breaks things on purpose; with OPENAI_API_KEY (and, if wanted,
OPENAI_BASE_URL and OPENAI_MODEL) the same conversation runs against the provider. Ends with exit code 0 if everything
that it checks about itself held.

`Agent` is the part to copy. It keeps the whole history and gives all of it to every request; what of it goes on the wire
is decided, on proof, in the connection actor of its key. `main` is the story.
"""

from __future__ import annotations

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from _leftovers import Running
from _provider import Item, Provider, provider
from _screen import Screen
from _workspace import INSTRUCTIONS, QUESTIONS, TOOLS, Workspace, simulated_model

from pixir_actors import Client, Data, PixirError, Settings, Stream, StreamError
from pixir_actors.simulator import FAULTS, Simulator, same_history

SETTINGS = Settings(keepalive_interval=0.5, degraded_for=0.25)  # 25 s and 5 s by default: too long for a demonstration
PAUSE = 1.3
TURNS_PER_QUESTION = 12
TRIES = 3


@dataclass(frozen=True)
class Turn:
    """One turn that was answered: what the agent meant, and the evidence of what was sent."""

    meant: list[Item]
    sent: dict[str, Any]
    socket: int


class Agent:
    """A conversation under one key, and the tools it may use."""

    def __init__(self, key: str, client: Client, there: Provider, screen: Screen) -> None:
        self.key = key
        self.history: list[Item] = []
        self.turns: list[Turn] = []
        self._new = 0  # items that no answer has covered yet
        self._client, self._provider, self._screen = client, there, screen
        self._workspace = Workspace()

    def ask(self, question: str) -> None:
        """Put a question, and run the tools that the model asks for until it has its answer."""
        self._screen.line(self.key, f"> {question}", "user")
        self._append({"role": "user", "content": question})
        for _ in range(TURNS_PER_QUESTION):
            calls = [item for item in self._answered() if item["type"] == "function_call"]
            if not calls:
                return
            for call in calls:
                result = self._workspace.run(call["name"], call["arguments"])
                self._screen.call(self.key, call["name"], call["arguments"], result)
                self._append({"type": "function_call_output", "call_id": call["call_id"], "output": result})
        raise RuntimeError(f"no answer after {TURNS_PER_QUESTION} turns")

    def _answered(self) -> list[Item]:
        """Return what the model put out; a stream that breaks is asked for again.

        Whether that is right only the caller knows: this agent runs no tool before its response is complete, so half
        an answer has had no effect.
        """
        for tries_left in reversed(range(TRIES)):
            try:
                return self._turn()
            except StreamError as error:
                if not error.retryable or not tries_left:
                    raise
                wait = error.retry_after or 0.1
                self._screen.error(self.key, error, wait)
                time.sleep(wait)
        raise AssertionError("unreachable")

    def _turn(self) -> list[Item]:
        request = self._provider.request(self.history, instructions=INSTRUCTIONS, tools=TOOLS)
        with self._client.stream(self.key, request) as stream:
            for event in stream:
                if isinstance(event, Data) and event.type == "response.output_text.delta":
                    self._screen.stream(self.key, event.json()["delta"])
            stream.raise_for_failure()
        self._note(stream)
        self.history += stream.output
        self._new = 0
        return stream.output

    def _append(self, item: Item) -> None:
        self.history.append(item)
        self._new += 1

    def _note(self, stream: Stream) -> None:
        """Keep and print the evidence: what was sent and why, what it took, and on which socket."""
        sent = stream.metadata
        (status,) = self._client.status(self.key)
        self.turns.append(Turn(list(self.history), sent, status.sockets))
        kind = "delta" if sent["continuation_attempted"] else "full"
        items = self._new if kind == "delta" else len(self.history)
        because = [sent["continuation_reset_reason"] or ""]
        because += [f"{sent['delivery_attempts']} attempts"] if sent["delivery_attempts"] > 1 else []
        self._screen.line(
            self.key,
            f"sent {kind:5} {items:2} of {len(self.history):2} items  "
            f"{sent['wire_bytes']:6,} of {sent['full_bytes']:6,} bytes, {saved([self.turns[-1]]):>3} saved   "
            f"socket {status.sockets}, {sent['connection_age_ms'] / 1000:.2f} s old   {', '.join(because)}".rstrip(),
            kind,
        )


def saved(turns: list[Turn]) -> str:
    """Return which part of the bytes of full replays was not sent."""
    sent, full = (sum(turn.sent[name] for turn in turns) for name in ("wire_bytes", "full_bytes"))
    return f"{1 - sent / full:.0%}"


# The story


def tool_loop(agent: Agent, beside: Agent, screen: Screen) -> None:
    """Run a tool loop on one key, and another key's conversation at the same time."""
    screen.title("1. A tool loop on one key, and a second key beside it at the same time")
    with ThreadPoolExecutor(1) as thread:
        other = thread.submit(beside.ask, QUESTIONS["notes"])
        agent.ask(QUESTIONS["fix"])
        other.result()


def idle_pause(agent: Agent, simulator: Simulator | None, screen: Screen) -> None:
    """Say nothing for longer than the keepalive interval: the socket stays, and so does what the provider remembers."""
    screen.title(f"2. Nobody speaks for {PAUSE} s, with keepalive_interval={SETTINGS.keepalive_interval}")
    pings = len(simulator.pings) if simulator else 0
    time.sleep(PAUSE)
    if simulator:
        screen.line("server", f"{len(simulator.pings) - pings} pings came, over both keys' sockets", "note")
    agent.ask(QUESTIONS["which"])


def reconnect(agent: Agent, client: Client, simulator: Simulator | None, screen: Screen) -> None:
    """Lose the socket between two turns: the next one opens another and replays, and the caller notices nothing."""
    if simulator:
        screen.title("3. The server resets the socket between two turns")
        simulator.abort_connection(connection_of(agent, simulator))
    else:
        screen.title("3. The connection is closed between two turns")
        client.close(agent.key)
    agent.ask(QUESTIONS["empty"])


def rejected(agent: Agent, simulator: Simulator, screen: Screen) -> None:
    """Have the provider forget: the delta is refused, and the replay goes out within the same turn."""
    screen.title("4. The provider has forgotten the previous response")
    simulator.evict()
    agent.ask(QUESTIONS["summary"])


def cut(agent: Agent, simulator: Simulator, screen: Screen) -> None:
    """Cut the socket in the middle of an answer: a typed error with its verdict, and the agent decides."""
    screen.title("5. The socket is cut in the middle of an answer")
    simulator.inject(FAULTS["cut_mid_text"](8))
    agent.ask(QUESTIONS["commit"])


def connection_of(agent: Agent, simulator: Simulator) -> int:
    """Return the number of the connection that the agent's newest turn ran on."""
    newest = agent.turns[-1].sent["websocket_captured_response_id"]
    return next(turn.connection for turn in simulator.turns if turn.response_id == newest)


def summary(agents: list[Agent], screen: Screen) -> None:
    """Print what the conversations took, and what they would have taken."""
    rows = []
    for agent in agents:
        sent, full = (sum(turn.sent[name] for turn in agent.turns) for name in ("wire_bytes", "full_bytes"))
        deltas = sum(turn.sent["continuation_attempted"] for turn in agent.turns)
        counts = (len(agent.turns), deltas, agent.turns[-1].socket)
        rows.append([agent.key, *map(str, counts), f"{sent:,}", f"{full:,}", saved(agent.turns)])
    screen.table(("key", "turns", "as deltas", "sockets", "bytes sent", "as full replays", "saved"), rows)


# What the program checks about itself


def nothing_invented(agents: list[Agent], simulator: Simulator, screen: Screen) -> bool:
    """Compare, turn by turn, what an agent meant with what the model saw."""
    seen = {turn.response_id: turn.seen for turn in simulator.turns}
    turns = [turn for agent in agents for turn in agent.turns]
    wrong = [w for t in turns if (w := same_history(t.meant, seen[t.sent["websocket_captured_response_id"]]))]
    screen.check(not wrong, f"what the model saw is what the caller meant: {len(turns)} turns, {len(wrong)} differences")
    return not wrong


def bytes_agree(agents: list[Agent], client: Client, simulator: Simulator, screen: Screen) -> bool:
    """Compare the bytes that the connections say they sent with those that the server received."""
    said = sum(status.wire_bytes for agent in agents for status in client.status(agent.key))
    received = sum(request.wire_bytes for request in simulator.requests)
    text = f"bytes of all attempts, refused and cut ones too: {said:,} by status, {received:,} received"
    screen.check(said == received, text)
    return said == received


def main() -> int:
    """Tell the story; return the exit code."""
    screen, before, checks = Screen(), Running.now(), []
    with provider(simulated_model) as there:
        started = time.monotonic()
        with Client.embedded(settings=SETTINGS) as client:
            screen.title(
                f"A coding agent against {there}",
                f"Actor system up in {time.monotonic() - started:.2f} s: own processes, loopback only, messages signed.",
                "With OPENAI_API_KEY set, the same program asks the provider." * bool(there.simulator),
            )
            agent, beside = (Agent(key, client, there, screen) for key in ("fix", "notes"))
            tool_loop(agent, beside, screen)
            idle_pause(agent, there.simulator, screen)
            reconnect(agent, client, there.simulator, screen)
            if there.simulator:
                rejected(agent, there.simulator, screen)
                cut(agent, there.simulator, screen)
            summary([agent, beside], screen)
            if there.simulator:
                checks.append(nothing_invented([agent, beside], there.simulator, screen))
                checks.append(bytes_agree([agent, beside], client, there.simulator, screen))
            during = Running.now()
    left = during.left(before)
    screen.check(not left, f"left running of {len(during.processes)} processes and their sockets: {left or 'nothing'}")
    return 0 if all(checks) and not left else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("interrupted")
    except PixirError as error:
        sys.exit("\n".join([f"{type(error).__name__}: {error}", *getattr(error, "__notes__", [])]))
