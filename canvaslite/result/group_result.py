"""`GroupResult`: the results of a group, with an id under which they can be saved."""

from __future__ import annotations

from typing import Any

from vine import Thenable

from canvaslite.current import app_or_current
from canvaslite.result.result_set import ResultSet

__all__ = ('GroupResult',)


@Thenable.register
class GroupResult(ResultSet):
    """The results of the group `id`; `parent` is the result of what came before it in a chain."""

    def __init__(self, id: str | None = None, results: list[Any] | None = None, parent: Any = None,
                 **kwargs: Any) -> None:
        self.id = id
        self.parent = parent
        super().__init__(results if results is not None else [], **kwargs)

    def save(self, backend: Any = None) -> Any:
        """Keep the group in the store, so that `restore` finds it by its id."""
        return (backend or self.app.backend).save_group(self.id, self)

    def delete(self, backend: Any = None) -> None:
        """Remove the saved group; the members' results stay."""
        (backend or self.app.backend).delete_group(self.id)

    @classmethod
    def restore(cls, id: str, backend: Any = None, app: Any = None) -> GroupResult | None:
        """The group that was saved under `id`, or None."""
        bound = None if isinstance(cls.app, property) else cls.app  # an app's own class knows its app
        app = app_or_current(app if app is not None else bound)
        return (backend or app.backend).restore_group(id)  # type: ignore[no-any-return]

    @property
    def children(self) -> list[Any]:
        """The members."""
        return self.results

    def __reduce__(self) -> Any:
        return self.__class__, self.__reduce_args__()

    def __reduce_args__(self) -> tuple[Any, ...]:
        return self.id, self.results

    def __bool__(self) -> bool:
        return bool(self.id or self.results)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, GroupResult):
            return bool(other.id == self.id and other.results == self.results and other.parent == self.parent)
        if isinstance(other, str):
            return bool(other == self.id)
        return NotImplemented

    def __hash__(self) -> int:
        return hash(self.id)

    def __str__(self) -> str:
        return str(self.id)

    def __repr__(self) -> str:
        return f'<{type(self).__name__}: {self.id} [{", ".join(result.id for result in self.results)}]>'
