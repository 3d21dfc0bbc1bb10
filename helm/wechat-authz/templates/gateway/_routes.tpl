{{- /* Hosts of all applications, without port, and all domain proofs: JSON lists. */ -}}
{{- define "wechat-authz.hosts" -}}
{{- $hosts := list -}}
{{- range .Values.config.apps -}}{{- $hosts = append $hosts (regexReplaceAll "^https?://([^/:]+).*$" .origin "${1}") -}}{{- end -}}
{{- $hosts | uniq | toJson -}}
{{- end }}

{{- define "wechat-authz.proofs" -}}
{{- $proofs := list -}}
{{- range .Values.config.apps -}}{{- range .domain_proofs -}}{{- $proofs = append $proofs . -}}{{- end -}}{{- end -}}
{{- $proofs | uniq | sortAlpha | toJson -}}
{{- end }}

{{- define "wechat-authz.identityHeaders" -}}
["x-wechat-subject", "x-wechat-openid", "x-wechat-unionid", "x-wechat-appid", "x-wechat-flow", "x-wechat-session", "x-wechat-nickname", "x-wechat-avatar"]
{{- end }}
