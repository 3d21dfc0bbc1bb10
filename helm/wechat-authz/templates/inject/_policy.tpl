{{- /* The policy is cluster-scoped, so its name starts with the namespace. */ -}}
{{- define "wechat-authz.policyName" -}}
{{- $namespace := .chart.Release.Namespace | default "default" -}}
{{- printf "%s-%s-%s" $namespace (include "wechat-authz.fullname" .chart) .entry.name -}}
{{- end }}

{{- /* Selects pods by namespace and labels. */ -}}
{{- define "wechat-authz.matchPods" -}}
matchPolicy: Equivalent
namespaceSelector:
  matchLabels:
    kubernetes.io/metadata.name: {{ .chart.Release.Namespace | quote }}
objectSelector:
  matchLabels:
    {{- toYaml .entry.selector | nindent 4 }}
{{- end }}

{{- /* A condition: `p` is the application's port in the original pod. */ -}}
{{- define "wechat-authz.isAppPort" -}}
{{- if kindIs "string" .entry.port -}}
has(p.name) && p.name == {{ .entry.port | quote }}
{{- else -}}
p.containerPort == {{ .entry.port | int }}
{{- end -}}
{{- end }}

{{- /* The application's port as a number, for Envoy's cluster. 0 if the pod has none: Envoy does not start with it. */ -}}
{{- define "wechat-authz.appPort" -}}
{{- if eq (.entry.service | default "swap") "relocate" -}}
{{ .entry.relocate.port | int }}
{{- else if kindIs "string" .entry.port -}}
{{- $is := include "wechat-authz.isAppPort" . -}}
object.spec.containers.exists(c, has(c.ports) && c.ports.exists(p, {{ $is }})) ? object.spec.containers.filter(c, has(c.ports) && c.ports.exists(p, {{ $is }}))[0].ports.filter(p, {{ $is }})[0].containerPort : 0
{{- else -}}
{{ .entry.port | int }}
{{- end -}}
{{- end }}

{{- /* The patch that adds containers and volumes. It appends to the list, or creates it. */ -}}
{{- define "wechat-authz.additions" -}}
{{- $marker := include "wechat-authz.appPortMarker" . -}}
{{- $containers := include "wechat-authz.sidecars" (dict "chart" .chart "entry" .entry "appPort" $marker) | fromYamlArray -}}
{{- $volumes := include "wechat-authz.podVolumes" . | fromYamlArray -}}
{{- $steps := list -}}
{{- range $list := list (dict "name" "initContainers" "elements" $containers) (dict "name" "volumes" "elements" $volumes) -}}
{{- range $index, $element := $list.elements -}}
{{- $literal := include "wechat-authz.cel" (dict "value" $element) -}}
{{- $last := printf "JSONPatch{op: \"add\", path: \"/spec/%s/-\", value: %s}" $list.name $literal -}}
{{- if $index -}}
{{- $steps = append $steps $last -}}
{{- else -}}
{{- $steps = append $steps (printf "has(object.spec.%s)\n    ? %s\n    : JSONPatch{op: \"add\", path: \"/spec/%s\", value: [dyn(%s)]}" $list.name $last $list.name $literal) -}}
{{- end -}}
{{- end -}}
{{- end -}}
[
  {{ join ",\n  " $steps }}
]
{{- end }}

{{- /* Changes a field of probes and hooks that names the application's port. (dict "path" FIELDS "from" CONDITION ON port "to" LITERAL) */ -}}
{{- define "wechat-authz.follow" -}}
{{- $field := printf "c.%s" .path -}}
{{- $type := printf "Object.spec.containers.%s" .path -}}
{{- $cases := list -}}
{{- range $handler := list "httpGet" "tcpSocket" -}}
{{- $port := printf "%s.%s.port" $field $handler -}}
{{- $asks := list -}}
{{- range $.from -}}{{- $asks = append $asks (replace "@" $port .) -}}{{- end -}}
{{- $cases = append $cases (printf "has(%s.%s) && (%s)\n        ? optional.of(%s{%s: %s.%s{port: dyn(%s)}})" $field $handler (join " || " $asks) $type $handler $type $handler $.to) -}}
{{- end -}}
has({{ $field }}) && {{ join (printf "\n        : has(%s) && " $field) $cases }}
        : optional.none()
{{- end }}

