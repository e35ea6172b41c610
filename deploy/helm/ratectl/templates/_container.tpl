{{/*
Sidecar for the initContainers of a pod with Envoy. It listens on loopback, starts before the other containers and ends
after them. In a chart that has this one as a dependency: include "ratectl.sidecar" .Subcharts.ratectl
*/}}
{{- define "ratectl.sidecar" -}}
{{- include "ratectl.container" (dict "root" . "inPod" true) }}
{{- end }}

{{/* Volumes of the sidecar: include "ratectl.volumes" .Subcharts.ratectl */}}
{{- define "ratectl.volumes" -}}
{{- range .Values.extraVolumes }}
{{- if regexMatch "^ratectl-(state|tmp|public-keys|(store|cluster|rls)-tls)$" .name }}
{{- fail (printf "extraVolumes: the chart has a volume %s itself: choose another name" .name) }}
{{- end }}
{{- end -}}
- name: ratectl-state
  emptyDir: {sizeLimit: {{ .Values.state.sizeLimit }}}
- name: ratectl-tmp
  emptyDir: {sizeLimit: 64Mi}
{{- range $name, $secret := include "ratectl.certificates" . | fromYaml }}
- name: ratectl-{{ $name }}-tls
  secret: {secretName: {{ $secret | quote }}}
{{- end }}
{{- with .Values.publicKeys.configMap }}
- name: ratectl-public-keys
  configMap: {name: {{ . | quote }}}
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Secrets with certificates that sidecars and the service mount, by name. */}}
{{- define "ratectl.certificates" -}}
{{- $secrets := dict "store" .Values.store.tls.secret "cluster" .Values.cluster.tlsSecret -}}
{{- if .Values.standalone }}{{ $_ := set $secrets "rls" .Values.rls.tlsSecret }}{{ end -}}
{{- range $name, $secret := $secrets }}{{ if $secret }}
{{ $name }}: {{ $secret | quote }}
{{- end }}{{ end -}}
{{- end }}

