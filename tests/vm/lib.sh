# shellcheck shell=bash
# Shared by the scripts of the test bench: where things are, how progress is told, and an apt
# that uses this machine's own Debian mirror without touching this machine's apt configuration.

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
bench=$top/tests/vm
vm=${MEMCG_BPF_VM_DIR:-$top/target/vm} # several checkouts may share their images
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

say() { echo "bench: $* (${SECONDS} s)" >&2; }
die() { echo "bench: $*" >&2; exit 1; }

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
