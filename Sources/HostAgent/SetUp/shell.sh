#!/bin/sh
# The shell options: installs what the wanted ones need from the distribution, and writes ~/.config/berth/shell.sh,
# which the block in the start-up files reads. The shell is bash; it is zsh where autosuggestions or syntax highlighting
# are wanted, because the distributions package those for zsh (zsh-autosuggestions, zsh-syntax-highlighting).
# An interactive login in another shell goes over to the wanted one; what is not interactive sees none of this.
#   BERTH_SHELL_ENHANCED          1: bash with completion, long history, colours
#   BERTH_SHELL_THEME             the prompt: rexec, minimal or default
#   BERTH_SHELL_AUTOSUGGESTIONS   1: zsh suggests the rest of the line from the history
#   BERTH_SHELL_SYNTAX_HIGHLIGHT  1: zsh colours the line as it is typed
#   BERTH_SHELL_HISTORY_SEARCH    1: the arrow keys find what began like the line; the history is shared and long
#   BERTH_SHELL_GIT_ALIASES       1: git, and gs, ga, gc and so on
#   BERTH_SHELL_SYSTEM_STATS      1: load, memory and disk are shown at login
#   BERTH_SHELL_USE_TMUX          1: an interactive login starts tmux or attaches to the session that runs
# BERTH_NO_TMUX in the environment of a login leaves tmux out there.
begin_part shell
enhanced=${BERTH_SHELL_ENHANCED:-0} suggestions=${BERTH_SHELL_AUTOSUGGESTIONS:-0}
highlight=${BERTH_SHELL_SYNTAX_HIGHLIGHT:-0} history_search=${BERTH_SHELL_HISTORY_SEARCH:-0}
git_aliases=${BERTH_SHELL_GIT_ALIASES:-0} stats=${BERTH_SHELL_SYSTEM_STATS:-0} tmux=${BERTH_SHELL_USE_TMUX:-0}
theme=${BERTH_SHELL_THEME:-}
case "$theme" in
    '' | rexec | minimal | default) ;;
    *)
        progress 0 "There is no theme $(printf %s "$theme" | tr -cd 'a-z0-9-' | cut -c 1-32); the default one is used."
        theme=default ;;
esac

plugin() { # NAME: prints where the distribution put it
    for plugin_file in "/usr/share/$1/$1.zsh" "/usr/share/zsh/plugins/$1/$1.zsh"; do
        if [ -r "$plugin_file" ]; then
            echo "$plugin_file"
            return 0
        fi
    done
    return 1
}

want_plugin() { # NAME: which all three distributions have by it
    plugin "$1" >/dev/null || want_packages "$1" "$1" "$1"
}

progress 10 'What the shell options need'
shell=''
if [ "$enhanced" = 1 ] || [ "$history_search" = 1 ] || [ -n "$theme" ]; then shell=bash; fi
if [ "$suggestions" = 1 ] || [ "$highlight" = 1 ]; then shell=zsh; fi
[ -z "$shell" ] || want "$shell" "$shell" "$shell" "$shell"
if [ "$enhanced" = 1 ]; then
    want bash bash bash bash
    [ -r /usr/share/bash-completion/bash_completion ] || want_packages bash-completion bash-completion bash-completion
fi
[ "$suggestions" != 1 ] || want_plugin zsh-autosuggestions
[ "$highlight" != 1 ] || want_plugin zsh-syntax-highlighting
[ "$git_aliases" != 1 ] || want git git git git
[ "$tmux" != 1 ] || want tmux tmux tmux tmux
install_wanted
suggestions_file='' highlight_file=''
if [ "$suggestions" = 1 ]; then
    suggestions_file=$(plugin zsh-autosuggestions) ||
        fail 'zsh-autosuggestions was installed and is not in /usr/share; check the package.'
fi
if [ "$highlight" = 1 ]; then
    highlight_file=$(plugin zsh-syntax-highlighting) ||
        fail 'zsh-syntax-highlighting was installed and is not in /usr/share; check the package.'
fi

# ---- what the start-up files read; in order: tmux, the right shell, and only there the rest

at_login() {
    cat <<LINES
# Written by Berth at each set-up of this container. Read by sh, bash and zsh.
berth_shell='$shell' berth_tmux='$tmux' berth_stats='$stats'
LINES
    cat <<'LINES'
case $- in *i*) berth_interactive=yes ;; *) berth_interactive='' ;; esac
if [ ! -t 0 ] || [ ! -t 1 ] || [ -n "${berth_shell_was_read:-}" ]; then berth_interactive=''; fi
berth_now=sh
if [ -n "${BASH_VERSION:-}" ]; then berth_now=bash; fi
if [ -n "${ZSH_VERSION:-}" ]; then berth_now=zsh; fi
# sh reads these lines at login only.
case $berth_now in
    bash) if shopt -q login_shell; then berth_login=yes; else berth_login=''; fi ;;
    zsh) if [[ -o login ]]; then berth_login=yes; else berth_login=''; fi ;;
    *) berth_login=yes ;;