{{/* The container. root: context of this chart; inPod: true for a sidecar in a pod with Envoy. */}}
{{- define "ratectl.container" -}}
{{- $values := .root.Values -}}
{{- $http := int $values.http.port -}}
{{- $ports := list (int $values.rls.port) (int $values.metrics.port) (int $values.cluster.port) -}}
{{- if $http }}{{ $ports = append $ports $http }}{{ end -}}
{{- if lt (uniq $ports | len) (len $ports) }}
{{- fail "rls.port, http.port, metrics.port and cluster.port must differ: choose another one" }}
{{- end -}}
{{- range $values.extraVolumeMounts }}{{ if has .mountPath (list "/tmp" "/var/lib/ratectl") }}
{{- fail (printf "extraVolumeMounts: the chart mounts a volume at %s: choose another mountPath" .mountPath) }}
{{- end }}{{ end -}}
{{- $tls := and (not .inPod) $values.rls.tlsSecret -}}
- name: ratectl
  image: {{ include "ratectl.image" .root | quote }}
  imagePullPolicy: {{ $values.image.pullPolicy }}
  {{- if .inPod }}
  restartPolicy: Always
  {{- end }}
  args:
    - agent
    - run
    - --id={{ $values.idPrefix }}$(POD_NAME)
    - --state-dir=/var/lib/ratectl
    - --rls={{ ternary "127.0.0.1" $values.bindAddress .inPod }}:{{ $values.rls.port }}
    {{- if $http }}
    - --http={{ ternary "127.0.0.1" $values.bindAddress .inPod }}:{{ $http }}
    {{- end }}
    - --metrics={{ $values.bindAddress }}:{{ $values.metrics.port }}
    {{- if $tls }}
    - --rls-tls=/etc/ratectl/rls/tls.crt
    - --rls-tls=/etc/ratectl/rls/tls.key
    - --rls-tls=/etc/ratectl/rls/ca.crt
    {{- end }}
    {{- if not .inPod }}
    - --drain-seconds={{ include "ratectl.drainSeconds" .root }}
    {{- end }}
    {{- range $values.publicKeys.files }}
    - --public-key=/etc/ratectl/public-keys/{{ . }}
    {{- end }}
    {{- range $values.extraArgs }}
    - {{ . | quote }}
    {{- end }}
  env:
    - name: POD_NAME
      valueFrom: {fieldRef: {fieldPath: metadata.name}}
    - name: RATECTL_STORE
      valueFrom: {secretKeyRef: {name: {{ $values.store.secret | quote }}, key: url}}
    - name: RATECTL_ETCD_USER
      valueFrom: {secretKeyRef: {name: {{ $values.store.secret | quote }}, key: user, optional: true}}
    - name: RATECTL_ETCD_PASSWORD
      valueFrom: {secretKeyRef: {name: {{ $values.store.secret | quote }}, key: password, optional: true}}
    {{- if $values.store.tls.secret }}
    - {name: RATECTL_ETCD_CA, value: /etc/ratectl/store/ca.crt}
    {{- if $values.store.tls.clientCertificate }}
    - {name: RATECTL_ETCD_CERT, value: /etc/ratectl/store/tls.crt}
    - {name: RATECTL_ETCD_KEY, value: /etc/ratectl/store/tls.key}
    {{- end }}
    {{- end }}
    {{- if $values.cluster.tlsSecret }}
    - name: POD_IP
      valueFrom: {fieldRef: {fieldPath: status.podIP}}
    - {name: RATECTL_CLUSTER_LISTEN, value: "{{ $values.bindAddress }}:{{ $values.cluster.port }}"}
    - {name: RATECTL_CLUSTER_ADDRESS, value: "{{ ternary "[$(POD_IP)]" "$(POD_IP)" (hasPrefix "[" $values.bindAddress) }}:{{ $values.cluster.port }}"}
    - {name: RATECTL_CLUSTER_CA, value: /etc/ratectl/cluster/ca.crt}
    - {name: RATECTL_CLUSTER_CERT, value: /etc/ratectl/cluster/tls.crt}
    - {name: RATECTL_CLUSTER_KEY, value: /etc/ratectl/cluster/tls.key}
    {{- end }}
    {{- with $values.redis.secret }}
    - name: RATECTL_REDIS_URL
      valueFrom: {secretKeyRef: {name: {{ . | quote }}, key: url}}
    {{- end }}
    {{- with $values.extraEnv }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  ports:
    {{- if not .inPod }}
    - {name: rls, containerPort: {{ $values.rls.port }}}
    {{- if $http }}
    - {name: ratectl-http, containerPort: {{ $http }}}
    {{- end }}
    {{- end }}
    - {name: ratectl-metrics, containerPort: {{ $values.metrics.port }}}
    {{- if $values.cluster.tlsSecret }}
    - {name: ratectl-cluster, containerPort: {{ $values.cluster.port }}}
    {{- end }}
  startupProbe: # it answers when its counters are restored, for which it has 3 minutes
    httpGet: {path: /healthz, port: {{ $values.metrics.port }}}
    periodSeconds: 2
    failureThreshold: 90
  livenessProbe:
    httpGet: {path: /healthz, port: {{ $values.metrics.port }}}
    periodSeconds: 10
    timeoutSeconds: 5
  {{- if or (not .inPod) $values.sidecar.gatesReadiness }}
  readinessProbe:
    {{- if or .inPod $tls }}
    httpGet: {path: /readyz, port: {{ $values.metrics.port }}} # the other probe speaks no TLS, and reaches no loopback
    {{- else }}
    grpc: {port: {{ $values.rls.port }}}
    {{- end }}
    periodSeconds: 5
    timeoutSeconds: 3
  {{- end }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 10001
    runAsGroup: 10001
    readOnlyRootFilesystem: true
    allowPrivilegeEscalation: false
    capabilities: {drop: [ALL]}
    seccompProfile: {type: RuntimeDefault}
  resources:
    {{- toYaml $values.resources | nindent 4 }}
  volumeMounts:
    - {name: ratectl-state, mountPath: /var/lib/ratectl}
    - {name: ratectl-tmp, mountPath: /tmp}
    {{- range $name, $_ := include "ratectl.certificates" .root | fromYaml }}
    - {name: ratectl-{{ $name }}-tls, mountPath: /etc/ratectl/{{ $name }}, readOnly: true}
    {{- end }}
    {{- if $values.publicKeys.configMap }}
    - {name: ratectl-public-keys, mountPath: /etc/ratectl/public-keys, readOnly: true}
    {{- end }}
    {{- with $values.extraVolumeMounts }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end }}
