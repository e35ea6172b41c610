{{/* Name of the objects: that of the release, with the chart's name in it. */}}
{{- define "ratectl.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{- define "ratectl.selectorLabels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: rls
{{- end }}

{{- define "ratectl.labels" -}}
{{ include "ratectl.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{/* Seconds that a pod goes on answering after SIGTERM. */}}
{{- define "ratectl.drainSeconds" -}}
{{- if not (kindIs "invalid" .Values.drainSeconds) -}}
{{ int .Values.drainSeconds }}
{{- else if .Values.service.headless -}}
40
{{- else -}}
5
{{- end -}}
{{- end }}

{{- define "ratectl.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end }}
