"""Whether a program and the admin that runs go together, and what is said if not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pixir_actors.errors import AdminMismatch, CookieUnusable
from pixir_actors.system.cookie import ensure_cookie, proof, system_key
from pixir_actors.system.fit import check_version, how_to_restart, key_for
from pixir_actors.system.places import Places
from pixir_actors.system.runtime import Runtime
from pixir_actors.version import __version__

RESTART = r"`pixir-actors stop`, then `pixir-actors start --detach`$"


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places.of({"HOME": str(tmp_path), "PIXIR_ACTORS_RUNTIME_DIR": str(tmp_path / "run")})


@pytest.fixture
def runtime(places: Places) -> Runtime:
    """An admin that was started with the cookie that is there."""
    return Runtime(
        pid=42, born=1, boot_id="b", port=1900, system_id="s", version=__version__, thespian="4", started_at=1.0, log=None,
        proof=proof(system_key(ensure_cookie(places.cookie_file), "s")),
    )  # fmt: skip


def test_what_goes_together_gets_the_key(places: Places, runtime: Runtime) -> None:
    check_version(places, runtime)
    assert proof(key_for(places, runtime)) == runtime.proof


def test_another_version_is_refused_with_both_and_what_to_do(places: Places, runtime: Runtime) -> None:
    with pytest.raises(AdminMismatch, match=rf"runs pixir_actors 0\.0\.9, this program has .*: {RESTART}"):
        check_version(places, replace(runtime, version="0.0.9"))


def test_another_cookie_is_refused_with_what_to_do(places: Places, runtime: Runtime) -> None:
    with pytest.raises(AdminMismatch, match=rf"is not that of the admin \(pid 42\).*PIXIR_ACTORS_COOKIE_FILE.*{RESTART}"):
        key_for(places, replace(runtime, proof="another"))


@pytest.mark.parametrize("text", [None, "short"])
def test_a_cookie_that_is_gone_or_bad_is_no_matter_of_a_start_alone(
    places: Places, runtime: Runtime, text: str | None
) -> None:
    if text is None:
        places.cookie_file.unlink()
    else:
        places.cookie_file.write_text(text)
    with pytest.raises(CookieUnusable, match=rf"an admin runs \(pid 42\).*{RESTART}"):
        key_for(places, runtime)


def test_an_admin_at_a_port_is_started_anew_at_that_port(places: Places) -> None:
    said = how_to_restart(replace(places, port=1900))
    assert said == "`pixir-actors stop --port 1900`, then `pixir-actors start --detach --port 1900`"
