"""Two turns over one warm WebSocket: the second sends only what is new. With OPENAI_API_KEY set, it asks OpenAI."""

import os

from pixir_actors import Client, Request
from pixir_actors.simulator import Simulator

KEY = os.environ.get("OPENAI_API_KEY") or None

with Simulator() as simulator, Client.embedded() as client:
    url = os.environ.get("OPENAI_BASE_URL", "https://api.openai.com/v1") if KEY else simulator.base_url
    model = os.environ.get("OPENAI_MODEL", "gpt-5.5")
    history = []
    for question in ("Name a prime number, and say why it is one.", "And the next one?"):
        history.append({"role": "user", "content": question})
        request = Request.responses(model=model, input=history, api_key=KEY, base_url=url)
        with client.stream("session-1", request) as stream:
            for text in stream.text_deltas():
                print(text, end="", flush=True)
            stream.raise_for_failure()
        history += stream.output  # the caller owns the history, and always gives all of it
        sent = stream.metadata
        print(f"\n  {sent['wire_bytes']} of {sent['full_bytes']} bytes sent: {sent['continuation_reset_reason'] or 'delta'}")
