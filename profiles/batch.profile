# Do not change this file: it belongs to the package. A file of the same name in /etc/memcg-bpf/profiles.d takes its place.
[Profile]
Description=Work that may take its time: gives way while others need memory, and gives back what it does not use
Policy=throttle when=protected
Policy=reclaim pressure=0.5% step=2%
