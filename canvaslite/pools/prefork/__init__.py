"""The prefork pool: one parent, N children, a socket pair and a shared page between the parent and each child.

`pool` decides who gets which job, `watch` looks after the children between their reports, `handle` is one child as its
parent sees it, `child` is the child's program, `frames` and `shared` are what they say to each other.
"""
