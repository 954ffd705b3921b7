# A kind node without its preloaded component images: base plus the Kubernetes and containerd programs.
ARG BASE
FROM ${BASE}
COPY bin/containerd bin/containerd-shim-runc-v2 bin/ctr /usr/local/bin/
COPY bin/kubeadm /usr/bin/kubeadm
COPY bin/kube /usr/bin/kubelet
COPY crictl /usr/local/bin/crictl
COPY default-cni.yaml /kind/manifests/default-cni.yaml
COPY version /kind/version
# cri-base.json is made as in kind's own Dockerfile.
RUN ln -s kubelet /usr/bin/kubectl \
 && chmod 0755 /usr/local/bin/crictl \
 && ctr oci spec \
  | jq '.hooks.createContainer[.hooks.createContainer | length] |= . + {"path": "/kind/bin/mount-product-files.sh"}' \
  | jq 'del(.process.rlimits)' > /etc/containerd/cri-base.json
