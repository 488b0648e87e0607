{{/* Puts the policy NAME-SUFFIX in force: (list . suffix). */}}
{{- define "dbaas.policyBinding" }}
{{- $root := index . 0 }}
{{- $name := printf "%s-%s" (include "dbaas.name" $root) (index . 1) }}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata:
  name: {{ $name }}
  labels:
    {{- include "dbaas.labels" (list $root "policies") | nindent 4 }}
spec:
  policyName: {{ $name }}
  validationActions: [Deny, Audit]
{{- end -}}
