{{- /*
The two sidecars and their volumes: the only definition. Mode inject turns it into the patch of a policy, mode gateway uses
the parts of the container wechat-authz, and an application's own chart includes it:

  initContainers: {{- include "wechat-authz.initContainers" (dict "chart" (index .Subcharts "wechat-authz") "protect" "blog") | nindent 8 }}
  volumes: {{- include "wechat-authz.volumes" (dict "chart" (index .Subcharts "wechat-authz") "protect" "blog") | nindent 8 }}
*/ -}}

{{- define "wechat-authz.entry" -}}
{{- include "wechat-authz.validate" .chart -}}
{{- $wanted := .protect -}}
{{- $found := dict -}}
{{- range .chart.Values.protect -}}{{- if eq .name $wanted -}}{{- $found = . -}}{{- end -}}{{- end -}}
{{- if not $found -}}{{- fail (printf "protect has no entry with the name %q" $wanted) -}}{{- end -}}
{{- toJson $found -}}
{{- end }}

{{- define "wechat-authz.initContainers" -}}
{{- $entry := include "wechat-authz.entry" . | fromJson -}}
{{- if not (kindIs "float64" $entry.port) -}}{{- fail (printf "protect %s: in an application's own chart, port must be a number, not the name %q: only an admission policy can look up names" $entry.name $entry.port) -}}{{- end -}}
{{- $appPort := int $entry.port -}}
{{- if eq ($entry.service | default "swap") "relocate" -}}{{- $appPort = $entry.relocate.port | int -}}{{- end -}}
{{- include "wechat-authz.sidecars" (dict "chart" .chart "entry" $entry "appPort" (toString $appPort)) -}}
{{- end }}

{{- define "wechat-authz.volumes" -}}
{{- include "wechat-authz.podVolumes" (dict "chart" .chart "entry" (include "wechat-authz.entry" . | fromJson)) -}}
{{- end }}

{{- define "wechat-authz.securityContext" -}}
runAsUser: 65532
runAsGroup: 65532
runAsNonRoot: true
allowPrivilegeEscalation: false
privileged: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
seccompProfile: { type: RuntimeDefault }
{{- end }}

{{- define "wechat-authz.env" -}}
- name: POD_NAME
  valueFrom: { fieldRef: { apiVersion: v1, fieldPath: metadata.name } }
- name: POD_NAMESPACE
  valueFrom: { fieldRef: { apiVersion: v1, fieldPath: metadata.namespace } }
- name: POD_UID
  valueFrom: { fieldRef: { apiVersion: v1, fieldPath: metadata.uid } }
{{- end }}

{{- /* The files that wechat-authz reads, in both modes. */ -}}
{{- define "wechat-authz.mounts" -}}
- { name: wechat-config, mountPath: /etc/wechat-authz, readOnly: true }
- { name: wechat-keys, mountPath: /run/secrets/wechat-authz/keys, readOnly: true }
- { name: wechat-secrets, mountPath: /run/secrets/wechat-authz/wechat, readOnly: true }
{{- if .Values.redis.existingSecret }}
- { name: wechat-redis, mountPath: /run/secrets/wechat-authz/redis, readOnly: true }
{{- end }}
{{- if .Values.admin.existingSecret }}
- { name: wechat-admin, mountPath: /run/secrets/wechat-authz/admin, readOnly: true }
{{- end }}
- { name: wechat-state, mountPath: /var/lib/wechat-authz }
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /* Native sidecars in the order of their start; they stop in reverse order. (dict "chart" . "entry" ENTRY "appPort" TEXT) */ -}}
{{- define "wechat-authz.sidecars" -}}
{{- $values := .chart.Values -}}
{{- $way := .entry.service | default "swap" -}}
- name: wechat-authz
  image: {{ include "wechat-authz.image" (dict "chart" .chart "image" $values.image "tag" .chart.Chart.AppVersion) | quote }}
  imagePullPolicy: {{ $values.image.pullPolicy }}
  restartPolicy: Always
  args: [serve, --config, /etc/wechat-authz/wechat-authz.yaml]
  env:
    {{- include "wechat-authz.env" . | nindent 4 }}
    {{- with $values.extraEnv }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with $values.envFrom }}
  envFrom:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  # Probes use exec, because the listeners are on loopback and a socket, which the kubelet cannot reach. Neither probe depends
  # on other services. Only the startup probe requires readiness: during a drain the container must not be restarted.
  startupProbe:
    exec: { command: [wechat-authz, healthcheck, --ready] }
    periodSeconds: 1
    timeoutSeconds: 2
    failureThreshold: 60
  livenessProbe:
    exec: { command: [wechat-authz, healthcheck] }
    periodSeconds: 10
    timeoutSeconds: 2
    failureThreshold: 3
  lifecycle:
    # All preStop hooks of a pod start at the same time: this one makes Envoy drain while all containers still serve.
    preStop: { exec: { command: [wechat-authz, drain, --wait, {{ $values.drainSeconds | int | toString | quote }}] } }
  {{- with $values.resources }}
  resources:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  securityContext:
    {{- include "wechat-authz.securityContext" . | nindent 4 }}
  # `kubectl describe` then shows the log line about an invalid configuration, secret or key.
  terminationMessagePolicy: FallbackToLogsOnError
  volumeMounts:
    {{- include "wechat-authz.mounts" .chart | nindent 4 }}
    - { name: wechat-socket, mountPath: /run/wechat-authz }
    # Keeps the ServiceAccount admission plugin from mounting the application's API token here.
    - { name: wechat-no-token, mountPath: /var/run/secrets/kubernetes.io/serviceaccount, readOnly: true }