{{- /* Seconds for which application containers without a preStop hook keep serving. The context is the entry of `protect`. */ -}}
{{- define "wechat-authz.preStopSleep" -}}
{{- hasKey . "preStopSleep" | ternary .preStopSleep 5 | int -}}
{{- end }}

{{- /* Changes of the application's own containers: ports, probes, hooks, environment. Empty if nothing changes. */ -}}
{{- define "wechat-authz.changes" -}}
{{- $way := .entry.service | default "swap" -}}
{{- $sleep := include "wechat-authz.preStopSleep" .entry | int -}}
{{- $fields := list -}}
{{- $from := list -}}
{{- $to := "" -}}
{{- if eq $way "swap" -}}
{{- $is := include "wechat-authz.isAppPort" . -}}
{{- $fields = append $fields (printf "?ports: has(c.ports) && c.ports.exists(p, %s)\n        ? optional.of(c.ports.filter(p, %s).map(p, Object.spec.containers.ports{containerPort: p.containerPort, protocol: has(p.protocol) ? p.protocol : \"TCP\", name: \"wechat-app\"}))\n        : optional.none()" $is $is) -}}
{{- $from = list (printf "@ == %q" .entry.port) -}}
{{- $to = "\"wechat-app\"" -}}
{{- else if eq $way "relocate" -}}
{{- $old := .entry.port | int -}}
{{- $new := .entry.relocate.port | int -}}
{{- $has := printf "has(c.ports) && c.ports.exists(p, p.containerPort == %d)" $old -}}
{{- $env := list (printf "Object.spec.containers.env{name: %q, value: %q}" (.entry.relocate.portEnv | default "PORT") (toString $new)) -}}
{{- with .entry.relocate.hostEnv -}}{{- $env = append $env (printf "Object.spec.containers.env{name: %q, value: \"127.0.0.1\"}" .) -}}{{- end -}}
{{- $fields = append $fields (printf "?env: %s\n        ? optional.of([%s])\n        : optional.none()" $has (join ", " $env)) -}}
{{- $from = list (printf "@ == %d" $old) (printf "%s && c.ports.exists(p, p.containerPort == %d && has(p.name) && p.name == @)" "has(c.ports)" $old) -}}
{{- $to = toString $new -}}
{{- end -}}
{{- if $from -}}
{{- range list "startupProbe" "readinessProbe" "livenessProbe" -}}
{{- $fields = append $fields (printf "?%s: %s" . (include "wechat-authz.follow" (dict "path" . "from" $from "to" $to))) -}}
{{- end -}}
{{- end -}}
{{- if $sleep -}}
{{- $fields = append $fields (printf "?lifecycle: has(c.lifecycle) && has(c.lifecycle.preStop)\n        ? optional.none()\n        : optional.of(Object.spec.containers.lifecycle{preStop: Object.spec.containers.lifecycle.preStop{sleep: Object.spec.containers.lifecycle.preStop.sleep{seconds: %d}}})" $sleep) -}}
{{- end -}}
{{- if $fields -}}
Object{
  spec: Object.spec{
    containers: object.spec.containers.map(c, Object.spec.containers{
      name: c.name,
      {{ join ",\n      " $fields }}
    })
  }
}
{{- end -}}
{{- end }}

{{- /* The ports of a Service whose targetPort is the application's port number. */ -}}
{{- define "wechat-authz.servicePorts" -}}
{{- $port := .entry.port | int -}}
object.spec.ports.{{ .verb }}(p, has(p.targetPort) ? p.targetPort == {{ $port }} : p.port == {{ $port }})
{{- end }}
