{{/* At most 50 characters, since Kubernetes adds numbers and a hash to it. */}}
{{- define "gateway.name" -}}
{{- if contains "gateway" .Release.Name }}{{ .Release.Name | replace "." "-" | trunc 50 | trimSuffix "-" }}{{ else }}{{ printf "%s-gateway" (.Release.Name | replace "." "-" | trunc 42 | trimSuffix "-") }}{{ end -}}
{{- end -}}

{{/* Few and immutable: a StatefulSet's selector can never change. */}}
{{- define "gateway.selector" -}}
app.kubernetes.io/name: gateway
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{- define "gateway.labels" -}}
{{ include "gateway.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: xpulink-ai-studio
{{- end -}}

{{/* Settings as environment. A number is written out: YAML would make 1e+06 of a million. */}}
{{- define "gateway.settings" -}}
{{- range $name, $value := .Values.settings }}
{{- $text := toString $value }}
{{- if kindIs "float64" $value }}
{{- if eq (floor $value) $value }}{{ $text = int64 $value | toString }}{{ end }}
{{- end }}
{{- if ne $text "" }}
STUDIO_{{ upper $name }}: {{ $text | quote }}
{{- end }}
{{- end }}
STUDIO_GATEWAY_HOST: "0.0.0.0"
STUDIO_GATEWAY_PORT: {{ int .Values.service.port | quote }}
STUDIO_GATEWAY_INTERNAL_HOST: "0.0.0.0" # the kubelet's probes come to the pod's address; the NetworkPolicy keeps others out
STUDIO_GATEWAY_INTERNAL_PORT: {{ int .Values.service.internalPort | quote }}
STUDIO_JOURNAL_DIR: /var/lib/studio/journal
{{- end -}}

{{/* Numbers of gateways whose journals are to be shipped, as JSON: those that are named, and those that the cluster has a claim of and no
gateway any more. Rendered without a cluster (helm template, Argo CD), only what is named. */}}
{{- define "gateway.orphans" -}}
{{- $v := .Values -}}
{{- $found := $v.orphanedJournals -}}
{{- if $v.journal.shipOrphans -}}
{{- $name := include "gateway.name" . -}}
{{- $running := int $v.replicas -}}
{{- if $v.autoscaling.enabled -}}
{{- $now := lookup "apps/v1" "StatefulSet" .Release.Namespace $name -}}
{{- $running = max (int $v.autoscaling.minReplicas) (dig "spec" "replicas" 0 $now | int) | int -}}
{{- end -}}
{{- $form := printf "^journal-%s-[0-9]+$" $name -}}
{{- range dig "items" list (lookup "v1" "PersistentVolumeClaim" .Release.Namespace "") -}}
{{- if and (regexMatch $form .metadata.name) (eq (dig "status" "phase" "" .) "Bound") (not (hasKey .metadata "deletionTimestamp")) -}}
{{- $number := regexFind "[0-9]+$" .metadata.name | int -}}
{{- if ge $number $running -}}{{- $found = append $found $number -}}{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $numbers := list -}}
{{- range $found -}}{{- $numbers = append $numbers (int .) -}}{{- end -}}
{{- uniq $numbers | toJson -}}
{{- end -}}

{{/* What no schema can say. Each refusal names the way out. */}}
{{- define "gateway.judge" -}}
{{- $v := .Values -}}
{{- if semverCompare (printf "<%s-0" $v.minKubeVersion) .Capabilities.KubeVersion.Version -}}
{{- fail (printf "this cluster is Kubernetes %s and minKubeVersion is %s: upgrade it, or lower minKubeVersion and lose preStop.sleep" .Capabilities.KubeVersion.Version $v.minKubeVersion) -}}
{{- end -}}
{{- $most := ternary (int $v.autoscaling.maxReplicas) (int $v.replicas) $v.autoscaling.enabled -}}
{{- if and (gt $most 1) (not $v.secrets.valkey_url.name) -}}
{{- fail "several gateways need Valkey, or each would allow a tenant its whole limit: give secrets.valkey_url.name" -}}
{{- end -}}
{{- if and $v.autoscaling.enabled (gt (int $v.autoscaling.minReplicas) (int $v.autoscaling.maxReplicas)) -}}
{{- fail "autoscaling.minReplicas exceeds autoscaling.maxReplicas" -}}
{{- end -}}
{{- if and $v.journal.localVolume.create (lt (len $v.journal.localVolume.nodes) $most) -}}
{{- fail (printf "journal.localVolume.nodes names %d nodes and there may be %d gateways: name the node of each" (len $v.journal.localVolume.nodes) $most) -}}
{{- end -}}
{{- if lt (int $v.lifecycle.gracePeriodSeconds) (add (int $v.lifecycle.preStopSeconds) 30 | int) -}}
{{- fail (printf "lifecycle.gracePeriodSeconds must be at least %d: preStopSeconds, 25 for streams, 5 to ship usage" (add (int $v.lifecycle.preStopSeconds) 30)) -}}
{{- end -}}
{{- end -}}
