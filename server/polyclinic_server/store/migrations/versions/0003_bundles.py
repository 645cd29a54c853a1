"""Bundles are offered, decided upon and called back."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Change the schema."""
    op.create_table(
        "bundles",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("study", sa.String(length=64), nullable=False),
        sa.Column("run", sa.String(length=40), nullable=False),
        sa.Column("released", sa.BigInteger(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["study"], ["studies.hash"], name=op.f("fk_bundles_study")),
        sa.ForeignKeyConstraint(["run"], ["runs.id"], name=op.f("fk_bundles_run")),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_bundles")),
    )
    op.create_table(
        "bundle_decisions",
        sa.Column("bundle", sa.String(length=64), nullable=False),
        sa.Column("identity", sa.LargeBinary(), nullable=False),
        sa.Column("site", sa.String(length=80), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("code", sa.String(length=40), nullable=False),
        sa.Column("signature", sa.LargeBinary(), nullable=True),
        sa.Column("rejection", sa.LargeBinary(), nullable=True),
        sa.ForeignKeyConstraint(
            ["bundle"], ["bundles.digest"], name=op.f("fk_bundle_decisions_bundle")
        ),
        sa.ForeignKeyConstraint(["site"], ["sites.name"], name=op.f("fk_bundle_decisions_site")),
        sa.PrimaryKeyConstraint("bundle", "identity", name=op.f("pk_bundle_decisions")),
    )
    op.create_table(
        "bundle_withdrawals",
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("bundle", sa.String(length=64), nullable=False),
        sa.Column("statement", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["bundle"], ["bundles.digest"], name=op.f("fk_bundle_withdrawals_bundle")
        ),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_bundle_withdrawals")),
        sa.UniqueConstraint("bundle", name=op.f("uq_bundle_withdrawals_bundle")),
    )


def downgrade() -> None:
    """Change it back."""
    op.drop_table("bundle_withdrawals")
    op.drop_table("bundle_decisions")
    op.drop_table("bundles")
