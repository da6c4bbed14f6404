{{/* The configuration, and what the chart must know of it. */}}

{{/* As written, with the one value that the chart gives. */}}
{{- define "surgegate.config" -}}
{{- $ours := dict "spool" (dict "directory" (printf "%s/spool" .Values.persistence.mountPath)) }}
{{- toYaml (mergeOverwrite $ours (deepCopy (default dict .Values.config))) }}
{{- end }}

{{/* Port of a listener: (list $ "ingest" 8080). */}}
{{- define "surgegate.port" -}}
{{- $listener := index . 1 }}
{{- $address := dig "listen" $listener "address" "" (default dict (index . 0).Values.config) }}
{{- if not $address }}
{{- index . 2 }}
{{- else }}
{{- $port := regexFind "[0-9]+$" $address }}
{{- if not $port }}
{{- fail (printf "config.listen.%s.address: the chart must know its port: write %q as HOST:PORT, without a variable" $listener $address) }}
{{- end }}
{{- $port }}
{{- end }}
{{- end }}

{{- define "surgegate.isTls" -}}
{{- if dig "listen" "ingest" "tls" "" (default dict .Values.config) }}true{{ end }}
{{- end }}

{{/* Whole seconds of a duration, rounded up; nothing where it holds a variable. */}}
{{- define "surgegate.seconds" -}}
{{- $text := toString . }}
{{- if regexMatch "^[0-9]+ *(ms|s|m|h|d)$" $text }}
{{- $number := regexFind "^[0-9]+" $text | int64 }}
{{- $unit := regexFind "[a-z]+$" $text }}
{{- if eq $unit "ms" }}{{ div (add $number 999) 1000 }}
{{- else }}{{ mul $number (get (dict "s" 1 "m" 60 "h" 3600 "d" 86400) $unit) }}
{{- end }}
{{- end }}
{{- end }}

{{/* Bytes of a size as Surgegate (10GiB) or Kubernetes (12Gi, 12G) writes it; nothing of any other. */}}
{{- define "surgegate.bytes" -}}
{{- $text := . }}
{{- if not (kindIs "string" .) }}{{ $text = printf "%d" (int64 .) }}{{ end }}
{{- if regexMatch "^[0-9]+ *(B|KiB|MiB|GiB|TiB|Ki|Mi|Gi|Ti|k|M|G|T)?$" $text }}
{{- $number := regexFind "^[0-9]+" $text | int64 }}
{{- $unit := regexFind "[A-Za-z]+$" $text | trimSuffix "B" }}
{{- mul $number (get (dict "" 1 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 "k" 1000 "M" 1000000 "G" 1000000000 "T" 1000000000000) $unit) }}
{{- end }}
{{- end }}

{{- define "surgegate.drainSeconds" -}}
{{- include "surgegate.seconds" (dig "shutdown" "drain" "20s" (default dict .Values.config)) }}
{{- end }}

{{/* Longer than the drain, by what is under way then. */}}
{{- define "surgegate.graceSeconds" -}}
{{- if not (kindIs "invalid" .Values.terminationGracePeriodSeconds) }}
{{- int64 .Values.terminationGracePeriodSeconds }}
{{- else }}
{{- $drain := include "surgegate.drainSeconds" . }}
{{- if not $drain }}
{{- fail (printf "terminationGracePeriodSeconds: config.shutdown.drain is %q: set the grace period to at least 10 s more than it becomes" .Values.config.shutdown.drain) }}
{{- end }}
{{- add (int64 $drain) 30 }}
{{- end }}
{{- end }}

{{- define "surgegate.hasRedis" -}}
{{- if or .Values.redis.existingSecret (dig "redis" "url" "" (default dict .Values.config)) }}true{{ end }}
{{- end }}

{{/* The most pods there may be: under an autoscaler its most. */}}
{{- define "surgegate.mostReplicas" -}}
{{- if .Values.autoscaling.enabled }}{{ int .Values.autoscaling.maxReplicas }}
{{- else if .Values.keda.enabled }}{{ int .Values.keda.maxReplicas }}
{{- else }}{{ int .Values.replicas }}
{{- end }}
{{- end }}

{{/* The fewest pods that are meant to run. */}}
{{- define "surgegate.fewestReplicas" -}}
{{- if .Values.autoscaling.enabled }}{{ int .Values.autoscaling.minReplicas }}
{{- else if .Values.keda.enabled }}{{ int .Values.keda.minReplicas }}
{{- else }}{{ int .Values.replicas }}
{{- end }}
{{- end }}

{{/* Ports in a list of URLs, with a default by scheme, as a JSON list behind those that are given: (list URLS (dict "https" 443 ...) (list 443)). */}}
{{- define "surgegate.portsOf" -}}
{{- $defaults := index . 1 }}
{{- $ports := index . 2 }}
{{- range index . 0 }}
{{- if and (kindIs "string" .) (not (contains "$" .)) }}
{{- $url := urlParse . }}
{{- $port := regexFind ":[0-9]+$" $url.host | trimPrefix ":" }}
{{- $known := get $defaults $url.scheme }}
{{- if $port }}{{ $ports = append $ports (int $port) }}
{{- else if $known }}{{ $ports = append $ports (int $known) }}
{{- end }}
{{- end }}
{{- end }}
{{- toJson ($ports | uniq) }}
{{- end }}
