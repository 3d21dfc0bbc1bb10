{{- /*
The Prometheus job of the instances, in both modes, in the Prometheus operator's form. The monitors set it, the alerts query it.
*/ -}}
{{- define "wechat-authz.metrics.job" -}}
{{- printf "%s/%s" .Release.Namespace (include "wechat-authz.fullname" .) -}}
{{- end }}

{{- /*
Selects the pods to protect by kube-state-metrics' labels, whose names are in snake_case.
*/ -}}
{{- define "wechat-authz.metrics.protected" -}}
{{- $all := list }}
{{- range .Values.protect }}
{{- $matchers := list (printf "namespace=%q" $.Release.Namespace) }}
{{- range $name, $value := .selector }}
{{- $shown := regexReplaceAll "([a-z0-9])([A-Z])" (regexReplaceAll "[^a-zA-Z0-9_]" $name "_") "${1}_${2}" | lower }}
{{- $matchers = append $matchers (printf "label_%s=%q" $shown (toString $value)) }}
{{- end }}
{{- $all = append $all (printf "kube_pod_labels{%s}" (join "," $matchers)) }}
{{- end }}
{{- join "\nor " $all | default "vector(0) < 0" -}}
{{- end }}
