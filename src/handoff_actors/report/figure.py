"""Figures that a notebook shows once below the cell that has made them, whether or not pyplot is in use there.

Pyplot would do that, too. But it keeps every figure until it is closed, chooses a screen for programs that only want a
file, and shows a figure twice that is also the value of its cell.
"""

from io import BytesIO

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from handoff_actors.notebooks import notebook_shell


def fresh_axes(width: float, height: float) -> Axes:
    """Return the axes of a new figure of so many inches, which a notebook shows when its cell has ended."""
    figure = ShownFigure(figsize=(width, height), layout="constrained")
    figure.show_after_cell()
    return figure.add_subplot(axes_class=ShownAxes)


class ShownFigure(Figure):
    """A figure that a notebook can show without pyplot."""

    _is_waiting = False

    def show_after_cell(self) -> None:
        """Have the notebook show the figure when the cell has ended, if the cell hasn't by then."""
        shell = notebook_shell()
        if shell is None:
            return
        self._is_waiting = True

        def show() -> None:
            shell.events.unregister("post_execute", show)
            if self._is_waiting:
                _display(self)

        shell.events.register("post_execute", show)

    def _ipython_display_(self) -> None:
        self._is_waiting = False
        # To IPython that means: any of the other forms. They may be those that the user has chosen for figures.
        raise NotImplementedError

    def _repr_png_(self) -> bytes:
        written = BytesIO()
        self.savefig(written, format="png", bbox_inches="tight")
        return written.getvalue()


class ShownAxes(Axes):
    """Axes that a notebook shows as their figure."""

    def _ipython_display_(self) -> None:
        _display(self.figure)


def _display(figure: object) -> None:
    from IPython.display import display  # noqa: PLC0415 - a notebook has imported it

    display(figure)  # type: ignore[no-untyped-call]  # IPython has no types
