"""Kibana's objects for the release log: data views, saved searches and dashboards, made from the mapping.

`python -m services.events.kibana` prints them as the NDJSON that Kibana imports; the repository keeps it in
`deploy/kibana/triton.ndjson`, and a test keeps the two equal. Every field is looked up in the mapping, so that a
misspelt one is an error here and not an empty panel in Kibana. Ids are names: importing again replaces.
"""
