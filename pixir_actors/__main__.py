"""`python -m pixir_actors`: the same as `pixir-actors`."""

from pixir_actors.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
