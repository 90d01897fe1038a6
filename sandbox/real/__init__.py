"""The real parts on one machine, without containers: Kafka, Redis, Elasticsearch, and a Kubernetes with OpenKruise.

Only the kubelets are played, by KWOK. Everything is built or downloaded once, into a cache outside of the checkout.
"""
