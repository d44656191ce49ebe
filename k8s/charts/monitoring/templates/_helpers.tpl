{{- define "monitoring.name" -}}
{{- .Release.Name | replace "." "-" | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* (list . "prometheus"): few and immutable. */}}
{{- define "monitoring.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: monitoring
app.kubernetes.io/instance: {{ $root.Release.Name | quote }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{- define "monitoring.labels" -}}
{{- $root := index . 0 -}}
{{ include "monitoring.selector" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
app.kubernetes.io/part-of: xpulink-ai-studio
{{- end -}}

{{- define "monitoring.metadata" -}}
{{- $root := index . 0 -}}
name: {{ include "monitoring.name" $root }}-{{ index . 1 }}
namespace: {{ $root.Release.Namespace }}
labels: {{- include "monitoring.labels" . | nindent 2 }}
{{- end -}}

{{/* What is the same in every pod's spec. */}}
{{- define "monitoring.pod" -}}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end -}}

{{- define "monitoring.nobody" -}}
securityContext:
  runAsNonRoot: true
  runAsUser: {{ int .Values.runAsUser }}
  runAsGroup: {{ int .Values.runAsUser }}
  fsGroup: {{ int .Values.runAsUser }}
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "monitoring.container" -}}
imagePullPolicy: IfNotPresent
terminationMessagePolicy: FallbackToLogsOnError
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end -}}

{{/* "host:port": what Prometheus finds by its name. */}}
{{- define "monitoring.byName" -}}
{names: ["{{ regexReplaceAll ":[0-9]+$" . "" }}"], type: A, port: {{ regexFind "[0-9]+$" . }}, refresh_interval: 15s}
{{- end -}}

{{/* (list cpu memory): requests equal limits. */}}
{{- define "monitoring.resources" -}}
resources:
  requests: {cpu: {{ index . 0 | quote }}, memory: {{ index . 1 }}}
  limits: {cpu: {{ index . 0 | quote }}, memory: {{ index . 1 }}}
{{- end -}}

{{- define "monitoring.bucketKeys" -}}
- name: AWS_ACCESS_KEY_ID
  valueFrom: {secretKeyRef: {name: {{ .Values.blocks.credentialsSecret }}, key: access-key}}
- name: AWS_SECRET_ACCESS_KEY
  valueFrom: {secretKeyRef: {name: {{ .Values.blocks.credentialsSecret }}, key: secret-key}}
{{- end -}}

{{/* What no schema can say. Each refusal names the way out. */}}
{{- define "monitoring.judge" -}}
{{- $v := .Values -}}
{{- if semverCompare (printf "<%s-0" $v.minKubeVersion) .Capabilities.KubeVersion.Version -}}
{{- fail (printf "this cluster is Kubernetes %s and minKubeVersion is %s: upgrade it, or lower minKubeVersion" .Capabilities.KubeVersion.Version $v.minKubeVersion) -}}
{{- end -}}
{{- if and $v.blocks.enabled (or $v.prometheus.enabled $v.loki.enabled) -}}
{{- if or (not $v.blocks.endpoint) (not $v.blocks.region) -}}
{{- fail "blocks.endpoint and blocks.region name a bucket within the EU: give both, or set blocks.enabled to false and keep nothing beyond the volumes" -}}
{{- end -}}
{{- end -}}
{{- range $part, $image := dict "prometheus" $v.prometheus.image "alertmanager" $v.alertmanager.image "grafana" $v.grafana.image "loki" $v.loki.image "state" $v.state.image -}}
{{- if and (index $v $part).enabled (not $image) -}}{{- fail (printf "%s.image is needed, by digest, or switch the part off" $part) -}}{{- end -}}
{{- end -}}
{{- $host := regexReplaceAll ":[0-9]+$" $v.blocks.endpoint "" -}}
{{- if and $v.blocks.enabled $v.blocks.ownEndpoint (regexMatch "(amazonaws|googleapis)\\." $host) -}}
{{- fail (printf "blocks.endpoint %s is no server of yours: set blocks.ownEndpoint to false and name the endpoint of blocks.region" $v.blocks.endpoint) -}}
{{- end -}}
{{- if and $v.blocks.enabled (not $v.blocks.ownEndpoint) (not (has $v.blocks.region (splitList "." $host))) -}}
{{- fail (printf "blocks.endpoint %s is not in blocks.region %s: name the endpoint of that region, or, if it is a server of your own within the EU, set blocks.ownEndpoint" $v.blocks.endpoint $v.blocks.region) -}}
{{- end -}}
{{- if and $v.prometheus.enabled $v.blocks.enabled (not $v.prometheus.sidecarImage) -}}{{- fail "prometheus.sidecarImage is needed to copy blocks into the bucket" -}}{{- end -}}
{{- if and (or $v.nodes.exporter.enabled $v.nodes.devicePlugin.enabled) (not $v.nodes.exporter.image) -}}{{- fail "nodes.exporter.image is needed, by digest: exporter and device plugin run from it" -}}{{- end -}}
{{- if and $v.nodes.logs.enabled (not $v.nodes.logs.image) -}}{{- fail "nodes.logs.image is needed, by digest, or switch the part off" -}}{{- end -}}
{{- if and $v.nodes.logs.enabled (not $v.loki.enabled) -}}{{- fail "nodes.logs brings logs to Loki: switch loki on, too, or nodes.logs off" -}}{{- end -}}
{{- range $part := list "prometheus" "loki" -}}
{{- $volume := (index $v $part).localVolume -}}
{{- if and $volume.create (not $volume.node) -}}{{- fail (printf "%s.localVolume.create needs %s.localVolume.node: whose disk it is" $part $part) -}}{{- end -}}
{{- end -}}
{{- if eq $v.nodes.namespace .Release.Namespace -}}{{- fail "nodes.namespace must be another than the release's: its pods see the host" -}}{{- end -}}
{{- end -}}
