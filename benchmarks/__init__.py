"""What it costs (`design.md` section 7): `make bench`.

    asks      what one turn asks the server for, and how that travels in a request
    server/   the counterpart, a process of its own: pre-encoded frames, written in bulk
    peers/    who is measured, each behind the same interface; each runs in a process of its own (worker)
    cases/    what is measured
    scale     how much of it: full, quick, or tiny for the tests
    meter     CPU, memory and the processes below one; percentiles
    contest   the run: peers side by side, in turn within each round, everything bounded in time
    results   what was measured, and its statistics
    targets   what design.md asks for
    table     for a terminal;  report, plots: docs/performance.md;  markdown: its tables
    profile   where the time of a warm turn goes: `python -m benchmarks.profile`
    ablation/ what each change for speed is worth: `python -m benchmarks.ablation`
"""
