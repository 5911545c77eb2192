#!/bin/sh
# lintian.sh FILE...: Debian's judge of packages. It leaves files in its temporary folder, so it gets one of its own.

set -eu

TMPDIR=$(mktemp -d)
export TMPDIR
trap 'rm -rf -- "$TMPDIR"' EXIT
lintian --fail-on error,warning "$@"
