#!/bin/sh
# Installs, upgrades or removes the miner node on Debian 12 or 13. Run as root; running it again is harmless.
#
#   systemd/install.sh [--wheel FILE] [--start]   install, or upgrade what is there
#   systemd/install.sh --uninstall                remove program and units; keep configuration, journal, jobs, logs
#   systemd/install.sh --purge                    remove everything
#
# What an administrator has edited is never overwritten: a newer version is put beside it as <name>.new.
# Each version gets a venv of its own, and .venv is a link that is turned when the new one works and would take over the
# journal. Cut short at any point (a kill, a full disk, a power cut), it is run again and ends as if it had not been.
# The other way to install it is the Debian package (make deb); the two exclude each other.

set -eu
umask 022
export LC_ALL=C

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
source=$(dirname -- "$here")

prefix=/usr/local/lib/aitbc/miner
venv=$prefix/.venv
venvs=$prefix/venvs
command=/usr/local/bin/fsm-miner
docs=/usr/local/share/doc/fsm-miner
tasks=$prefix/tasks
etc=/etc/aitbc/miner
state=/var/lib/aitbc/miner
logs=/var/log/aitbc/miner
units=/etc/systemd/system
tmpfiles=/etc/tmpfiles.d/aitbc-miner.conf
sysusers=/etc/sysusers.d/aitbc-miner.conf
logrotate=/etc/logrotate.d/aitbc-miner
packages='bubblewrap logrotate python3-venv util-linux'
first_mark=$prefix/.first-installation
lock=/run/fsm-miner-install.lock
venvs_kept=2
cannot_start='the daemon does not start (systemd keeps trying; jobs go on): journalctl -u aitbc-miner -n 50'

say() { printf 'install.sh: %s\n' "$*"; }
die() {
    printf 'install.sh: %s\n' "$*" >&2
    exit 1
}

usage() {
    sed -n '2,11s/^# \{0,1\}//p' "$0"
}

wrong_usage() {
    {
        printf 'install.sh: %s\n' "$*"
        usage
    } >&2
    exit 2
}

systemd_runs() { [ -d /run/systemd/system ]; }

check_machine() {
    [ "$(id -u)" -eq 0 ] || die 'must be run as root: sudo systemd/install.sh'
    [ -r /etc/os-release ] || die 'no /etc/os-release: this script knows Debian 12 and 13 only'
    # shellcheck source=/dev/null
    release=$(. /etc/os-release && printf '%s %s' "${ID:-unknown}" "${VERSION_ID:-unknown}")
    case $release in
    'debian 12' | 'debian 13') ;;
    *) die "this is $release; this script knows Debian 12 and 13 only" ;;
    esac
}

only_one() {
    exec 9>"$lock"
    flock -n 9 || die 'another install.sh is at work, or what one that was killed had started: try again when it is over'
}

check_no_package() {
    status=$(dpkg-query -W -f='${db:Status-Status}' fsm-miner 2>/dev/null) || status=''
    case $status in
    '' | not-installed | config-files) ;;
    *) die 'the Debian package fsm-miner is installed, and its units would be hidden by these: upgrade it with apt instead' ;;
    esac
}

install_packages() {
    missing=''
    for package in $packages; do
        status=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null) || status=''
        [ "$status" = installed ] || missing="$missing $package"
    done
    [ -n "$missing" ] || return 0
    say "installing packages:$missing"
    apt-get update -q
    # Word splitting is meant: a list of names from above.
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing
}

find_wheel() {
    if [ -z "$wheel" ]; then
        for found in "$source"/dist/fsm_miner-*.whl "$source"/build/wheel/fsm_miner-*.whl; do
            [ -f "$found" ] || continue
            [ -z "$wheel" ] || die "more than one wheel ($wheel, $found): say which with --wheel FILE"
            wheel=$found
        done
    fi
    [ -n "$wheel" ] || die "no wheel in $source/dist or $source/build/wheel: run 'make venv', or name one with --wheel FILE"
    [ -f "$wheel" ] || die "$wheel: there is no such file"
    for needed in requirements.lock packaging/shipped; do
        [ -f "$source/$needed" ] || die "$source/$needed is missing: the checkout is not complete"
    done
}

