{{/* Slug and a short hash of the id: two ids that differ in dots, slashes or length only keep two names. 47 characters at most. */}}
{{- define "engine.variantName" -}}
{{- $slug := regexReplaceAll "[^a-z0-9]+" (lower .Values.model.variant) "-" | trunc 40 | trimAll "-" -}}
{{- printf "%s-%s" $slug (sha256sum .Values.model.variant | trunc 6) -}}
{{- end -}}

{{- define "engine.name" -}}engine-{{ include "engine.variantName" . }}{{- end -}}

{{/* Few and immutable: a Deployment's selector can never change. */}}
{{- define "engine.selector" -}}
app.kubernetes.io/name: engine
studio.xpulink.ai/variant: {{ include "engine.variantName" . }}
{{- end -}}

{{- define "engine.labels" -}}
{{ include "engine.selector" . }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: xpulink-ai-studio
studio.xpulink.ai/tier: {{ .Values.model.tier }}
studio.xpulink.ai/driver: {{ .Values.driver }}
{{- end -}}

{{- define "engine.annotations" -}}
studio.xpulink.ai/model: {{ .Values.model.id | quote }}
studio.xpulink.ai/variant-id: {{ .Values.model.variant | quote }}
{{- if eq .Values.cards.mode "passthrough" }}
studio.xpulink.ai/UNSAFE: "device passthrough in a privileged pod: a stopgap, never for tenants"
{{- end }}
{{- end -}}

{{- define "engine.cards" -}}{{ mul .Values.engine.tensorParallel .Values.engine.pipelineParallel }}{{- end -}}

{{/* Seconds that a start may take: twice the measured 99th percentile, or half an hour where nobody has measured. */}}
{{- define "engine.startBudget" -}}
{{- $measured := int .Values.engine.startSecondsP99 -}}
{{- if eq $measured 0 }}1800{{ else }}{{ mul 2 $measured }}{{ end -}}
{{- end -}}

{{/* Those of `flags` that this engine does not know yet, a line each. */}}
{{- define "engine.leftOut" -}}
{{- $e := .Values.engine -}}
{{- range $e.flags -}}
{{- $name := regexFind "^--[a-z0-9-]+" . -}}
{{- if and (hasKey $e.flagsSince $name) (semverCompare (printf "<%s-0" (get $e.flagsSince $name)) $e.version) }}{{ printf "%s\n" . }}{{ end -}}
{{- end -}}
{{- end -}}

{{/* Seconds that running requests get after SIGTERM. The kubelet's grace period covers the wait before and a reserve after. */}}
{{- define "engine.drainSeconds" -}}
{{- sub (sub .Values.lifecycle.gracePeriodSeconds .Values.lifecycle.preStopSeconds) 15 -}}
{{- end -}}

{{- define "engine.claim" -}}
{{- .Values.models.existingClaim | default (printf "%s-models" (include "engine.name" .)) -}}
{{- end -}}

{{/* The command line, in the order of local/engine_command.py; a test holds the two together. */}}
{{- define "engine.args" -}}
{{- $e := .Values.engine -}}
- --host
- "0.0.0.0"
- --port
- {{ .Values.service.port | quote }}
- --model
- /run/studio/weights
- --served-model-name
- {{ .Values.model.id | quote }}
- --max-model-len
- {{ $e.contextTokens | int | quote }}
- --max-num-seqs
- {{ $e.maxNumSeqs | int | quote }}
- --scheduling-policy
- priority
- --enable-prompt-tokens-details
- --allowed-media-domains
- images-come-as-data.invalid
- --disable-uvicorn-access-log
- --tensor-parallel-size={{ int $e.tensorParallel }}
{{- if gt (int $e.pipelineParallel) 1 }}
- --pipeline-parallel-size={{ int $e.pipelineParallel }}
{{- end }}
{{- if $e.enforceEager }}
- --enforce-eager
{{- end }}
{{- if .Values.lifecycle.drain }}
- --shutdown-timeout={{ include "engine.drainSeconds" . }}
{{- end }}
{{- $leftOut := include "engine.leftOut" . | splitList "\n" }}
{{- range $e.flags }}
{{- if not (has . $leftOut) }}
- {{ . | quote }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Compiled graphs are worth keeping, but only for the same engine called in the same way. */}}
{{- define "engine.compileCache" -}}
compiled/{{ printf "%s %s" .Values.engine.image (include "engine.args" .) | sha256sum | trunc 16 }}
{{- end -}}

