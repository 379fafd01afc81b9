#!/bin/sh
# The part that every set-up of a container begins with: progress, errors, lock, packages, downloads, start-up files.
# Installs by itself only curl and ca-certificates, from the distribution, and only where something must be downloaded
# and neither curl nor wget is there.
#
# The agent runs `sh -s` as root in the container and writes common.sh, the role's file and shell.sh to it, one after
# the other. The script is therefore what standard input holds: each command that could read gets </dev/null.
#   BERTH_ROLE, BERTH_SHELL_*  what is wanted; see the role's file and shell.sh
#   BERTH_HOME                 the home directory, a volume that outlives the container (default /root)
#   BERTH_MIRROR               one address under which all downloads lie by host name and path; default: the real ones
#   BERTH_LOCK_SECONDS         how long to wait for another set-up of this container (default 300)
#   http_proxy, https_proxy, no_proxy  as usual
# Standard output: `berth: PERCENT MESSAGE` is progress, the rest detail. The run is complete once 100 was printed.
# Exit codes: 0 done, 1 failed, 64 a setting is wrong, 75 another set-up is under way. The last line on standard error
# is then `berth-error: REASON`.
set -eu
umask 022
PATH=${PATH:-/usr/bin:/bin}
for berth_folder in /usr/local/sbin /usr/local/bin /usr/sbin /usr/bin /sbin /bin; do
    case ":$PATH:" in *":$berth_folder:"*) ;; *) PATH=$PATH:$berth_folder ;; esac
done
HOME=${BERTH_HOME:-/root}
LC_ALL=C
DEBIAN_FRONTEND=noninteractive
export PATH HOME LC_ALL DEBIAN_FRONTEND

berth_role=${BERTH_ROLE:-} berth_mirror=${BERTH_MIRROR:-}
settings=$HOME/.config/berth
staging=$HOME/.cache/berth-set-up
pending=/var/lib/berth/packages

# ---- progress and errors

percent=0 part_from=0 part_to=100 step='the start' reason='' parts_done='' lock_held=''

progress() { # PERCENT_OF_THIS_PART MESSAGE
    step=$2
    progress_now=$((part_from + (part_to - part_from) * $1 / 100))
    [ "$progress_now" -ge "$percent" ] || progress_now=$percent
    percent=$progress_now
    printf 'berth: %s %s\n' "$percent" "$2"
}

fail() { # REASON [EXIT_CODE]; never in a command substitution, where the reason would be lost
    reason=$1
    exit "${2:-1}"
}

shell_is_wanted() {
    for shell_flag in "${BERTH_SHELL_ENHANCED:-}" "${BERTH_SHELL_AUTOSUGGESTIONS:-}" \
        "${BERTH_SHELL_SYNTAX_HIGHLIGHT:-}" "${BERTH_SHELL_HISTORY_SEARCH:-}" "${BERTH_SHELL_GIT_ALIASES:-}" \
        "${BERTH_SHELL_SYSTEM_STATS:-}" "${BERTH_SHELL_USE_TMUX:-}"; do
        [ "$shell_flag" != 1 ] || return 0
    done
    [ -n "${BERTH_SHELL_THEME:-}" ]
}

begin_part() { # role|shell
    part_from=0 part_to=99
    if [ "$1" = shell ] && [ -n "$berth_role" ]; then part_from=70; fi
    if [ "$1" = role ] && shell_is_wanted; then part_to=70; fi
}

end_part() { parts_done="$parts_done $1"; }

part_is_done() { case " $parts_done " in *" $1 "*) return 0 ;; *) return 1 ;; esac; }

