{{- define "training.labels" -}}
app.kubernetes.io/name: training
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: xpulink-ai-studio
{{- end -}}

{{- define "training.judge" -}}
{{- $v := .Values -}}
{{- if semverCompare (printf "<%s-0" $v.minKubeVersion) .Capabilities.KubeVersion.Version -}}
{{- fail (printf "this cluster is Kubernetes %s and minKubeVersion is %s: upgrade it, or lower minKubeVersion and lose podFailurePolicy" .Capabilities.KubeVersion.Version $v.minKubeVersion) -}}
{{- end -}}
{{- if and $v.weights.localVolume.create (not $v.weights.localVolume.node) -}}
{{- fail "weights.localVolume.create needs weights.localVolume.node: whose disk it is" -}}
{{- end -}}
{{- end -}}
