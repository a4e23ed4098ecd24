"""The prefork pool: one parent, N children, a socket pair and a shared page between the parent and each child."""
