"""Who may import whom, who may touch what, and how long things may be: read from the source, nothing is run.

A new module goes into LAYERS. If a rule stands in the way, the rule may be wrong: change it here, with its reason,
rather than step around it.
"""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.source import PACKAGE, ROOT, Module, functions, own_name, read_package

LAYERS = {
    # PURE: decisions and values
    "version": "version",
    "errors": "errors",
    "spelling": "spelling",
    "settings": "settings",
    "request": "request",
    "events": "events",
    "status": "status",
    "core": "core core.actions core.backoff core.continuation core.deadlines core.evidence core.fingerprint core.finite "
    "core.heartbeat core.inputs core.key core.lifecycle core.output core.payload core.report core.secret "
    "core.server_event core.state core.text core.unwritable core.verdict",
    "frame": "channel.frame",
    # I/O
    "transport": "transport transport.answer transport.base transport.connector transport.faults transport.frames "
    "transport.http transport.masking transport.probe transport.sse transport.tls transport.upgrade transport.websocket",
    "channel": "channel channel.exchange channel.inbox channel.line channel.listener channel.local channel.sender",
    # processes
    "actors": "actors actors.board actors.connection actors.control actors.ending actors.intake actors.journal "
    "actors.messages actors.outbox actors.process actors.pulse actors.refusals actors.registry actors.reporter actors.room "
    "actors.shell actors.sink actors.submission actors.supervisor actors.telling actors.vigil actors.watch actors.wire",
    "dispatch": "dispatch dispatch.attached dispatch.call dispatch.dispatcher dispatch.embedded dispatch.link "
    "dispatch.local dispatch.loop dispatch.placement dispatch.questions dispatch.turns",
    "system": "system system.cookie system.crowd system.embedded system.environment system.fit system.forks "
    "system.forwarding system.frames system.guardian system.launch system.logs system.notify system.places "
    "system.polling system.processes system.records system.refusals system.rounds system.runtime system.signed "
    "system.tether",
    "daemon": "admin admin.daemon admin.detached admin.heart admin.log_director",
    # what a user sees
    "facade": "aio arguments client stream",
    "kit": "simulator simulator.__main__ simulator.argument simulator.arming simulator.cache simulator.door "
    "simulator.emission simulator.eventstream simulator.fault simulator.faults simulator.http_parser simulator.http_peer "
    "simulator.operation simulator.oracle simulator.peer simulator.performer simulator.record simulator.rejection "
    "simulator.rewrite simulator.script simulator.server simulator.tls simulator.turn simulator.wire",
    "cli": "cli cli.apikey cli.catalog cli.checkup cli.close cli.conversation cli.diagnosis cli.doctor cli.failure "
    "cli.lookup cli.main cli.options cli.output cli.parser cli.reader cli.simulate cli.start cli.status cli.stop "
    "cli.stream cli.table cli.terminal __main__",
    "root": ".",
}
"""The modules of each layer, without the package's name; "." is the package itself."""

VALUES = "errors settings request events status"
MAY_IMPORT = {
    "version": "",
    "errors": "",
    "spelling": "",
    "settings": "errors spelling",
    "request": "errors core",
    "events": "",
    "status": "",
    "core": "core errors settings status",
    "frame": "errors core",
    "transport": "transport core errors version",
    "channel": "channel frame core errors settings events status",
    "actors": f"actors transport channel frame core version {VALUES}",
    "system": "system channel frame core version errors settings",
    "dispatch": "dispatch system actors channel frame core errors version",
    "daemon": "daemon dispatch system actors core errors version",
    "facade": f"facade dispatch system actors channel frame core version {VALUES}",
    "kit": "kit errors version",
    "cli": f"cli facade daemon system transport kit core version spelling {VALUES}",
    "root": f"facade version {VALUES}",
}
"""What each layer may import of ours: imports point down only."""

MAY_IMPORT_LATER = {"system": "actors transport"}
"""What it may import inside a function as well: an actor class is looked up when a system is up, and not before; what all
actors share is loaded before the first of them is."""

PURE = "version errors spelling settings request events status core frame"
CLOCKS = "time datetime sched"
CHANCE = "random secrets uuid"
THREADS = "threading _thread concurrent multiprocessing asyncio"
SOCKETS = "socket ssl websocket select selectors socketserver"
EXTRAS = "websockets trustme h11"

