# Do not change this file: it belongs to the package. A file of the same name in /etc/memcg-bpf/profiles.d takes its place.
[Profile]
Description=Something new: is told no before it could be killed, is watched, and nothing is done to it
Policy=deny limit=90%
Policy=observe
Policy=oom mode=dry-run
