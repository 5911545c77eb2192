"""The manifest as pydantic models (contract, section "Manifest"; specification, section 8).

Scalars are strict: `true` is no number and `"5"` is no integer. A field that is null counts as absent,
since many serialisers write every optional field. Unknown fields are ignored.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, Self, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictStr,
    field_validator,
    model_validator,
)

from fsm_miner.manifest_json import json_problem
from fsm_miner.manifest_names import (
    SHA256,
    artifact_path_problem,
    env_name_problem,
    file_name_problem,
    host_port_problem,
    is_usable_id,
    media_type_problem,
    name_from_url,
    task_name_problem,
    text_problem,
    url_problem,
)

__all__ = ["Artifact", "Inputs", "Manifest", "Network", "Requirements", "UrlInput"]

ATTEMPT_MAX = 1_000_000
TIMEOUT_DEFAULT_S = 3600.0
TIMEOUT_MAX_S = 30 * 86400.0
MEBIBYTES_MAX = 2**31
COMMAND_CHARS_MAX = 255
ARGS_MAX = 1024
TEXT_BYTES_MAX = 128 * 1024  # arguments together, and the environment together; execve(2) takes 2 MiB
ENTRIES_MAX = 256
SECRET_FILES_MAX = 32
PARAMS_DEPTH_MAX = 32


def _checked(problem_of: Callable[[str], str | None]) -> AfterValidator:
    def check(value: str) -> str:
        problem = problem_of(value)
        if problem is not None:
            raise ValueError(problem)
        return value

    return AfterValidator(check)


def _id_problem(value: str) -> str | None:
    return None if is_usable_id(value) else "is not 1 to 128 letters, digits, dots, dashes and underscores"


def _sha256_problem(value: str) -> str | None:
    return None if SHA256.fullmatch(value) else "is not 64 hexadecimal digits"


def _bound_total(texts: list[str]) -> None:
    if sum(len(text.encode("utf-8")) + 1 for text in texts) > TEXT_BYTES_MAX:
        raise ValueError(f"holds more than {TEXT_BYTES_MAX} bytes")


JobId = Annotated[StrictStr, _checked(_id_problem)]
Text = Annotated[StrictStr, _checked(text_problem)]
FileName = Annotated[StrictStr, _checked(file_name_problem)]
ArtifactPath = Annotated[StrictStr, _checked(artifact_path_problem)]
MediaType = Annotated[StrictStr, _checked(media_type_problem)]
EnvName = Annotated[StrictStr, _checked(env_name_problem)]
Url = Annotated[StrictStr, _checked(url_problem)]
Sha256 = Annotated[StrictStr, _checked(_sha256_problem), AfterValidator(str.lower)]
TaskName = Annotated[StrictStr, _checked(task_name_problem)]
HostPort = Annotated[StrictStr, _checked(host_port_problem)]
Mebibytes = Annotated[int, Field(strict=True, ge=0, le=MEBIBYTES_MAX)]


class _Wire(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, raw: Any) -> Any:
        if not isinstance(raw, dict):
            return raw
        fields = cast("dict[Any, Any]", raw)
        return {name: value for name, value in fields.items() if value is not None}


class Requirements(_Wire):
    """What the job needs. Sizes in MiB; None: it does not say."""

    gpu: StrictBool = False
    vram_mb: Mebibytes = 0
    cpu_threads: Annotated[int, Field(strict=True, ge=1, le=4096)] | None = None
    memory_mb: Mebibytes | None = None
    disk_mb: Mebibytes | None = None

    @model_validator(mode="before")
    @classmethod
    def _video_memory_means_gpu(cls, raw: Any) -> Any:
        if not isinstance(raw, dict):
            return raw
        fields = cast("dict[Any, Any]", raw)
        if fields.get("gpu") is None and fields.get("vram_mb"):
            return {**fields, "gpu": True}
        return fields


class UrlInput(_Wire):
    """A file to fetch before the run. `name` is its file name in the job's input folder."""

    url: Url
    name: FileName
    sha256: Sha256 | None = None


class Inputs(_Wire):
    """What the job reads: files fetched from `urls`, and files written from the texts in `inline`."""

    urls: Annotated[tuple[UrlInput, ...], Field(max_length=ENTRIES_MAX)] = ()
    inline: Annotated[Mapping[FileName, Text], Field(max_length=ENTRIES_MAX)] = {}

    @model_validator(mode="before")
    @classmethod
    def _refuse_assets(cls, raw: Any) -> Any:
        if not isinstance(raw, dict):
            return raw
        fields = cast("dict[Any, Any]", raw)
        if fields.get("assets"):
            raise ValueError("assets are not supported by this version; give them as urls")
        return fields

    @field_validator("urls", mode="before")
    @classmethod
    def _name_urls(cls, raw: Any) -> Any:
        if not isinstance(raw, (list, tuple)):
            return raw
        items = cast("list[Any] | tuple[Any, ...]", raw)
        if len(items) > ENTRIES_MAX:
            raise ValueError(f"has more than {ENTRIES_MAX} entries")
        return [_named(item, number) for number, item in enumerate(items, start=1)]

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        names = Counter([*self.inline, *(item.name for item in self.urls)])
        if any(count > 1 for count in names.values()):
            raise ValueError('two inputs have the same file name; give "name" to one of the urls')
        return self


