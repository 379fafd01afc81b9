#!/bin/sh
# The role go: the Go tools in /usr/local/go, from dl.google.com/go, where go.dev/dl leads (checked against .sha256).
# On Alpine (musl) the distribution's go. GOPATH is ~/go. Where the image has go already, that one is kept.
#   BERTH_GO_VERSION
#   BERTH_GO_GOPLS    a version of gopls, or "latest": builds it into ~/go/bin, which takes minutes (default: none)
#   GOPROXY, GOSUMDB  as go reads them, for gopls
go_version=${BERTH_GO_VERSION:-1.25.7}
gopls_version=${BERTH_GO_GOPLS:-}

begin_part role
go_version=${go_version#go}
check_version BERTH_GO_VERSION "$go_version"
[ -z "$gopls_version" ] || check_version BERTH_GO_GOPLS "$gopls_version"

progress 5 'What is needed first'
if [ -x /usr/local/go/bin/go ]; then PATH=/usr/local/go/bin:$PATH; fi
if ! have go; then
    if is_musl; then
        progress 20 'Go of the distribution'
        want go golang go go
        install_wanted
    else
        want_downloader
        want tar tar tar tar
        want gzip gzip gzip gzip
        install_wanted
        progress 30 "Go $go_version"
        for_machine Go amd64 arm64
        go_archive=go$go_version.linux-$machine_name.tar.gz
        download_checked "dl.google.com/go/$go_archive" "$staging/$go_archive" "dl.google.com/go/$go_archive.sha256"
        unpack "$staging/$go_archive" /usr/local/go.berth-new
        [ -x /usr/local/go.berth-new/bin/go ] || fail 'The archive of Go has no bin/go; check the mirror.'
        put_in_place /usr/local/go.berth-new /usr/local/go
        PATH=/usr/local/go/bin:$PATH
    fi
fi
if [ -n "$gopls_version" ] && [ ! -x "$HOME/go/bin/gopls" ]; then
    progress 60 'gopls'
    if [ -n "$berth_mirror" ] && [ -z "${GOPROXY:-}" ]; then export GOPROXY="$berth_mirror/proxy.golang.org"; fi
    GOPATH="$HOME/go" GOBIN='' go install "golang.org/x/tools/gopls@$gopls_version" </dev/null ||
        fail 'go could not build gopls; see its output, and check the network and GOPROXY.'
fi

progress 90 'Start-up files'
{
    # shellcheck disable=SC2016
    path_lines /usr/local/go/bin '$HOME/go/bin'
} | write_setting role.sh
write_start_up_files
show_version go version
progress 100 'Go is ready.'
end_part role
