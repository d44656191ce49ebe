{{- define "data.name" -}}
{{- .Release.Name | replace "." "-" | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* (list . "postgres"): few and immutable. */}}
{{- define "data.selector" -}}
app.kubernetes.io/name: data
app.kubernetes.io/instance: {{ (index . 0).Release.Name | quote }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{- define "data.labels" -}}
{{ include "data.selector" . }}
app.kubernetes.io/version: {{ (index . 0).Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ (index . 0).Release.Service }}
app.kubernetes.io/part-of: xpulink-ai-studio
{{- end -}}

{{- define "data.metadata" -}}
name: {{ include "data.name" (index . 0) }}-{{ index . 1 }}
namespace: {{ (index . 0).Release.Namespace }}
labels: {{- include "data.labels" . | nindent 2 }}
{{- end -}}

{{/* (list . user): what is the same in every pod. */}}
{{- define "data.pod" -}}
{{- $v := (index . 0).Values -}}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with $v.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $v.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with $v.node }}
nodeSelector: {kubernetes.io/hostname: {{ . | quote }}}
{{- end }}
{{- with $v.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: {{ int (index . 1) }}
  runAsGroup: {{ int (index . 1) }}
  fsGroup: {{ int (index . 1) }}
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{/* (list cpu memory) */}}
{{- define "data.container" -}}
imagePullPolicy: IfNotPresent
terminationMessagePolicy: FallbackToLogsOnError
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
resources:
  requests: {cpu: {{ index . 0 | quote }}, memory: {{ index . 1 }}}
  limits: {cpu: {{ index . 0 | quote }}, memory: {{ index . 1 }}}
{{- end -}}

{{/* (list . "postgres"): a claim that outlives the release, and with a path the node's volume behind it. */}}
{{- define "data.volume" -}}
{{- $root := index . 0 }}
{{- $part := index . 1 }}
{{- $volume := (index $root.Values $part).volume }}
{{- $name := printf "%s-%s" (include "data.name" $root) $part }}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata:
  {{- include "data.metadata" . | nindent 2 }}
  annotations:
    helm.sh/resource-policy: keep # removed by hand, by somebody who has a backup
spec:
  accessModes: [ReadWriteOnce]
  {{- if $volume.path }}
  storageClassName: ""
  volumeName: {{ $root.Release.Namespace }}-{{ $name }}
  {{- else if $volume.storageClass }}
  storageClassName: {{ $volume.storageClass }}
  {{- end }}
  resources:
    requests: {storage: {{ $volume.size }}}
{{- if $volume.path }}
---
apiVersion: v1
kind: PersistentVolume
metadata:
  name: {{ $root.Release.Namespace }}-{{ $name }}
  labels: {{- include "data.labels" . | nindent 4 }}
  annotations:
    helm.sh/resource-policy: keep
spec:
  capacity: {storage: {{ $volume.size }}}
  accessModes: [ReadWriteOnce]
  persistentVolumeReclaimPolicy: Retain
  storageClassName: ""
  claimRef: {namespace: {{ $root.Release.Namespace }}, name: {{ $name }}}
  local: {path: {{ $volume.path }}}
  nodeAffinity:
    required:
      nodeSelectorTerms:
        - matchExpressions:
            - {key: kubernetes.io/hostname, operator: In, values: [{{ $root.Values.node | quote }}]}
{{- end }}
{{- end -}}

{{/* (list . "postgres" port) */}}
{{- define "data.service" }}
---
apiVersion: v1
kind: Service
metadata: {{- include "data.metadata" (list (index . 0) (index . 1)) | nindent 2 }}
spec:
  selector: {{- include "data.selector" (list (index . 0) (index . 1)) | nindent 4 }}
  ports:
    - {name: {{ index . 1 }}, port: {{ index . 2 }}, targetPort: {{ index . 1 }}, protocol: TCP}
{{- end -}}

{{- define "data.judge" -}}
{{- $v := .Values -}}
{{- if semverCompare (printf "<%s-0" $v.minKubeVersion) .Capabilities.KubeVersion.Version -}}
{{- fail (printf "this cluster is Kubernetes %s and minKubeVersion is %s: upgrade it, or lower minKubeVersion" .Capabilities.KubeVersion.Version $v.minKubeVersion) -}}
{{- end -}}
{{- range $part := list "postgres" "s3" "valkey" "backup" -}}
{{- $p := index $v $part -}}
{{- if and $p.enabled (not $p.image) -}}
{{- fail (printf "%s.image is empty: name it by digest, or set %s.enabled to false" $part $part) -}}
{{- end -}}
{{- end -}}
{{- range $part := list "postgres" "s3" -}}
{{- $p := index $v $part -}}
{{- if and $p.enabled $p.volume.path (not $v.node) -}}
{{- fail (printf "%s.volume.path is a folder of a node: name it with `node`" $part) -}}
{{- end -}}
{{- end -}}
{{- if and $v.backup.enabled (not $v.backup.endpointUrl) (not $v.s3.enabled) -}}
{{- fail "backup.endpointUrl is empty and this release has no S3: say where dumps go" -}}
{{- end -}}
{{- end -}}

{{/* A quarter of `16Gi`, in the words of PostgreSQL. */}}
{{- define "data.quarter" -}}
{{- $number := regexFind "^[0-9]+" . | int -}}
{{- $unit := dict "Mi" 1 "Gi" 1024 "Ti" 1048576 -}}
{{- div (mul $number (get $unit (regexFind "(Mi|Gi|Ti)$" .))) 4 -}}MB
{{- end -}}
