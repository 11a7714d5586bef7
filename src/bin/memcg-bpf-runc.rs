//! `memcg-bpf-runc`: the OCI runtime for docker, which adds the OCI hook to containers and executes runc.

use std::process::ExitCode;

fn main() -> ExitCode {
    memcg_bpf::oci_runtime::main()
}
