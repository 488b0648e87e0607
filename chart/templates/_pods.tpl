{{/* Where a program may be placed: (list . component). */}}
{{- define "dbaas.placement" -}}
{{- $root := index . 0 -}}
{{- $values := index $root.Values (index . 1) -}}
{{- with $root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with $values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $values.nodeSelector }}
nodeSelector: {{ toJson . }}
{{- end }}
{{- with $values.tolerations }}
tolerations: {{ toJson . }}
{{- end }}
{{- with $values.affinity }}
affinity: {{ toJson . }}
{{- end }}
topologySpreadConstraints:
  {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "dbaas.selector" $ | nindent 8 }}
  {{- end }}
{{- end -}}

{{/* Pod Security "restricted". */}}
{{- define "dbaas.podSecurity" -}}
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "dbaas.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end -}}

{{/* Both programs answer for themselves on the port of their metrics. */}}
{{- define "dbaas.probes" -}}
startupProbe:
  httpGet: {path: /healthz, port: metrics}
  periodSeconds: 1
  failureThreshold: 60
livenessProbe:
  httpGet: {path: /healthz, port: metrics}
  periodSeconds: 10
  timeoutSeconds: 5
readinessProbe:
  httpGet: {path: /readyz, port: metrics}
  periodSeconds: 2
  timeoutSeconds: 2
{{- end -}}

{{/* What both programs read from their environment. */}}
{{- define "dbaas.environment" -}}
- name: DBAAS_NAMESPACE
  valueFrom:
    fieldRef: {fieldPath: metadata.namespace}
- name: DBAAS_RELEASE
  value: {{ include "dbaas.name" . }}
- name: DBAAS_LOG_LEVEL
  value: {{ .Values.logLevel }}
- name: DBAAS_WATCH_NAMESPACES
  value: {{ join "," .Values.watchNamespaces | quote }}
- name: DBAAS_ALLOW_INSECURE_ENDPOINTS
  value: {{ .Values.allowInsecureEndpoints | quote }}
- name: DBAAS_WEBHOOK_TLS_SECRET
  value: {{ include "dbaas.name" . }}-webhook-tls
- name: DBAAS_METRICS_PORT
  value: "9090"
{{- end -}}