# Standard input that ends too soon looks to a shell like the end of a script that went well.
on_exit() {
    exit_code=$?
    trap - EXIT HUP INT TERM
    set +e
    if [ "$exit_code" = 0 ] && { [ -z "$lock_held" ] || { [ -n "$berth_role" ] && ! part_is_done role; } ||
        { shell_is_wanted && ! part_is_done shell; }; }; then
        exit_code=1 reason='The set-up script ended early; run the set-up again.'
    fi
    if [ -n "$lock_held" ]; then
        rm -rf "$staging" "$lock"
    fi
    if [ "$exit_code" = 0 ]; then
        echo 'berth: 100 The set-up is complete.'
    else
        [ -n "$reason" ] ||
            reason="The set-up stopped at \"$step\" with exit code $exit_code; its output says why. Run it again."
        printf 'berth-error: %s\n' "$reason" >&2
    fi
    exit "$exit_code"
}
trap on_exit EXIT
trap 'fail "The set-up was told to stop; run it again to finish it." 129' HUP
trap 'fail "The set-up was told to stop; run it again to finish it." 130' INT
trap 'fail "The set-up was told to stop; run it again to finish it." 143' TERM

# ---- what the agent set is not trusted

case "$HOME" in
    /*) ;;
    *) fail "BERTH_HOME is \"$HOME\" and must be an absolute path." 64 ;;
esac
case "$berth_mirror" in
    '') ;;
    *[!A-Za-z0-9:/._~%?=+-]*) fail 'BERTH_MIRROR has a character that no address has.' 64 ;;
    http://?* | https://?*) berth_mirror=${berth_mirror%/} ;;
    *) fail "BERTH_MIRROR is \"$berth_mirror\" and must begin with http:// or https://." 64 ;;
esac

case "${BERTH_LOCK_SECONDS:-300}" in *[!0-9]*) fail 'BERTH_LOCK_SECONDS must be a number of seconds.' 64 ;; esac

check_version() { # VARIABLE VALUE
    case "$2" in
        '' | -* | *[!A-Za-z0-9.+_-]*) fail "$1 is \"$2\", which is no version." 64 ;;
    esac
}

check_sum() { # VARIABLE VALUE: 64 hexadecimal digits, or nothing
    case "$2" in
        *[!0-9a-f]*) fail "$1 must be a SHA-256 of 64 hexadecimal digits." 64 ;;
    esac
    [ ${#2} = 64 ] || [ ${#2} = 0 ] || fail "$1 must be a SHA-256 of 64 hexadecimal digits." 64
}

# ---- one set-up at a time; a holder is its pid and start time, so that a pid that was given again does not count

start_of() { # PID: nothing where there is no such process, or a zombie
    start_line=$(cat "/proc/$1/stat" 2>/dev/null) || return 0
    # shellcheck disable=SC2086
    set -- ${start_line##*) }
    [ "$1" = Z ] || echo "${20:-}"
}

holder_lives() {
    read -r holder_pid holder_start 2>/dev/null <"$lock/holder" || return 1
    case "$holder_pid" in '' | *[!0-9]*) return 1 ;; esac
    [ -n "$holder_start" ] && [ "$(start_of "$holder_pid")" = "$holder_start" ]
}

# Of two that see the same dead holder, one removes it: the other would remove the lock that the first took since.
remove_dead_holder() {
    mkdir "$lock.removal" 2>/dev/null || return 0
    holder_lives || rm -rf "$lock"
    rmdir "$lock.removal" 2>/dev/null || true
}

take_lock() {
    lock=/tmp/berth-set-up.lock
    if [ -d /run ] && [ -w /run ]; then lock=/run/berth-set-up.lock; fi
    lock_waited=0 lock_seen_dead=0
    while ! mkdir "$lock" 2>/dev/null; do
        [ -d "$lock" ] || [ -w "${lock%/*}" ] ||
            fail "The lock $lock cannot be made; let ${lock%/*} be a writable folder."
        if holder_lives; then
            lock_seen_dead=0
            [ "$lock_waited" != 0 ] || echo "waiting for another set-up of this container (process $holder_pid)"
        else
            # A live one may not have written its name yet, so that it has to be seen dead for a while.
            lock_seen_dead=$((lock_seen_dead + 1))
            [ "$lock_seen_dead" -lt 3 ] || remove_dead_holder
            # Whoever removes takes no time at all: after this long it was killed there.
            if [ "$lock_seen_dead" -ge 10 ]; then rmdir "$lock.removal" 2>/dev/null || true; fi
        fi
        [ "$lock_waited" -lt "${BERTH_LOCK_SECONDS:-300}" ] ||
            fail 'Another set-up of this container is still under way; wait for its end or stop it.' 75
        sleep 1
        lock_waited=$((lock_waited + 1))
    done
    lock_held=yes
    echo "$$ $(start_of $$)" >"$lock/holder"
}

# ---- packages

have() { command -v "$1" >/dev/null 2>&1; }

package_manager=''
for berth_folder in apt-get apk pacman; do
    if [ -z "$package_manager" ] && have "$berth_folder"; then package_manager=$berth_folder; fi
done

is_musl() {
    [ ! -e /etc/alpine-release ] || return 0
    for loader in /lib/ld-musl-*.so.1; do [ ! -e "$loader" ] || return 0; done
    [ -r /etc/os-release ] && grep -q '^ID="\{0,1\}alpine"\{0,1\}$' /etc/os-release
}

apt() { # ARGUMENT...
    apt-get -y -q -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=120 -o Acquire::Retries=3 \
        -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold -o APT::Install-Recommends=false \
        "$@" </dev/null
}

packages_are_fresh=''
update_packages() {
    [ -z "$packages_are_fresh" ] || return 0
    apt update || fail 'apt-get update failed; see its output, and check the network and /etc/apt/sources.list.'
    packages_are_fresh=yes
}

install_packages() { # PACKAGE...: those of this distribution
    [ $# -gt 0 ] || return 0
    echo "packages: $*"
    mkdir -p "${pending%/*}"
    echo "$*" >"$pending"
    case "$package_manager" in
        apt-get)
            update_packages
            apt install "$@" || fail "apt-get could not install $*; see its output, and check the network and the disk." ;;
        apk)
            apk add --no-cache --no-progress --wait 120 "$@" </dev/null ||
                fail "apk could not install $*; see its output, and check the network and /etc/apk/repositories." ;;
        pacman)
            # Its own sandbox needs Landlock, which not every kernel has, and gVisor has not.
            pacman_sandbox=''
            if pacman -S --help 2>/dev/null </dev/null | grep -q disable-sandbox; then
                pacman_sandbox=--disable-sandbox
            fi
            # With -u: Arch does not support new packages among old ones.
            pacman -Syu --noconfirm --needed --noprogressbar ${pacman_sandbox:+"$pacman_sandbox"} "$@" </dev/null ||
                fail "pacman could not install $*; see its output, and check the network and the mirrors." ;;
    esac
    rm -f "$pending"
    hash -r
}

# A command of a half-installed package may be there already, so what an interrupted run began is done over.
finish_interrupted_packages() {
    [ -s "$pending" ] || return 0
    echo 'an earlier set-up was interrupted while it installed packages'
    case "$package_manager" in
        apt-get)
            # What was interrupted may have left an apt-get that still runs and holds dpkg's lock.
            repair_tries=0
            until dpkg --configure -a </dev/null; do
                repair_tries=$((repair_tries + 1))
                [ "$repair_tries" -lt 30 ] ||
                    fail 'dpkg --configure -a failed; see its output and mend it in the container.'
                sleep 2
            done
            apt -f install || fail 'apt-get -f install failed; see its output and mend it in the container.' ;;
        pacman) rm -f /var/lib/pacman/db.lck ;;
    esac
    # shellcheck disable=SC2046
    install_packages $(cat "$pending")
}

wanted_packages='' wanted_commands=''

# "-" for a distribution that has it under no name.
want_packages() { # APT APK PACMAN
    case "$package_manager" in
        apt-get) want_names=$1 ;;
        apk) want_names=$2 ;;
        pacman) want_names=$3 ;;
        *) fail "Missing is $1, and none of apt-get, apk and pacman is there to install it; use an image with one." ;;
    esac
    [ "$want_names" != - ] || fail "This distribution has no package for $1; use another image."
    wanted_packages="$wanted_packages $want_names"
}

want() { # COMMAND APT APK PACMAN
    ! have "$1" || return 0
    [ -n "$package_manager" ] ||
        fail "$1 is missing, and none of apt-get, apk and pacman is there to install it; use another image."
    wanted_commands="$wanted_commands $1"
    want_packages "$2" "$3" "$4"
}

want_downloader() {
    if ! have curl && ! have wget; then
        want curl 'curl ca-certificates' 'curl ca-certificates' 'curl ca-certificates'
    fi
}

install_wanted() {
    # shellcheck disable=SC2086
    install_packages $wanted_packages
    for want_command in $wanted_commands; do
        have "$want_command" ||
            fail "The package of $want_command was installed and the command is missing; check the package source."
    done
    wanted_packages='' wanted_commands=''
}

# ---- downloads

machine=$(uname -m)
case "$machine" in arm64) machine=aarch64 ;; amd64) machine=x86_64 ;; esac

for_machine() { # WHAT X86_64 AARCH64: sets machine_name
    case "$machine" in
        x86_64) machine_name=$2 ;;
        aarch64) machine_name=$3 ;;
        *) fail "$1 is not made for this processor ($machine); use a host with x86_64 or aarch64." ;;
    esac
}

address() { # HOST/PATH
    if [ -n "$berth_mirror" ]; then echo "$berth_mirror/$1"; else echo "https://$1"; fi
}

transfer() { # ADDRESS FILE
    if have curl; then
        curl -fsSL --connect-timeout 20 --speed-limit 1000 --speed-time 30 -o "$2" "$1" </dev/null
    else
        wget -q -T 30 -O "$2" "$1" </dev/null
    fi
}

download() { # HOST/PATH FILE
    download_from=$(address "$1") download_try=1
    echo "download: $download_from"
    until transfer "$download_from" "$2.part"; do
        rm -f "$2.part"
        [ "$download_try" -lt 3 ] ||
            fail "$download_from could not be downloaded in three tries; check the network, proxy and mirror."
        sleep "$download_try"
        download_try=$((download_try + 1))
    done
    mv "$2.part" "$2"
}

verify() { # FILE SHA_256 WHAT
    verify_sum=$(sha256sum "$1" </dev/null)
    verify_sum=${verify_sum%% *}
    [ "$verify_sum" = "$2" ] ||
        fail "The checksum of $3 is wrong ($verify_sum, not ${2:-known}); it was not installed. Check mirror and proxy."
}

# Lists hold `SUM  NAME` or `SUM *NAME`; a file with one sum alone holds it first.
sum_in() { # LIST [NAME]
    while read -r list_sum list_name || [ -n "$list_sum" ]; do
        if [ $# = 1 ] || [ "${list_name#\*}" = "$2" ]; then
            echo "$list_sum"
            return 0
        fi
    done <"$1"
}

download_checked() { # HOST/PATH FILE HOST/PATH_OF_SUMS [NAME_IN_THEM]
    download "$3" "$2.sums"
    if [ $# = 4 ]; then checked_sum=$(sum_in "$2.sums" "$4"); else checked_sum=$(sum_in "$2.sums"); fi
    download "$1" "$2"
    verify "$2" "$checked_sum" "$1"
}

# Where upstream publishes no checksum: one may be given.
download_archive() { # HOST/PATH FILE SHA_256_OR_NOTHING
    download "$1" "$2"
    [ -z "$3" ] || verify "$2" "$3" "$1"
}

unpack() { # ARCHIVE.tar.gz FOLDER: without the archive's uppermost folder
    rm -rf "$2" "$2.unpacked"
    mkdir -p "$2.unpacked"
    tar -xzf "$1" -C "$2.unpacked" </dev/null ||
        fail "The archive ${1##*/} cannot be unpacked; check the disk space, and run the set-up again."
    for unpacked in "$2.unpacked"/*; do
        [ -d "$unpacked" ] || fail "The archive ${1##*/} is not what was expected; check the mirror."
        mv "$unpacked" "$2"
        break
    done
    rm -rf "$2.unpacked" "$1"
}

