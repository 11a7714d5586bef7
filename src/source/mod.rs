//! Carriers of policy lines: OCI state and annotations, unit files and drop-ins, records on cgroups.
//! Text in, requests with origins out. Reads no file itself.
