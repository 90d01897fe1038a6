"""The Kubernetes API: the client, the watch that stays true, and how CloneSets and pods are read."""
