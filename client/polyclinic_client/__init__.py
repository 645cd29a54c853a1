"""One hospital: training on its patients, and what it answers to the server."""