install_program() {
    install -d -m 0755 "$prefix" "$venvs"
    remove_unfinished
    new=$venvs/$(date -u +%Y%m%dT%H%M%SZ)
    # Two within a second: what runs there must not be replaced.
    while [ -e "$new" ]; do
        sleep 1
        new=$venvs/$(date -u +%Y%m%dT%H%M%SZ)
    done
    say "making $new"
    : >"$new.unfinished"
    if ! make_venv "$new" || ! takes_over "$new"; then
        rm -rf -- "$new" "$new.unfinished"
        die 'the new version was not installed (see above); nothing was changed'
    fi
    # On the disk before anything points to it.
    sync -f "$new"
    rm -f -- "$new.unfinished"
    if [ -d "$venv" ] && [ ! -L "$venv" ]; then
        # Made by hand, as the specification's section 5 says.
        mv -- "$venv" "$venvs/00000000T000000Z-by-hand"
    fi
    ln -sfn -- "$new" "$venv.turning"
    mv -fT -- "$venv.turning" "$venv"
    if [ ! -e "$command" ] || [ -L "$command" ]; then
        ln -sfn -- "$venv/bin/fsm-miner" "$command"
    fi
}

# What an installation left that was killed. A venv can't be made under another name and moved: its path is in it.
remove_unfinished() {
    for mark in "$venvs"/*.unfinished; do
        [ -e "$mark" ] || continue
        rm -rf -- "${mark%.unfinished}"
        rm -f -- "$mark"
    done
}

# Each step with its own check: set -e has no effect inside a condition.
make_venv() {
    python3 -m venv "$1" || return 1
    "$1/bin/pip" install --quiet --no-input --disable-pip-version-check --no-cache-dir \
        --require-hashes -r "$source/requirements.lock" || return 1
    "$1/bin/pip" install --quiet --no-input --disable-pip-version-check --no-cache-dir \
        --no-index --no-deps "$wheel" || return 1
    "$1/bin/python" -P -m fsm_miner --help >/dev/null || return 1
}

# Would it start on what is here? A daemon that would not must not be put in the place of one that works.
takes_over() {
    [ -e "$etc/config.yaml" ] || return 0
    code=0
    # As long as the unit gives a start (TimeoutStartSec=).
    said=$(timeout -k 10 600 "$1/bin/python" -P -m fsm_miner.cli check --journal --config "$etc/config.yaml" 2>&1) || code=$?
    case $code in
    # 1: there is no journal yet, or it is damaged, which is no reason to stay: any version salvages it.
    0 | 1) return 0 ;;
    124 | 137)
        say "whether the new version would start here was not known after 10 minutes (check --journal; see $source/docs/upgrades.md)"
        return 1
        ;;
    *)
        printf '%s\n' "$said" >&2
        say "the new version would not start here (exit code $code of check --journal; see $source/docs/upgrades.md)"
        return 1
        ;;
    esac
}

# A running Python task may still load modules of the version it was started with: the last ones stay.
remove_old_venvs() {
    current=$(readlink -f -- "$venv")
    # The names are times, so this is newest first.
    find "$venvs" -mindepth 1 -maxdepth 1 -type d | sort -r | tail -n "+$((venvs_kept + 1))" |
        while IFS= read -r old; do
            [ "$old" = "$current" ] || rm -rf -- "$old"
        done
}

# put FROM TO [OPTION...]: TO is whole or not there, whenever this is cut short.
put() {
    put_from=$1
    put_to=$2
    shift 2
    install "$@" "$put_from" "$put_to.installing"
    sync "$put_to.installing"
    mv -fT -- "$put_to.installing" "$put_to"
}

# shipped FOLDER: the files of it that belong to the product, one a line. `make run` reads these folders as well, so
# whoever tries something has files of his own there.
shipped() {
    sed -n "s|^$1/||p" "$source/packaging/shipped"
}

tell_of_others() {
    for other in "$source"/allowlist.d/*.yaml "$source"/tasks/*.py; do
        if ! grep -qxF -- "${other#"$source"/}" "$source/packaging/shipped"; then
            say "$other is not installed: it is not one of ours"
        fi
    done
}

# keep_edited FROM TO: installs TO if it is not there; puts FROM beside it if it differs.
keep_edited() {
    if [ ! -e "$2" ]; then
        put "$1" "$2" -m 0640 -o root -g "$user"
    elif cmp -s "$1" "$2"; then
        rm -f -- "$2.new"
    else
        put "$1" "$2.new" -m 0640 -o root -g "$user"
        say "$2 was kept; what this version ships is in $2.new"
    fi
}

# keep_removed FROM TO: the same, for what an administrator may have removed, or what is new in this version: after
# the first time it is put beside its name, so that an upgrade allows nothing by itself.
keep_removed() {
    if [ "$first" = no ] && [ ! -e "$2" ]; then
        put "$1" "$2.new" -m 0640 -o root -g "$user"
        say "$2 is not there and was not added; to have it, rename $2.new"
    else
        keep_edited "$1" "$2"
    fi
}

# games, or who a drop-in says (docs/operations.md, "Another user").
find_user() {
    user=$(cat "$units"/aitbc-miner.service.d/*.conf 2>/dev/null | sed -n 's/^[[:space:]]*User[[:space:]]*=[[:space:]]*//p' | tail -n 1)
    [ -n "$user" ] || user=games
}

