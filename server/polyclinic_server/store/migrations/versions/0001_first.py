"""The first schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Change the schema."""
    op.create_table(
        "sites",
        sa.Column("name", sa.String(length=80), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("identity", sa.LargeBinary(), nullable=True),
        sa.Column("certificate", sa.String(), nullable=True),
        sa.Column("serial", sa.BigInteger(), nullable=True),
        sa.Column("expires", sa.BigInteger(), nullable=True),
        sa.Column("last_seen", sa.BigInteger(), nullable=True),
        sa.Column("version", sa.String(length=40), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_sites")),
        sa.UniqueConstraint("identity", name=op.f("uq_sites_identity")),
        sa.UniqueConstraint("serial", name=op.f("uq_sites_serial")),
    )
    op.create_table(
        "studies",
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("manifest", sa.LargeBinary(), nullable=False),
        sa.Column("signature", sa.LargeBinary(), nullable=False),
        sa.Column("published", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("hash", name=op.f("pk_studies")),
    )
    op.create_table(
        "invitations",
        sa.Column("id", sa.LargeBinary(), nullable=False),
        sa.Column("site", sa.String(length=80), nullable=False),
        sa.Column("secret_hash", sa.LargeBinary(), nullable=False),
        sa.Column("expires", sa.BigInteger(), nullable=False),
        sa.Column("used", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["site"], ["sites.name"], name=op.f("fk_invitations_site")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_invitations")),
    )
    op.create_table(
        "kept_rows",
        sa.Column("site", sa.String(length=80), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["site"], ["sites.name"], name=op.f("fk_kept_rows_site")),
        sa.PrimaryKeyConstraint("site", "sequence", name=op.f("pk_kept_rows")),
    )
    op.create_table(
        "parts",
        sa.Column("study", sa.String(length=64), nullable=False),
        sa.Column("site", sa.String(length=80), nullable=False),
        sa.Column("identity", sa.LargeBinary(), nullable=False),
        sa.Column("declared", sa.BigInteger(), nullable=False),
        sa.Column("declaration", sa.LargeBinary(), nullable=False),
        sa.Column("approval", sa.LargeBinary(), nullable=True),
        sa.Column("withdrawal", sa.LargeBinary(), nullable=True),
        sa.ForeignKeyConstraint(["site"], ["sites.name"], name=op.f("fk_parts_site")),
        sa.ForeignKeyConstraint(["study"], ["studies.hash"], name=op.f("fk_parts_study")),
        sa.PrimaryKeyConstraint("study", "site", name=op.f("pk_parts")),
    )
    op.create_table(
        "runs",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("study", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("round", sa.BigInteger(), nullable=False),
        sa.Column("rounds", sa.BigInteger(), nullable=False),
        sa.Column("note", sa.String(), nullable=False),
        sa.Column("started", sa.BigInteger(), nullable=False),
        sa.Column("changed", sa.BigInteger(), nullable=False),
        sa.Column("flower_runs", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["study"], ["studies.hash"], name=op.f("fk_runs_study")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_runs")),
    )
    op.create_table(
        "models",
        sa.Column("run", sa.String(length=40), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("signature", sa.LargeBinary(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["run"], ["runs.id"], name=op.f("fk_models_run")),
        sa.PrimaryKeyConstraint("run", name=op.f("pk_models")),
    )


def downgrade() -> None:
    """Change it back."""
    op.drop_table("models")
    op.drop_table("runs")
    op.drop_table("parts")
    op.drop_table("kept_rows")
    op.drop_table("invitations")
    op.drop_table("studies")
    op.drop_table("sites")
