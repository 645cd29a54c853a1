"""The layout of a site's folder, and what it learnt when it joined."""