# put_for_user FROM TO: the same as put, with the node's user in it.
put_for_user() {
    sed "s/games/$user/g" "$1" >"$made"
    put "$made" "$2" -m 0644
}

install_configuration() {
    made=$(mktemp)
    trap 'rm -f -- "$made"' EXIT
    find_user
    # The mark lasts until all of a first installation is there: one that was cut short is still the first.
    [ -d "$etc/allowlist.d" ] || : >"$first_mark"
    first=no
    [ ! -e "$first_mark" ] || first=yes
    install -D -m 0644 "$here/aitbc-miner.sysusers.conf" "$sysusers"
    systemd-sysusers "$sysusers"
    put_for_user "$here/aitbc-miner.tmpfiles.conf" "$tmpfiles"
    systemd-tmpfiles --create "$tmpfiles"

    # The unit passes the token as a credential, which the environment of the daemon need not know.
    sed 's|^\( *auth_token:\) *"env:MINER_AUTH"|\1 "credential:miner-auth"|' "$source/config/config.yaml" >"$made"
    keep_edited "$made" "$etc/config.yaml"

    for name in $(shipped allowlist.d); do
        keep_removed "$source/allowlist.d/$name" "$etc/allowlist.d/$name"
    done
    for name in $(shipped tasks); do
        keep_removed "$source/tasks/$name" "$tasks/$name"
    done
    tell_of_others

    rm -f -- "$first_mark"
    if [ -e "$etc/token" ]; then
        chown root:root "$etc/token"
        chmod 0600 "$etc/token"
    fi
}

