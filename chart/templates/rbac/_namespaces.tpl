{{/*
Binds a program's ClusterRole NAME-COMPONENT-namespaces: everywhere, or in watchNamespaces alone. (list . component)
*/}}
{{- define "dbaas.bindNamespaces" -}}
{{- $root := index . 0 -}}
{{- $component := index . 1 -}}
{{- $name := printf "%s-%s" (include "dbaas.name" $root) $component -}}
{{- $account := dict "kind" "ServiceAccount" "name" $name "namespace" $root.Release.Namespace -}}
{{- range $root.Values.watchNamespaces | default (list "") }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ if . }}RoleBinding{{ else }}ClusterRoleBinding{{ end }}
metadata:
  name: {{ $name }}-namespaces
  {{- if . }}
  namespace: {{ . }}
  {{- end }}
  labels:
    {{- include "dbaas.labels" (list $root $component) | nindent 4 }}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: {{ $name }}-namespaces}
subjects: [{{ toJson $account }}]
{{- end }}
{{- end -}}
