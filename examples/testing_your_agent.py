"""Testing an agent of your own with the simulator: script the model, break things by name, ask what the model saw.

`answer` stands for your agent. The rest are its tests, in the form of pytest:

    pytest examples/testing_your_agent.py        or, without pytest:        python examples/testing_your_agent.py

`Client.local()` runs the actors in the test's own process and thread: it starts in milliseconds. `Client.embedded()` is
the same with processes, and works just as well here.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from pixir_actors import Client, Delivery, ErrorCode, Request, Settings, StreamError
from pixir_actors.simulator import FAULTS, Reply, Simulator, same_history

Item = dict[str, Any]
QUICK = Settings(degraded_for=0.05, idle_timeout=0.3)


def answer(client: Client, base_url: str, history: list[Item], tools: dict[str, Callable[..., str]]) -> str:
    """Answer the last item of `history`, and put everything that was said behind it: the agent under test."""
    listed = [{"type": "function", "name": name, "parameters": {"type": "object"}} for name in tools]
    while True:
        request = Request.responses(model="test", input=history, tools=listed, base_url=base_url)
        with client.stream("agent", request) as stream:
            for _ in stream:
                pass
            stream.raise_for_failure()
        history += stream.output
        calls = [item for item in stream.output if item["type"] == "function_call"]
        if not calls:
            return stream.text
        for call in calls:
            output = tools[call["name"]](**json.loads(call["arguments"]))
            history.append({"type": "function_call_output", "call_id": call["call_id"], "output": output})


def question(text: str) -> list[Item]:
    """Return a history that ends with a question."""
    return [{"role": "user", "content": text}]


def test_a_tool_result_goes_out_as_a_delta_on_the_same_socket() -> None:
    """Script the model's replies, and look at what came over the wire."""
    script = [Reply.tool_call("add", {"a": 2, "b": 3}), Reply.text("It is 5.")]
    with Simulator(script) as sim, Client.local() as client:
        text = answer(client, sim.base_url, question("2 + 3?"), {"add": lambda a, b: str(a + b)})

        assert text == "It is 5."
        assert len(sim.handshakes) == 1
        (result,) = sim.requests[1].payload["input"]
        assert result["type"] == "function_call_output" and result["output"] == "5"


def test_the_model_sees_what_the_agent_means_though_the_provider_forgets() -> None:
    """Inject a fault while the simulator runs, and ask the oracle: what did the model see, deltas put together?"""
    history = question("Remember the number 7.")
    with Simulator() as sim, Client.local() as client:
        answer(client, sim.base_url, history, {})
        history += question("Which number was it?")
        meant = list(history)
        sim.inject(FAULTS["not_found"]())
        answer(client, sim.base_url, history, {})

        assert same_history(meant, sim.turns[-1].seen) is None


def test_a_provider_that_falls_silent_is_an_error_that_says_whether_the_request_ran() -> None:
    """A stall is no hang: `idle_timeout` ends it, and the error has a verdict."""
    with Simulator(faults=[FAULTS["stall"]()]) as sim, Client.local(settings=QUICK) as client:
        try:
            answer(client, sim.base_url, question("Anybody there?"), {})
        except StreamError as error:
            assert error.code is ErrorCode.STREAM_IDLE_TIMEOUT
            assert error.delivery is Delivery.ACCEPTED
        else:
            raise AssertionError("the stall went unnoticed")


def test_every_fault_ends_with_an_answer_or_with_a_typed_error() -> None:
    """All faults, one after another, against the whole agent: nothing hangs, nothing else is raised."""
    quick = QUICK.override({"first_event_timeout": 0.3, "connect_timeout": 0.3})
    for make_fault in FAULTS.values():
        with Simulator(faults=[make_fault()]) as sim, Client.local(settings=quick) as client:
            try:
                assert answer(client, sim.base_url, question("Hello"), {}) == "You said: Hello"
            except StreamError as error:
                assert error.code in ErrorCode


if __name__ == "__main__":
    for name, test in [(name, value) for name, value in globals().items() if name.startswith("test_")]:
        test()
        print("ok", name)