ONLY_IN = {
    "thespian": "actors system dispatch daemon facade",
    **dict.fromkeys(SOCKETS.split(), "transport channel system daemon kit"),
    **dict.fromkeys(EXTRAS.split(), "kit"),
    "httpcore": "transport",
    **dict.fromkeys((CLOCKS + " " + CHANCE).split(), "transport channel actors dispatch system daemon facade kit cli"),
    **dict.fromkeys(THREADS.split(), "transport channel dispatch system daemon facade kit cli"),
    **dict.fromkeys(["logging", "warnings"], "transport channel actors system daemon facade kit cli"),
    "rich": "cli kit",
}
"""Modules of others that only some layers may import."""

EXCEPTIONS = {
    ("actors.watch", "select"): "its epoll holds every descriptor of an actor",
    ("transport.masking", "websockets"): "its C extension masks, where it happens to be installed",
}
"""Single modules that may import one thing more, and why."""

ENVIRONMENT = {"environ", "environb", "getenv", "getenvb", "expandvars", "getproxies", "proxy_bypass"}
MAY_READ_ENVIRONMENT = "cli system daemon facade"
MAY_PRINT = "cli simulator.__main__ __main__"

MAX_LINES = 400
MAY_BE_LONGER = {"core.lifecycle": "the whole state machine stands in one file"}
MAX_FUNCTION_LINES = 40
MAX_PARAMETERS = 6

WITHOUT_A_TEST_FILE = {
    "version": "one constant",
    "transport.base": "protocols and values only; what implements them is tested",
    "__main__": "one call into cli.main",
    "simulator.__main__": "started as a program by tests/simulator",
}


def layer_of(name: str) -> str | None:
    return next((layer for layer, names in LAYERS.items() if name in names.split()), None)


# The rules. Each yields one sentence per offence.


def unknown_modules(module: Module) -> Iterator[str]:
    if layer_of(module.name) is None:
        yield f"{module.name} is in no layer: add it to LAYERS at the top of {Path(__file__).name}, where it belongs"


def upward_imports(module: Module) -> Iterator[str]:
    layer = layer_of(module.name)
    if layer is None:
        return
    for item in module.imports:
        target = own_name(item.target)
        allowed = MAY_IMPORT[layer] + (" " + MAY_IMPORT_LATER.get(layer, "") if item.later else "")
        # A module in no layer is another rule's offence.
        if target is not None and layer_of(target) not in (None, *allowed.split()):
            what = f"{target} ({layer_of(target)})"
            yield f"{module.name}:{item.line} ({layer}) imports {what}: allowed are {allowed.strip() or 'none'}"


def foreign_imports(module: Module) -> Iterator[str]:
    layer = layer_of(module.name)
    for item in module.imports:
        top = item.target.partition(".")[0]
        allowed = ONLY_IN.get(top)
        if layer and allowed and layer not in allowed.split() and (module.name, top) not in EXCEPTIONS:
            yield f"{module.name}:{item.line} imports {top}: only {allowed} may"


def hidden_imports(module: Module) -> Iterator[str]:
    """A pure module could load anything by its name, past the rules above."""
    if layer_of(module.name) not in PURE.split():
        return
    for item in module.imports:
        if item.target.partition(".")[0] == "importlib":
            yield f"{module.name}:{item.line} imports importlib, and is pure"
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Name) and node.id in ("__import__", "open"):
            yield f"{module.name}:{node.lineno} uses {node.id}, and is pure"


def environment_reads(module: Module) -> Iterator[str]:
    if layer_of(module.name) in MAY_READ_ENVIRONMENT.split():
        return
    names = [(n.lineno, n.attr) for n in ast.walk(module.tree) if isinstance(n, ast.Attribute)]
    names += [(item.line, item.name) for item in module.imports if item.name]
    for line, name in names:
        if name in ENVIRONMENT:
            yield f"{module.name}:{line} reads the environment ({name}): only {MAY_READ_ENVIRONMENT} may"


