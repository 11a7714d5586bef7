# What another version of our sources might look like: fewer bindings, another counter and another parameter in front.
s/^\(#define MEMCG_BPF_MAX_BINDINGS\) 4096/\1 48/
/^struct memcg_bpf_counters {/a\	__u64 former; /* only this version has it */
/^struct deny_params {/a\	memcg_bpf_count former MEMCG_BPF_DOC("only this version has it") MEMCG_BPF_DEFAULT("7");