# A folder is there as a whole or not at all, whenever we are interrupted.
put_in_place() { # NEW OLD: on one file system
    rm -rf "$2.berth-old"
    [ ! -e "$2" ] || mv "$2" "$2.berth-old"
    mkdir -p "${2%/*}"
    mv "$1" "$2"
    rm -rf "$2.berth-old"
}

answers() { # COMMAND...: it can be run
    "$@" </dev/null >/dev/null 2>&1
}

show_version() { # COMMAND...
    version_says=$("$@" </dev/null 2>&1) ||
        fail "$1 was installed and does not run: $(printf '%s\n' "$version_says" | tail -n 1)"
    printf '%s: %s\n' "${1##*/}" "$version_says" | head -n 1
}

# ---- start-up files: one block in each, which reads what the parts wrote

block_parts='role shell'

managed_block() {
    cat <<BLOCK
# >>> berth >>>
# Rewritten at each set-up of this container; your own lines belong outside of it.
for berth_part in $block_parts; do
    if [ -r "\$HOME/.config/berth/\$berth_part.sh" ]; then . "\$HOME/.config/berth/\$berth_part.sh"; fi
done
unset berth_part
# <<< berth <<<
BLOCK
}

# What stands between a first mark and no second one is the user's.
with_managed_block() { # FILE: prints it
    block_written='' block_lines='' in_block=''
    while IFS= read -r block_line || [ -n "$block_line" ]; do
        case "$block_line" in
            '# >>> berth >>>')
                printf %s "$block_lines"
                block_lines='' in_block=yes ;;
            '# <<< berth <<<')
                if [ -n "$in_block" ] && [ -z "$block_written" ]; then
                    managed_block
                    block_written=yes
                fi
                block_lines='' in_block='' ;;
            *)
                if [ -n "$in_block" ]; then
                    block_lines="$block_lines$block_line