esac
if [ -n "$berth_interactive" ] && [ -n "$berth_login" ]; then
    berth_path=''
    if [ -n "$berth_shell" ] && command -v "$berth_shell" >/dev/null 2>&1; then
        berth_path=$(command -v "$berth_shell")
        export SHELL="$berth_path"
    fi
    if [ "$berth_tmux" = 1 ] && [ -z "${TMUX:-}${STY:-}${BERTH_NO_TMUX:-}" ] && [ "${TERM:-dumb}" != dumb ] &&
        command -v tmux >/dev/null 2>&1; then
        # Not exec: where tmux fails, there is still a shell, which must not try it once more.
        if tmux -u new-session -A -s main; then exit 0; fi
        export BERTH_NO_TMUX=1
    fi
    if [ -n "$berth_path" ] && [ "$berth_now" != "$berth_shell" ] && [ -z "${BERTH_SHELL_STARTED:-}" ]; then
        export BERTH_SHELL_STARTED=1
        exec "$berth_path" -l
    fi
fi
if [ -n "$berth_interactive" ]; then
    berth_shell_was_read=yes
    export BERTH_SHELL_STARTED=1
    if [ "$berth_stats" = 1 ] && [ -n "$berth_login" ] && [ -z "${BERTH_STATS_SHOWN:-}" ]; then
        export BERTH_STATS_SHOWN=1
        sh "$HOME/.config/berth/stats.sh"
    fi
fi
unset berth_tmux berth_stats berth_login berth_path berth_shell
LINES
    if [ "$git_aliases" = 1 ]; then git_lines; fi
    # No option of one shell may be a syntax error in another, so that each has a file.
    cat <<'LINES'
if [ -n "$berth_interactive" ] && [ -r "$HOME/.config/berth/shell.$berth_now" ]; then
    . "$HOME/.config/berth/shell.$berth_now"
fi
unset berth_interactive berth_now
LINES
}

git_lines() {
    cat <<'LINES'
if [ -n "$berth_interactive" ]; then
    alias g=git gs='git status --short --branch' ga='git add' gaa='git add --all' gb='git branch' gc='git commit' \
        gcm='git commit --message' gca='git commit --amend' gco='git checkout' gsw='git switch' gd='git diff' \
        gds='git diff --staged' gf='git fetch' gl='git log --oneline --graph --decorate' gp='git push' gpl='git pull' \
        grb='git rebase' gst='git stash'
fi
LINES
}

for_bash() {
    if [ "$enhanced" = 1 ]; then
        cat <<'LINES'
shopt -s checkwinsize cmdhist autocd globstar 2>/dev/null
if [ -z "${BASH_COMPLETION_VERSINFO:-}" ] && [ -r /usr/share/bash-completion/bash_completion ]; then
    . /usr/share/bash-completion/bash_completion
fi
alias ls='ls --color=auto' ll='ls -l' la='ls -la' grep='grep --color=auto'
LINES
    fi
    if [ "$enhanced" = 1 ] || [ "$history_search" = 1 ]; then
        cat <<'LINES'
shopt -s histappend
HISTSIZE=20000 HISTFILESIZE=40000 HISTCONTROL=ignoreboth:erasedups
LINES
    fi
    if [ "$history_search" = 1 ]; then
        cat <<'LINES'
bind '"\e[A": history-search-backward' 2>/dev/null
bind '"\eOA": history-search-backward' 2>/dev/null
bind '"\e[B": history-search-forward' 2>/dev/null
bind '"\eOB": history-search-forward' 2>/dev/null
case ";${PROMPT_COMMAND:-};" in
    *'history -a; history -n'*) ;;
    *) PROMPT_COMMAND="history -a; history -n${PROMPT_COMMAND:+; $PROMPT_COMMAND}" ;;
esac
LINES
    fi
    case "$theme" in
        rexec)
            branch_lines
            cat <<'LINES'
PS1='\[\e[1;35m\]\u@\h\[\e[0m\] \[\e[36m\]\w\[\e[33m\]$(berth_branch)\[\e[0m\]\n\[\e[1;32m\]>\[\e[0m\] '
LINES
            ;;
        minimal) printf '%s\n' "PS1='\\W \\$ '" ;;
        default) printf '%s\n' "PS1='\\[\\e[1;32m\\]\\u@\\h\\[\\e[0m\\]:\\[\\e[1;34m\\]\\w\\[\\e[0m\\]\\$ '" ;;
    esac
}

