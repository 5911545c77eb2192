"""From a job to a run's description. The same job, verdict and configuration always give the same run."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fsm_miner.config.model import Config
from fsm_miner.egress.grant import host_and_port
from fsm_miner.manifest import Manifest
from fsm_miner.probe.gpu import Gpu
from fsm_miner.site.checks import Verdict
from fsm_miner.workspace import Workspace
from runners.cli import base_env, cli_argv
from runners.egress import PROXY_PORT
from runners.python import PythonRun, python_run
from runners.run import JOB_VIEW, SECRETS, Bind, JobView, Limits, RunSpec, host_view

__all__ = ["Plan", "Planner", "run_name"]

_LOG_MB = 64
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Plan:
    """A run's description, and for a Python task the file to be written before the launch."""

    spec: RunSpec
    task: PythonRun | None

    @property
    def argv_sha256(self) -> str:
        """The hash of the argument vector, for the journal: what ran is provable."""
        text = json.dumps(self.spec.argv, ensure_ascii=True).encode()
        if self.task is not None:
            text += self.task.task_json
        return hashlib.sha256(text).hexdigest()


class Planner:
    """Makes plans, by a configuration."""

    def __init__(self, config: Config) -> None:
        self._config = config

    @property
    def sandboxed(self) -> bool:
        """Whether jobs see their folders where the sandbox puts them."""
        return self._config.sandbox.backend == "bubblewrap"

    def view(self, workspace: Workspace) -> JobView:
        """Return the job's folders as its command sees them."""
        return JOB_VIEW if self.sandboxed else host_view(workspace.run_paths)

    def limits(self, verdict: Verdict, cpu_threads: int | None) -> Limits:
        """Return the run's limits."""
        resources = self._config.resources
        return Limits(
            time_s=verdict.time_limit_s,
            grace_s=self._config.timeouts.stop_grace_s,
            memory_mb=verdict.memory_limit_mb,
            output_mb=verdict.output_limit_mb,
            log_mb=_LOG_MB,
            files=self._config.workspace.max_files,
            processes=resources.max_processes,
            nice=resources.cpu_nice,
            io_class=resources.io_class,
            io_level=resources.io_level,
            cpu_threads=cpu_threads,
            swap_mb=resources.swap_mb,
        )

    def plan(
        self,
        manifest: Manifest,
        verdict: Verdict,
        workspace: Workspace,
        run: int,
        gpus: Sequence[Gpu] = (),
        secrets: Mapping[str, str] | None = None,
    ) -> Plan:
        """Return the run that the verdict allows.

        Raises:
            ValueError: the task's parameters can't be handed over.
            OSError: the venv of the Python runner has no interpreter.

        """
        view = self.view(workspace)
        task = None
        if manifest.runner == "python":
            assert manifest.task is not None
            task = python_run(
                manifest.task,
                manifest.params,
                task_paths=self._config.runners.python.task_paths,
                venv=self._config.runners.python.venv,
                task_file=workspace.control / f"task-{run}.json",
                view=view,
            )
        env = base_env(view, gpus=[gpu.id for gpu in gpus], job_env=manifest.env)
        for gpu in gpus:
            env.update(gpu.visible_env)
        secret = dict(secrets or {})
        env.update({f"{name}_FILE": f"{SECRETS}/{name}" for name in manifest.secret_files})
        threads = manifest.requirements.cpu_threads
        if threads is not None:
            env["OMP_NUM_THREADS"] = str(threads)
        if manifest.network.allow:
            env.update(_proxy_env(manifest.network.allow))
        takes_stdout = manifest.stdout is not None or manifest.implicit_stdout is not None
        spec = RunSpec(
            name=run_name(workspace, run),
            run=run,
            argv=cli_argv(verdict.program, manifest.args) if task is None else task.argv,
            env=env,
            paths=workspace.run_paths,
            limits=self.limits(verdict, threads),
            gpu=bool(gpus),
            egress=bool(manifest.network.allow),
            devices=tuple(dict.fromkeys(device for gpu in gpus for device in gpu.devices)),
            binds=() if task is None else task.binds,
            secret_env={name: value for name, value in secret.items() if name not in manifest.secret_files},
            secret_files={name: secret[name] for name in manifest.secret_files},
            stdout=workspace.stdout if takes_stdout else None,
        )
        if self.sandboxed and gpus:
            reads = dict.fromkeys(path for gpu in gpus for path in gpu.reads)
            spec = replace(spec, binds=spec.binds + tuple(Bind(Path(path), path) for path in reads))
        return Plan(spec, task)


def _proxy_env(allow: Sequence[str]) -> dict[str, str]:
    """Return where the proxy is: programs look for one or the other spelling.

    Its own loopback a job reaches directly, but for names that it was given a host of.
    """
    hosts = {host_and_port(text)[0] for text in allow}
    proxy = f"http://127.0.0.1:{PROXY_PORT}"
    values = {
        "http_proxy": proxy,
        "https_proxy": proxy,
        "all_proxy": proxy,
        "no_proxy": ",".join(name for name in _LOOPBACK if name not in hosts),
    }
    return {spelling: value for name, value in values.items() for spelling in (name, name.upper())}


def run_name(workspace: Workspace, run: int) -> str:
    """Return the run's name on this node: unique, and safe as a file name."""
    return f"{workspace.folder.name}.run-{run}"
