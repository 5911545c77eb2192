#!/bin/sh
# Install the Debian packages that building and the demo need, or also those of the tests, as root or with sudo.
# Only what is missing is asked for, so that a machine that has everything needs no rights at all.
#   packages.sh            install what building and the demo need
#   packages.sh --tests    install what the tests need, too
#   packages.sh --python   print the Python (3.11 or newer) to make the venv with
set -eu

python() {
	# Debian's own first: it is where the sandbox shows it, below /usr.
	for candidate in /usr/bin/python3 "$(command -v python3 || true)"; do
		if [ -n "$candidate" ] && "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
			echo "$candidate"
			return 0
		fi
	done
	return 1
}

if [ "${1:-}" = --python ]; then
	python || {
		echo "packages.sh: no Python 3.11 or newer with venv found; Debian 12 and 13 have it: apt install python3-venv" >&2
		exit 1
	}
	exit 0
fi

missing=
need() { # command, package
	PATH="$PATH:/usr/sbin:/sbin" command -v "$1" >/dev/null 2>&1 || missing="$missing $2"
}
need bwrap bubblewrap
need ffmpeg ffmpeg
need ffprobe ffmpeg
need prlimit util-linux
need timeout coreutils
[ -e /etc/ssl/certs/ca-certificates.crt ] || missing="$missing ca-certificates"
python >/dev/null || missing="$missing python3 python3-venv"
if [ "${1:-}" = --tests ]; then
	need gcc gcc
	[ -e /usr/include/stdio.h ] || missing="$missing libc6-dev"
	need curl curl
	need chromium chromium
	need shellcheck shellcheck
	need systemd-analyze systemd
	need mkfs.ext4 e2fsprogs
	need losetup mount
	need linux.uml user-mode-linux
	need qemu-system-x86_64 qemu-system-x86
	need mmdebstrap mmdebstrap
	need lintian lintian
	# What systemd/install.sh would install otherwise, where it is tried.
	need logrotate logrotate
	[ "$(dpkg-query -W -f='${db:Status-Status}' python3-venv 2>/dev/null)" = installed ] || missing="$missing python3-venv"
fi
[ -n "$missing" ] || exit 0

sudo=
if [ "$(id -u)" -ne 0 ]; then
	command -v sudo >/dev/null 2>&1 || {
		echo "packages.sh: missing:$missing; run as root, or install sudo" >&2
		exit 1
	}
	sudo=sudo
fi
echo "installing:$missing"
$sudo apt-get update -q
# shellcheck disable=SC2086  # a list of package names
$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $missing
