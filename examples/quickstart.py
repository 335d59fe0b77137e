"""Two turns over one warm WebSocket: the second sends only what is new. With OPENAI_API_KEY set it asks OpenAI."""

import os

from pixir_actors import Client, Request
from pixir_actors.simulator import Simulator

KEY = os.environ.get("OPENAI_API_KEY")
MODEL = os.environ.get("OPENAI_MODEL", "gpt-5.5")

with Simulator() as simulator, Client.embedded() as client:
    base_url = os.environ.get("OPENAI_BASE_URL", "https://api.openai.com/v1") if KEY else simulator.base_url
    history = []
    for question in ("Name a prime number, and say why it is one.", "And the next one?"):
        history.append({"role": "user", "content": question})
        request = Request.responses(model=MODEL, input=history, api_key=KEY, base_url=base_url)
        with client.stream("session-1", request) as stream:
            for event in stream:  # Metadata: what was sent and why; Status; Data: one event of the provider
                pass
            stream.raise_for_failure()
        history += stream.output
        print(stream.text)
        sent = stream.metadata
        print(f"  {sent['wire_bytes']} bytes sent of {sent['full_bytes']}: {sent['continuation_reset_reason'] or 'delta'}")
