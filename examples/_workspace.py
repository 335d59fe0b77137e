"""What the agent of `agent_loop.py` works on: three files in memory, tools for them, and a model for the simulator.

Nothing that a model writes is executed: the tools act on a dict, and `run_tests` looks for the bug in the text.
"""

from __future__ import annotations

import json

from _provider import Item

from pixir_actors.simulator import Reply, TurnContext

STATS = '''"""Statistics for the nightly report.

Plain functions over lists of numbers; none changes its argument.
"""

from itertools import pairwise


def mean(values):
    """Return the arithmetic mean."""
    return sum(values) / (len(values) - 1)


def median(values):
    """Return the middle value, or the mean of the two in the middle."""
    ordered = sorted(values)
    half, odd = divmod(len(ordered), 2)
    return ordered[half] if odd else (ordered[half - 1] + ordered[half]) / 2


def spread(values):
    """Return the distance between the smallest and the largest value."""
    return max(values) - min(values)


def moving(values, width):
    """Return the means of all windows of `width` neighbours."""
    return [sum(values[i : i + width]) / width for i in range(len(values) - width + 1)]


def steps(values):
    """Return the difference of each value to the one before it."""
    return [after - before for before, after in pairwise(values)]
'''
TEST_STATS = """from stats import mean, spread


def test_mean():
    assert mean([1, 2, 3]) == 2


def test_spread():
    assert spread([1, 5]) == 4
"""
FAILED = """test_stats.py::test_mean FAILED
>       assert mean([1, 2, 3]) == 2
E       assert 3.0 == 2
1 failed, 1 passed in 0.02s"""


def _function(name: str, description: str, *parameters: str) -> Item:
    schema = {"type": "object", "properties": {p: {"type": "string"} for p in parameters}, "required": list(parameters)}
    return {"type": "function", "name": name, "description": description, "parameters": schema}


TOOLS = [
    _function("list_files", "List the files of the project."),
    _function("read_file", "Read a file of the project.", "path"),
    _function("replace", "Replace a text in a file of the project.", "path", "old", "new"),
    _function("run_tests", "Run the project's tests."),
]
INSTRUCTIONS = "You are a coding agent on a small Python project. Use the tools, one at a time. Answer in a sentence or two."


class Workspace:
    """The project's files, and what the tools do to them."""

    def __init__(self) -> None:
        self.files = {"README.md": "Numbers for the nightly report.\n", "stats.py": STATS, "test_stats.py": TEST_STATS}

    def run(self, name: str, arguments: str) -> str:
        """Run a tool that the model asked for; whatever is wrong with the call is told to the model."""
        tools = {tool["name"]: getattr(self, f"_{tool['name']}") for tool in TOOLS}
        try:
            return str(tools[name](**json.loads(arguments)))
        except (KeyError, TypeError, ValueError) as error:
            return f"error: {type(error).__name__}: {error}"

    def _list_files(self) -> str:
        return "\n".join(self.files)

    def _read_file(self, path: str) -> str:
        return self.files[path]

    def _replace(self, path: str, old: str, new: str) -> str:
        if old not in self.files[path]:
            return f"error: {path} does not hold that text"
        self.files[path] = self.files[path].replace(old, new)
        return f"{path} changed"

    def _run_tests(self) -> str:
        return FAILED if "len(values) - 1" in self.files["stats.py"] else "2 passed in 0.01s"


QUESTIONS = {
    "fix": "The tests fail. Find out why, and fix it.",
    "notes": "What does stats.py offer? I need a line for the README.",
    "which": "Which line was it?",
    "empty": "And what does mean([]) do now?",
    "summary": "Sum up the change in one sentence.",
    "commit": "Write the commit message.",
}


def _step(text: str, tool: str, **arguments: str) -> Reply:
    call = {"type": "function_call", "name": tool, "arguments": json.dumps(arguments)}
    return Reply.items([{"type": "message", "role": "assistant", "content": text}, call], deltas=6)


def _answer(text: str) -> Reply:
    return Reply.text(text, deltas=16)


PLAY: dict[str, list[Reply]] = {
    QUESTIONS["fix"]: [
        _step("I run the tests first.", "run_tests"),
        _step("test_mean fails; mean() stands in stats.py.", "read_file", path="stats.py"),
        _step("It divides by one too few.", "replace", path="stats.py", old="(len(values) - 1)", new="len(values)"),
        _step("Now again.", "run_tests"),
        _answer("Both tests pass: mean() divided by len(values) - 1, and now divides by len(values)."),
    ],
    QUESTIONS["notes"]: [
        _step("Let me read it.", "read_file", path="stats.py"),
        _answer("Mean, median, spread, moving means and steps of a list of numbers, for the nightly report."),
    ],
    QUESTIONS["which"]: [_answer("Line 11 of stats.py: return sum(values) / (len(values) - 1).")],
    QUESTIONS["empty"]: [_answer("It raises ZeroDivisionError, where it used to return -0.0. Shall it say so in words?")],
    QUESTIONS["summary"]: [_answer("mean() divides by the number of values, as its name promises.")],
    QUESTIONS["commit"]: [_answer("stats: divide by len(values) in mean(); the sum was divided by one too few.")],
}


def simulated_model(turn: TurnContext) -> Reply:
    """Answer as the play says: by the last question, and by how many tool results have come since."""
    since: list[Item] = []
    for item in reversed(turn.seen):
        if item.get("role") == "user":
            break
        since.append(item)
    done = sum(item.get("type") == "function_call_output" for item in since)
    reply: Reply = PLAY[str(item["content"])][done]
    return reply.paced(0.03)
