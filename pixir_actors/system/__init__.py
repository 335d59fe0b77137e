"""How an actor system is started, joined and protected.

    environment    PURE   which proxy and which CA file an environment names
    places                where an admin's files lie, and whether their directory is safe
    cookie                the secret file that clients and admin of one user share, and the keys made of it
    runtime               the file by which a running admin is found, and the lock that lets only one run
    notify                tells systemd that a service is ready, or ends
    processes             what Linux knows about processes: descendants, names, the death of a parent
    signed                Thespian's TCP transport, bound to loopback and authenticated, per actor system; with
      frames                what stands in front of a signed message
      refusals              what was refused, counted over all processes
      crowd                 how many strangers may hold a socket open
      polling               what it waits with
      rounds                short rounds of its loop for an actor that only waits
      forks                 how its processes begin
      forwarding, records   log records on their way, which never hold up their sender
    fit                   whether this program and the Thespian it finds can do what is asked
    logs                  where an admin's records go
    tether                every process of a system dies with its guardian
    guardian              the program of the small process that an embedded system lives under
    embedded              the actor system of one program, gone when the program is
    launch                a detached admin is started and stopped

No policy about connections lives here.
"""
