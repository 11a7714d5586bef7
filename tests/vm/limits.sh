# shellcheck shell=bash
# Time limits of tests/vm/run. Sourced after lib.sh; times are milliseconds, factors are in percent.
#
# A limit says how long an idle machine needs at most, and is multiplied by the slowdown of this machine. The slowdown is
# measured in the first seconds: from the kernel's first instruction to the first program of the initramfs the guest does the
# same work every time, on one processor, without disks and without waiting for anything. The time of this work therefore
# depends on the speed and the load of this machine alone. The rest of the boot, five times longer, corrects the measurement.

patience=${MEMCG_BPF_VM_PATIENCE:-1}
[[ $patience =~ ^[0-9]{1,3}(\.[0-9]{1,3})?$ ]] && [[ $patience =~ [1-9] ]] ||
    die "MEMCG_BPF_VM_PATIENCE takes a factor such as 2 or 1.5, not '$patience'"
patience=$(awk -v f="$patience" 'BEGIN { n = int(f * 100); print (n > 0 ? n : 1) }')

usual_kernel=3000 usual_boot=15000 # on an idle machine, from QEMU's start, emulated in software
# The kernel phase is the measurement itself: it has a limit of its own. Where everything takes this many times longer, the
# deadlines of programs in the guest expire: the hook's 2 s, systemd's 90 s. Fourteen busy processes on two processors
# slow the kernel's start down by 8 at most.
most_slowdown=1500
# A boot of four times the usual time is broken, unless the console still grows; then it has twice as long.
boot_limit=60000 silence_limit=15000
slowdown=100

now_ms() { local now=${EPOCHREALTIME/[.,]/}; echo $((now / 1000)); }
# patient MS: a limit for this machine. kernel_limit does not know the slowdown yet.
patient() { echo $(($1 * slowdown / 100 * patience / 100)); }
kernel_limit() { echo $((usual_kernel * most_slowdown / 100 * patience / 100)); }

# measured MS USUAL: the slowdown is at least MS / USUAL, and never below 1.
measured() {
    local factor=$(($1 * 100 / $2))
    [ "$factor" -le "$slowdown" ] || slowdown=$factor
}
# For sentences: seconds of milliseconds, "3.5" of 350.
seconds() { echo $((($1 + 500) / 1000)); }
factor() { printf '%d.%d' $(($1 / 100)) $(($1 % 100 / 10)); }

# The way out, for the end of every message on time: the next factor that is worth trying.
more_patience() {
    echo "Run it again when less runs beside it, or with MEMCG_BPF_VM_PATIENCE=$(((patience + 99) / 100 * 3)), which multiplies all time limits by $(((patience + 99) / 100 * 3))."
}
