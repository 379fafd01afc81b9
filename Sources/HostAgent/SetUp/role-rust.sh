#!/bin/sh
# The role rust: rustup, cargo and the stable toolchain with the profile minimal, in ~/.cargo and ~/.rustup.
# rustup-init comes from static.rust-lang.org (checked against its .sha256), the musl one on Alpine; rustup checks what
# it downloads itself. Rust needs a linker: gcc and the C headers of the distribution, where there is no cc.
#   BERTH_RUSTUP_VERSION
#   BERTH_RUST_TOOLCHAIN  (default stable)   BERTH_RUST_PROFILE  minimal, default or complete (default minimal)
#   RUSTUP_DIST_SERVER    as rustup reads it
rustup_version=${BERTH_RUSTUP_VERSION:-1.28.2}
rust_toolchain=${BERTH_RUST_TOOLCHAIN:-stable}
rust_profile=${BERTH_RUST_PROFILE:-minimal}

begin_part role
check_version BERTH_RUSTUP_VERSION "$rustup_version"
check_version BERTH_RUST_TOOLCHAIN "$rust_toolchain"
case "$rust_profile" in
    minimal | default | complete) ;;
    *) fail 'BERTH_RUST_PROFILE must be minimal, default or complete.' 64 ;;
esac
export CARGO_HOME="$HOME/.cargo" RUSTUP_HOME="$HOME/.rustup"
PATH=$CARGO_HOME/bin:$PATH
if [ -n "$berth_mirror" ] && [ -z "${RUSTUP_DIST_SERVER:-}" ]; then
    export RUSTUP_DIST_SERVER="$berth_mirror/static.rust-lang.org"
    export RUSTUP_UPDATE_ROOT="$RUSTUP_DIST_SERVER/rustup"
fi

# rustup's own commands are there before the toolchain behind them is.
rust_works() { answers cargo --version && answers rustc --version; }

progress 5 'What is needed first'
want cc 'gcc libc6-dev' 'gcc musl-dev' gcc
rust_is_missing=''
rust_works || rust_is_missing=yes
if [ -n "$rust_is_missing" ]; then want_downloader; fi
install_wanted
if [ -n "$rust_is_missing" ]; then
    progress 40 "Rust ($rust_toolchain)"
    if is_musl; then rust_host=musl; else rust_host=gnu; fi
    for_machine Rust "x86_64-unknown-linux-$rust_host" "aarch64-unknown-linux-$rust_host"
    rustup_folder=static.rust-lang.org/rustup/archive/$rustup_version/$machine_name
    download_checked "$rustup_folder/rustup-init" "$staging/rustup-init" "$rustup_folder/rustup-init.sha256"
    chmod 755 "$staging/rustup-init"
    # A toolchain that an interrupted run began is not one that rustup mends.
    if [ -e "$settings/rust-under-way" ]; then rm -rf "$RUSTUP_HOME/toolchains" "$RUSTUP_HOME/update-hashes"; fi
    mkdir -p "$settings"
    [ -d "$RUSTUP_HOME/toolchains" ] || : >"$settings/rust-under-way"
    "$staging/rustup-init" -y --no-modify-path --profile "$rust_profile" --default-toolchain "$rust_toolchain" \
        </dev/null ||
        fail 'rustup-init failed; see its output, and check the network, the proxy and the disk space.'
    rm -f "$settings/rust-under-way"
fi

progress 90 'Start-up files'
{
    # shellcheck disable=SC2016
    path_lines '$HOME/.cargo/bin'
} | write_setting role.sh
write_start_up_files
show_version cargo --version
show_version rustc --version
progress 100 'Rust is ready.'
end_part role
