"""A tool loop: the model asks for tools until it has its answer. Each turn sends one tool result, not the history.

The loop keeps the whole conversation in `history` and gives all of it to every request. What goes on the wire is the
package's business: it sends the difference where it can prove that the provider remembers the rest.
"""

from __future__ import annotations

import json

from _provider import Item, Provider, errors_in_one_line, provider

from pixir_actors import Client
from pixir_actors.simulator import Reply, TurnContext

WEATHER = {"Lima": "18 °C, fog", "Oslo": "-3 °C, snow", "Cairo": "31 °C, clear"}
TOOLS: list[Item] = [
    {
        "type": "function",
        "name": "weather",
        "description": "The weather in a city: Lima, Oslo or Cairo.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    }
]


def simulated_model(turn: TurnContext) -> Reply:
    """Ask for one city after another, then answer."""
    known = sum(item.get("type") == "function_call_output" for item in turn.seen)
    if known < len(WEATHER):
        return Reply.tool_call("weather", {"city": list(WEATHER)[known]})
    return Reply.text("Cairo is the warmest of the three, at 31 °C.")


def run(client: Client, there: Provider) -> None:
    """Ask one question and answer the model's calls until it needs no more."""
    history: list[Item] = [{"role": "user", "content": "Which is warmest now: Lima, Oslo or Cairo?"}]
    for _ in range(8):
        with client.stream("weather", there.request(history, tools=TOOLS)) as stream:
            for _event in stream:
                pass
            stream.raise_for_failure()
        sent = stream.metadata
        how = sent["continuation_reset_reason"] or "delta"
        print(f"{sent['wire_bytes']:6,} of {sent['full_bytes']:6,} bytes sent  ({how})")
        history += stream.output
        calls = [item for item in stream.output if item["type"] == "function_call"]
        if not calls:
            print(stream.text)
            return
        for call in calls:
            city = json.loads(call["arguments"]).get("city")
            result = WEATHER.get(city, "unknown city")
            print(f"  weather({city!r}) -> {result}")
            history.append({"type": "function_call_output", "call_id": call["call_id"], "output": result})


if __name__ == "__main__":
    with errors_in_one_line(), provider(simulated_model) as there, Client.embedded() as client:
        run(client, there)