install_units() {
    for unit in aitbcminer.slice aitbc-miner-jobs.service aitbc-miner.service; do
        put "$here/$unit" "$units/$unit" -m 0644
    done
    put_for_user "$here/aitbc-miner.logrotate" "$logrotate"
    install -d -m 0755 "$docs/adr"
    install -m 0644 "$source"/docs/*.md "$docs/"
    install -m 0644 "$source"/docs/adr/*.md "$docs/adr/"
    if systemd_runs; then
        systemctl daemon-reload
    fi
    systemctl enable --quiet aitbc-miner.service
}

start_or_restart() {
    if ! systemd_runs; then
        say 'systemd does not run here: the units are enabled and start with the next boot'
    elif systemctl is-active --quiet aitbc-miner.service; then
        say 'restarting the daemon; running jobs go on'
        # Never aitbc-miner-jobs.service: that would kill them.
        systemctl restart aitbc-miner.service || die "$cannot_start"
    elif [ "$start" = yes ]; then
        systemctl start aitbc-miner.service || die "$cannot_start"
        say 'started; look with: systemctl status aitbc-miner; journalctl -u aitbc-miner -f'
    else
        say "edit $etc/config.yaml, then: systemctl start aitbc-miner"
    fi
}

check_token() {
    [ -s "$etc/token" ] && return 0
    say "there is no bootstrap token yet: put it into $etc/token (one line, mode 0600, owner root)"
    [ "$start" = no ] || die "not started: $etc/token is missing or empty, and the unit needs it"
}

do_install() {
    check_machine
    only_one
    check_no_package
    install_packages
    find_wheel
    install_program
    install_configuration
    install_units
    check_token
    start_or_restart
    remove_old_venvs
    say 'done'
}

do_uninstall() {
    check_machine
    only_one
    check_no_package
    if systemd_runs; then
        say 'stopping the daemon and every running job'
        for unit in aitbc-miner.service aitbc-miner-jobs.service aitbcminer.slice; do
            if [ -e "$units/$unit" ]; then
                systemctl stop "$unit"
            fi
        done
    fi
    if [ -e "$units/aitbc-miner.service" ]; then
        systemctl disable --quiet aitbc-miner.service
    fi
    rm -f -- "$units/aitbc-miner.service" "$units/aitbc-miner-jobs.service" "$units/aitbcminer.slice"
    rm -f -- "$logrotate" "$tmpfiles" "$sysusers"
    if systemd_runs; then
        systemctl daemon-reload
    fi
    if [ -L "$command" ]; then
        rm -f -- "$command"
    fi
    rm -rf -- "$venv" "$venv.turning" "$venvs" "$docs"
    # Of an installation that was cut short.
    rm -f -- "$first_mark" "$units"/aitbc*.installing "$logrotate.installing" "$tmpfiles.installing" "$tasks"/*.installing \
        "$etc"/*.installing "$etc"/allowlist.d/*.installing
    # Shipped and never edited; every other task is the administrator's.
    for name in $(shipped tasks); do
        target=$tasks/$name
        if cmp -s "$source/tasks/$name" "$target"; then
            rm -f -- "$target"
        fi
        rm -f -- "$target.new"
    done
    for folder in "$tasks" "$prefix" "${docs%/*}" "${sysusers%/*}"; do
        [ ! -d "$folder" ] || rmdir --ignore-fail-on-non-empty -- "$folder"
    done
    say "removed; kept: $etc, $state, $logs"
}

do_purge() {
    do_uninstall
    rm -rf -- "$etc" "$state" "$logs" "$prefix"
    for folder in /etc/aitbc /var/lib/aitbc /var/log/aitbc /usr/local/lib/aitbc; do
        [ ! -d "$folder" ] || rmdir --ignore-fail-on-non-empty -- "$folder"
    done
    say 'removed configuration, journal, jobs, logs and tasks as well'
}

action=install
start=no
wheel=''
while [ $# -gt 0 ]; do
    case $1 in
    --wheel)
        [ $# -ge 2 ] || wrong_usage '--wheel needs a file'
        wheel=$2
        shift
        ;;
    --start) start=yes ;;
    --uninstall) action=uninstall ;;
    --purge) action=purge ;;
    -h | --help)
        usage
        exit 0
        ;;
    *) wrong_usage "there is no option $1" ;;
    esac
    shift
done

case $action in
install) do_install ;;
uninstall) do_uninstall ;;
purge) do_purge ;;
esac
