"""The README's tables against the code: what it lists is what there is, all of it, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pixir_actors import Client, Delivery, ErrorCode, Request, Settings
from pixir_actors.core.continuation import ResetReason
from pixir_actors.errors import RETRYABLE
from pixir_actors.settings import ALLOWED, MIB
from pixir_actors.simulator import FAULTS, Simulator

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
FIRST_SCREEN = 60
"""Lines that somebody sees before deciding whether to read on."""


def section(title: str) -> str:
    """Return the text below a heading, up to the next heading of any level."""
    found = re.search(rf"^#+ {re.escape(title)}\n(.*?)(?=^#+ |\Z)", README, re.MULTILINE | re.DOTALL)
    assert found is not None, f"there is no section {title}"
    return found[1]


def rows(title: str) -> dict[str, list[str]]:
    """Return the table below a heading: the code in the first cell, and the other cells."""
    lines = [line.strip("|").split("|") for line in section(title).splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line] for line in lines]
    named = [(first.strip("`"), rest) for first, *rest in cells if first.startswith("`")]
    assert len(dict(named)) == len(named), "a row stands there twice"
    return dict(named)


def default(name: str) -> str:
    """Return a setting's default as the table writes it."""
    value = getattr(Settings(), name)
    if isinstance(value, str):
        return f'`"{value}"`'
    if value is None or isinstance(value, bool):
        return f"`{value}`"
    return f"{value // MIB} MiB" if name.endswith("_bytes") else f"{value:g}"


def unit(name: str) -> str:
    """Return what a setting takes, as the table writes it."""
    takes = str(ALLOWED[name])
    if takes.startswith('"') and "seconds" not in takes:
        return ", ".join(f"`{word}`" for word in takes.split(" or "))
    words = {"seconds": "s", "text": "text", "True": "bool"}
    kind = next((short for word, short in words.items() if word in takes), "bytes" if name.endswith("_bytes") else "count")
    auto = ' or `"auto"`' if kind == "s" and ALLOWED[name].check("auto") else ""
    return kind + auto + (", `None`" if ALLOWED[name].check(None) else "")


def test_the_options_are_those_of_the_settings_with_their_defaults_and_units() -> None:
    table = rows("Options")

    assert list(table) == list(ALLOWED)
    assert {name: cells[:2] for name, cells in table.items()} == {name: [default(name), unit(name)] for name in ALLOWED}
    assert all(cells[2] for cells in table.values())


def test_every_error_code_is_listed_with_what_to_do() -> None:
    table = rows("Codes")

    assert set(table) == set(ErrorCode)
    assert all(all(cells) for cells in table.values())
    said = {code: cells[2] for code, cells in table.items()}
    by_status = {code for code, word in said.items() if word == "by status"}
    assert by_status == {ErrorCode.PROVIDER_HTTP_ERROR, ErrorCode.WEBSOCKET_HANDSHAKE_FAILED}
    assert {code for code, word in said.items() if word == "yes"} == RETRYABLE - by_status
    assert set(said.values()) == {"yes", "no", "by status"}


def test_every_delivery_verdict_is_listed() -> None:
    assert set(rows("Delivery")) == set(Delivery)


def test_every_reset_reason_is_listed() -> None:
    table = rows("Reset reasons")

    assert set(table) == set(ResetReason)
    assert all(all(cells) for cells in table.values())


def test_the_evidence_is_what_a_turn_really_brings() -> None:
    shown: set[str] = set()
    with Simulator() as sim, Client.local() as client:
        for upgrade_refused in (False, True):
            client.close("key")
            if upgrade_refused:
                sim.inject(FAULTS["refuse_upgrade"](426))
            asked = Request.responses(model="m", input="Hello", base_url=sim.base_url)
            with client.stream("key", asked, transport="auto") as stream:
                for _ in stream:
                    pass
            shown |= set(stream.metadata)

    assert set(rows("Evidence")) == shown


def test_the_failures_name_codes_and_reasons_that_exist() -> None:
    words = set(re.findall(r"`([a-z_]+)`", section("What happens when something fails")))
    known = {*ErrorCode, *ResetReason, *Delivery, *ALLOWED, *rows("Evidence"), "error"}

    shortened = {"_handshake_failed", "_connect_timeout"}
    assert words - known <= shortened
    assert {f"websocket{word}" for word in shortened} <= set(ErrorCode)


def test_every_fault_of_the_simulator_is_named() -> None:
    listed = section("Testing with the simulator").rpartition("say more):")[2].partition(".")[0]

    assert set(re.findall(r"`(\w+)`", listed)) == set(FAULTS)


def test_the_targets_are_those_of_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = {f"make {name}": [text] for name, text in re.findall(r"^([a-z-]+):.*## (.*)$", makefile, re.MULTILINE)}

    assert rows("Development") == targets


def test_the_first_screen_has_the_two_commands_and_the_whole_quickstart() -> None:
    top = "\n".join(README.splitlines()[:FIRST_SCREEN])

    assert "make run" in top and "make test" in top
    assert (ROOT / "examples" / "quickstart.py").read_text() in top


@pytest.mark.parametrize("document", ["README.md", "CHANGELOG.md"])
def test_a_document_links_to_files_and_sections_that_exist(document: str) -> None:
    text = (ROOT / document).read_text()
    targets = {target for target in re.findall(r"\]\(([^)]+)\)", text) if not target.startswith("http")}
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    headings = {re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in titles}

    missing = [t for t in targets if (t[1:] not in headings if t.startswith("#") else not (ROOT / t).exists())]
    assert not missing


def test_its_blocks_of_python_can_be_compiled() -> None:
    for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL):
        compile(block, "README.md", "exec")
