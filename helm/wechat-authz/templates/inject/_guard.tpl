{{- /*
The guard compares a pod with the containers and volumes that the mutating policy adds, rendered by the same templates. It does
not rely on names, because any container can have them.

Between the two policies the API server drops empty fields and sets defaults. Other plugins change every container of a pod:
LimitRanger (resources), cloud identities and tracers (variables, tokens). The conditions allow these changes and no others.
*/ -}}

{{- define "wechat-authz.ownNames" -}}
["wechat-authz", "wechat-envoy"]
{{- end }}

{{- /* "yes" if the API server drops a field with this value. */ -}}
{{- define "wechat-authz.celDropped" -}}
{{- if or (kindIs "invalid" .) (and (kindIs "slice" .) (empty .)) (and (kindIs "string" .) (eq . "")) (and (kindIs "bool" .) (not .)) -}}yes{{- end -}}
{{- end }}

{{- /* A map as a CEL literal, without the fields that the API server drops. */ -}}
{{- define "wechat-authz.celKept" -}}
{{- $kept := dict -}}
{{- range $key, $value := .value -}}{{- if not (include "wechat-authz.celDropped" $value) -}}{{- $_ := set $kept $key $value -}}{{- end -}}{{- end -}}
{{- include "wechat-authz.cel" (dict "value" $kept) -}}
{{- end }}

{{- /*
A condition: the value at `path` has at least the fields of `value`. For values of the operator, which the API server may
complete. Quantities are not compared, because the API server normalizes them.
*/ -}}
{{- define "wechat-authz.celHas" -}}
{{- $path := .path -}}
{{- $value := .value -}}
{{- $parts := list -}}
{{- if kindIs "map" $value -}}
{{- range $key := keys $value | sortAlpha -}}
{{- $field := get $value $key -}}
{{- $name := mustToRawJson $key -}}
{{- if include "wechat-authz.celDropped" $field -}}
{{- if not (kindIs "invalid" $field) -}}
{{- $parts = append $parts (printf "(!(%s in %s) || %s[%s] == %s)" $name $path $path $name (include "wechat-authz.cel" (dict "value" $field))) -}}
{{- end -}}
{{- else if not (has $key (list "sizeLimit" "resources" "divisor")) -}}
{{- $parts = append $parts (printf "%s in %s" $name $path) -}}
{{- with include "wechat-authz.celHas" (dict "path" (printf "%s[%s]" $path $name) "value" $field) -}}{{- $parts = append $parts . -}}{{- end -}}
{{- end -}}
{{- end -}}
{{- else if kindIs "slice" $value -}}
{{- $parts = append $parts (printf "size(%s) == %d" $path (len $value)) -}}
{{- range $index, $element := $value -}}
{{- with include "wechat-authz.celHas" (dict "path" (printf "%s[%d]" $path $index) "value" $element) -}}{{- $parts = append $parts . -}}{{- end -}}
{{- end -}}
{{- else -}}
{{- $parts = append $parts (printf "%s == %s" $path (include "wechat-authz.cel" (dict "value" $value))) -}}
{{- end -}}
{{- join " && " $parts -}}
{{- end }}

