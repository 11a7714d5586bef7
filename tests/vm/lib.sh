# shellcheck shell=bash
# Shared by the scripts of the test bench: paths, progress messages, errors with their way out, and an apt
# that uses this machine's own Debian mirror without touching this machine's apt configuration.

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
bench=$top/tests/vm
vm=$(realpath -m "${MEMCG_BPF_VM_DIR:-$top/target/vm}") # several checkouts may share their images
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
PATH=$PATH:/usr/sbin:/sbin # Debian's users have no mkfs.ext4 in their PATH

# One clock for a command and all scripts that it calls: seconds since the first of them started.
export MEMCG_BPF_VM_STARTED=${MEMCG_BPF_VM_STARTED:-$EPOCHSECONDS}
elapsed() { printf '[%4d s]' $((EPOCHSECONDS - MEMCG_BPF_VM_STARTED)); }
say() { echo "$(elapsed) $*" >&2; }
die() { echo "error: $*" >&2; exit 1; }

# failed WHAT LOG: ends after a failed step. Known causes become one sentence; otherwise the end of the log comes first.
failed() {
    local what=$1 log=$2
    if grep -qiE 'no space left on device|disk full|enough free space|\(os error 28\)' "$log"; then
        die "Failed to $what: the disk is full. Free some space, or set MEMCG_BPF_VM_DIR to a directory on another disk."
    fi
    if grep -qE 'Temporary failure resolving|Could not resolve|Could not connect|Unable to connect|Connection (failed|timed out)|Network is unreachable' "$log"; then
        die "Failed to $what: the package server cannot be reached. Check the network connection of this machine and run the command again."
    fi
    tail -n 20 "$log" >&2
    die "Failed to $what; the whole output is in $log"
}

# need_space DIRECTORY MB WHAT: ends unless the file system of the directory has that much room.
need_space() {
    local free
    free=$(df -Pm "$1" | awk 'NR == 2 { print $4 }')
    [ "$free" -ge "$2" ] || die "Failed to $3: the disk is full. $1 needs $2 MB and has $free MB:" \
        "free some space, or set MEMCG_BPF_VM_DIR to a directory on another disk."
}

# Debian's packages as this machine's apt already knows them: "URI suite component" lines.
machine_suites() {
    local codename
    codename=$(. /etc/os-release && echo "${VERSION_CODENAME:?}")
    apt-get indextargets --no-release-info --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' \
        'Created-By: Packages' | grep -E " $codename(-updates|-security)? main$" | sort -u
}

# The mirror that serves a release's main suite (not the one for security updates).
mirror() {
    local found
    found=$(machine_suites | awk '$2 !~ /-/ { print $1; exit }')
    [ -n "$found" ] || die "apt on this machine names no Debian mirror; see 'apt-get indextargets'"
    echo "$found"
}

# private_apt NAME COMMAND ARGS...: apt with the sources list target/vm/apt/NAME.list and no other.
private_apt() {
    local name=$1 command=$2
    shift 2
    mkdir -p "$vm/apt/$name/lists/partial" "$vm/apt/$name/cache/archives/partial"
    "$command" -q -o Dir::Etc::SourceList="$vm/apt/$name.list" -o Dir::Etc::SourceParts=- \
        -o Dir::State::Lists="$vm/apt/$name/lists" -o Dir::Cache="$vm/apt/$name/cache" \
        -o Acquire::Languages=none -o APT::Sandbox::User=root "$@"
}

# sources NAME SUITE...: writes that private list, Debian's main component of each suite.
sources() {
    local name=$1 suite uri
    shift
    uri=$(mirror)
    mkdir -p "$vm/apt"
    for suite; do echo "deb [arch=amd64 signed-by=$keyring] $uri $suite main"; done >"$vm/apt/$name.list"
}

# make_disk FILE DIRECTORY FREE_MB: an ext4 image of the directory with that much room, sparse.
make_disk() {
    local megabytes
    megabytes=$(($(du -sm "$2" | cut -f1) * 11 / 10 + $3))
    rm -f "$1" "$1.new"
    truncate -s "${megabytes}M" "$1.new"
    mkfs.ext4 -q -O ^has_journal -E lazy_itable_init=1 -d "$2" "$1.new"
    mv "$1.new" "$1"
}
