# One image for the four control-plane components: the multi-call binary under each of its names, with the packet filter
# tools that kube-proxy and the network set-up of the nodes call.
FROM docker.io/library/debian:bookworm-slim
RUN apt-get update \
 && apt-get install -y --no-install-recommends nftables iptables conntrack kmod iproute2 \
 && rm -rf /var/lib/apt/lists/*
COPY bin/kube /usr/local/bin/kube
RUN cd /usr/local/bin \
 && for name in kube-apiserver kube-controller-manager kube-scheduler kube-proxy kubectl; do ln -s kube "$name"; done