{{- /* A condition on `c`: it is this sidecar. (dict "chart" . "container" MAP) */ -}}
{{- define "wechat-authz.isOurs" -}}
{{- $container := .container -}}
{{- $parts := list -}}
{{- range list "name" "image" "restartPolicy" "command" "args" "ports" "lifecycle" -}}
{{- if hasKey $container . -}}
{{- $parts = append $parts (printf "has(c.%s) && c.%s == %s" . . (include "wechat-authz.cel" (dict "value" (get $container .)))) -}}
{{- else -}}
{{- $parts = append $parts (printf "!has(c.%s)" .) -}}
{{- end -}}
{{- end -}}
{{- $context := list "has(c.securityContext)" (include "wechat-authz.celHas" (dict "path" "c.securityContext" "value" (omit $container.securityContext "capabilities" "privileged" "allowPrivilegeEscalation"))) -}}
{{- range list "capabilities" "privileged" "allowPrivilegeEscalation" -}}
{{- $context = append $context (printf "has(c.securityContext.%s) && c.securityContext.%s == %s" . . (include "wechat-authz.cel" (dict "value" (get $container.securityContext .)))) -}}
{{- end -}}
{{- $parts = concat $parts $context (list "(!has(c.securityContext.procMount) || c.securityContext.procMount == \"Default\")") -}}
{{- /* A probe may only run a program in the container, or be redirected to a mesh's proxy. */ -}}
{{- range $probe := list "startupProbe" "readinessProbe" "livenessProbe" -}}
{{- $runs := printf "!has(c.%s) || !has(c.%s.exec)" $probe $probe -}}
{{- with dig $probe "exec" false $container -}}{{- $runs = printf "%s || c.%s.exec == %s" $runs $probe (include "wechat-authz.cel" (dict "value" .)) -}}{{- end -}}
{{- $parts = append $parts (printf "(%s)" $runs) -}}
{{- end -}}
{{- $parts = append $parts "!has(c.volumeDevices) && (!has(c.terminationMessagePath) || c.terminationMessagePath == \"/dev/termination-log\")" -}}
{{- /* Variables: those of the chart, once each and in order; others, except those that change what runs or where it connects. */ -}}
{{- $names := list -}}
{{- $env := $container.env | default list -}}
{{- $set := list (printf "size(e) == %d" (len $env)) -}}
{{- range $index, $variable := $env -}}
{{- $names = append $names $variable.name -}}
{{- $set = append $set (include "wechat-authz.celHas" (dict "path" (printf "e[%d]" $index) "value" $variable)) -}}
{{- end -}}
{{- $names = $names | uniq | sortAlpha -}}
{{- if $names -}}
{{- $parts = append $parts (printf "has(c.env) && [c.env.filter(v, v.name in %s)].all(e, %s)" (toJson $names) (join " && " $set)) -}}
{{- end -}}
{{- $reserved := list "PATH" "LD_.*" "GLIBC_.*" "SSL_CERT_.*" "RUST_.*" "OTEL_.*" "ENVOY_.*" "WECHAT_.*" "(?i:.*_proxy)" -}}
{{- range regexFindAll "[$][{][A-Za-z_][A-Za-z0-9_]*" (include "wechat-authz.config" .chart) -1 | uniq -}}{{- $reserved = append $reserved (trimPrefix "${" .) -}}{{- end -}}
{{- $parts = append $parts (printf "(!has(c.env) || c.env.all(v, v.name in %s || !v.name.matches(%s)))" (toJson $names) (printf "^(%s)$" (join "|" $reserved) | mustToRawJson)) -}}
{{- if $container.envFrom -}}
{{- $parts = append $parts (printf "has(c.envFrom) && %s" (include "wechat-authz.celHas" (dict "path" "c.envFrom" "value" $container.envFrom))) -}}
{{- else -}}
{{- $parts = append $parts "!has(c.envFrom)" -}}
{{- end -}}
{{- /* Mounts: those of the chart; others only at usual paths of tokens and secrets, not over files that the sidecars read. */ -}}
{{- $mounts := list -}}
{{- range $container.volumeMounts -}}{{- $mounts = append $mounts (printf "dyn(%s)" (include "wechat-authz.celKept" (dict "value" .))) -}}{{- end -}}
{{- $mounts = printf "[%s]" (join ", " $mounts) -}}
{{- $parts = append $parts (printf "has(c.volumeMounts) && %s.all(m, m in c.volumeMounts) && c.volumeMounts.all(m, m in %s || (m.mountPath.matches(\"^/(var/run/secrets|vault|mnt)(/[A-Za-z0-9][A-Za-z0-9._-]*)+/?$\") && !m.mountPath.startsWith(\"/var/run/secrets/kubernetes.io/serviceaccount\")))" $mounts $mounts) -}}
{{- join " && " $parts -}}
{{- end }}

{{- /* A condition: the pod has the volumes as the chart defines them, and the operator's extraVolumes. */ -}}
{{- define "wechat-authz.hasVolumes" -}}
{{- $volumes := include "wechat-authz.ownVolumes" . | fromYamlArray -}}
{{- $names := list -}}
{{- $literals := list -}}
{{- range $volumes -}}
{{- $names = append $names .name -}}
{{- $literals = append $literals (printf "dyn(%s)" (include "wechat-authz.cel" (dict "value" .))) -}}
{{- end -}}
{{- $parts := list (printf "has(variables.spec.volumes) && [variables.spec.volumes.filter(v, v.name in %s)].all(ours, size(ours) == %d && ours.all(v, v in [%s]))" (toJson $names) (len $names) (join ", " $literals)) -}}
{{- range .chart.Values.extraVolumes -}}
{{- $parts = append $parts (printf "variables.spec.volumes.exists(v, %s)" (include "wechat-authz.celHas" (dict "path" "v" "value" .))) -}}
{{- end -}}
{{- join " && " $parts -}}
{{- end }}

{{- /* The volumes that only the sidecars may mount; containers may share those of `extraVolumes`. */ -}}
{{- define "wechat-authz.ownVolumes" -}}
{{- $extra := list -}}
{{- range .chart.Values.extraVolumes -}}{{- $extra = append $extra .name -}}{{- end -}}
{{- $own := list -}}
{{- range include "wechat-authz.podVolumes" . | fromYamlArray -}}{{- if not (has .name $extra) -}}{{- $own = append $own . -}}{{- end -}}{{- end -}}
{{- toYaml $own -}}
{{- end }}

{{- /* The Secrets that only the sidecars may read, as a JSON list. */ -}}
{{- define "wechat-authz.ownSecrets" -}}
{{- $secrets := list -}}
{{- range list .Values.keys .Values.wechat .Values.redis .Values.admin -}}{{- with .existingSecret -}}{{- $secrets = append $secrets . -}}{{- end -}}{{- end -}}
{{- $secrets | uniq | sortAlpha | toJson -}}
{{- end }}
