{{- define "wechat-authz.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end }}

{{- define "wechat-authz.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains (include "wechat-authz.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "wechat-authz.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{- define "wechat-authz.selectorLabels" -}}
app.kubernetes.io/name: {{ include "wechat-authz.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "wechat-authz.labels" -}}
{{ include "wechat-authz.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name (.Chart.Version | replace "+" "_") }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /* Metadata of every object: (dict "chart" . "name" NAME "component" WORD or empty). */ -}}
{{- define "wechat-authz.metadata" -}}
{{- include "wechat-authz.validate" .chart -}}
name: {{ .name }}
{{- if not .clusterScoped }}
namespace: {{ .chart.Release.Namespace }}
{{- end }}
labels:
  {{- include "wechat-authz.labels" .chart | nindent 2 }}
  {{- with .component }}
  app.kubernetes.io/component: {{ . }}
  {{- end }}
{{- with merge (dict) (.annotations | default dict) .chart.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- /* (dict "chart" . "image" MAP "tag" DEFAULT) */ -}}
{{- define "wechat-authz.image" -}}
{{- $registry := .image.registry | default (dig "imageRegistry" "" (.chart.Values.global | default dict)) -}}
{{- with $registry }}{{ . }}/{{ end }}{{ .image.repository }}
{{- if .image.digest }}@{{ .image.digest }}{{ else }}:{{ .image.tag | default .tag }}{{ end }}
{{- end }}

{{- define "wechat-authz.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (ternary (include "wechat-authz.fullname" .) "default" .Values.serviceAccount.create) -}}
{{- end }}

{{- define "wechat-authz.prefix" -}}
{{- .Values.config.prefix | default "/_wechat" -}}
{{- end }}

{{- /* The file names of all domain proofs, as a JSON list. An entry is NAME or NAME=CONTENT. */ -}}
{{- define "wechat-authz.proofs" -}}
{{- $names := list -}}
{{- range .Values.config.apps -}}{{- range .domain_proofs -}}{{- $names = append $names (splitList "=" . | first) -}}{{- end -}}{{- end -}}
{{- $names | uniq | sortAlpha | toJson -}}
{{- end }}

{{- /* Every AppID, sorted, as a JSON list: the entries of the Secret with the AppSecrets. */ -}}
{{- define "wechat-authz.appids" -}}
{{- $ids := list -}}
{{- range $app := .Values.config.apps -}}
{{- range list "official_account" "website" -}}
{{- with index $app . -}}{{- $ids = append $ids .appid -}}{{- end -}}
{{- end -}}
{{- end -}}
{{- $ids | uniq | sortAlpha | toJson -}}
{{- end }}

{{- /* wechat-authz.yaml: `config` of the values, and what the chart sets. */ -}}
{{- define "wechat-authz.config" -}}
{{- $config := deepCopy .Values.config -}}
{{- if eq .Values.mode "inject" -}}
{{- /* A socket, because the containers of a pod share its loopback. */ -}}
{{- $_ := set $config "listen" (dict "check" "unix:/run/wechat-authz/check.sock" "pages" "127.0.0.1:9101" "ops" "127.0.0.1:9102") -}}
{{- else -}}
{{- $address := ternary "[::]" "0.0.0.0" (eq .Values.gateway.address "::") -}}
{{- $_ := set $config "listen" (dict "check" (printf "%s:9100" $address) "pages" (printf "%s:9101" $address) "ops" (printf "%s:9102" $address)) -}}
{{- /* Keep serving until the gateway has noticed the end of the endpoint: no Envoy sidecar drains first. */ -}}
{{- $drain := $config.drain | default dict -}}
{{- $_ := set $config "drain" (merge (dict) $drain (dict "delay" "5s")) -}}
{{- if .Values.gateway.envoyGateway.enabled -}}
{{- $_ := set $config "gateway" (merge (dict) ($config.gateway | default dict) (dict "delivers_set_cookie" false "client_address" "x-forwarded-for:1")) -}}
{{- else if .Values.gateway.istio.enabled -}}
{{- $_ := set $config "gateway" (merge (dict) ($config.gateway | default dict) (dict "client_address" "x-forwarded-for:1")) -}}
{{- end -}}
{{- end -}}
{{- $_ := set $config "keys" (merge (dict "directory" "/run/secrets/wechat-authz/keys") ($config.keys | default dict)) -}}
{{- $_ := set $config "state_directory" "/var/lib/wechat-authz" -}}
{{- range $app := $config.apps -}}
{{- range list "official_account" "website" -}}
{{- with index $app . -}}{{- $_ := set . "secret_file" (printf "/run/secrets/wechat-authz/wechat/%s" .appid) -}}{{- end -}}
{{- end -}}
{{- end -}}
{{- if and $config.redis .Values.redis.existingSecret -}}
{{- with .Values.redis.passwordKey -}}{{- $_ := set $config.redis "password_file" "/run/secrets/wechat-authz/redis/password" -}}{{- end -}}
{{- with .Values.redis.caKey -}}{{- $_ := set $config.redis "ca_file" "/run/secrets/wechat-authz/redis/ca.pem" -}}{{- end -}}
{{- if .Values.redis.sentinelPasswordKey -}}{{- $_ := set $config.redis.sentinel "password_file" "/run/secrets/wechat-authz/redis/sentinel-password" -}}{{- end -}}
{{- end -}}
{{- if .Values.admin.existingSecret -}}
{{- $_ := set $config "admin" (dict "token_file" "/run/secrets/wechat-authz/admin/token") -}}
{{- end -}}
{{- toYaml $config -}}
{{- end }}

{{- /* The address of one of Envoy's listeners. */ -}}
{{- define "wechat-authz.socket" -}}
{{- if eq .address "::" -}}
{ address: "::", port_value: {{ .port }}, ipv4_compat: true }
{{- else -}}
{ address: {{ .address }}, port_value: {{ .port }} }
{{- end -}}
{{- end }}

{{- /* Envoy's port for an application: 15006, or with relocate the application's former port. (dict "entry" ENTRY) */ -}}
{{- define "wechat-authz.envoyPort" -}}
{{- if eq (.entry.service | default "swap") "relocate" }}{{ .entry.port | int }}{{ else }}15006{{ end -}}
{{- end }}

{{- /* Envoy's configuration for one application. Plain replacement, because the file may contain `{{`. */ -}}
{{- define "wechat-authz.envoy" -}}
{{- $envoy := .chart.Values.envoy -}}
{{- $hops := $envoy.trustedHops -}}
{{- if hasKey .entry "hops" }}{{ $hops = .entry.hops }}{{ end -}}
{{- $proofs := "(?:MP|WW)_verify_[A-Za-z0-9]{16}[.]txt" -}}
{{- with include "wechat-authz.proofs" .chart | fromJsonArray }}{{ $proofs = printf "(?:%s)" (join "|" . | replace "." "[.]") }}{{ end -}}
{{- $fills := dict
  "listen" (include "wechat-authz.socket" (dict "address" $envoy.address "port" (include "wechat-authz.envoyPort" .)))
  "ops" (include "wechat-authz.socket" (dict "address" $envoy.address "port" 15090))
  "hops" (toString (int $hops))
  "prefix" (include "wechat-authz.prefix" .chart)
  "proofs" $proofs
  "timeout" (.entry.timeout | default $envoy.timeout)
  "max_stream_duration" $envoy.maxStreamDuration
  "merge_slashes" (toString $envoy.mergeSlashes)
  "heap" (toString (mul (int64 $envoy.maxHeapMiB) 1048576))
  "connections" (toString (int64 $envoy.maxConnections)) -}}
{{- $text := .chart.Files.Get "files/envoy.yaml" | required "the chart has no files/envoy.yaml" -}}
{{- with $envoy.traces.collector -}}
{{- $text = regexReplaceAll "(?m)^#</?traces>\n" $text "" -}}
{{- $host := regexReplaceAll ":[0-9]+$" . "" | trimPrefix "[" | trimSuffix "]" -}}
{{- $_ := set $fills "collector" (printf "{ address: %q, port_value: %s }" $host (regexFind "[0-9]+$" .)) -}}
{{- $_ := set $fills "discovery" (ternary "STATIC" "STRICT_DNS" (regexMatch "^([0-9]{1,3}([.][0-9]{1,3}){3}|.*:.*)$" $host)) -}}
{{- $_ := set $fills "traces" (toString $envoy.traces.percent) -}}
{{- else -}}
{{- $text = regexReplaceAll "(?ms)^#<traces>\n.*?^#</traces>\n" $text "" -}}
{{- end -}}
{{- if $envoy.proxyProtocol -}}
{{- $text = regexReplaceAll "(?m)^#</?proxy>\n" $text "" -}}
{{- else -}}
{{- $text = regexReplaceAll "(?ms)^#<proxy>\n.*?^#</proxy>\n" $text "" -}}
{{- end -}}
{{- range $block := regexFindAll "(?ms)^#<kept>\n.*?^#</kept>\n" $text -1 -}}
{{- $lines := "" -}}
{{- range $number, $header := $envoy.keepHeaders -}}
{{- $lines = print $lines (regexReplaceAll "(?m)^#</?kept>\n" $block "" | replace "${header}" $header | replace "${number}" (toString $number)) -}}
{{- end -}}
{{- $text = replace $block $lines $text -}}
{{- end -}}
{{- range $name := keys $fills | sortAlpha -}}
{{- $text = replace (printf "${%s}" $name) (get $fills $name) $text -}}
{{- end -}}
{{- $text -}}
{{- end }}

{{- /* Scheduling and DNS of the pods of mode gateway: the Deployment's and the test's. */ -}}
{{- define "wechat-authz.place" -}}
{{- $place := dict -}}
{{- if eq .Values.mode "gateway" -}}
{{- range $field := list "priorityClassName" "runtimeClassName" "hostAliases" "dnsPolicy" "dnsConfig" "nodeSelector" "tolerations" "affinity" -}}
{{- with index $.Values.gateway $field -}}{{- $_ := set $place $field . -}}{{- end -}}
{{- end -}}
{{- end -}}
{{- if $place -}}{{- toYaml $place -}}{{- end -}}
{{- end }}
