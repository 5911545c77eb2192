"""docs/wire.md: its whole manifest is one, has every field, and is allowed where it is said to be."""

import json
import re
from pathlib import Path

from fsm_miner.config import parse_config
from fsm_miner.manifest import parse_offer
from fsm_miner.manifest_models import Artifact, Inputs, Manifest, Requirements, UrlInput
from fsm_miner.site.checks import Checks, Verdict
from runners.allowlist import Allowlist
from runners.allowlist_file import parse

DOCS = Path(__file__).parents[2] / "docs"
TEXT = (DOCS / "wire.md").read_text(encoding="utf-8")
(WHOLE,) = map(json.loads, re.findall(r"```json\n(.*?)```", TEXT, re.DOTALL))
OF_A_TASK = {"task", "params"}


def test_it_has_every_field_of_a_commands_manifest():
    own = {"secret_names", "secret_files"}
    assert WHOLE.keys() == (Manifest.model_fields.keys() - own - OF_A_TASK) | {"secrets"}
    assert WHOLE["requirements"].keys() == Requirements.model_fields.keys()
    assert WHOLE["input"].keys() == Inputs.model_fields.keys()
    assert WHOLE["input"]["urls"][1].keys() == UrlInput.model_fields.keys()
    assert set().union(*WHOLE["artifacts"]) == Artifact.model_fields.keys()


def test_the_parser_takes_it_and_less():
    assert parse_offer(WHOLE).problem is None
    (least,) = re.findall(r"Less will do: `(.+?)`", TEXT)
    assert parse_offer(json.loads(least)).problem is None


def test_every_field_has_a_row():
    table = TEXT.split("## Manifests")[1].split("###")[0]
    rows = {
        name for cells in re.findall(r"^\| (`[^|]+) \|", table, re.MULTILINE) for name in cells.split("`")
    }
    told = {name.partition(".")[0] for name in rows}
    assert {*WHOLE, *OF_A_TASK} <= told


def test_it_is_allowed_by_the_rule_and_on_the_node_that_are_named():
    (network,) = re.findall(r"`(network\.allow: .+?)`", TEXT)
    key, _, value = network.partition(": ")
    text = (
        "coordinator: {base_url: 'http://127.0.0.1:1/api/v1', auth_token: 'env:MINER_AUTH'}\n"
        f"{key.replace('.', ': {')}: {value}}}\n"
    )
    checks = {}
    (rule,) = re.findall(r"```yaml\n(.*?)```", (DOCS / "allowlist.md").read_text("utf-8"), re.DOTALL)
    (line,) = re.findall(r"with one more line, `(env: .+?)`", TEXT)
    for name, yaml in (("without", rule), ("with", rule + line)):
        rules = Allowlist([parse(yaml.encode(), "sort.yaml")])
        checks[name] = Checks(
            parse_config(text, "config.yaml", Path("/")),
            lambda rules=rules: rules,
            cores=1,
            memory_mb=256,
            free_bytes=lambda _: 1 << 40,
        )
    manifest = parse_offer(WHOLE).manifest
    assert isinstance(checks["with"].judge(manifest), Verdict)
    assert checks["without"].judge(manifest).message.startswith('env: "LC_ALL" may not be set for sort')
    told_no_variable = parse_offer({**WHOLE, "env": {}}).manifest
    assert checks["without"].judge(told_no_variable).message == (
        'secrets: "API_KEY" may not be set for sort; this node allows: none (the rule\'s env names secrets too)'
    )
