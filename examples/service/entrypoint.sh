#!/bin/sh
# Entry point of the container: takes the cookie from $PIXIR_ACTORS_COOKIE (a secret of the orchestrator), if it is given
# there and not as a file, and becomes `pixir-actors`, which is then the process that gets the container's SIGTERM.
set -eu
if [ -n "${PIXIR_ACTORS_COOKIE:-}" ]; then
    umask 077
    : "${PIXIR_ACTORS_COOKIE_FILE:=${XDG_CONFIG_HOME:-$HOME/.config}/pixir_actors/cookie}"
    export PIXIR_ACTORS_COOKIE_FILE
    mkdir -p "$(dirname "$PIXIR_ACTORS_COOKIE_FILE")"
    printf '%s\n' "$PIXIR_ACTORS_COOKIE" > "$PIXIR_ACTORS_COOKIE_FILE"
    unset PIXIR_ACTORS_COOKIE
fi
exec pixir-actors "$@"
