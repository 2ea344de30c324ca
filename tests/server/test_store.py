"""The database by itself: durable, insert-only, one transaction at a time."""

from __future__ import annotations

import time
from pathlib import Path

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from hospital import Hospital, a_campaign, an_evaluation
from sqlalchemy import Connection, delete, func, insert, select, text, update
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from world import World

from examples.private_postgres import PrivatePostgres
from ldp_client.errors import ConfigurationError, DamagedError
from ldp_client.verify import verify_export
from ldp_client.wire.canonical import parse
from ldp_client.wire.chain import ZERO, Charge, entry_body, link, read_entry
from ldp_client.wire.exchange import CentralEntry
from server.centre import enrol, open_centre, publish, rotate_key
from server.config import initialise
from server.store import incidents, log, queries, sites, tables
from server.store.database import Database, open_database
from server.store.export import write_export
from server.store.ledger import read_account
from server.store.migrations.versions import v0001_initial, v0004_keys

Ready = tuple[Hospital, int]
INSERT_ONLY = (*v0001_initial.INSERT_ONLY, *v0004_keys.INSERT_ONLY)
KEPT = v0001_initial.KEPT


@pytest.fixture
def served(world: World, ready: Ready) -> World:
    """A centre that has records, refusals and an evaluation's query."""
    anne, approval = ready
    anne.release(world.campaign, approval, 1)
    anne.seal(world.campaign, 999)
    evaluation = an_evaluation()
    publish(world.centre, evaluation)
    anne.query(evaluation, approval)
    world.deliver(anne)
    return world


@pytest.fixture
def full(served: World, ready: Ready) -> World:
    """A centre that has a row in every table."""
    world, (anne, approval) = served, ready
    # Announced under a key that is replaced before the batch comes.
    anne.charge(world.campaign, approval)
    at = anne.sent
    world.announce(anne, anne.pack_up())
    anne.sent = at
    rotate_key(world.centre, anne.rotate())
    world.deliver(anne)
    world.centre.answer("anne", [anne.state(), anne.state(ledger_id="c" * 64)])
    return world


def test_every_table_is_used(full: World) -> None:
    with full.centre.database.snapshot() as connection:
        for table in tables.metadata.sorted_tables:
            assert connection.execute(select(func.count()).select_from(table)).scalar_one() >= 1, table.name


@pytest.mark.parametrize("name", [*INSERT_ONLY, "queries"])
def test_evidence_cannot_be_changed_or_deleted(full: World, name: str) -> None:
    table = tables.metadata.tables[name]
    column = next(iter(table.columns))
    for statement in (update(table).values({column.name: column}), delete(table)):
        with (
            pytest.raises(IntegrityError, match=f"{name} is insert-only"),
            full.centre.database.transaction() as connection,
        ):
            connection.execute(statement)


@pytest.mark.parametrize("name", KEPT)
def test_sites_campaigns_and_the_centre_are_never_deleted(full: World, name: str) -> None:
    with (
        pytest.raises(IntegrityError, match=f"{name} is insert-only"),
        full.centre.database.transaction() as connection,
    ):
        connection.execute(delete(tables.metadata.tables[name]))


def test_the_migrations_make_the_tables_that_the_code_uses(full: World) -> None:
    with full.centre.database.snapshot() as connection:
        assert compare_metadata(MigrationContext.configure(connection), tables.metadata) == []


on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
on_postgres = pytest.mark.parametrize(
    "database_url", [pytest.param("postgres", marks=pytest.mark.postgres)], indirect=True
)


@on_sqlite
def test_sqlite_is_durable_and_checks_its_references(full: World) -> None:
    with full.centre.database.snapshot() as connection:
        found = [connection.execute(text(f"PRAGMA {name}")).scalar_one() for name in ("journal_mode", "synchronous")]
        assert found == ["wal", 2]
        assert connection.execute(text("PRAGMA foreign_keys")).scalar_one() == 1
    with pytest.raises(IntegrityError), full.centre.database.transaction() as connection:
        connection.execute(insert(tables.refusals).values(site="anne", seal=10_000, code="contents"))


@on_postgres
def test_postgresql_is_durable_whatever_its_default_and_reads_one_view(full: World) -> None:
    with full.centre.database.transaction() as connection:
        assert connection.execute(text("SHOW synchronous_commit")).scalar_one() == "on"
        assert connection.execute(text("SHOW transaction_isolation")).scalar_one() == "read committed"
        name = connection.execute(text("SELECT current_database()")).scalar_one()
        connection.execute(text(f'ALTER DATABASE "{name}" SET synchronous_commit = off'))
    full.centre.close()
    with full.centre.database.snapshot() as connection:
        assert connection.execute(text("SHOW synchronous_commit")).scalar_one() == "on"
        assert connection.execute(text("SHOW transaction_isolation")).scalar_one() == "repeatable read"
        with pytest.raises(SQLAlchemyError, match="read-only transaction"):
            connection.execute(update(tables.sites).values(name="changed"))


