{{/* At most 40 characters, since parts, numbers and hashes are added to it. */}}
{{- define "dagster.name" -}}
{{- if contains "dagster" .Release.Name }}{{ .Release.Name | replace "." "-" | trunc 40 | trimSuffix "-" }}{{ else }}{{ printf "%s-dagster" (.Release.Name | replace "." "-" | trunc 32 | trimSuffix "-") }}{{ end -}}
{{- end -}}

{{- define "dagster.selector" -}}
app.kubernetes.io/name: dagster
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{- define "dagster.labels" -}}
{{ include "dagster.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: xpulink-ai-studio
{{- end -}}

{{/* Settings of our code, which runs in the code server and in the runs. */}}
{{- define "dagster.settings" -}}
{{- range $name, $value := .Values.settings }}
{{- $text := toString $value }}
{{- if kindIs "float64" $value }}{{ $text = int64 $value | toString }}{{ end }}
{{- if ne $text "" }}
STUDIO_{{ upper $name }}: {{ $text | quote }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "dagster.secretEnv" -}}
{{- range $name, $reference := .Values.secrets }}
{{- if $reference.name }}
- name: STUDIO_{{ upper $name }}
  valueFrom: {secretKeyRef: {name: {{ $reference.name }}, key: {{ $reference.key }}}}
{{- end }}
{{- end }}
{{- end -}}

{{/* In Dagster's words: its "colored" is text. */}}
{{- define "dagster.logFormat" -}}{{ ternary "json" "colored" (eq .Values.settings.log_format "json") }}{{- end -}}

{{- define "dagster.ownEnv" -}}
- {name: HOME, value: /tmp}
- {name: DAGSTER_HOME, value: /var/lib/dagster}
- {name: DAGSTER_DISABLE_TELEMETRY, value: "yes"}
- {name: PYTHONDONTWRITEBYTECODE, value: "1"}
- {name: DAGSTER_CLI_API_GRPC_LOG_FORMAT, value: {{ include "dagster.logFormat" . }}} # of the process that the code server starts
- name: DAGSTER_POSTGRES_URL
  valueFrom: {secretKeyRef: {name: {{ .Values.storage.secret }}, key: {{ .Values.storage.key }}}}
{{- end -}}

{{- define "dagster.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- define "dagster.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ int .Values.runAsUser }}
runAsGroup: {{ int .Values.runAsUser }}
fsGroup: {{ int .Values.runAsUser }}
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "dagster.instance" -}}
storage:
  postgres:
    postgres_url: {env: DAGSTER_POSTGRES_URL}
run_coordinator:
  module: orchestration.coordinator
  class: AuditedRunCoordinator
  config: {dequeue_interval_seconds: 1, dequeue_use_threads: true, dequeue_num_workers: 2}
run_launcher:
  module: dagster_k8s
  class: K8sRunLauncher
  config:
    load_incluster_config: true
    job_namespace: {{ .Release.Namespace }}
    job_image: {{ .Values.image }}
    image_pull_policy: IfNotPresent
    service_account_name: {{ include "dagster.name" . }}-code
    instance_config_map: {{ include "dagster.name" . }}-instance
    dagster_home: /var/lib/dagster
    env_config_maps: [{{ include "dagster.name" . }}-settings]
    {{- with .Values.imagePullSecrets }}
    image_pull_secrets: [{{ range $i, $name := . }}{{ if $i }}, {{ end }}{name: {{ $name }}}{{ end }}]
    {{- end }}
    run_k8s_config:
      container_config:
        env:
          {{- include "dagster.ownEnv" . | nindent 10 }}
          {{- include "dagster.secretEnv" . | nindent 10 }}
        resources:
          {{- range list "requests" "limits" }}
          {{ . }}: {cpu: {{ $.Values.runs.cpu | quote }}, memory: {{ $.Values.runs.memory }}, ephemeral-storage: {{ $.Values.runs.ephemeralStorage }}}
          {{- end }}
        security_context: {{- include "dagster.containerSecurity" . | nindent 10 }}
        volume_mounts:
          - {name: scratch, mount_path: /tmp}
      pod_spec_config:
        enable_service_links: false
        automount_service_account_token: true # some runs write into the cluster, and all run the same code
        security_context: {{- include "dagster.podSecurity" . | nindent 10 }}
        volumes:
          - {name: scratch, empty_dir: {size_limit: {{ .Values.runs.ephemeralStorage }}}}
        {{- with .Values.runs.nodeSelector }}
        node_selector: {{- toYaml . | nindent 10 }}
        {{- end }}
        {{- with .Values.runs.tolerations }}
        tolerations: {{- toYaml . | nindent 10 }}
        {{- end }}
        {{- with .Values.runs.priorityClassName }}
        priority_class_name: {{ . }}
        {{- end }}
      pod_template_spec_metadata:
        labels:
          {{- include "dagster.selector" . | nindent 10 }}
          app.kubernetes.io/component: run
      job_spec_config:
        backoff_limit: 0 # Dagster retries by rows of ours; a second pod of one run would find it started
        ttl_seconds_after_finished: {{ int .Values.runs.ttlSeconds }}