{{/* What no schema can say. Each refusal names the way out. */}}
{{- define "engine.judge" -}}
{{- $v := .Values -}}
{{- $cards := include "engine.cards" . | int -}}
{{- if semverCompare (printf "<%s-0" $v.minKubeVersion) .Capabilities.KubeVersion.Version -}}
{{- fail (printf "this cluster is Kubernetes %s and minKubeVersion is %s: upgrade it, or lower minKubeVersion and lose preStop.sleep" .Capabilities.KubeVersion.Version $v.minKubeVersion) -}}
{{- end -}}
{{- if semverCompare "<0.11.0-0" $v.engine.version -}}
{{- fail (printf "engine.version %s does not know --allowed-media-domains, so it would fetch what callers name: use an engine of 0.11 or later" $v.engine.version) -}}
{{- end -}}
{{- if and $v.lifecycle.drain (semverCompare "<0.18.0-0" $v.engine.version) -}}
{{- fail (printf "engine.version %s cannot drain (--shutdown-timeout came with 0.18): set lifecycle.drain to false, and running requests end with the pod" $v.engine.version) -}}
{{- end -}}
{{- if and $v.lifecycle.drain (lt (include "engine.drainSeconds" . | int) 1) -}}
{{- fail (printf "lifecycle.gracePeriodSeconds %d leaves no time to drain: it must exceed preStopSeconds %d and a reserve of 15" (int $v.lifecycle.gracePeriodSeconds) (int $v.lifecycle.preStopSeconds)) -}}
{{- end -}}
{{- if le (int $v.lifecycle.gracePeriodSeconds) (int $v.lifecycle.preStopSeconds) -}}
{{- fail "lifecycle.gracePeriodSeconds must exceed lifecycle.preStopSeconds" -}}
{{- end -}}
{{- if gt $cards (int $v.cards.perNode) -}}
{{- fail (printf "%s needs %d cards and a node has %d (cards.perNode): a pod cannot span nodes" $v.model.variant $cards (int $v.cards.perNode)) -}}
{{- end -}}
{{- if and (eq $v.driver "keda") (ne (len $v.keda.triggers) 1) -}}
{{- fail "driver is keda: give keda.triggers one cron trigger with the window" -}}
{{- end -}}
{{- range $v.keda.triggers -}}
{{- if eq .start .end -}}{{- fail "keda.triggers: start and end are the same, which KEDA refuses" -}}{{- end -}}
{{- if gt (int .desiredReplicas) (int $v.keda.maxReplicas) -}}
{{- fail (printf "keda.triggers: desiredReplicas %d exceeds keda.maxReplicas %d, which KEDA would cut" (int .desiredReplicas) (int $v.keda.maxReplicas)) -}}
{{- end -}}
{{- end -}}
{{- if and (eq $v.driver "keda") (gt (int $v.keda.minReplicas) (int $v.keda.maxReplicas)) -}}
{{- fail "keda.minReplicas exceeds keda.maxReplicas" -}}
{{- end -}}
{{- if and $v.models.localVolume.create (or $v.models.existingClaim (not $v.models.localVolume.node)) -}}
{{- fail "models.localVolume.create needs models.localVolume.node, and no models.existingClaim" -}}
{{- end -}}
{{- if and $v.networkPolicy.enabled (not $v.networkPolicy.s3Cidrs) (not $v.networkPolicy.s3Namespace) -}}
{{- fail "networkPolicy is on and knows no S3 server: give networkPolicy.s3Cidrs or networkPolicy.s3Namespace, or no pod gets its weights" -}}
{{- end -}}
{{- if eq $v.cards.mode "passthrough" -}}
{{- $p := $v.cards.passthrough -}}
{{- if ne .Release.Namespace $p.namespace -}}
{{- fail (printf "cards.mode is passthrough: privileged pods are confined to the namespace %s, and this release goes to %s" $p.namespace .Release.Namespace) -}}
{{- end -}}
{{- if or (ne $v.driver "none") (ne (int $v.replicas) 1) -}}
{{- fail "cards.mode is passthrough: only one pod that no driver scales; a second one would take the same cards" -}}
{{- end -}}
{{- if or (not $p.node) (ne (len $p.indexes) $cards) -}}
{{- fail (printf "cards.mode is passthrough: give cards.passthrough.node and exactly %d cards.passthrough.indexes" $cards) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "engine.lockedDown" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{/* The container that brings the weights to the node: the init container of each pod, and what `prewarm.weights` runs ahead. */}}
{{- define "engine.fetch" -}}
{{- $v := .Values -}}
name: weights
image: {{ $v.weights.image | quote }}
imagePullPolicy: IfNotPresent
command: [python, -m, local.fetch_weights]
args:
  - {{ splitList "/" $v.weights.uri | last | quote }}
  - --link=/run/studio/weights
  - --make-folder={{ include "engine.compileCache" . }}
  {{- with $v.weights.digest }}
  - --digest={{ . }}
  {{- end }}
env:
  - {name: STUDIO_LOG_FORMAT, value: json}
  - {name: STUDIO_WEIGHTS_DIR, value: /models}
  - name: STUDIO_S3_BUCKET_PREFIX
    value: {{ regexReplaceAll "^s3://([a-z0-9.-]*)modelzoo/.*$" $v.weights.uri "${1}" | quote }}
  {{- with $v.weights.endpointUrl }}
  - name: STUDIO_S3_ENDPOINT_URL
    value: {{ . | quote }}
  {{- end }}
  {{- if $v.weights.credentialsSecret }}
  - name: STUDIO_S3_ACCESS_KEY
    valueFrom: {secretKeyRef: {name: {{ $v.weights.credentialsSecret }}, key: {{ $v.weights.accessKeyField }}}}
  - name: STUDIO_S3_SECRET_KEY
    valueFrom: {secretKeyRef: {name: {{ $v.weights.credentialsSecret }}, key: {{ $v.weights.secretKeyField }}}}
  {{- end }}
resources:
  requests: {cpu: {{ $v.weights.resources.cpu | quote }}, memory: {{ $v.weights.resources.memory }}}
  limits: {cpu: {{ $v.weights.resources.cpu | quote }}, memory: {{ $v.weights.resources.memory }}}
terminationMessagePolicy: FallbackToLogsOnError
securityContext: {{- include "engine.lockedDown" . | nindent 2 }}
volumeMounts:
  - {name: models, mountPath: /models}
  - {name: run, mountPath: /run/studio}
  - {name: scratch, mountPath: /tmp, subPath: fetch}
{{- end -}}

{{/* Where the weights come from, and the names of it. */}}
{{- define "engine.waysOut" -}}
{{- $n := .Values.networkPolicy -}}
# DNS of the cluster, and the address of its cache on each node where there is one.
- to:
    - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}
    - ipBlock: {cidr: 169.254.20.10/32}
  ports: [{port: 53, protocol: UDP}, {port: 53, protocol: TCP}]
{{- range $n.s3Cidrs }}
- to: [{ipBlock: {cidr: {{ . }}}}]
  ports: [{port: {{ int $n.s3Port }}}]
{{- end }}
{{- with $n.s3Namespace }}
- to:
    - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: {{ . }}}}
  ports: [{port: {{ int $n.s3Port }}}]
{{- end }}
{{- end -}}
