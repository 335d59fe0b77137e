"""A Responses API server, WebSocket and HTTP, to test against: scripts, a documented cache, named faults, an oracle.

It shares no code with the rest of `pixir_actors`, so that it can judge it; any client can be tested with it. It needs
the extra `simulator`.

    from pixir_actors.simulator import FAULTS, Reply, Simulator, same_history

    with Simulator([Reply.tool_call("read_file", {"path": "a.py"}), Reply.text("Done.")]) as sim:
        my_agent(base_url=sim.base_url)                            # or sim.url
        assert len(sim.handshakes) == 1                             # one socket for both turns
        assert same_history(my_agent.history, sim.turns[1].seen) is None

    with Simulator(faults=[FAULTS["cut_mid_text"](2)]) as sim: ...  # the third delta never comes
    sim.inject(FAULTS["not_found"]("flat", times=2))                # armed while it runs

    with Simulator(faults=[FAULTS["refuse_upgrade"](426, times=None)]) as sim:      # HTTP is served all the same
        my_agent(base_url=sim.base_url)
        assert {request.via for request in sim.requests} == {"http"}

From the command line: `python -m pixir_actors.simulator --fault slow_accept:seconds=2`.

`server.py` says what a `Simulator` can do, `script.py` what a `Reply` can be, `faults.py` names the faults, `oracle.py`
compares histories, `cache.py` states the cache rule, `record.py` lists what is recorded.
"""

try:
    from pixir_actors.simulator.fault import Fault
    from pixir_actors.simulator.faults import FAULTS
    from pixir_actors.simulator.oracle import same_history
    from pixir_actors.simulator.record import ClientClose, Handshake, HttpRequest, Received, Turn
    from pixir_actors.simulator.script import Reply, TurnContext, coding_agent
    from pixir_actors.simulator.server import Simulator
except ModuleNotFoundError as missing:
    if (missing.name or "").startswith("pixir_actors"):
        raise
    text = f"pixir_actors.simulator needs {missing.name}: pip install 'pixir_actors[simulator]'"
    raise ModuleNotFoundError(text, name=missing.name, path=missing.path) from None

__all__ = [
    "FAULTS",
    "ClientClose",
    "Fault",
    "Handshake",
    "HttpRequest",
    "Received",
    "Reply",
    "Simulator",
    "Turn",
    "TurnContext",
    "coding_agent",
    "same_history",
]