@on_postgres
def test_a_server_that_could_forget_is_refused(postgres: PrivatePostgres, database_url: str) -> None:
    def set_fsync(value: str) -> None:
        with psycopg.connect(postgres.url("postgres").replace("+psycopg", ""), autocommit=True) as connection:
            connection.execute(f"ALTER SYSTEM SET fsync = {value}")
            connection.execute("SELECT pg_reload_conf()")
            while connection.execute("SHOW fsync").fetchone() != (value,):
                time.sleep(0.05)

    set_fsync("off")
    try:
        with pytest.raises(ConfigurationError, match="runs with fsync = off: a power cut could take back what was"):
            open_database(database_url)
    finally:
        set_fsync("on")


@on_postgres
@pytest.mark.parametrize("name", [*INSERT_ONLY, *KEPT])
def test_no_table_of_evidence_is_emptied(full: World, name: str) -> None:
    with (
        pytest.raises(IntegrityError, match=r"\w+ is insert-only"),
        full.centre.database.transaction() as connection,
    ):
        connection.execute(text(f"TRUNCATE {name} CASCADE"))


@on_postgres
def test_a_server_that_is_away_is_named_without_its_password(database_url: str) -> None:
    gone = database_url.rpartition("@")[0] + "@127.0.0.1:1/x"
    with pytest.raises(ConfigurationError, match=r"ldp:\*\*\*@127.0.0.1:1/x cannot be opened") as refusal:
        open_database(gone)
    assert database_url.split(":")[2].split("@")[0] not in str(refusal.value)


@on_sqlite
def test_replacing_a_row_is_deleting_it(full: World) -> None:
    with (
        pytest.raises(IntegrityError, match="central is insert-only"),
        full.centre.database.transaction() as connection,
    ):
        connection.execute(text("INSERT OR REPLACE INTO central SELECT * FROM central"))


def test_a_database_holds_one_centre(full: World, database_url: str | None, tmp_path: Path) -> None:
    url = database_url or f"sqlite:///{tmp_path}/centre/centre.sqlite3"
    with pytest.raises(ConfigurationError, match=r"holds a centre already; .* begun anew\. Name an empty"):
        initialise(tmp_path / "second", "Second", database_url=url)
    assert not (tmp_path / "second" / "server.toml").exists()


def before_keys(connection: Connection) -> None:
    """Take back what version 4 of the schema added; nothing of it was used."""
    connection.execute(text("ALTER TABLE sites DROP COLUMN revoked"))
    connection.execute(text("DROP INDEX entries_rotated"))
    if connection.dialect.name == "postgresql":
        connection.execute(text("DROP FUNCTION ldp_only_superseded CASCADE"))
        connection.execute(text("DROP TRIGGER headers_kept ON headers"))
        kept = "BEFORE UPDATE OR DELETE ON headers FOR EACH ROW EXECUTE FUNCTION ldp_insert_only()"
        connection.execute(text(f"CREATE TRIGGER headers_kept {kept}"))
    else:
        connection.execute(text("DROP TRIGGER headers_no_delete"))
        kept = "BEFORE DELETE ON headers BEGIN SELECT raise(ABORT, 'headers is insert-only'); END"
        connection.execute(text(f"CREATE TRIGGER headers_no_delete {kept}"))
    for table in v0004_keys.INSERT_ONLY:
        connection.execute(text(f"DROP TABLE {table}"))
    connection.execute(text("UPDATE alembic_version SET version_num = '0003'"))


def test_sums_of_an_older_database_are_those_that_are_kept_now(served: World) -> None:
    kept = served.budget()
    assert (str(kept.per_record), str(kept.spent), str(kept.agreed)) == ("2", "5", "10")
    url = served.centre.config.database.url
    with served.centre.database.transaction() as connection:
        before_keys(connection)
        for column in ("per_record", "spent", "agreed", "unit"):
            connection.execute(text(f"ALTER TABLE sites DROP COLUMN {column}"))
        if connection.dialect.name == "postgresql":
            connection.execute(text("DROP FUNCTION ldp_insert_only CASCADE"))
        connection.execute(text("DROP TABLE queries"))
        connection.execute(text("ALTER TABLE campaigns DROP COLUMN kind"))
        connection.execute(text("UPDATE alembic_version SET version_num = '0001'"))
    served.centre.close()
    open_database(url).close()
    assert served.budget() == kept


