"""Studies can be closed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Change the schema."""
    op.add_column("studies", sa.Column("closed", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    """Change it back."""
    with op.batch_alter_table("studies") as studies:
        studies.drop_column("closed")
