"""What each change for speed is worth: it is switched off alone, and what it is about is measured with it and without.

    changes   all changes, each with what stood there before
    former    code that stood there before, where that is more than a line
    switch    puts it back: here, and in the actor systems that are started then
    cases     what is measured
    sampling  which functions a process is in, by py-spy
    worker    one side of one change, in a process of its own
    rounds    the run: with and without in turn
    report    what was measured, for a terminal and in Markdown
"""
