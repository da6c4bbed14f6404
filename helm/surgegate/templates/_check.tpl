{{/* What the schema cannot say. One text for each, with what to do. */}}
{{- define "surgegate.check" -}}
{{- $config := (default dict .Values.config) }}
{{- if not .Values.existingConfigMap.name }}
{{- range list "integrations" "upstreams" }}
{{- if not (get $config .) }}
{{- fail (printf "config.%s is missing: Surgegate must know who sends and where to. helm/surgegate/examples/minimal.yaml is the shortest that works; or name existingConfigMap.name" .) }}
{{- end }}
{{- end }}
{{- end }}

{{- if and (eq .Values.workload.kind "Deployment") (not .Values.workload.acceptLoss) }}
{{- fail "workload.kind: Deployment keeps the spool in an emptyDir: what was answered 2xx and not delivered is lost with its pod. Use StatefulSet, or set workload.acceptLoss: true" }}
{{- end }}
{{- if and .Values.autoscaling.enabled .Values.keda.enabled }}
{{- fail "autoscaling.enabled and keda.enabled: two autoscalers would pull at the same pods. Enable one" }}
{{- end }}
{{- range list "autoscaling" "keda" }}
{{- $scaler := get $.Values . }}
{{- if and $scaler.enabled (lt (int $scaler.maxReplicas) (int $scaler.minReplicas)) }}
{{- fail (printf "%s.maxReplicas is less than %s.minReplicas" . .) }}
{{- end }}
{{- end }}
{{- if and .Values.keda.enabled (not .Values.keda.serverAddress) }}
{{- fail "keda.serverAddress is missing: the address of the Prometheus that scrapes Surgegate, e.g. http://prometheus.monitoring:9090" }}
{{- end }}
{{- if and .Values.serviceMonitor.enabled .Values.podMonitor.enabled }}
{{- fail "serviceMonitor.enabled and podMonitor.enabled: every pod would be scraped twice. Enable one" }}
{{- end }}
{{- if and .Values.ingress.enabled (not .Values.ingress.hosts) }}
{{- fail "ingress.hosts is empty: name at least one host" }}
{{- end }}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) }}
{{- fail "httpRoute.parentRefs is empty: name the gateway" }}
{{- end }}

{{- $elsewhere := or .Values.redis.existingSecret .Values.existingConfigMap.name .Values.extraEnv .Values.extraEnvFrom }}
{{- if and (get $config "redis") (not (dig "redis" "url" "" $config)) (not $elsewhere) }}
{{- fail "config.redis has no address. Write config.redis.url, or name redis.existingSecret" }}
{{- end }}

{{- $observe := dig "listen" "observe" "address" "" $config }}
{{- if regexMatch "^(127\\.|localhost:|\\[::1\\])" $observe }}
{{- fail (printf "config.listen.observe.address: %s cannot be reached by the kubelet's probes. Leave it out, or write 0.0.0.0:PORT" $observe) }}
{{- end }}
{{- $ports := list (include "surgegate.port" (list $ "ingest" 8080)) (include "surgegate.port" (list $ "observe" 9464)) }}
{{- if ne (len ($ports | uniq)) 2 }}
{{- fail (printf "config.listen: ingest and observe both have port %s" (first $ports)) }}
{{- end }}

{{- $directory := dig "spool" "directory" "" $config }}
{{- $mount := printf "%s/" (trimSuffix "/" .Values.persistence.mountPath) }}
{{- if and $directory (not (hasPrefix $mount $directory)) }}
{{- fail (printf "config.spool.directory: %s is not on the volume. Leave it out, or choose one below %s" $directory $mount) }}
{{- end }}

{{- $drain := include "surgegate.drainSeconds" . }}
{{- $grace := include "surgegate.graceSeconds" . }}
{{- if and $drain (lt (int64 $grace) (add (int64 $drain) 10)) }}
{{- fail (printf "terminationGracePeriodSeconds: %s s is too short: config.shutdown.drain takes %s s, and what is under way then needs 10 s. Set at least %d, or leave it out" $grace $drain (add (int64 $drain) 10)) }}
{{- end }}

{{- $fewest := include "surgegate.fewestReplicas" . | int }}
{{- range .Values.spoolSend }}
{{- $own := printf "data-%s-" (include "surgegate.fullname" $) }}
{{- if and (eq $.Values.workload.kind "StatefulSet") (hasPrefix $own .claim) }}
{{- $ordinal := trimPrefix $own .claim }}
{{- if and (regexMatch "^[0-9]+$" $ordinal) (lt (int $ordinal) $fewest) }}
{{- fail (printf "spoolSend: %s is the volume of pod %s, which is meant to run and sends by itself. Name volumes of pods that are gone" .claim $ordinal) }}
{{- end }}
{{- end }}
{{- end }}
{{- $names := list }}
{{- range .Values.secrets }}{{ $names = append $names .name }}{{ end }}
{{- if ne (len $names) (len ($names | uniq)) }}
{{- fail (printf "secrets: names must differ, they are folders: %s" (join ", " $names)) }}
{{- end }}
{{- end }}