def _named(item: Any, number: int) -> Any:
    fields: dict[Any, Any] = dict(cast("dict[Any, Any]", item)) if isinstance(item, dict) else {"url": item}
    url: Any = fields.get("url")
    if fields.get("name") is None and isinstance(url, str) and url_problem(url) is None:
        fields["name"] = name_from_url(url, number)
    elif fields.get("name") is None:
        fields["name"] = f"input{number}"  # the url itself is what gets refused
    return fields


class Network(_Wire):
    """Hosts that the job wants to reach, as `host:port`."""

    allow: Annotated[tuple[HostPort, ...], Field(max_length=ENTRIES_MAX)] = ()


class Artifact(_Wire):
    """A file that the job promises (`optional`: may leave). `max_mb` bounds it, in MiB."""

    path: ArtifactPath
    type: MediaType = "application/octet-stream"
    max_mb: Annotated[float, Field(strict=True, gt=0, le=MEBIBYTES_MAX, allow_inf_nan=False)] | None = None
    optional: StrictBool = False

    @property
    def max_bytes(self) -> int | None:
        """The bound in bytes."""
        return None if self.max_mb is None else int(self.max_mb * 1024 * 1024)

    @property
    def is_plain_text(self) -> bool:
        """Whether the type is text/plain, with or without parameters."""
        return self.type.partition(";")[0].strip().lower() == "text/plain"


class Manifest(_Wire):
    """One attempt of one job, validated. Secrets are not in it, only their names."""

    job_id: JobId
    attempt: Annotated[int, Field(strict=True, ge=1, le=ATTEMPT_MAX)] = 1
    runner: Literal["cli", "python"]
    requirements: Requirements = Requirements()
    timeout_s: Annotated[float, Field(strict=True, gt=0, le=TIMEOUT_MAX_S, allow_inf_nan=False)] = (
        TIMEOUT_DEFAULT_S
    )
    input: Inputs = Inputs()
    command: Annotated[Text, Field(min_length=1, max_length=COMMAND_CHARS_MAX)] | None = None
    args: Annotated[tuple[Text, ...], Field(max_length=ARGS_MAX)] = ()
    env: Annotated[Mapping[EnvName, Text], Field(max_length=ENTRIES_MAX)] = {}
    secret_names: Annotated[tuple[EnvName, ...], Field(max_length=ENTRIES_MAX)] = ()
    secret_files: Annotated[tuple[EnvName, ...], Field(max_length=SECRET_FILES_MAX)] = ()
    network: Network = Network()
    stdout: ArtifactPath | None = None
    artifacts: Annotated[tuple[Artifact, ...], Field(max_length=ENTRIES_MAX)] = ()
    queue: Literal["latency", "throughput"] = "throughput"
    priority: Annotated[int, Field(strict=True, ge=-1_000_000, le=1_000_000)] = 0
    task: TaskName | None = None
    params: Mapping[StrictStr, Any] = {}

    @field_validator("args")
    @classmethod
    def _args_fit(cls, args: tuple[str, ...]) -> tuple[str, ...]:
        _bound_total(list(args))
        return args

    @field_validator("env")
    @classmethod
    def _env_fits(cls, env: Mapping[str, str]) -> Mapping[str, str]:
        _bound_total([*env.keys(), *env.values()])
        return env

    @field_validator("params")
    @classmethod
    def _params_are_json(cls, params: Mapping[str, Any]) -> Mapping[str, Any]:
        problem = json_problem(params, depth_max=PARAMS_DEPTH_MAX)
        if problem is not None:
            raise ValueError(problem)
        return params

    @field_validator("artifacts")
    @classmethod
    def _paths_are_apart(cls, artifacts: tuple[Artifact, ...]) -> tuple[Artifact, ...]:
        paths = {artifact.path for artifact in artifacts}
        if len(paths) < len(artifacts):
            raise ValueError("two artifacts have the same path")
        for path in paths:
            parents = path.split("/")[:-1]
            if any("/".join(parents[: depth + 1]) in paths for depth in range(len(parents))):
                raise ValueError("one artifact's path is a folder of another's")
        return artifacts

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        needed = "command" if self.runner == "cli" else "task"
        if getattr(self, needed) is None:
            raise ValueError(f'runner "{self.runner}" needs the field "{needed}"')
        if self.stdout is not None and all(artifact.path != self.stdout for artifact in self.artifacts):
            raise ValueError("stdout names no declared artifact")
        if not set(self.secret_names).isdisjoint(self.env):
            raise ValueError("a name stands in both env and secrets")
        if not set(self.secret_files) <= set(self.secret_names):
            raise ValueError("secret_files names what is no secret")
        if {f"{name}_FILE" for name in self.secret_files} & {*self.env, *self.secret_names}:
            raise ValueError(
                "a secret that is a file and another variable would have the same name, NAME_FILE"
            )
        return self

    @property
    def implicit_stdout(self) -> str | None:
        """The path that takes the standard output if the command does not write that file itself.

        Set where exactly one text/plain artifact is declared and no `stdout` is given (contract, "Manifest").
        """
        texts = [artifact.path for artifact in self.artifacts if artifact.is_plain_text]
        return texts[0] if self.stdout is None and len(texts) == 1 else None

    @classmethod
    def from_journal(cls, journal_form: Mapping[str, Any]) -> Self:
        """Rebuild the manifest that `journal_form` was made from.

        Raises:
            ValueError: it is the form of an offer that was not valid, or was never a journal form.

        """
        return cls.model_validate(dict(journal_form))
