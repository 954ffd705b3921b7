{{/* What the operator does inside a namespace that it watches. */}}
{{- define "phasewatt.namespacedRules" -}}
# Read the objects that users write. Their spec is theirs: the operator never writes it.
- apiGroups: [phasewatt.io]
  resources: [disaggregatedinferences]
  verbs: [get, list, watch]
# Report what is going on.
- apiGroups: [phasewatt.io]
  resources: [disaggregatedinferences/status]
  verbs: [get, patch]
# One Deployment per engine and per router. Server-side apply asks for create and patch.
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch, delete]
# The endpoint of an object, and the DNS names of its engines.
- apiGroups: [""]
  resources: [services]
  verbs: [get, list, watch, create, patch, delete]
# One claim per group: the GPUs of its engines, together on one node.
- apiGroups: [resource.k8s.io]
  resources: [resourceclaims]
  verbs: [get, list, watch, create, patch, delete]
# See why an engine does not start, and tell it by an annotation which GPUs of the claim are its own.
# Pods are created and deleted by their Deployments alone.
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch, patch]
# Say once when a condition changes.
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
{{- end -}}

{{/* What can only be read cluster-wide. */}}
{{- define "phasewatt.clusterRules" -}}
# Which GPUs exist and how they are connected; ResourceSlices belong to no namespace.
- apiGroups: [resource.k8s.io]
  resources: [resourceslices]
  verbs: [get, list, watch]
{{- end -}}