for_zsh() {
    cat <<'LINES'
autoload -Uz compinit && compinit -u -d "$HOME/.cache/zcompdump"
HISTFILE=${HISTFILE:-$HOME/.zsh_history} HISTSIZE=20000 SAVEHIST=40000
setopt append_history hist_ignore_dups
bindkey -e
LINES
    if [ "$enhanced" = 1 ]; then
        cat <<'LINES'
setopt auto_cd interactive_comments
zstyle ':completion:*' menu select
alias ls='ls --color=auto' ll='ls -l' la='ls -la' grep='grep --color=auto'
LINES
    fi
    if [ "$history_search" = 1 ]; then
        cat <<'LINES'
setopt share_history
autoload -Uz up-line-or-beginning-search down-line-or-beginning-search
zle -N up-line-or-beginning-search
zle -N down-line-or-beginning-search
bindkey '^[[A' up-line-or-beginning-search '^[OA' up-line-or-beginning-search
bindkey '^[[B' down-line-or-beginning-search '^[OB' down-line-or-beginning-search
LINES
    fi
    case "$theme" in
        rexec)
            branch_lines
            cat <<'LINES'
setopt prompt_subst
PROMPT='%B%F{magenta}%n@%m%f%b %F{cyan}%~%F{yellow}$(berth_branch)%f
%B%F{green}>%f%b '
LINES
            ;;
        minimal) echo "PROMPT='%1~ %# '" ;;
        default) echo "PROMPT='%B%F{green}%n@%m%f%b:%B%F{blue}%~%f%b%# '" ;;
    esac
    [ -z "$suggestions_file" ] || echo "[ ! -r '$suggestions_file' ] || . '$suggestions_file'"
    # The last one: it wraps what the others define.
    [ -z "$highlight_file" ] || echo "[ ! -r '$highlight_file' ] || . '$highlight_file'"
}

# Without git, which need not be there and takes a process for each prompt.
branch_lines() {
    cat <<'LINES'
berth_branch() {
    local folder=$PWD head=''
    while [ -n "$folder" ] && [ ! -e "$folder/.git/HEAD" ]; do folder=${folder%/*}; done
    if [ -n "$folder" ] && read -r head <"$folder/.git/HEAD"; then printf ' (%s)' "${head#ref: refs/heads/}"; fi
}
LINES
}

# The container's own limits; /proc/meminfo shows the host's.
stats_lines() {
    cat <<'LINES'
read -r load rest </proc/loadavg
first() { for file in "$@"; do if [ -r "$file" ]; then cat "$file"; return; fi; done; }
used=$(first /sys/fs/cgroup/memory.current /sys/fs/cgroup/memory/memory.usage_in_bytes)
limit=$(first /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes)
total() { awk '$1 == "MemTotal:" { printf "%.0f", $2 * 1024 }' /proc/meminfo; }
free() { awk '$1 == "MemAvailable:" { printf "%.0f", $2 * 1024 }' /proc/meminfo; }
case "$limit" in '' | max | ????????????????*) limit=$(total) ;; esac
[ -n "$used" ] || used=$(($(total) - $(free)))
echo "load    $load"
echo "memory  $((used / 1048576)) of $((limit / 1048576)) MB"
df -k "$HOME" | awk '
    NR > 1 { line = line " " $0 }
    END { split(line, f, " "); printf "disk    %d of %d MB\n", f[3] / 1024, f[2] / 1024 }'
LINES
}

progress 70 'Start-up files'
for_bash | write_setting shell.bash
if [ "$shell" = zsh ]; then for_zsh | write_setting shell.zsh; else rm -f "$settings/shell.zsh"; fi
if [ "$stats" = 1 ]; then stats_lines | write_setting stats.sh; else rm -f "$settings/stats.sh"; fi
at_login | write_setting shell.sh
write_start_up_files
if [ "$shell" = zsh ]; then
    mkdir -p "$HOME/.cache"
    write_managed_block "$HOME/.zshrc"
    # The system's zshrc is read between the two, and would undo a prompt that was set in the first.
    block_parts=role
    write_managed_block "$HOME/.zprofile"
    block_parts='role shell'
fi

# For what starts root's shell by name: su, sshd and the like. Terminals of the agent need only an interactive login.
set_login_shell() {
    login_shell=$(command -v "$1")
    if grep -q "^root:.*:$login_shell\$" /etc/passwd; then return 0; fi
    sed "/^root:/s|:[^:]*\$|:$login_shell|" /etc/passwd >/etc/passwd.berth-new
    chmod 644 /etc/passwd.berth-new
    mv /etc/passwd.berth-new /etc/passwd
}
if [ -n "$shell" ] && [ -e /etc/passwd ]; then
    progress 90 'The login shell'
    set_login_shell "$shell"
fi
[ "$enhanced" != 1 ] || show_version bash --version
[ "$shell" != zsh ] || show_version zsh --version
[ "$tmux" != 1 ] || show_version tmux -V
[ "$git_aliases" != 1 ] || show_version git --version
progress 100 'The shell is ready.'
end_part shell
