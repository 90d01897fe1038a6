"""Requests of people and other systems become changes of DeployFlows."""
