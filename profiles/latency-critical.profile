# Do not change this file: it belongs to the package. A file of the same name in /etc/memcg-bpf/profiles.d takes its place.
[Profile]
Description=Has to answer quickly: keeps its memory while it works, lends it out while it sleeps
Policy=protect low=50% hold=30s
Policy=observe
