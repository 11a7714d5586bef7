# shellcheck shell=bash
# Shows that a long step moves. Sourced after lib.sh.

# watched LOG SHOW COMMAND...: runs the command with its output in LOG, and prints what the function SHOW prints every 15
# seconds; on a terminal, every second in place.
watched() {
    local log=$1 show=$2 status=0 watcher
    shift 2
    watch_step "$show" "$BASHPID" 9>&- &
    watcher=$!
    "$@" >>"$log" 2>&1 || status=$?
    kill "$watcher" 2>/dev/null || true
    wait "$watcher" 2>/dev/null || true
    [ ! -t 2 ] || printf '\r\033[K' >&2
    return "$status"
}

# The command runs in the foreground and this loop beside it: an interrupt from the keyboard ends the command at once.
watch_step() {
    local show=$1 parent=$2 every=15 line
    [ ! -t 2 ] || every=1
    # The sleep keeps no pipe open after the step has ended.
    while sleep "$every" >/dev/null 2>&1 </dev/null && kill -0 "$parent" 2>/dev/null; do
        line=$("$show" 2>/dev/null) || continue
        [ -n "$line" ] || continue
        if [ -t 2 ]; then
            printf '\r\033[K%s   %s' "$(elapsed)" "$line" >&2
        else
            say "  $line"
        fi
    done
}

# crates_compiled LOG: from the bar that cargo draws if CARGO_TERM_PROGRESS_WHEN=always is set.
crates_compiled() {
    tr '\r' '\n' <"$1" | grep -aoE '\] [0-9]+/[0-9]+' | tail -n 1 | sed -E 's|.* ([0-9]+)/([0-9]+)|\1 of \2 crates compiled|'
}

# apt_progress LOG CACHE: what the apt-get that writes this log has done.
apt_progress() {
    local installed total
    total=$(sed -nE 's/.* ([0-9]+) newly installed.*/\1/p' "$1" | tail -n 1)
    installed=$(grep -c '^Setting up ' "$1" || true)
    if grep -q '^Unpacking ' "$1"; then
        echo "$installed of ${total:-?} packages set up"
    else
        echo "$(megabytes "$2") MB fetched$(sed -nE 's/^Need to get (.*) of archives.*/ of \1/p' "$1" | tail -n 1)"
    fi
}

# Disk used by the directories, in MB.
megabytes() {
    du -cms "$@" 2>/dev/null | tail -n 1 | cut -f1
}
