"""What Alembic runs: the migrations over the connection that `migrate.upgrade` hands in."""

from __future__ import annotations

from alembic import context

from polyclinic_server.store.tables import Table

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Table.metadata,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
