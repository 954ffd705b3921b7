{{- define "phasewatt.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "phasewatt.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains (include "phasewatt.name" .) .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "phasewatt.name" .) | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "phasewatt.selectorLabels" -}}
app.kubernetes.io/name: {{ include "phasewatt.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "phasewatt.labels" -}}
{{ include "phasewatt.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: phasewatt
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "phasewatt.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "phasewatt.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- required "serviceAccount.name must name an existing ServiceAccount when serviceAccount.create is false" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "phasewatt.routerImage" -}}
{{- default (printf "ghcr.io/phasewatt/router:%s" .Chart.AppVersion) .Values.router.image -}}
{{- end -}}

{{/* Namespaces in which engines may run, as far as the chart knows them: NetworkPolicies have to be made in each. */}}
{{- define "phasewatt.engineNamespaces" -}}
{{- concat .Values.watchNamespaces .Values.networkPolicy.namespaces | uniq | toJson -}}
{{- end -}}

{{/* Refuse a monitor whose API the cluster does not serve, instead of an obscure error of the API server. */}}
{{- define "phasewatt.requireMonitor" -}}
{{- $kind := .kind -}}
{{- if not (.root.Capabilities.APIVersions.Has (printf "monitoring.coreos.com/v1/%s" $kind)) -}}
{{- fail (printf "metrics.%s.enabled is true, but this cluster serves no monitoring.coreos.com/v1 %s: install the Prometheus Operator first, or leave it false and use docs/prometheus-scrape.yaml (with `helm template`, add --api-versions monitoring.coreos.com/v1/%s)" (untitle $kind) $kind $kind) -}}
{{- end -}}
{{- end -}}

{{/* Relabelling of engine and router pods; the same as in docs/prometheus-scrape.yaml. */}}
{{- define "phasewatt.workloadRelabelings" -}}
# Engines serve their metrics on the port named http, routers on the one named metrics.
- sourceLabels: [__meta_kubernetes_pod_label_app_kubernetes_io_name, __meta_kubernetes_pod_container_port_name]
  regex: phasewatt-engine;http|phasewatt-router;metrics
  action: keep
- sourceLabels: [__meta_kubernetes_pod_label_phasewatt_io_object]
  targetLabel: object
- sourceLabels: [__meta_kubernetes_pod_label_phasewatt_io_group]
  targetLabel: group
- sourceLabels: [__meta_kubernetes_pod_label_phasewatt_io_role]
  targetLabel: role
# In a shared pod the containers, not the pod, have the roles.
- sourceLabels: [__meta_kubernetes_pod_container_name]
  regex: (prefill|decode|colocated)-[0-9]+
  targetLabel: role
- sourceLabels: [__meta_kubernetes_pod_node_name]
  targetLabel: node
{{- end -}}
