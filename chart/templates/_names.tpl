{{/* What names of objects begin with; short enough for every suffix. */}}
{{- define "dbaas.name" -}}
{{- .Values.fullnameOverride | default .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* Labels that do not change from release to release: (list . component). */}}
{{- define "dbaas.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: kubernetes-dbaas
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{/* Labels of an object: (list . component). */}}
{{- define "dbaas.labels" -}}
{{- $root := index . 0 -}}
{{ include "dbaas.selector" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
app.kubernetes.io/part-of: kubernetes-dbaas
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* An image reference: (list . "webhook"). */}}
{{- define "dbaas.image" -}}
{{- $root := index . 0 -}}
{{- $image := index $root.Values.images (index . 1) -}}
{{- with $root.Values.images.registry }}{{ trimSuffix "/" . }}/{{ end -}}
{{ $image.repository }}
{{- if $image.digest }}@{{ $image.digest }}{{ else }}:{{ $image.tag | default $root.Chart.AppVersion }}{{ end -}}
{{- end -}}

{{/* The account of the controller, as the API server calls it. */}}
{{- define "dbaas.controllerUser" -}}
system:serviceaccount:{{ .Release.Namespace }}:{{ include "dbaas.name" . }}-controller
{{- end -}}

{{/* The names of Operations, their Jobs and their accounts; api/operation.py and api/identity.py make them. */}}
{{- define "dbaas.operationPattern" -}}
db-[a-z2-7]{26}-[0-9]+-[0-9]+
{{- end -}}

{{/* The names of probes' Jobs; controller/probing.py makes them. */}}
{{- define "dbaas.probePattern" -}}
probe-[a-z2-7]{26}
{{- end -}}