def private_names(module: Module) -> Iterator[str]:
    """A name with an underscore belongs to its package (the top-level modules: each to itself)."""
    aliases = {}
    for item in module.imports:
        target = own_name(item.target)
        if target is None or package_of(target) == package_of(module.name):
            continue
        aliases[target.rpartition(".")[2]] = target
        for part in [*target.split("."), item.name or ""]:
            if is_private(part):
                yield f"{module.name}:{item.line} imports the private {part} of {target}"
    for node in ast.walk(module.tree):
        if not isinstance(node, ast.Attribute) or not isinstance(node.value, ast.Name):
            continue
        if is_private(node.attr) and node.value.id in aliases:
            yield f"{module.name}:{node.lineno} uses the private {node.attr} of {aliases[node.value.id]}"


def package_of(name: str) -> str:
    """Return the package a module belongs to: `core.payload` and `core` to `core`; a top-level module to itself."""
    return name.partition(".")[0]


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def long_files(module: Module) -> Iterator[str]:
    lines = len(module.text.splitlines())
    if lines > MAX_LINES and module.name not in MAY_BE_LONGER:
        yield f"{module.name} has {lines} lines: at most {MAX_LINES}"


def long_functions(module: Module) -> Iterator[str]:
    for function in functions(module.tree):
        lines = length(function)
        if lines > MAX_FUNCTION_LINES:
            yield f"{module.name}:{function.lineno} {function.name} has {lines} lines: at most {MAX_FUNCTION_LINES}"


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return a function's lines from `def` to its end, without the docstring."""
    lines = (function.end_lineno or function.lineno) - function.lineno + 1
    if ast.get_docstring(function) is None:
        return lines
    docstring = function.body[0]
    return lines - ((docstring.end_lineno or docstring.lineno) - docstring.lineno + 1)


def many_parameters(module: Module) -> Iterator[str]:
    for function in functions(module.tree):
        count = len(parameters(function))
        if count > MAX_PARAMETERS:
            yield f"{module.name}:{function.lineno} {function.name} takes {count} parameters: at most {MAX_PARAMETERS}"


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    """Return the names of a function's parameters but self and cls; *args and **options count as one each."""
    a = function.args
    listed = [*a.posonlyargs, *a.args, *a.kwonlyargs, *filter(None, (a.vararg, a.kwarg))]
    return [arg.arg for i, arg in enumerate(listed) if i or arg.arg not in ("self", "cls")]


def prints(module: Module) -> Iterator[str]:
    if layer_of(module.name) == "cli" or module.name in MAY_PRINT.split():
        return
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
            yield f"{module.name}:{node.lineno} prints: only {MAY_PRINT} may"


def untested_modules(module: Module) -> Iterator[str]:
    """`a/b.py` is tested by `tests/a/test_b.py`, or by several: `tests/a/test_b_*.py`."""
    if module.is_package or module.name in WITHOUT_A_TEST_FILE:
        return
    folder, _, name = module.name.rpartition(".")
    directory = ROOT / "tests" / folder.replace(".", "/")
    if not [*directory.glob(f"test_{name}.py"), *directory.glob(f"test_{name}_*.py")]:
        yield f"{module.name} has no test file: expected {directory.relative_to(ROOT)}/test_{name}.py"


