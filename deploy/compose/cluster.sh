#!/bin/sh
# Run by docker-compose.yml, once for each `up`. Needs KUBECONFIG, kubectl, and the folders that are mounted there.
set -eu
server=${SERVER:-https://k3s:6443}
# k3s writes its own address; from here the server is another container
admin() { kubectl --server="$server" "$@"; }

# applied a second time, it would take the certificate away that OpenKruise has put into its webhooks
if [ -z "$(admin get namespace --selector=triton.io/openkruise=applied --output=name)" ]; then
  admin apply --server-side --force-conflicts --kustomize "${OPENKRUISE:-/openkruise/overlay}"
  admin label namespace kruise-system triton.io/openkruise=applied
fi
admin rollout status deployment/kruise-controller-manager --namespace kruise-system --timeout=300s
admin apply --server-side --force-conflicts --kustomize "${DEPLOY:-/deploy}/crds"
admin apply --server-side --force-conflicts --kustomize "${DEPLOY:-/deploy}/rbac"

authority=$(admin config view --raw --flatten --minify \
  --output=jsonpath='{.clusters[0].cluster.certificate-authority-data}')
umask 022
for service in planner executor readiness; do
  token=$(admin create token "triton-$service" --namespace triton-system --duration=8760h)
  # the service has another uid: an empty file made before keeps the mode that lets it read
  : >"${KUBE:-/kube}/$service"
  config() { kubectl --kubeconfig="${KUBE:-/kube}/$service" config "$@"; }
  config set-cluster k3s --server="$server"
  config set clusters.k3s.certificate-authority-data "$authority"
  config set-credentials "$service" --token="$token"
  config set-context "$service" --cluster=k3s --user="$service"
  config use-context "$service"
done
