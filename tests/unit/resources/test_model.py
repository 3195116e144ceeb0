"""What users may write, and what is refused before any host is asked."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voiceops.errors import ConfigError
from voiceops.model.secret import Secret
from voiceops.resources import (
    Absent,
    Command,
    CronEntry,
    Directory,
    File,
    Package,
    State,
    Symlink,
    Sysctl,
    Template,
    Unit,
    User,
    Venv,
)
from voiceops.resources.model import Resource


@pytest.mark.parametrize("path", ["relative", "/", "/a/../b", "/a//b", "/a/", "/a\nb", ""])
def test_paths_that_could_mean_something_else_are_refused(path: str) -> None:
    with pytest.raises(ConfigError):
        File(path=path, content="").specs()


@pytest.mark.parametrize(
    "resource",
    [
        User(name="a b"),
        User(name="-root"),
        User(name="ok", groups=["$(id)"]),
        Unit(name="no-suffix"),
        Unit(name="a b.service"),
        Package(names=["--purge"]),
        Package(names=["systemd-"]),
        Sysctl(path="/etc/sysctl.d/a", values={"../../etc/passwd": "1"}),
        Sysctl(path="/etc/sysctl.d/a", values={"net.core.x": "1\nkernel.y = 2"}),
        CronEntry(name="has.dot", schedule="* * * * *", command="true"),
        CronEntry(name="a", schedule="* * * *", command="true"),
        CronEntry(name="a", schedule="* * * * *", command="true\n* * * * * root evil"),
        Directory(path="/srv/a", mode=0o100000),
        Absent(path="/etc"),
        Command(name="every time", argv=["true"]),
    ],
)
def test_values_that_could_break_out_of_their_place_are_refused(resource: Resource) -> None:
    with pytest.raises(ConfigError):
        _ = State("demo", [resource]).specs


def test_a_secret_as_an_argument_is_refused() -> None:
    command = Command(name="login", argv=["login", Secret("pw")], creates="/srv/x")  # type: ignore[list-item]
    with pytest.raises(ConfigError):
        command.specs()


def test_cron_commands_keep_their_percent_signs() -> None:
    entry = CronEntry(name="a", schedule="*/5 * * * *", command="date +%s")
    assert entry.text == "*/5 * * * * root date +\\%s\n"


def test_two_resources_of_one_id_are_refused() -> None:
    with pytest.raises(ConfigError, match="two resources are file:/srv/a"):
        _ = State("demo", [File(path="/srv/a", content=""), File(path="/srv/a", content="b")]).specs


def test_a_relation_to_a_resource_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match="file:/srv/gone"):
        _ = State("demo", [Unit(name="a.service", restart_on=["file:/srv/gone"])]).specs


def test_relations_name_resources_or_their_ids() -> None:
    config = File(path="/srv/a", content="")
    unit = Unit(name="a.service", restart_on=[config, "directory:/srv"])
    assert unit.specs()[0]["restart_on"] == ["file:/srv/a", "directory:/srv"]


def test_a_template_that_prints_a_secret_makes_a_secret_file() -> None:
    variables = {"user": "u", "nested": {"password": Secret("s3cret")}}
    printing = Template(path="/srv/a", template="{{ nested.password }}", variables=variables)
    silent = Template(path="/srv/b", template="{{ user }}", variables=variables)
    assert printing.is_secret
    assert printing.content == "s3cret"
    assert not silent.is_secret


def test_a_template_fetches_only_the_secrets_that_it_prints() -> None:
    def never() -> str:
        raise AssertionError("fetched")

    variables = {
        "unused": Secret.of("command", "x", never),
        "keys": {"used": Secret("s3cret"), "unused": Secret.of("command", "x", never)},
    }
    file = Template(
        path="/srv/a", template="{{ keys.used ~ ':' }}{{ keys['used'] | tojson }}", variables=variables
    )
    assert (file.content, file.is_secret) == ('s3cret:"s3cret"', True)


def test_an_undefined_template_variable_is_an_error_and_not_an_empty_text() -> None:
    with pytest.raises(ConfigError, match="nonesuch"):
        Template(path="/srv/a", template="{{ nonesuch }}", variables={})


@given(st.text())
def test_template_values_arrive_unchanged(value: str) -> None:
    assert Template(path="/srv/a", template="{{ value }}", variables={"value": value}).content == value


def test_secret_content_stays_out_of_repr_and_specs() -> None:
    file = File(path="/srv/a", content=Secret("s3cret"))
    assert "s3cret" not in repr(file)
    assert "s3cret" not in str(file.specs())


def test_an_environment_is_named_after_everything_that_makes_it() -> None:
    one = Venv(path="/srv/v", requirements="a==1")
    assert one.digest == Venv(path="/srv/other", requirements="a==1").digest
    assert one.digest != Venv(path="/srv/v", requirements="a==2").digest
    assert one.digest != Venv(path="/srv/v", requirements="a==1", wheels="/srv/wheels").digest


def test_a_symlink_may_point_anywhere() -> None:
    assert Symlink(path="/srv/a", target="../not/yet").specs()[0]["target"] == "../not/yet"