concurrency:
  runs:
    max_concurrent_runs: {{ int .Values.runs.maxConcurrent }}
    tag_concurrency_limits:
      - {key: studio/kind, value: fine-tune, limit: {{ int .Values.runs.fineTunes }}}
      - {key: studio/kind, value: batch-worker, limit: {{ int .Values.runs.batchWorkers }}}
  pools: {granularity: run, default_limit: 1}
run_monitoring:
  enabled: true
  poll_interval_seconds: 30
  start_timeout_seconds: 300 # a node may have to pull the image first
  cancel_timeout_seconds: 60
  free_slots_after_run_end_seconds: 300
  max_runtime_seconds: 86400
run_retries: {enabled: true, max_retries: 0, retry_on_asset_or_op_failure: false}
retention:
  sensor: {purge_after_days: {skipped: 1, success: 14, failure: 30, started: 30}}
  schedule: {purge_after_days: 90}
sensors: {use_threads: true, num_workers: 2}
schedules: {use_threads: true, num_workers: 2}
telemetry: {enabled: false}
nux: {enabled: false}
{{- end -}}

{{- define "dagster.workspace" -}}
load_from:
  - grpc_server: {host: {{ include "dagster.name" . }}-code, port: 4000, location_name: studio}
{{- end -}}

{{/* What all pods share. Called with the root and what differs: component, token. */}}
{{- define "dagster.pod" -}}
{{- $v := .root.Values -}}
enableServiceLinks: false
serviceAccountName: {{ include "dagster.name" .root }}-{{ .account }}
automountServiceAccountToken: {{ .token }}
{{- with $v.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $v.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with $v.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $v.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
securityContext: {{- include "dagster.podSecurity" .root | nindent 2 }}
volumes:
  - {name: instance, configMap: {name: {{ include "dagster.name" .root }}-instance}}
  - {name: home, emptyDir: {sizeLimit: 1Gi}}
  - {name: scratch, emptyDir: {sizeLimit: 1Gi}}
{{- end -}}

{{- define "dagster.mounts" -}}
- {name: home, mountPath: /var/lib/dagster}
- {name: instance, mountPath: /var/lib/dagster/dagster.yaml, subPath: dagster.yaml}
- {name: instance, mountPath: /var/lib/dagster/workspace.yaml, subPath: workspace.yaml}
- {name: scratch, mountPath: /tmp}
{{- end -}}

{{- define "dagster.resources" -}}
{{- $of := . -}}
{{- range list "requests" "limits" }}
{{ . }}: {cpu: {{ $of.cpu | quote }}, memory: {{ $of.memory }}, ephemeral-storage: 1Gi}
{{- end }}
{{- end -}}

{{- define "dagster.judge" -}}
{{- $v := .Values -}}
{{- if semverCompare (printf "<%s-0" $v.minKubeVersion) .Capabilities.KubeVersion.Version -}}
{{- fail (printf "this cluster is Kubernetes %s and minKubeVersion is %s: upgrade it, or lower minKubeVersion" .Capabilities.KubeVersion.Version $v.minKubeVersion) -}}
{{- end -}}
{{- if ge (add (int $v.runs.fineTunes) (int $v.runs.batchWorkers)) (int64 $v.runs.maxConcurrent) -}}
{{- fail (printf "runs.maxConcurrent %d leaves no room beside runs.fineTunes and runs.batchWorkers, which last for hours: raise it above their sum" (int $v.runs.maxConcurrent)) -}}
{{- end -}}
{{- if and $v.readOnly.enabled (not (and $v.readOnly.proxy.image $v.readOnly.proxy.issuer $v.readOnly.proxy.clientId $v.readOnly.proxy.secret)) -}}
{{- fail "readOnly.proxy needs image, issuer, clientId and secret: Dagster's UI has no sign-in of its own. Or set readOnly.enabled to false" -}}
{{- end -}}
{{- end -}}