def test_a_database_from_before_keys_could_be_replaced_is_brought_to_this_version(
    served: World, ready: Ready, tmp_path: Path
) -> None:
    anne, approval = ready
    kept = served.budget()
    anne.charge(served.campaign, approval)
    at = anne.sent
    served.announce(anne, anne.pack_up())
    anne.sent = at
    with served.centre.database.transaction() as connection:
        before_keys(connection)
    url = served.centre.config.database.url
    served.centre.close()
    # The pool of connections opens itself again.
    open_database(url).close()
    assert served.budget() == kept
    # A header goes as soon as its key is replaced, and no other way.
    with (
        pytest.raises(IntegrityError, match="headers is insert-only"),
        served.centre.database.transaction() as connection,
    ):
        connection.execute(delete(tables.headers))
    rotate_key(served.centre, anne.rotate())
    served.deliver(anne)
    with served.centre.database.snapshot() as connection:
        write_export(connection, served.centre.keys.signing, tmp_path / "centre.jsonl")
    assert verify_export(tmp_path / "centre.jsonl").sequence == 6


def test_the_budget_of_one_site_can_be_asked_for(full: World) -> None:
    full.join("bert")
    with full.centre.database.snapshot() as connection:
        assert [budget.site for budget in queries.budgets(connection)] == ["anne", "bert"]
        assert [budget.site for budget in queries.budgets(connection, "bert")] == ["bert"]
        with pytest.raises(ConfigurationError, match="no site carl is enrolled here"):
            queries.budgets(connection, "carl")


@on_sqlite
def test_a_table_takes_no_value_of_another_type(full: World) -> None:
    with pytest.raises(IntegrityError, match="cannot store"), full.centre.database.transaction() as connection:
        connection.execute(text("INSERT INTO totals VALUES ('anne', 'x', 'many', 0, 0, 0, 0)"))


