"""What a server says behind the end of a response, and is read when the next request is on its way already."""

from __future__ import annotations

import threading
import uuid

import pytest

from pixir_actors import Client, Delivery, ErrorCode, Request, StreamError
from pixir_actors.simulator import Reply, Simulator


def test_what_comes_late_of_an_earlier_response_is_not_taken_for_the_answer(embedded: Client) -> None:
    """The caller must not hear the first answer's words in the second."""
    key, go_on = uuid.uuid4().hex, threading.Event()
    with Simulator([Reply.text("first"), Reply.text("second").held(go_on, "created")]) as sim:
        question = {"role": "user", "content": "one"}
        history = [question]
        with embedded.stream(key, Request.responses(model="m", input=history, base_url=sim.base_url)) as stream:
            assert "".join(stream.text_deltas()) == "first"
            history += [*stream.output, {"role": "user", "content": "two"}]
        try:
            with embedded.stream(key, Request.responses(model="m", input=history, base_url=sim.base_url)) as stream:
                sim.wait_for(lambda seen: len(seen.requests) == 2)
                sim.push({"type": "response.output_text.delta", "delta": "late of the first"}, 0)
                with pytest.raises(StreamError) as ended:
                    for _ in stream:
                        pass
                assert stream.text == ""
        finally:
            go_on.set()
    assert (ended.value.code, ended.value.delivery) == (ErrorCode.WEBSOCKET_FAILED, Delivery.AMBIGUOUS)
    assert ended.value.details["reason"] == "out_of_step"
