# What the benches have in common inside the test machine: a line of JSON for each figure and for each claim about their medians.

dpkg -i /data/*.deb >/dev/null 2>&1
units=/run/systemd/system
mkdir -p $units

# figure CASE MEASURE UNIT VALUE
figure() { printf '{"case": "%s", "measure": "%s", "unit": "%s", "value": %s}\n' "$@"; }

# claim SENTENCE MEASURE CASE least|most BOUND OTHER: CASE has at least, or at most, BOUND times what OTHER has.
claim() {
    printf '{"claim": "%s", "measure": "%s", "case": "%s", "%s": %s, "other": "%s"}\n' "$@"
}

say() { echo "# $*"; }

now() { date +%s%N; }

# zram SIZE: swap in compressed memory.
zram() {
    modprobe zram
    echo "$1" >/sys/block/zram0/disksize
    mkswap -q /dev/zram0
    swapon /dev/zram0
}

# unit NAME LINE...: a unit file of these lines under [Service], or [Slice].
unit() {
    local name=$1
    shift
    case $name in *.slice) echo '[Slice]' ;; *) echo '[Service]' ;; esac >"$units/$name"
    printf '%s\n' "$@" >>"$units/$name"
}