RULES = [
    unknown_modules,
    upward_imports,
    foreign_imports,
    hidden_imports,
    environment_reads,
    private_names,
    long_files,
    long_functions,
    many_parameters,
    prints,
    untested_modules,
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_package_has_no(rule) -> None:
    offences = dict.fromkeys(offence for module in read_package() for offence in rule(module))

    assert not offences, "\n" + "\n".join(offences)


def test_the_tables_name_only_what_exists() -> None:
    known = {module.name for module in read_package()}
    named = [name for names in LAYERS.values() for name in names.split()]
    named += [name for name, _ in EXCEPTIONS] + list(MAY_BE_LONGER) + list(WITHOUT_A_TEST_FILE)

    assert sorted(set(named) - known) == [], "take these out of the tables, or write them"
    assert len({n for names in LAYERS.values() for n in names.split()}) == sum(len(v.split()) for v in LAYERS.values())
    assert set(LAYERS) == set(MAY_IMPORT)


def test_all_lists_every_public_name_and_nothing_else() -> None:
    package = importlib.import_module(PACKAGE)
    root = next(module for module in read_package() if module.name == ".")
    imported = {item.name for item in root.imports if item.name and own_name(item.target)}
    public = {name for name in imported if not name.startswith("_")}

    assert len(package.__all__) == len(set(package.__all__))
    assert [name for name in package.__all__ if not hasattr(package, name)] == []
    assert {name for name in package.__all__ if not name.startswith("__")} == public


OFFENCES = [
    (unknown_modules, "core.surprise", "", "core.surprise is in no layer: add it to LAYERS"),
    (upward_imports, "core.payload", "from pixir_actors.client import Client", "imports client (facade)"),
    (upward_imports, "core.payload", "from ..transport import base", "imports transport.base (transport)"),
    (upward_imports, "core.payload", "from pixir_actors import Client", "imports . (root)"),
    (upward_imports, "errors", "def f():\n    from pixir_actors.core import secret", "imports core.secret (core)"),
    (upward_imports, "actors.connection", "import pixir_actors.system.signed", "imports system.signed (system)"),
    (upward_imports, "actors.connection", "if True:\n    from pixir_actors import client", "imports client (facade)"),
    (upward_imports, "system.embedded", "from pixir_actors.actors import supervisor", "imports actors.supervisor"),
    (upward_imports, "simulator", "from pixir_actors.core import payload", "imports core.payload (core)"),
    (foreign_imports, "client", "import socket", "imports socket"),
    (foreign_imports, "channel.frame", "from time import monotonic", "imports time"),
    (foreign_imports, "core.lifecycle", "import thespian.actors", "imports thespian"),
    (foreign_imports, "transport.websocket", "from thespian.actors import Actor", "imports thespian"),
    (foreign_imports, "actors.connection", "def f():\n    import threading", "imports threading"),
    (foreign_imports, "actors.connection", "import select", "imports select"),
    (foreign_imports, "client", "import websockets.sync.client", "imports websockets"),
    (hidden_imports, "request", "import importlib", "is pure"),
    (hidden_imports, "request", "__import__('time')", "is pure"),
    (environment_reads, "settings", "import os\nos.environ['A']", "reads the environment (environ)"),
    (environment_reads, "transport.websocket", "from os import getenv", "reads the environment (getenv)"),
    (private_names, "client", "from pixir_actors.core.payload import _kind", "imports the private _kind"),
    (private_names, "client", "from pixir_actors.core import payload\npayload._kind(1)", "uses the private _kind"),
    (long_files, "client", "\n" * 401, "has 401 lines"),
    (long_functions, "client", "def f():\n" + "    pass\n" * 40, "f has 41 lines"),
    (many_parameters, "client", "class C:\n    def f(self, a, b, c, d, *e, f, **g): ...", "f takes 7 parameters"),
    (prints, "client", "def f():\n    print(1)", "prints"),
    (untested_modules, "core.surprise", "", "expected tests/core/test_surprise.py"),
]


@pytest.mark.parametrize(("rule", "name", "text", "sentence"), OFFENCES)
def test_a_rule_names_its_offender(rule, name: str, text: str, sentence: str) -> None:
    offences = list(rule(made_up(name, text)))

    assert len(offences) == 1
    assert offences[0].startswith(name)
    assert sentence in offences[0]


ALLOWED = [
    (upward_imports, "system.embedded", "def f():\n    from pixir_actors.actors import supervisor"),
    (upward_imports, "core.payload", "from pixir_actors.core.secret import Secret\nfrom . import backoff"),
    (upward_imports, "core", "from .secret import Secret"),
    (foreign_imports, "actors.watch", "import select"),
    (foreign_imports, "transport.websocket", "import socket, ssl, threading, time"),
    (environment_reads, "cli.main", "import os\nos.environ"),
    (private_names, "core.payload", "from pixir_actors.core.secret import _mask"),
    (long_functions, "client", 'def f():\n    """Say.\n' + "\n" * 50 + '    """\n' + "    pass\n" * 39),
    (many_parameters, "client", "class C:\n    def f(self, a, b, c, d, *e, **g): ..."),
    (prints, "cli.main", "print(1)"),
]


@pytest.mark.parametrize(("rule", "name", "text"), ALLOWED)
def test_a_rule_lets_pass_what_is_allowed(rule, name: str, text: str) -> None:
    assert list(rule(made_up(name, text))) == []


def made_up(name: str, text: str) -> Module:
    known = frozenset(n for names in LAYERS.values() for n in names.split()) - {"."}
    return Module(name, text, is_package=f"{name}.secret" in known, known=known)
