"""Build Python environments."""

from __future__ import annotations

import os
import re

from voiceops.remote.onhost.access import label_by_policy, set_access_below
from voiceops.remote.onhost.base import Failed, expect
from voiceops.remote.onhost.disk import sync_path, write_all
from voiceops.remote.onhost.host import ResourcePlan, ResourceRun
from voiceops.remote.onhost.paths import remove_all, switch_link, temporary
from voiceops.remote.onhost.venvs import STAMP, VenvHandler

TYPE_CHECKING = False
if TYPE_CHECKING:
    from voiceops.remote.onhost.base import Spec

INSTALL_S = 1800.0
PIP_FILES = ("/etc/pip.conf", "/etc/xdg/pip/pip.conf", "~/.pip/pip.conf", "~/.config/pip/pip.conf")
UV_FILES = ("/etc/uv/uv.toml", "~/.config/uv/uv.toml")
UV_NAMES = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "trusted-host": "UV_INSECURE_HOST",
    "cert": "SSL_CERT_FILE",
}
"""What pip calls it, and uv."""
PASSED = re.compile(
    r"(UV|PIP)_(DEFAULT_INDEX|(EXTRA_)?INDEX(_URL)?|TRUSTED_HOST|CERT)|SSL_CERT_\w+|\w+_PROXY", re.I
)


class VenvBuilder(VenvHandler):
    """Python environments, built where they stay."""

    def apply(self, spec: Spec, run: ResourceRun, plan: ResourcePlan) -> None:
        real = plan.data["real"]
        if not plan.data["complete"]:
            remove_all(real)
            os.makedirs(os.path.dirname(real), 0o755, exist_ok=True)
            self._bring_wheels(spec, run, plan)
            self._build(spec, run, real)
            label_by_policy(real, run)
            self._stamp(spec, real)
        if spec.get("mode") is not None:
            set_access_below(real, spec, run)
        before = os.readlink(spec["path"]) if os.path.islink(spec["path"]) else ""
        switch_link(spec["path"], os.path.basename(real))
        self._clean(spec["path"], {os.path.basename(real), before})

    def _bring_wheels(self, spec: Spec, run: ResourceRun, plan: ResourcePlan) -> None:
        names = {file["name"] for file in spec.get("files", ())}
        if not names:
            return
        make_private(spec["wheels"])
        for name in set(os.listdir(spec["wheels"])) - names:
            remove_all(os.path.join(spec["wheels"], name))
        for file in plan.data["lacking"]:
            path = os.path.join(spec["wheels"], file["name"])
            fresh = temporary(path)
            remove_all(fresh)
            run.blobs.place(file["sha256"], file["size"], fresh)
            sync_path(fresh)
            os.replace(fresh, path)

    def _uv(self, spec: Spec) -> str | None:
        """uv, unpacked from its wheel: a program in a zip."""
        uv: str | None = spec.get("uv")
        if not uv or not uv.endswith(".whl"):
            return uv
        import zipfile

        target = os.path.join(spec["wheels"], ".uv")
        with zipfile.ZipFile(os.path.join(spec["wheels"], uv)) as wheel:
            inside = next(name for name in wheel.namelist() if name.endswith(".data/scripts/uv"))
            with wheel.open(inside) as source, open(target, "wb") as file:
                while data := source.read(1 << 20):
                    file.write(data)
        os.chmod(target, 0o755)
        return target

    def _build(self, spec: Spec, run: ResourceRun, real: str) -> None:
        python = spec["python"]
        uv = self._uv(spec)
        env = {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1", "UV_NO_PROGRESS": "1"}
        env["UV_CACHE_DIR"] = os.path.join(run.folder, "uv-cache")
        make_private(env["UV_CACHE_DIR"])
        env["UV_PYTHON_DOWNLOADS"] = "never"
        make = [uv, "venv", "--python", python, real] if uv else [python, "-Im", "venv", real]
        expect(run.child(*make, env=env, timeout_s=INSTALL_S), "making the environment")
        if spec.get("index") or not spec.get("wheels"):
            env.update(index_environment(), **spec.get("env", {}))
        own = f"{real}/bin/python"
        install = [uv, "pip", "install", "--python", own] if uv else [own, "-Im", "pip", "install"]
        if spec.get("wheels"):
            install += ["--find-links", spec["wheels"], *([] if spec.get("index") else ["--no-index"])]
        if uv:
            install.append("--compile-bytecode")
        requirements = os.path.join(real, "requirements.txt")
        wanted = spec["requirements"]
        text = run.blobs.read(wanted["sha256"], wanted["size"]) if wanted["size"] else b""
        with open(requirements, "wb") as file:
            file.write(text)
        if text.strip():
            install += ["-r", requirements]
            if b"--hash=" in text:
                install.append("--require-hashes")  # a dependency that nobody pinned is refused
            child = run.child(*install, env=env, timeout_s=INSTALL_S)
            child.output = masked(child.output)
            source = " from the host's package index" if spec.get("index") else ""
            expect(child, f"installing the requirements{source}")

    def _stamp(self, spec: Spec, real: str) -> None:
        os.sync()  # the stamp must never be on disk before what it vouches for
        fd = os.open(os.path.join(real, STAMP), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            write_all(fd, spec["key"].encode())
            os.fsync(fd)
        finally:
            os.close(fd)

    def _clean(self, path: str, keep: set[str]) -> None:
        """Remove environments that neither the new link nor the one before names."""
        folder, name = os.path.split(path)
        for entry in os.listdir(folder):
            if entry.startswith(f"{name}-") and len(entry) == len(name) + 13 and entry not in keep:
                remove_all(os.path.join(folder, entry))


def make_private(folder: str) -> None:
    """A folder for root alone: a project's own wheels are in it."""
    os.makedirs(folder, exist_ok=True)
    os.chmod(folder, 0o700)


def masked(text: str) -> str:
    return re.sub(r"://[^/@\s]+@", "://****@", text)


def index_environment() -> dict[str, str]:
    """What the host says about its package index, in uv's words too: uv reads nothing of pip's."""
    env = {name: value for name, value in os.environ.items() if PASSED.fullmatch(name)}
    if any(os.path.exists(os.path.expanduser(path)) for path in UV_FILES):
        return env
    import configparser

    said = configparser.RawConfigParser()
    try:
        said.read([os.path.expanduser(path) for path in PIP_FILES], encoding="utf-8")
    except (configparser.Error, ValueError) as error:
        raise Failed(f"pip's configuration can't be read: {error}") from None
    for section in ("install", "global"):
        for name, uv in UV_NAMES.items():
            value = env.get("PIP_" + name.upper().replace("-", "_")) or said.get(section, name, fallback="")
            if value:
                env.setdefault(uv, " ".join(value.split()))
    # As pip does; each wheel's hash is declared, so that no index can slip in another.
    env.setdefault("UV_INDEX_STRATEGY", "unsafe-best-match")
    return env
