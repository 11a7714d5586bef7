# Do not change this file: it belongs to the package. A file of the same name in /etc/memcg-bpf/profiles.d takes its place.
[Profile]
Description=Code of strangers: bursts are held up, too much is refused, and what only waits for memory is ended as a whole
Policy=deny limit=80%
Policy=throttle when=growth rate=256M
Policy=oom pressure=80% for=5s kill=group
