{{/* Names, labels, the image. */}}

{{- define "surgegate.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* At most 43 characters: pods and volume claims get more behind it. */}}
{{- define "surgegate.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 43 | trimSuffix "-" }}
{{- else }}
{{- $name := include "surgegate.name" . }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 43 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 43 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{- define "surgegate.namespace" -}}
{{- default .Release.Namespace .Values.namespaceOverride }}
{{- end }}

{{- define "surgegate.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "surgegate.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "surgegate.configMapName" -}}
{{ include "surgegate.fullname" . }}-config
{{- end }}

{{/* What selects the proxy's pods, and never changes. */}}
{{- define "surgegate.selector" -}}
app.kubernetes.io/name: {{ include "surgegate.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: proxy
{{- end }}

{{/* The proxy's pods' labels: what may change without making new pods stays out of them. */}}
{{- define "surgegate.podLabels" -}}
{{- $ours := merge (include "surgegate.selector" . | fromYaml) (dict "app.kubernetes.io/version" .Chart.AppVersion) }}
{{- toYaml (merge $ours .Values.podLabels .Values.commonLabels) }}
{{- end }}

{{/* The head of an object: (dict "root" $ "name" "..." "component" "..." "labels" {} "annotations" {}). */}}
{{- define "surgegate.metadata" -}}
{{- $chart := .root.Chart }}
{{- $ours := dict
  "helm.sh/chart" (printf "%s-%s" $chart.Name $chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-")
  "app.kubernetes.io/name" (include "surgegate.name" .root)
  "app.kubernetes.io/instance" .root.Release.Name
  "app.kubernetes.io/component" (default "proxy" .component)
  "app.kubernetes.io/version" $chart.AppVersion
  "app.kubernetes.io/managed-by" .root.Release.Service }}
name: {{ .name }}
namespace: {{ include "surgegate.namespace" .root }}
labels:
  {{- toYaml (merge $ours (default dict .labels) .root.Values.commonLabels) | nindent 2 }}
{{- with merge dict (default dict .annotations) .root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "surgegate.image" -}}
{{- $image := .Values.image }}
{{- $registry := default .Values.global.imageRegistry $image.registry }}
{{- $name := $image.repository }}
{{- if $registry }}{{ $name = printf "%s/%s" (trimSuffix "/" $registry) $name }}{{ end }}
{{- if $image.digest }}
{{- printf "%s@%s" $name $image.digest }}
{{- else }}
{{- printf "%s:%s" $name (default .Chart.AppVersion $image.tag) }}
{{- end }}
{{- end }}

{{- define "surgegate.imagePullSecrets" -}}
{{- with concat (default list .Values.global.imagePullSecrets) .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