"
                else
                    printf '%s\n' "$block_line"
                fi ;;
        esac
    done <"$1"
    printf %s "$block_lines"
    [ -n "$block_written" ] || managed_block
}

write_managed_block() { # FILE
    block_file=$1
    if [ -L "$1" ]; then
        block_file=$(readlink -f "$1") || block_file=''
        if [ -z "$block_file" ] || [ -d "$block_file" ]; then
            echo "$1 is a link that leads to no file; it was left as it is"
            return 0
        fi
    fi
    if [ -e "$block_file" ]; then
        # A copy first, which has the owner and the mode of the old one.
        cp -p "$block_file" "$block_file.berth-new"
        with_managed_block "$block_file" >"$block_file.berth-new"
        if [ "$(cat "$block_file"; echo .)" = "$(cat "$block_file.berth-new"; echo .)" ]; then
            rm -f "$block_file.berth-new"
            return 0
        fi
    else
        managed_block >"$block_file.berth-new"
    fi
    # A file that is a mount of its own cannot be replaced.
    if ! mv -f "$block_file.berth-new" "$block_file" 2>/dev/null; then
        cat "$block_file.berth-new" >"$block_file"
        rm -f "$block_file.berth-new"
    fi
}

# bash reads .profile at login only where it has no file of its own.
write_start_up_files() {
    write_managed_block "$HOME/.profile"
    write_managed_block "$HOME/.bashrc"
    for start_up_file in "$HOME/.bash_profile" "$HOME/.bash_login"; do
        if [ -e "$start_up_file" ]; then write_managed_block "$start_up_file"; fi
    done
}

write_setting() { # NAME: from standard input, as a whole
    mkdir -p "$settings"
    cat >"$staging/setting"
    if [ "$(cat "$settings/$1" 2>/dev/null)" = "$(cat "$staging/setting")" ]; then return 0; fi
    mv "$staging/setting" "$settings/$1"
}

# The lines that put folders first in PATH, each once. They are read by sh, bash and zsh.
path_lines() { # FOLDER...: may begin with $HOME, and is not expanded here
    for path_folder in "$@"; do
        cat <<LINES
case ":\$PATH:" in *":$path_folder:"*) ;; *) if [ -d "$path_folder" ]; then PATH="$path_folder:\$PATH"; fi ;; esac
LINES
    done
    echo 'export PATH'
}

# ---- the beginning

echo 'berth: 0 The set-up begins.'
mkdir -p "$HOME" || fail "The home directory $HOME cannot be made."
take_lock
rm -rf "$staging"
mkdir -p "$staging" || fail "Nothing can be written into $HOME; check the disk space."
finish_interrupted_packages
# What the home has from an earlier container with other wishes.
case "$berth_role" in '' | barebone) rm -f "$settings/role.sh" ;; esac
shell_is_wanted || rm -f "$settings/shell.sh"
