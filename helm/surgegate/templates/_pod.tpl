{{/* The pod: what the StatefulSet, the Deployment and the jobs share. */}}

{{- define "surgegate.podSecurityContext" -}}
{{- $ours := dict "runAsNonRoot" true "runAsUser" 65532 "runAsGroup" 65532 "fsGroup" 65532 "fsGroupChangePolicy" "OnRootMismatch" "seccompProfile" (dict "type" "RuntimeDefault") }}
{{- toYaml (mergeOverwrite $ours .Values.podSecurityContext) }}
{{- end }}

{{- define "surgegate.containerSecurityContext" -}}
{{- $ours := dict "allowPrivilegeEscalation" false "readOnlyRootFilesystem" true "runAsNonRoot" true "capabilities" (dict "drop" (list "ALL")) }}
{{- toYaml (mergeOverwrite $ours .Values.containerSecurityContext) }}
{{- end }}

{{/* Where a pod may run. */}}
{{- define "surgegate.placement" -}}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- end }}

{{- define "surgegate.configArguments" -}}
- --config
- /etc/surgegate/surgegate.yaml
{{- with .Values.existingConfigMap.name }}
- --config
- /etc/surgegate-existing/{{ $.Values.existingConfigMap.key }}
{{- end }}
{{- end }}

{{- define "surgegate.environment" -}}
{{- if or .Values.redis.existingSecret .Values.extraEnv }}
env:
  {{- with .Values.redis.existingSecret }}
  - name: SURGEGATE__REDIS__URL
    valueFrom:
      secretKeyRef:
        name: {{ . }}
        key: {{ $.Values.redis.key }}
  {{- end }}
  {{- with .Values.extraEnv }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
{{- with .Values.extraEnvFrom }}
envFrom:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Folders, never single files: Kubernetes swaps a folder's files at once, and the process watches folders. */}}
{{- define "surgegate.mounts" -}}
- name: config
  mountPath: /etc/surgegate
  readOnly: true
{{- if .Values.existingConfigMap.name }}
- name: config-existing
  mountPath: /etc/surgegate-existing
  readOnly: true
{{- end }}
{{- range .Values.secrets }}
- name: secret-{{ .name }}
  mountPath: /run/secrets/surgegate/{{ .name }}
  readOnly: true
{{- end }}
- name: data
  mountPath: {{ .Values.persistence.mountPath }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* All but `data`. 288 is 0440. */}}
{{- define "surgegate.volumes" -}}
- name: config
  configMap:
    name: {{ include "surgegate.configMapName" . }}
{{- with .Values.existingConfigMap.name }}
- name: config-existing
  configMap:
    name: {{ . }}
{{- end }}
{{- range .Values.secrets }}
- name: secret-{{ .name }}
  secret:
    secretName: {{ .existingSecret }}
    defaultMode: 288
    {{- with .optional }}
    optional: {{ . }}
    {{- end }}
    {{- with .items }}
    items:
      {{- toYaml . | nindent 6 }}
    {{- end }}
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* The checksum is that of the configuration; without it a change makes no new pods. */}}
{{- define "surgegate.podAnnotations" -}}
{{- $annotations := mergeOverwrite (deepCopy .Values.commonAnnotations) .Values.podAnnotations }}
{{- if eq .Values.configReload "rollout" }}
{{- $_ := set $annotations "checksum/config" (include "surgegate.config" . | sha256sum) }}
{{- end }}
{{- with $annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* A probe over the chart's own: (list GIVEN OURS). Of its ways of asking it has one. */}}
{{- define "surgegate.probe" -}}
{{- $given := index . 0 }}
{{- $ours := index . 1 }}
{{- if or $given.exec $given.tcpSocket $given.grpc }}{{ $ours = omit $ours "httpGet" }}{{ end }}
{{- toYaml (mergeOverwrite $ours $given) }}
{{- end }}

{{- define "surgegate.podTemplate" -}}
metadata:
  labels:
    {{- include "surgegate.podLabels" . | nindent 4 }}
  {{- include "surgegate.podAnnotations" . | nindent 2 }}
spec:
  serviceAccountName: {{ include "surgegate.serviceAccountName" . }}
  automountServiceAccountToken: false
  # Variables that Kubernetes would make of Services begin with SURGEGATE_, too.
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ include "surgegate.graceSeconds" . }}
  {{- include "surgegate.imagePullSecrets" . | nindent 2 }}
  securityContext:
    {{- include "surgegate.podSecurityContext" . | nindent 4 }}
  {{- with .Values.initContainers }}
  initContainers:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: surgegate
      image: {{ include "surgegate.image" . }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args:
        - run
        {{- include "surgegate.configArguments" . | nindent 8 }}
        {{- with .Values.extraArgs }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- include "surgegate.environment" . | nindent 6 }}
      ports:
        - name: ingest
          containerPort: {{ include "surgegate.port" (list $ "ingest" 8080) }}
          protocol: TCP
        - name: observe
          containerPort: {{ include "surgegate.port" (list $ "observe" 9464) }}
          protocol: TCP
      startupProbe:
        {{- include "surgegate.probe" (list .Values.startupProbe (dict "httpGet" (dict "path" "/livez" "port" "observe") "periodSeconds" 5 "timeoutSeconds" 5 "failureThreshold" 120)) | nindent 8 }}
      livenessProbe:
        {{- include "surgegate.probe" (list .Values.livenessProbe (dict "httpGet" (dict "path" "/livez" "port" "observe") "periodSeconds" 10 "timeoutSeconds" 5 "failureThreshold" 6)) | nindent 8 }}
      readinessProbe:
        {{- include "surgegate.probe" (list .Values.readinessProbe (dict "httpGet" (dict "path" "/readyz" "port" "observe") "periodSeconds" 5 "timeoutSeconds" 3 "failureThreshold" 2)) | nindent 8 }}
      resources:
        {{- toYaml .Values.resources | nindent 8 }}
      securityContext:
        {{- include "surgegate.containerSecurityContext" . | nindent 8 }}
      volumeMounts:
        {{- include "surgegate.mounts" . | nindent 8 }}
    {{- with .Values.extraContainers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- include "surgegate.placement" . | nindent 2 }}
  {{- with .Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.topologySpreadConstraints }}
  topologySpreadConstraints:
    {{- range . }}
    -
      {{- toYaml . | nindent 6 }}
      {{- if not (hasKey . "labelSelector") }}
      labelSelector:
        matchLabels:
          {{- include "surgegate.selector" $ | nindent 10 }}
      {{- end }}
    {{- end }}
  {{- end }}
  volumes:
    {{- include "surgegate.volumes" . | nindent 4 }}
    {{- if eq .Values.workload.kind "Deployment" }}
    - name: data
      emptyDir:
        sizeLimit: {{ .Values.persistence.size }}
    {{- end }}
{{- end }}
