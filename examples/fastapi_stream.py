"""A FastAPI app that streams answers to browsers: one AsyncClient for all of them, and no thread for any.

    pip install fastapi uvicorn httpx '.[simulator]'
    uvicorn --app-dir examples fastapi_stream:app    serves a page with a question box, and
    curl -N '127.0.0.1:8000/stream?session=a&ask=Hello'
    python examples/fastapi_stream.py                serves on a free port, asks itself, leaves in the middle, and ends

Each answer goes on as server-sent events, the provider's own JSON, while it comes. A browser that leaves cancels its
request: Starlette cancels the task that reads the stream, and that closes the provider's socket.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import uvicorn
from _provider import Item, Provider, provider
from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, StreamingResponse
from starlette.datastructures import State

from pixir_actors import AsyncClient, Data, PixirError, Settings, StreamError
from pixir_actors.simulator import Reply, TurnContext

PAGE = """<!doctype html><title>Ask</title>
<form><input name=ask autofocus><button>Ask</button></form><pre></pre>
<script>
document.forms[0].onsubmit = event => {
  event.preventDefault()
  const out = document.querySelector("pre"); out.textContent = ""
  const source = new EventSource("/stream?session=browser&ask=" + encodeURIComponent(event.target.ask.value))
  source.onmessage = message => {
    const data = JSON.parse(message.data)
    if (data.type == "response.output_text.delta") out.textContent += data.delta
    if (/^response.(completed|failed|incomplete)$|^error$/.test(data.type)) source.close()
  }
  source.addEventListener("failure", message => { out.textContent += " [" + message.data + "]"; source.close() })
  source.onerror = () => source.close()  // by itself, it would ask again
}
</script>"""


class Session:
    """One conversation. The lock is held for a whole turn: the next question's history includes its answer."""

    def __init__(self) -> None:
        self.history: list[Item] = []
        self.lock = asyncio.Lock()


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Have one client for the life of the app: it starts with it, and ends with it."""
    with provider(simulated_model) as there:
        async with AsyncClient.embedded(settings=Settings(timeout=120)) as client:
            app.state.provider, app.state.client = there, client
            app.state.sessions = defaultdict(Session)
            yield


app = FastAPI(lifespan=lifespan)


@app.get("/")
async def page() -> HTMLResponse:
    """Serve a page that shows an answer while it comes."""
    return HTMLResponse(PAGE)


@app.get("/stream")
async def stream(request: Request, ask: str, session: str = "default") -> StreamingResponse:
    """Answer a question to a session with server-sent events."""
    return StreamingResponse(answer(request.app.state, session, ask), media_type="text/event-stream")


async def answer(state: State, key: str, asked: str) -> AsyncIterator[bytes]:
    """Pass the provider's events on. Whoever leaves in the middle, by whatever way, leaves the `async with`."""
    session: Session = state.sessions[key]
    async with session.lock:
        history = [*session.history, {"role": "user", "content": asked}]
        try:
            async with state.client.stream(key, state.provider.request(history)) as answered:
                async for event in answered:
                    if isinstance(event, Data):
                        yield event.sse
                answered.raise_for_failure()
        except PixirError as error:
            # A status would come too late by now; a code names no prompt, no key and no header.
            code = error.code if isinstance(error, StreamError) else type(error).__name__
            yield f"event: failure\ndata: {code}\n\n".encode()
        else:
            session.history = history + answered.output


# What follows is for running it as a script: the browser, and a model that takes its time.


def simulated_model(turn: TurnContext) -> Reply:
    """Answer at once, unless asked to be slow."""
    answer = Reply.text(f"You said: {turn.text}. That is all there is to say.", deltas=10)
    return answer.paced(0.2) if "slowly" in turn.text else answer


async def visit(base_url: str, there: Provider) -> None:
    """Be a browser: look at the page, read an answer to its end, and leave in the middle of another."""
    async with httpx.AsyncClient(base_url=base_url, timeout=60) as browser:
        title = (await browser.get("/")).text.partition("<title>")[2].partition("<")[0]
        print(f"the page is called {title!r}")
        async with browser.stream("GET", "/stream", params={"ask": "Hello"}) as response:
            lines = [line async for line in response.aiter_lines() if line.startswith("data: ")]
        print(f"'Hello' was answered with {len(lines)} events, {response.headers['content-type']}")
        async with browser.stream("GET", "/stream", params={"ask": "Tell me slowly", "session": "b"}) as response:
            async for line in response.aiter_lines():
                if "output_text.delta" in line:
                    break
        print("the browser has left in the middle of the next answer")
    if there.simulator is not None:
        await asyncio.to_thread(there.simulator.wait_for, lambda sim: sim.open_connections == 1, 10)
        print("and the socket of that answer is closed")


async def main() -> None:
    """Serve on a free port, visit, and end."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", lifespan="on"))
    serving = asyncio.create_task(server.serve())
    while not server.started:
        if serving.done():
            raise SystemExit("the server did not start")
        await asyncio.sleep(0.01)
    host, port = server.servers[0].sockets[0].getsockname()
    await visit(f"http://{host}:{port}", app.state.provider)
    server.should_exit = True
    await serving
    print("stopped")


if __name__ == "__main__":
    asyncio.run(main())
