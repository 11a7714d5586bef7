//! `memcg-bpf-nri`: the NRI plugin, which adds the OCI hook to containers of containerd and CRI-O.

use std::process::ExitCode;

fn main() -> ExitCode {
    memcg_bpf::nri_plugin::main()
}
