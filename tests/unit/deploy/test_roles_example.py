"""The inventory of several roles in docs/deploy.md is one that loads, and its hosts come in the order told."""

from __future__ import annotations

import re
from pathlib import Path

from voiceops.fleet.order import batches
from voiceops.wiring.project import Project

DOCS = Path(__file__).parents[3] / "docs" / "deploy.md"


def test_the_documented_roles_are_deployed_in_the_order_of_their_needs(tmp_path: Path) -> None:
    written = re.search(r"## Roles\n\n```yaml\n(.*?)```", DOCS.read_text(), re.DOTALL)
    assert written is not None
    (tmp_path / "inventory.yaml").write_text(written[1])
    (tmp_path / "agent").mkdir()
    (tmp_path / "agent" / "agent.py").touch()
    hosts = Project.load(inventory=str(tmp_path / "inventory.yaml"), group="voice").hosts
    ordered = [[host.name.partition(".")[0] for host in batch] for batch in batches(hosts, "100%")]
    assert ordered == [["store"], ["lk1"], ["lk2"], ["ag1", "ag2", "watch"]]
