{{- define "gum.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 52 | trimSuffix "-" }}
{{- end }}

{{/* Kept short: names of other objects are made by adding to it. */}}
{{- define "gum.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" }}
{{- else if contains (include "gum.name" .) .Release.Name }}
{{- .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "gum.name" .) | trunc 52 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "gum.selectorLabels" -}}
app.kubernetes.io/name: {{ include "gum.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "gum.labels" -}}
{{ include "gum.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/component: upgrade-manager
app.kubernetes.io/part-of: enflame-gcu
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "gum.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "gum.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "gum.image" -}}
{{- with .Values.image }}
{{- $name := .repository }}
{{- if .registry }}{{ $name = printf "%s/%s" .registry .repository }}{{ end }}
{{- if .digest }}{{ $name }}@{{ .digest }}{{ else }}{{ $name }}:{{ default $.Chart.AppVersion .tag }}{{ end }}
{{- end }}
{{- end }}

{{- define "gum.scheme" -}}
{{- if .Values.tls.secret }}https{{ else }}http{{ end }}
{{- end }}

{{/* The ConfigMap that holds the blueprints; empty when they are on the node. */}}
{{- define "gum.blueprintsConfigMap" -}}
{{- if and .Values.blueprints.files .Values.blueprints.configMap }}
{{- fail "blueprints.files and blueprints.configMap: give one of them" }}
{{- else if .Values.blueprints.files }}
{{- include "gum.fullname" . }}-blueprints
{{- else if .Values.blueprints.configMap }}
{{- .Values.blueprints.configMap }}
{{- else if not .Values.blueprints.hostPath }}
{{- fail "blueprints: one of files, configMap and hostPath has to be given" }}
{{- end }}
{{- end }}

{{/* What the Pod Security Standard "restricted" asks of a container. */}}
{{- define "gum.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{- define "gum.metadata" -}}
name: {{ include "gum.fullname" . }}
namespace: {{ .Release.Namespace }}
labels:
  {{- include "gum.labels" . | nindent 2 }}
{{- end }}
