{{- define "edge.name" -}}
{{- .Release.Name | replace "." "-" | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "edge.labels" -}}
app.kubernetes.io/name: edge
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: xpulink-ai-studio
{{- end -}}

{{/* (list . "people") */}}
{{- define "edge.metadata" -}}
name: {{ include "edge.name" (index . 0) }}{{ with index . 1 }}-{{ . }}{{ end }}
namespace: {{ (index . 0).Release.Namespace }}
labels: {{- include "edge.labels" (index . 0) | nindent 2 }}
{{- end -}}

{{- define "edge.judge" -}}
{{- $v := .Values -}}
{{- if semverCompare (printf "<%s-0" $v.minKubeVersion) .Capabilities.KubeVersion.Version -}}
{{- fail (printf "this cluster is Kubernetes %s and minKubeVersion is %s: upgrade it, or lower minKubeVersion" .Capabilities.KubeVersion.Version $v.minKubeVersion) -}}
{{- end -}}
{{- if not (and $v.host $v.upstream.service) -}}
{{- fail "the edge needs host and upstream.service" -}}
{{- end -}}
{{- if and $v.jwt.enabled (not (and $v.jwt.issuer $v.jwt.jwksUri)) -}}
{{- fail "jwt needs issuer and jwksUri; without people who sign in, set jwt.enabled to false" -}}
{{- end -}}
{{- if and $v.waf.enabled (not (and $v.waf.image $v.waf.sha256)) -}}
{{- fail "waf needs image and sha256: a module that may change is no guard" -}}
{{- end -}}
{{- if and $v.finance.enabled (not $v.finance.host) -}}
{{- fail "finance needs host" -}}
{{- end -}}
{{- end -}}
