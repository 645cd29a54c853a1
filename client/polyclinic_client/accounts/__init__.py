"""One hospital, one account: which accounts a machine has, and whose patients they hold."""
