{{- /* The hosts of all applications, without port, as a JSON list. */ -}}
{{- define "wechat-authz.hosts" -}}
{{- $hosts := list -}}
{{- range .Values.config.apps -}}{{- $hosts = append $hosts (regexReplaceAll "^https?://([^/:]+).*$" .origin "${1}") -}}{{- end -}}
{{- $hosts | uniq | toJson -}}
{{- end }}

{{- /* "yes" if the check listener also answers the pages, because no route leads to them. */ -}}
{{- define "wechat-authz.inBand" -}}
{{- if dig "pages_in_band" false (.Values.config.gateway | default dict) }}yes{{ end -}}
{{- end }}

{{- /* The time-out of a check. With pages in-band it is longer than wechat-authz waits for WeChat, so that its error page arrives. */ -}}
{{- define "wechat-authz.checkTimeout" -}}
{{- if include "wechat-authz.inBand" . }}15s{{ else }}500ms{{ end -}}
{{- end }}

{{- /* The request headers that the check needs. Exact names only: x-envoy-* would control the request to the check. With pages
in-band, also the headers that show the origin of a request. */ -}}
{{- define "wechat-authz.headersToCheck" -}}
{{- $headers := list "cookie" "authorization" "user-agent" "accept" "accept-language" "content-type" "origin" "access-control-request-method" "x-requested-with" "sec-fetch-mode" "sec-websocket-version" "sec-websocket-key" "x-request-id" "traceparent" "tracestate" "x-forwarded-for" -}}
{{- if include "wechat-authz.inBand" . -}}{{- $headers = concat $headers (list "sec-fetch-site" "sec-fetch-dest" "sec-purpose" "referer") -}}{{- end -}}
{{- toJson $headers -}}
{{- end }}

{{- /* The headers that browsers need of a denial; location and www-authenticate always pass. */ -}}
{{- define "wechat-authz.headersOnDenial" -}}
{{- $headers := list "set-cookie" "content-type" "content-language" "content-security-policy" "cross-origin-opener-policy" "referrer-policy" "x-content-type-options" "cache-control" "vary" "retry-after" -}}
{{- if include "wechat-authz.inBand" . -}}{{- $headers = append $headers "allow" -}}{{- end -}}
{{- toJson $headers -}}
{{- end }}

{{- define "wechat-authz.identityHeaders" -}}
["x-wechat-subject", "x-wechat-openid", "x-wechat-unionid", "x-wechat-appid", "x-wechat-flow", "x-wechat-session", "x-wechat-nickname", "x-wechat-avatar"]
{{- end }}

{{- /* Patterns of the headers to remove before routing: many servers read `x.wechat.openid` or `x_wechat_openid` as `x-wechat-openid`. */ -}}
{{- define "wechat-authz.forgedHeaders" -}}
{{- .Files.Get "files/headers.json" | required "the chart has no files/headers.json" | fromJsonArray | toJson -}}
{{- end }}

{{- /* The pages below the prefix, by name. */ -}}
{{- define "wechat-authz.pages" -}}
["login", "callback", "logout", "renew", "session", "jwks.json", "jssdk"]
{{- end }}
