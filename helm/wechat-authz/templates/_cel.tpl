{{- /*
A value as a CEL literal. Plain maps and lists with every element in dyn(): CEL's literals must be homogeneous, and an
Object{} inside of one makes the API server's request panic on 1.36.2.

The marker of the application's port becomes an expression: the port's number is known only when the pod is.
*/ -}}
{{- define "wechat-authz.cel" -}}
{{- $value := .value -}}
{{- if kindIs "map" $value -}}
{
{{- range $index, $key := keys $value | sortAlpha -}}
{{- if $index }}, {{ end -}}
{{ mustToRawJson $key }}: dyn({{ include "wechat-authz.cel" (dict "value" (get $value $key)) }})
{{- end -}}
}
{{- else if kindIs "slice" $value -}}
[
{{- range $index, $element := $value -}}
{{- if $index }}, {{ end -}}
dyn({{ include "wechat-authz.cel" (dict "value" $element) }})
{{- end -}}
]
{{- else if kindIs "string" $value -}}
{{ mustToRawJson $value | replace (include "wechat-authz.appPortMarker" .) "\" + string(variables.appPort) + \"" }}
{{- else if kindIs "float64" $value -}}
{{- if eq (floor $value) $value }}{{ int64 $value }}{{ else }}{{ toJson $value }}{{ end -}}
{{- else -}}
{{ toJson $value }}
{{- end -}}
{{- end }}

{{- define "wechat-authz.appPortMarker" -}}
@WECHAT-AUTHZ-APP-PORT@
{{- end }}

{{- /* Whether the map of labels at `.path` has all of `.selector`. */ -}}
{{- define "wechat-authz.celLabels" -}}
{{- $path := .path -}}
has({{ $path }})
{{- range $key := keys .selector | sortAlpha }} && {{ mustToRawJson $key }} in {{ $path }} && {{ $path }}[{{ mustToRawJson $key }}] == {{ get $.selector $key | mustToRawJson }}
{{- end -}}
{{- end }}
