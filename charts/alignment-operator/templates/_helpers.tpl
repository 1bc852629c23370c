{{- define "alignment.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "alignment.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "alignment.labels" -}}
{{ include "alignment.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "alignment.serviceAccount" -}}
{{ .Values.serviceAccount.name | default (include "alignment.name" .) }}
{{- end }}

{{- /* An image reference from a dict of image values and the chart's version. */}}
{{- define "alignment.image" -}}
{{- if .image.digest }}{{ .image.repository }}@{{ .image.digest }}
{{- else }}{{ .image.repository }}:{{ .image.tag | default .version }}
{{- end }}
{{- end }}

{{- /* The operator's rights on objects in the namespaces that it watches. One list for Role and ClusterRole. */}}
{{- define "alignment.rules" -}}
- apiGroups: [alignment.dev]
  resources: [alignmentruns]
  verbs: [get, list, watch]
- apiGroups: [alignment.dev]
  resources: [alignmentruns/status]
  verbs: [patch]
# Where OwnerReferencesPermissionEnforcement is on (OpenShift), owning a Job asks for this.
- apiGroups: [alignment.dev]
  resources: [alignmentruns/finalizers]
  verbs: [update]
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch, create, delete]
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch]
# A headless Service, for runs on several nodes.
- apiGroups: [""]
  resources: [services]
  verbs: [create]
# Listed to say why a Job could not create its pods.
- apiGroups: [""]
  resources: [events]
  verbs: [list, create]
{{- if .Values.kueue.enabled }}
- apiGroups: [kueue.x-k8s.io]
  resources: [workloads]
  verbs: [list]
{{- end }}
{{- end }}
