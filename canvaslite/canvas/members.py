"""What canvases consist of: telling what is what, without taking more of a generator's members than it needs."""

from __future__ import annotations

from collections import UserList
from collections.abc import Callable, Iterable, Iterator
from typing import Any


class LazyMembers(UserList[Any], list[Any]):  # type: ignore[misc]
    """A list that is filled from an iterable when somebody looks at it.

    Looking at the first members takes no more than those and the one after; anything else takes all.
    It is a list, so that serializers and type checks see one.
    """

    def __init__(self, source: Iterable[Any]) -> None:
        self._source: Iterator[Any] | None = iter(source)
        self._taken: list[Any] = []

    @property
    def is_open(self) -> bool:
        """Whether the source may have more than was taken."""
        return self._source is not None

    def take(self, count: int | None = None) -> list[Any]:
        """The members taken from the source: at least `count`, or all of them."""
        source = self._source
        while source is not None and (count is None or len(self._taken) < count):
            try:
                self._taken.append(next(source))
            except StopIteration:
                source = self._source = None
        return self._taken

    @property
    def data(self) -> list[Any]:  # type: ignore[override]
        """All members; what `UserList` works on."""
        return self.take()

    def __iter__(self) -> Iterator[Any]:
        return iter(self.data)

    def __bool__(self) -> bool:
        return bool(self.take(1))

    def __getitem__(self, index: Any) -> Any:
        # One more than asked for, so that a list of one member is known to be one.
        return self.take(index + 2 if isinstance(index, int) and index >= 0 else None)[index]

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return list, (self.data,)


def as_members(source: Any) -> Any:
    """`source` as a list of members: a generator's are taken later."""
    if isinstance(source, LazyMembers):
        return source
    return list(source) if isinstance(source, (list, tuple)) else LazyMembers(source)


def count_at_most(members: Any, limit: int) -> int:
    """Number of members, but no more than `limit`: does not take all of a generator's."""
    return min(len(members.take(limit) if isinstance(members, LazyMembers) else members), limit)


def is_signature(value: Any) -> bool:
    """Whether `value` is a signature object: not a plain dict that holds one."""
    return isinstance(value, dict) and hasattr(value, 'KIND')


def is_empty_group(sig: Any) -> bool:
    """Whether `sig` is a group without members: nothing, in a chain."""
    return bool(sig.KIND == 'group' and not sig['kwargs']['tasks'])


def maybe_unroll_group(group: Any) -> Any:
    """The only member of a group of one; any other group as it is."""
    try:
        return group.tasks[0] if count_at_most(group.tasks, 2) == 1 else group
    except TypeError:  # members that cannot be counted
        return group


def is_strict(sig: Any) -> bool:
    """Whether the app of `sig` wants strict canvases. A configuration that nobody has named yet is not read for it."""
    app = sig.app
    known = app.conf.loaded or app._config_source is not None
    return bool(app.conf.canvas_strict if known else app.conf.changes.get('canvas_strict'))


def is_linked(group: Any) -> bool:
    """Whether anything is linked to `group` as a whole, which is so in strict canvases alone."""
    options = group['options']
    return bool(options.get('link') or options.get('link_error')) and is_strict(group)


def keeps_options(group: Any) -> bool:
    """Whether `group` has options as a whole, which are lost where only its members become a header."""
    return bool(group['options']) and is_strict(group)


def is_single(sig: Any) -> bool:
    """Whether `sig` is a group of one: whether that stands for its member is said when it is sent, by a setting."""
    return bool(sig.KIND == 'group' and maybe_unroll_group(sig) is not sig)


def unroll_groups(sig: Any, sent: bool = True) -> Any:
    """What `sig` stands for beside ``|``: chunks for their group, a group of one, when it is `sent` and canvases are
    not strict, for its member; others themselves."""
    while is_signature(sig) and sig.KIND in ('group', 'chunks'):
        if sig.KIND == 'chunks':
            sig = sig.group()
        member = maybe_unroll_group(sig)
        if member is sig or not is_signature(member):
            break
        if member.KIND not in ('group', 'chunks') and (not sent or sig.app.conf.canvas_strict):
            break
        sig = with_partials(member, *sig.partials((), {}))
    return sig


def with_partials(member: Any, args: Any, kwargs: Any) -> Any:
    """`member`, or a copy of it with what its group gives it."""
    return member.clone(args, kwargs) if args or kwargs else member


def ends_in_group(sig: Any, sent: bool = True) -> bool:
    """Whether the value of `sig` is the list of a group's values: before it is `sent`, whether it may be."""
    while sig is not None:
        if sig.KIND == 'chord':
            sig = sig.body
        elif sig.KIND == 'chain':
            steps = (unroll_groups(step, sent) for step in reversed(sig['kwargs']['tasks']))
            sig = next((step for step in steps if is_signature(step) and not is_empty_group(step)), None)
        else:
            return sig.KIND in ('group', 'chunks')
    return False
