"""A custom resource that uses what Triton's own definition uses: schema, defaults, CEL, columns and subresources."""

from __future__ import annotations

from typing import Any

import yaml

DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"

DEFINITION: dict[str, Any] = yaml.safe_load("""
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.contract.triton.io}
spec:
  group: contract.triton.io
  scope: Namespaced
  names: {kind: Widget, listKind: WidgetList, plural: widgets, singular: widget, shortNames: [wg]}
  versions:
  - name: v1
    served: true
    storage: true
    subresources:
      status: {}
      scale: {specReplicasPath: .spec.replicas, statusReplicasPath: .status.replicas}
    additionalPrinterColumns:
    - {name: REPLICAS, type: integer, jsonPath: .spec.replicas}
    - {name: PHASE, type: string, jsonPath: .status.phase}
    - {name: COLOR, type: string, priority: 1, jsonPath: .spec.color}
    schema:
      openAPIV3Schema:
        type: object
        required: [spec]
        properties:
          spec:
            type: object
            required: [size]
            x-kubernetes-validations:
            - {rule: "!has(self.replicas) || self.replicas <= self.size", message: replicas must not exceed size}
            properties:
              size: {type: integer, minimum: 1, maximum: 10}
              replicas: {type: integer, default: 1}
              color: {type: string, enum: [red, green]}
              shade: {type: string, enum: [dark, light], nullable: true}
              code: {type: string, pattern: "^[a-z]+$", maxLength: 5}
              share: {x-kubernetes-int-or-string: true}
              owner:
                type: string
                x-kubernetes-validations: [{rule: self == oldSelf, message: owner is immutable}]
              free: {type: object, x-kubernetes-preserve-unknown-fields: true}
              note: {type: string, nullable: true}
          status:
            type: object
            properties:
              phase: {type: string}
              replicas: {type: integer}
              at: {type: string, format: date-time, nullable: true}
""")


def a_widget(called: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "contract.triton.io/v1",
        "kind": "Widget",
        "metadata": {"name": called},
        "spec": {"size": 5, **spec},
    }
