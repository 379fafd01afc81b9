#!/bin/sh
# The role python: Python 3 with pip and venv of the distribution, pyenv and poetry in the home directory.
# pyenv is its release from github.com/pyenv/pyenv, poetry comes by pip into a virtual environment of its own.
#   BERTH_PYENV_VERSION  BERTH_POETRY_VERSION
#   BERTH_PYENV_SHA256   of the pyenv archive, for which upstream publishes none: that of the default version is known
#                        here, that of another is checked only if it is given
#   BERTH_PYTHON_BUILD   1: also the compiler and headers that `pyenv install` needs (some 300 MB; default 0)
#   PIP_INDEX_URL, PIP_CERT and the other settings of pip  where pip gets poetry from; pip's mirror is not BERTH_MIRROR
pyenv_version=${BERTH_PYENV_VERSION:-2.6.30}
poetry_version=${BERTH_POETRY_VERSION:-2.2.1}
pyenv_sum=${BERTH_PYENV_SHA256:-}
if [ -z "${BERTH_PYENV_VERSION:-}$pyenv_sum" ]; then
    pyenv_sum=7b158ec6b45200a62db9450ad3ac2141dacd25b2fe5605dcf44f3b2252dc2660
fi

begin_part role
pyenv_version=${pyenv_version#v}
check_version BERTH_PYENV_VERSION "$pyenv_version"
check_version BERTH_POETRY_VERSION "$poetry_version"
check_sum BERTH_PYENV_SHA256 "$pyenv_sum"
pyenv_folder=$HOME/.pyenv
poetry_folder=$HOME/.local/share/berth/poetry

progress 5 'Python, pip and venv'
want python3 python3 python3 python
# pip and venv are packages of their own on Debian, where the modules are there and do not work.
if ! have pip3; then
    wanted_commands="$wanted_commands pip3"
    want_packages python3-pip py3-pip python-pip
fi
if ! answers python3 -c 'import venv, ensurepip'; then want_packages python3-venv python3 python; fi
# pyenv is written in bash.
want bash bash bash bash
if [ ! -x "$pyenv_folder/bin/pyenv" ]; then
    want_downloader
    want tar tar tar tar
    want gzip gzip gzip gzip
fi
if [ "${BERTH_PYTHON_BUILD:-0}" = 1 ] && ! have cc; then
    want_packages \
        "build-essential libssl-dev zlib1g-dev libbz2-dev libreadline-dev libsqlite3-dev libncurses-dev libffi-dev \
            liblzma-dev" \
        "build-base openssl-dev zlib-dev bzip2-dev readline-dev sqlite-dev ncurses-dev libffi-dev xz-dev \
            linux-headers" \
        'base-devel openssl zlib xz'
fi
install_wanted

if [ ! -x "$pyenv_folder/bin/pyenv" ]; then
    progress 50 "pyenv $pyenv_version"
    download_archive "github.com/pyenv/pyenv/archive/refs/tags/v$pyenv_version.tar.gz" "$staging/pyenv.tar.gz" \
        "$pyenv_sum"
    unpack "$staging/pyenv.tar.gz" "$staging/pyenv"
    [ -e "$staging/pyenv/bin/pyenv" ] || fail 'The archive of pyenv has no bin/pyenv; check the mirror.'
    # Versions that were built in an earlier container stay.
    mkdir -p "$pyenv_folder"
    mv "$staging/pyenv/bin" "$staging/pyenv-bin"
    cp -R "$staging/pyenv/." "$pyenv_folder/"
    rm -rf "${pyenv_folder:?}/bin"
    mv "$staging/pyenv-bin" "$pyenv_folder/bin"
fi

# A home from an earlier container has a virtual environment of that container's Python, which may be gone.
if ! answers "$poetry_folder/bin/poetry" --version; then
    progress 65 "poetry $poetry_version"
    rm -rf "$poetry_folder"
    mkdir -p "${poetry_folder%/*}"
    python3 -m venv "$poetry_folder" </dev/null ||
        fail 'The virtual environment for poetry cannot be made; see the output, and check the disk space.'
    "$poetry_folder/bin/python" -m pip install --disable-pip-version-check --no-input --no-cache-dir \
        --retries 3 --progress-bar off "poetry==$poetry_version" </dev/null ||
        fail 'pip could not install poetry; see its output, and check the network and PIP_INDEX_URL.'
fi
mkdir -p "$HOME/.local/bin"
ln -sfn "$poetry_folder/bin/poetry" "$HOME/.local/bin/poetry"

progress 90 'Start-up files'
{
    # shellcheck disable=SC2016
    echo 'export PYENV_ROOT="$HOME/.pyenv"'
    # shellcheck disable=SC2016
    path_lines '$HOME/.local/bin' '$HOME/.pyenv/bin' '$HOME/.pyenv/shims'
} | write_setting role.sh
write_start_up_files
show_version python3 --version
show_version pip3 --version
show_version "$pyenv_folder/bin/pyenv" --version
show_version "$HOME/.local/bin/poetry" --version
progress 100 'Python is ready.'
end_part role