def test_a_block_that_fails_leaves_nothing_and_shows_the_first_error(full: World) -> None:
    def fail() -> None:
        with full.centre.database.transaction() as connection:
            connection.execute(update(tables.sites).values(name="changed"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert full.budget().name == "St. Anne"


def test_a_rollback_that_fails_does_not_hide_what_went_wrong_first(full: World) -> None:
    def fail() -> None:
        with full.centre.database.transaction() as connection:
            # Closed behind SQLAlchemy's back, so that its own rollback fails.
            connection.connection.dbapi_connection.close()  # type: ignore[union-attr]
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()


def test_a_snapshot_does_not_see_what_is_written_meanwhile(full: World) -> None:
    with full.centre.database.snapshot() as reading:
        before = queries.budgets(reading)
        with full.centre.database.transaction() as writing:
            writing.execute(update(tables.sites).values(records=99))
        assert queries.budgets(reading) == before
    assert full.budget().records == 99


def test_the_central_ledger_is_one_chain(full: World) -> None:
    publish(full.centre, a_campaign("second"))
    with full.centre.database.snapshot() as connection:
        centre = connection.execute(select(tables.centre)).one()
        lines = connection.execute(select(tables.central).order_by(tables.central.c.sequence)).all()
    head, kinds = ZERO, []
    for number, line in enumerate(lines, start=1):
        head = link(centre.ledger_id, number, head, line.body)
        assert (line.sequence, line.head) == (number, head)
        kinds.append(parse(CentralEntry, line.body).kind)
    assert (centre.sequence, centre.head) == (len(lines), head)
    assert kinds == ["campaign", "enrolment", "campaign", "batch", "rotation", "batch", "campaign"]


def test_totals_add_up_to_what_is_stored(full: World) -> None:
    with full.centre.database.snapshot() as connection:
        campaign, evaluation = connection.execute(select(tables.totals).order_by(tables.totals.c.agreed_bound.desc()))
    assert (campaign.charges, campaign.records, campaign.agreed_bound, campaign.beyond) == (2, 1, 4_000_000, 0)
    assert (evaluation.charges, evaluation.records, evaluation.agreed_bound, evaluation.beyond) == (1, 0, 1_000_000, 0)
    assert (full.budget().records, full.budget().refused) == (1, 1)


@pytest.mark.parametrize("of", ["trigger", "entry"])
def test_a_damaged_database_says_so_and_quotes_nothing(tmp_path: Path, of: str) -> None:
    config = initialise(tmp_path / "centre", "Aggregation centre")
    centre = open_centre(config)
    enrol(centre, Hospital("anne", centre.keys.sealing.public_key).enrolment())
    with centre.database.snapshot() as connection:
        head = sites.find(connection, "anne").head
    centre.close()
    file = config.parent / "centre.sqlite3"
    text, body = head.encode(), file.read_bytes()
    if of == "trigger":
        place = body.rindex(b"entries_no_update")
        file.write_bytes(body[:place] + b"\xff" + body[place + 1 :])
    else:
        file.write_bytes(body.replace(text, b"\xff" + text[1:]))
    with pytest.raises(DamagedError, match=r"is damaged: it does not read as it was written\. Stop what works with it"):
        _read_all(config)


def _read_all(config: Path) -> None:
    centre = open_centre(config)
    with centre.database.snapshot() as connection:
        list(log.entries(connection))
        list(sites.every(connection))


def test_a_batch_reads_and_writes_no_more_totals_than_it_speaks_of(world: World, ready: Ready) -> None:
    """A site that charges for thousands of campaigns that nobody published makes no later batch slower."""
    anne, approval = ready
    anne.append(Charge(subject="1" * 64, campaign="2" * 64, approval=approval, micro_epsilon=5))
    anne.append(Charge(subject="1" * 64, campaign="3" * 64, approval=approval, micro_epsilon=7))
    world.deliver(anne)
    again = Charge(subject="1" * 64, campaign="3" * 64, approval=approval, micro_epsilon=7)
    with world.centre.database.snapshot() as connection:
        site = sites.find(connection, "anne")
        account = read_account(connection, site, 6, [read_entry(entry_body(again))], world.centre.signer)
    assert (list(account.totals), account.bound) == (["3" * 64], 12)
    anne.append(again)
    world.deliver(anne)
    with world.centre.database.snapshot() as connection:
        charges = connection.execute(select(tables.totals.c.charges).order_by(tables.totals.c.campaign)).scalars().all()
    assert (list(charges), world.budget().spent.micro_epsilon) == ([1, 2], 19)


def test_a_site_without_policy_or_charges_has_agreed_to_nothing(world: World, anne: Hospital) -> None:
    budget = world.budget()
    assert (budget.unit, budget.entries, str(budget.agreed), str(budget.spent), str(budget.remaining)) == (
        "patient",
        1,
        "0",
        "0",
        "0",
    )


def test_one_campaign_per_image_makes_the_site_one_of_images(world: World, anne: Hospital) -> None:
    images = a_campaign("images", unit="image", cap=1)
    publish(world.centre, images)
    policy = anne.adopt(units=("patient", "image"))
    anne.release(world.campaign, anne.approve(world.campaign, policy), 1)
    anne.release(images, anne.approve(images, policy), 1)
    assert world.deliver(anne).refused == ()
    assert world.budget().unit == "image"
    assert str(world.budget().spent) == "6"


def test_incidents_can_be_asked_for_by_site(full: World) -> None:
    full.join("bert")
    full.centre.submit("bert", b"scribble")
    with full.centre.database.snapshot() as connection:
        assert [one.code for one in queries.incidents(connection, "bert")] == ["seal"]
        assert [one.code for one in queries.incidents(connection)] == ["clone", "seal"]


def test_incidents_of_one_kind_do_not_fill_the_disk_nor_crowd_out_another(
    full: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(incidents, "MOST_OF_A_KIND", 3)
    bert = full.join("bert")
    for number in range(6):
        full.centre.submit("bert", b"scribble %d" % number)
    full.centre.answer("bert", [bert.state(ledger_id="c" * 64)])
    full.centre.submit("anne", b"scribble 9")
    with full.centre.database.snapshot() as connection:
        assert [one.code for one in queries.incidents(connection, "bert")] == ["seal", "seal", "seal", "clone"]
        assert [one.code for one in queries.incidents(connection, "anne")] == ["clone", "seal"]


# --- opening


@pytest.mark.parametrize("url", ["no url", "oracle://u:hunter2@h/x", "nosuch://u:hunter2@h/x"])
def test_a_url_that_cannot_be_used_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(ConfigurationError, match="expected sqlite:///FILE") as refusal:
        open_database(url)
    assert "hunter2" not in str(refusal.value)
    assert refusal.value.__cause__ is None


def test_a_database_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"nowhere/x\.sqlite3 cannot be opened"):
        open_database(f"sqlite:///{tmp_path}/nowhere/x.sqlite3")


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.sqlite3").write_bytes(b"not a database, but long enough to be taken for one" * 100)
    with pytest.raises(ConfigurationError, match="and that it is a database"):
        open_database(f"sqlite:///{tmp_path}/x.sqlite3")


def test_tables_of_a_later_version_are_left_alone(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/x.sqlite3"
    database: Database = open_database(url)
    with database.transaction() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    database.close()
    with pytest.raises(ConfigurationError, match="install the version that wrote them"):
        open_database(url)
