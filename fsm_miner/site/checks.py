"""May this job run here, can it, and within which limits? Asked when it is prepared, by the rules of that moment."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fsm_miner.config.model import Config
from fsm_miner.egress.grant import not_allowed
from fsm_miner.manifest import Manifest
from fsm_miner.site.programs import Programs
from runners.allowlist import Allowlist, Denied
from runners.python import python_binds, task_name_problem
from states.codes import ErrorCode, Failure
from states.events import LaunchIntended

__all__ = ["Checks", "Verdict"]

_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Verdict:
    """The job may run: this program, within these limits (seconds, MiB)."""

    program: str
    time_limit_s: float
    memory_limit_mb: int
    output_limit_mb: int

    @classmethod
    def of(cls, intent: LaunchIntended) -> "Verdict":
        """Return the verdict that was journaled: a rule that changed since then does not touch the run."""
        return cls(intent.program, intent.time_limit_s, intent.memory_limit_mb, intent.output_limit_mb)


class Checks:
    """Judges jobs by configuration, allowlist, tasks, and what the machine has left."""

    def __init__(
        self,
        config: Config,
        allowlist: Callable[[], Allowlist],
        *,
        cores: int,
        memory_mb: int,
        free_bytes: Callable[[Path], int],
    ) -> None:
        self._config = config
        self._allowlist = allowlist
        self._programs = Programs(config)
        self._cores = cores
        self._memory_mb = memory_mb
        self._free_bytes = free_bytes

    def judge(self, manifest: Manifest) -> Verdict | Failure:
        """Return the limits to run within, or why the job must not run."""
        found = self._cli(manifest) if manifest.runner == "cli" else self._python(manifest)
        if isinstance(found, Failure):
            return found
        return self._network(manifest) or self._resources(manifest) or found

    def _network(self, manifest: Manifest) -> Failure | None:
        asked = manifest.network.allow
        refused = not_allowed(asked, self._config.network)
        if refused:
            more = f" and {len(refused) - 1} more" if len(refused) > 1 else ""
            return _deny(
                f"network.allow: this node lets no job reach {refused[0]}{more}; fetch what is needed through "
                "input.urls, or have the node's operator add it to network.allow"
            )
        if asked and self._config.sandbox.backend == "none":
            return _no_resource(
                "network.allow needs the sandbox, which this node has not (sandbox.backend: none)"
            )
        return None

    def _cli(self, manifest: Manifest) -> Verdict | Failure:
        if not self._config.runners.cli.enable:
            return _deny('this node does not run "cli" jobs (runners.cli.enable)')
        assert manifest.command is not None
        answer = self._allowlist().judge(manifest.command, manifest.args)
        if isinstance(answer, Denied):
            return _deny(answer.reason)
        rule = answer.rule
        refusal = rule.refuse_env(manifest.env)
        if refusal is not None:
            return _deny(refusal)
        refusal = rule.refuse_env(manifest.secret_names)
        if refusal is not None:
            return _deny(f"secrets: {refusal.removeprefix('env: ')} (the rule's env names secrets too)")
        unfit = self._programs.problem(rule.path)
        if unfit is not None:
            return _no_resource(unfit)
        return self._verdict(manifest, rule.path, rule.max_runtime_s, rule.max_output_mb)

    def _python(self, manifest: Manifest) -> Verdict | Failure:
        section = self._config.runners.python
        if not section.enable:
            return _deny('this node does not run "python" jobs (runners.python.enable)')
        assert manifest.task is not None
        problem = task_name_problem(manifest.task)
        if problem is not None:
            return _deny(problem)
        parts = manifest.task.split(".")
        for folder in section.task_paths:
            module = folder.joinpath(*parts)
            if module.with_suffix(".py").is_file() or (module / "__init__.py").is_file():
                program = str(section.venv / "bin" / "python")
                unfit = self._programs.problem(program, python_binds(section.venv))
                if unfit is not None:
                    return _no_resource(f"runners.python.venv: {unfit}")
                return self._verdict(manifest, program, None, None)
        return _deny(f'there is no task "{manifest.task}" on this node')

    def _verdict(
        self, manifest: Manifest, program: str, runtime_s: int | None, output_mb: int | None
    ) -> Verdict:
        bounds = [mb for mb in (output_mb, self._config.workspace.max_mb) if mb is not None]
        return Verdict(
            program=program,
            time_limit_s=min(manifest.timeout_s, runtime_s or manifest.timeout_s),
            memory_limit_mb=manifest.requirements.memory_mb or self._config.resources.mem_soft_mb,
            output_limit_mb=min(bounds) if bounds else _OUTPUT_MB_DEFAULT,
        )

    def _resources(self, manifest: Manifest) -> Failure | None:
        wants = manifest.requirements
        if wants.memory_mb is not None and wants.memory_mb > self._memory_mb:
            return _no_resource(
                f"the job wants {wants.memory_mb} MiB of memory, the node has {self._memory_mb}"
            )
        if wants.cpu_threads is not None and wants.cpu_threads > self._cores:
            return _no_resource(f"the job wants {wants.cpu_threads} CPU threads, the node has {self._cores}")
        free_mb = self._free_bytes(self._config.workspace.root) // _MIB
        usable_mb = free_mb - self._config.resources.disk_reserve_mb
        needs_mb = wants.disk_mb or 0
        if usable_mb < needs_mb or usable_mb <= 0:
            return _no_resource(
                f"the job needs {needs_mb} MiB of disk; {max(usable_mb, 0)} MiB are usable here "
                f"({free_mb} MiB free, of which resources.disk_reserve_mb keeps "
                f"{self._config.resources.disk_reserve_mb})"
            )
        return None


_OUTPUT_MB_DEFAULT = 10_000


def _deny(reason: str) -> Failure:
    return Failure(ErrorCode.DENY, reason)


def _no_resource(reason: str) -> Failure:
    return Failure(ErrorCode.NORESOURCE, reason)
