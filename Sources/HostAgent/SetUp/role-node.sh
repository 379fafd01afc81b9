#!/bin/sh
# The role node: nvm, Node.js, npm and yarn in the home directory.
# nvm is its release from github.com/nvm-sh/nvm, Node.js comes from nodejs.org (checked against SHASUMS256.txt), yarn
# from the npm registry. On Alpine (musl), for which nodejs.org has no builds: nodejs, npm and yarn of the distribution.
# Where the image has node already, that one is kept.
#   BERTH_NODE_VERSION  BERTH_NVM_VERSION  BERTH_YARN_VERSION
#   BERTH_NVM_SHA256    of the nvm archive, for which upstream publishes none: that of the default version is known
#                       here, that of another is checked only if it is given
node_version=${BERTH_NODE_VERSION:-24.13.0}
nvm_version=${BERTH_NVM_VERSION:-0.40.6}
yarn_version=${BERTH_YARN_VERSION:-1.22.22}
nvm_sum=${BERTH_NVM_SHA256:-}
if [ -z "${BERTH_NVM_VERSION:-}$nvm_sum" ]; then
    nvm_sum=17302cad7feedb1ad33ba738f93d2176a90970724f22de119603624fcbdec1a2
fi

begin_part role
node_version=${node_version#v} nvm_version=${nvm_version#v}
check_version BERTH_NODE_VERSION "$node_version"
check_version BERTH_NVM_VERSION "$nvm_version"
check_version BERTH_YARN_VERSION "$yarn_version"
check_sum BERTH_NVM_SHA256 "$nvm_sum"
nvm_folder=$HOME/.nvm
[ -z "$berth_mirror" ] || export npm_config_registry="$berth_mirror/registry.npmjs.org/"

# The default that nvm was told, where it is one version: this is how the user changes it.
default_node_folder() {
    default_version=''
    if [ -r "$nvm_folder/alias/default" ]; then read -r default_version <"$nvm_folder/alias/default" || true; fi
    for default_folder in "v${default_version#v}" "v$node_version"; do
        default_folder=$nvm_folder/versions/node/$default_folder
        if [ -x "$default_folder/bin/node" ]; then
            echo "$default_folder"
            return 0
        fi
    done
}

install_nvm() {
    if [ -s "$nvm_folder/nvm.sh" ]; then return 0; fi
    progress 20 "nvm $nvm_version"
    download_archive "github.com/nvm-sh/nvm/archive/refs/tags/v$nvm_version.tar.gz" "$staging/nvm.tar.gz" "$nvm_sum"
    unpack "$staging/nvm.tar.gz" "$staging/nvm"
    [ -s "$staging/nvm/nvm.sh" ] || fail 'The archive of nvm has no nvm.sh; check the mirror.'
    # nvm.sh last: it is the mark that all is there. What the folder has already stays.
    mkdir -p "$nvm_folder"
    mv "$staging/nvm/nvm.sh" "$staging/nvm.sh"
    cp -R "$staging/nvm/." "$nvm_folder/"
    mv "$staging/nvm.sh" "$nvm_folder/nvm.sh"
}

install_node() {
    progress 40 "Node.js $node_version"
    for_machine Node.js x64 arm64
    node_archive=node-v$node_version-linux-$machine_name.tar.gz
    download_checked "nodejs.org/dist/v$node_version/$node_archive" "$staging/$node_archive" \
        "nodejs.org/dist/v$node_version/SHASUMS256.txt" "$node_archive"
    unpack "$staging/$node_archive" "$staging/node"
    [ -x "$staging/node/bin/node" ] || fail 'The archive of Node.js has no bin/node; check the mirror.'
    put_in_place "$staging/node" "$nvm_folder/versions/node/v$node_version"
}

if is_musl; then
    progress 10 'Node.js, npm and yarn of the distribution'
    want node nodejs nodejs nodejs
    want npm npm npm npm
    want yarn yarnpkg yarn yarn
    install_wanted
else
    progress 5 'What is needed first'
    default_node=$(default_node_folder)
    node_is_missing=''
    if [ -z "$default_node" ] && ! have node; then node_is_missing=yes; fi
    if [ ! -s "$nvm_folder/nvm.sh" ] || [ -n "$node_is_missing" ]; then
        want_downloader
        want tar tar tar tar
        want gzip gzip gzip gzip
        install_wanted
    fi
    install_nvm
    if [ -n "$node_is_missing" ]; then
        install_node
        default_node=$(default_node_folder)
    fi
    if [ -n "$default_node" ]; then
        PATH=$default_node/bin:$PATH
        mkdir -p "$nvm_folder/alias"
        [ -s "$nvm_folder/alias/default" ] || echo "${default_node##*/}" >"$nvm_folder/alias/default"
    fi
fi

if ! answers yarn --version; then
    progress 75 "yarn $yarn_version"
    npm install --global --no-fund --no-audit --no-update-notifier "yarn@$yarn_version" </dev/null ||
        fail 'npm could not install yarn; see its output, and check the network and the npm registry.'
fi

progress 90 'Start-up files'
{
    if ! is_musl; then
        # Reading all of nvm takes long, so it waits for its first use.
        cat <<'LINES'
export NVM_DIR="$HOME/.nvm"
if [ -s "$NVM_DIR/nvm.sh" ]; then
    berth_node=''
    if [ -r "$NVM_DIR/alias/default" ]; then read -r berth_node <"$NVM_DIR/alias/default"; fi
    if [ -z "$berth_node" ] || [ -d "$NVM_DIR/versions/node/v${berth_node#v}/bin" ]; then
        case "$berth_node:$PATH:" in
            :* | *":$NVM_DIR/versions/node/"*) ;;
            *) PATH="$NVM_DIR/versions/node/v${berth_node#v}/bin:$PATH"; export PATH ;;
        esac
        if ! command -v nvm >/dev/null 2>&1; then nvm() { unset -f nvm; . "$NVM_DIR/nvm.sh" --no-use; nvm "$@"; }; fi
    elif ! command -v nvm >/dev/null 2>&1; then
        . "$NVM_DIR/nvm.sh"
    fi
    unset berth_node
fi
LINES
    fi
} | write_setting role.sh
write_start_up_files
show_version node --version
show_version npm --version
show_version yarn --version
progress 100 'Node.js is ready.'
end_part role