- name: wechat-envoy
  image: {{ include "wechat-authz.image" (dict "chart" .chart "image" $values.envoy.image) | quote }}
  imagePullPolicy: {{ $values.envoy.image.pullPolicy }}
  restartPolicy: Always
  command: [envoy]
  args:
    - --config-path
    - /etc/wechat-envoy/envoy.yaml
    - --config-yaml
    - {{ include "wechat-authz.appCluster" . | quote }}
    - --concurrency
    - {{ $values.envoy.concurrency | int | toString | quote }}
    - --drain-time-s
    - {{ $values.drainSeconds | int | toString | quote }}
    - --drain-strategy
    - immediate
    - --disable-hot-restart
    - --log-level
    - {{ $values.envoy.logLevel | quote }}
  {{- with $values.envoy.extraEnv }}
  env:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  ports:
    {{- if ne $way "relocate" }}
    - { name: {{ ternary .entry.port "wechat-http" (and (eq $way "swap") (kindIs "string" .entry.port)) }}, containerPort: 15006, protocol: TCP }
    {{- end }}
    - { name: wechat-metrics, containerPort: 15090, protocol: TCP }
  startupProbe:
    httpGet: { path: /ready, port: 15090, scheme: HTTP }
    periodSeconds: 1
    timeoutSeconds: 2
    failureThreshold: 60
  readinessProbe:
    httpGet: { path: /ready, port: 15090, scheme: HTTP }
    periodSeconds: 5
    timeoutSeconds: 2
    failureThreshold: 2
  # Not /ready, which returns 503 during a drain.
  livenessProbe:
    tcpSocket: { port: 15090 }
    periodSeconds: 10
    timeoutSeconds: 2
    failureThreshold: 6
  {{- if semverCompare ">=1.30.0-0" .chart.Capabilities.KubeVersion.Version }}
  lifecycle:
    # Envoy exits 10 ms after SIGTERM and cuts requests in flight, so this hook delays SIGTERM.
    preStop: { sleep: { seconds: {{ $values.drainSeconds | int }} } }
  {{- end }}
  {{- with $values.envoy.resources }}
  resources:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  securityContext:
    {{- include "wechat-authz.securityContext" . | nindent 4 }}
  terminationMessagePolicy: FallbackToLogsOnError
  volumeMounts:
    - { name: wechat-envoy-config, mountPath: /etc/wechat-envoy, readOnly: true }
    - { name: wechat-socket, mountPath: /run/wechat-authz }
    - { name: wechat-no-token, mountPath: /var/run/secrets/kubernetes.io/serviceaccount, readOnly: true }
{{- end }}

{{- /* The cluster with the application's port, which Envoy merges into its file. */ -}}
{{- define "wechat-authz.appCluster" -}}
{{- $text := .chart.Files.Get "files/app.yaml" | required "the chart has no files/app.yaml" -}}
{{- $protocol := ternary "http2_protocol_options" "http_protocol_options" (.entry.h2c | default false) -}}
{{- $text | replace "${app_protocol}" $protocol | replace "${app_port}" "\"@PORT@\"" | fromYaml | mustToRawJson | replace "\"@PORT@\"" .appPort -}}
{{- end }}

{{- /* 292 is 0444: user 65532 has no group in an application's pod, and the chart does not set pod-level fields. */ -}}
{{- define "wechat-authz.secretVolumes" -}}
{{- $values := .chart.Values -}}
- name: wechat-config
  configMap: { name: {{ include "wechat-authz.fullname" .chart }}, defaultMode: 292 }
- name: wechat-keys
  secret: { secretName: {{ $values.keys.existingSecret }}, defaultMode: {{ .mode }} }
# Lists the items: if one is missing, the kubelet names it, and the pod waits for it.
- name: wechat-secrets
  secret:
    secretName: {{ $values.wechat.existingSecret }}
    defaultMode: {{ .mode }}
    items:
      {{- range include "wechat-authz.appids" .chart | fromJsonArray }}
      - { key: {{ . }}, path: {{ . }} }
      {{- end }}
{{- with $values.redis.existingSecret }}
- name: wechat-redis
  secret:
    secretName: {{ . }}
    defaultMode: {{ $.mode }}
    items:
      {{- with $values.redis.passwordKey }}
      - { key: {{ . | quote }}, path: password }
      {{- end }}
      {{- with $values.redis.sentinelPasswordKey }}
      - { key: {{ . | quote }}, path: sentinel-password }
      {{- end }}
      {{- with $values.redis.caKey }}
      - { key: {{ . | quote }}, path: ca.pem }
      {{- end }}
{{- end }}
{{- with $values.admin.existingSecret }}
- name: wechat-admin
  secret:
    secretName: {{ . }}
    defaultMode: {{ $.mode }}
    items:
      - { key: token, path: token }
{{- end }}
- name: wechat-state
  emptyDir: { sizeLimit: 64Mi }
{{- with $values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "wechat-authz.podVolumes" -}}
{{ include "wechat-authz.secretVolumes" (dict "chart" .chart "mode" "292") }}
- name: wechat-envoy-config
  configMap: { name: {{ include "wechat-authz.fullname" .chart }}-{{ .entry.name }}, defaultMode: 292 }
- name: wechat-socket
  emptyDir: { medium: Memory, sizeLimit: 1Mi }
- name: wechat-no-token
  emptyDir: { sizeLimit: 1Mi }
{{- end }}
