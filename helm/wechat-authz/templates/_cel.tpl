{{- /*
A value as a CEL literal: plain maps and lists with every element in dyn(). CEL literals must be homogeneous, and an Object{}
inside one makes the API server panic in 1.36.2.

The marker of the application's port becomes an expression, because only the pod defines the port's number.
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

{{- /* A condition: the map of labels at `.path` contains all of `.selector`. */ -}}
{{- define "wechat-authz.celLabels" -}}
{{- $path := .path -}}
has({{ $path }})
{{- range $key := keys .selector | sortAlpha }} && {{ mustToRawJson $key }} in {{ $path }} && {{ $path }}[{{ mustToRawJson $key }}] == {{ get $.selector $key | mustToRawJson }}
{{- end -}}
{{- end }}
