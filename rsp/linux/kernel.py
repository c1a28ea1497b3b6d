"""A running Linux kernel: its slide, modules, tasks, per-CPU data and log.

Contents: `Kernel`, which puts the parts of this room together, and what it plugs into a target: at
each stop, before symbols are used at it, the kernel's place is found out and its modules are
followed. How each part is read lives in a file of its own.
"""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from rsp import arguments
from rsp.errors import BadImage, LocalProtocolError, StubError, SymbolError
from rsp.inferior.evaluation import evaluate_at
from rsp.inferior.inferior import Inferior
from rsp.inferior.locations import Where, locate
from rsp.inferior.space import space_of
from rsp.linux.modules import Module, has_modules, list_modules
from rsp.linux.sleeping import resumption_of
from rsp.linux.slide import SlideFinder, is_kernel, read_by_kernel, start_places, was_reset
from rsp.linux.write_protection import WriteProtection
from rsp.run.arming import held_by_stub, insert, relocate
from rsp.run.points import BreakpointKind
from rsp.symbols.table import find_module
from rsp.values.value import Value

if TYPE_CHECKING:
    from os import PathLike
    from typing import Self

    from rsp.linux.log import LogRecord
    from rsp.linux.module_code import LoadedModules, ModuleCode
    from rsp.linux.tasks import Task
    from rsp.run.breakpoints import Breakpoints
    from rsp.run.points import Breakpoint

logger: Final = logging.getLogger("rsp.linux")


class _Added(NamedTuple):
    """A module's symbols: the file, when it was written, its build-id, the name in the table."""

    file: str
    stamp: tuple[int, int] | None
    build_id: bytes | None
    name: str


def _stamp(file: str) -> tuple[int, int] | None:
    """Return what changes when a file is replaced or written; None where there is none."""
    try:
        status = Path(file).stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


class Machine(Protocol):
    """What a kernel is asked of: a Target, or a Core."""

    @property
    def inferior(self) -> Inferior:
        """What stands still there."""
        ...

    @property
    def points(self) -> Breakpoints | None:
        """Its breakpoints and watchpoints; None where it cannot be let run."""
        ...


class Kernel:
    """The Linux kernel that a target runs: ``target.kernel``. A target has one.

    Args:
        target: the machine, whose symbols are those of the kernel's vmlinux.
        modules: a directory with the files of modules, ``/lib/modules/RELEASE`` or
            ``/usr/lib/debug/lib/modules/RELEASE``: their symbols are loaded, and followed while the
            kernel runs.
        slide: how far the kernel lies from its link addresses, None to find it out. A slide that is
            given is held against the build-id in the kernel's memory, once that is there.

    Raises:
        SymbolError: the target has no symbols, or they are not those of a kernel.

    >>> kernel = target.kernel  # doctest: +SKIP
    >>> hex(kernel.slide), kernel.current(0).comm  # doctest: +SKIP
    ('0x1ae00000', 'swapper/0')
    """

    def __new__(
        cls,
        target: Machine,
        *,
        modules: str | PathLike[str] | None = None,
        slide: int | None = None,
    ) -> Self:
        """Return the kernel of a target: there is one, and what is given here is of it, too."""
        inferior = getattr(target, "inferior", None)
        if not isinstance(inferior, Inferior):
            raise arguments.refused("target", target, "what rsp.connect or rsp.open_core has made")
        if modules is not None:
            modules = arguments.directory(modules, "modules")
        if slide is not None:
            slide = arguments.integer(slide, "slide", "a distance, or None", lowest=-arguments.END)
        kernel = inferior.system
        if not isinstance(kernel, cls):
            kernel = super().__new__(cls)
            kernel._plug_in(inferior, target.points)
        if modules not in (None, kernel._directory):
            kernel._directory = modules
            kernel._known = {}  # those that had no file may have one there
            inferior.follow_anew()
        if slide is not None:
            kernel._slide = kernel._table.slide = slide
            kernel._is_fixed, kernel._is_checked = True, False
            inferior.follow_anew()
        return kernel

    def _plug_in(self, inferior: Inferior, points: Breakpoints | None) -> None:
        self._inferior = inferior
        self._points = points
        self._table = inferior.image_symbols
        if not is_kernel(self._table):
            raise SymbolError(f"{self._table.path} is not the vmlinux of a Linux kernel")
        self._directory: str | None = None
        self._slide: int | None = None
        self._is_fixed = False
        self._is_checked = True
        self._boots_anew = False
        self._placed = self._table.slide  # where the breakpoints by name were put
        self._start: Breakpoint | None = None
        self._protection = WriteProtection(inferior, points) if points is not None else None
        # By name, its struct module, and whether its init function is over.
        self._known: dict[str, tuple[int, bool]] = {}
        self._added: dict[str, _Added] = {}
        self._loaded: LoadedModules | None = None
        inferior.system = self
        inferior.follow = self.follow
        inferior.prepare = self.prepare
        inferior.find_code = self._find_code
        inferior.memory.fallback = self._read_hidden
        inferior.thread_unwinders.append(partial(resumption_of, inferior))

    def __repr__(self) -> str:
        place = "not found yet" if self._slide is None else f"slide {self._slide:#x}"
        return f"<Kernel of {self._table.path}, {place}, {len(self._known)} modules followed>"

    # --- what it plugs into the target ---

    def follow(self) -> None:
        """Find out, as far as that is not known, where the kernel and its modules are.

        Raises:
            SymbolError: another kernel runs than that of the symbols, or it lies elsewhere than at
                the slide that was given.
        """
        if not self._is_checked:
            self._check_slide()
        if self._slide is not None and not self._is_fixed:
            self._note_reset()
        if self._slide is None:
            self._slide = SlideFinder(self._inferior, self._table).find()
            self._inferior.await_program = None if self._slide is not None else self._await_start
            if self._slide is None:
                return
            self._table.slide = self._slide
        if self._directory is not None and has_modules(self._inferior):
            try:
                self._follow_modules(list_modules(self._inferior))
                self._table.unknown_modules = None
            except (StubError, SymbolError) as error:  # not set up yet
                logger.debug("the modules cannot be listed: %s", error)
                self._table.unknown_modules = str(error)

    def prepare(self) -> None:
        """Have breakpoints by name be where the kernel is, or is going to be."""
        if self._points is None:
            return
        if self._slide is None:
            if self._boots_anew and self._points.any:
                self._await_start()
            return
        if self._start is not None:
            self._start.remove()
            self._start = None
        if self._placed != self._slide:
            relocate(self._inferior, self._points)
            self._placed = self._slide
        if self._protection is not None:
            self._protection.prepare()

    def _check_slide(self) -> None:
        """Hold the slide that was given against what runs, as soon as a kernel is seen there."""
        assert self._slide is not None
        finder = SlideFinder(self._inferior, self._table)
        if not finder.is_still_at(self._slide):
            found = finder.find()
            if found is None:
                return
            raise SymbolError(
                f"the kernel of {self._table.path} lies at the slide {found:#x}, and not at "
                f"{self._slide:#x}: leave slide= (--slide) out, and it is found; `rsp slide` "
                "prints it"
            )
        self._is_checked = True

    def _note_reset(self) -> None:
        """Forget where the kernel and its modules were if the machine boots anew."""
        self._boots_anew = was_reset(self._inferior, self._table)
        if not self._boots_anew:
            return
        logger.info("the machine boots anew: its kernel is looked for again")
        for name in self._known:
            self._unload(name)
        self._known = {}
        self._slide = None
        self._table.slide = 0

    def _await_start(self) -> None:
        """Have the kernel stop as soon as it has moved itself, wherever that may be.

        Its first function in C is waited for at every place that KASLR may choose. Only breakpoints
        that are not in the target's memory can be that many, and survive that it is unpacked there.
        """
        if self._start is None and self._points is not None and held_by_stub(self._inferior):
            places = Where("the start of the kernel", start_places(self._table))
            self._start = self._points.add(
                places, BreakpointKind.SOFTWARE, self._has_started, lasting=True
            )

    def _has_started(self, _: object) -> bool:
        """Move the breakpoints to where the kernel is; return whether one of them is here."""
        self.follow()
        self.prepare()
        pc = self._inferior.registers.pc
        return self._points is not None and any(not point.internal for point in self._points.at(pc))

    def _read_hidden(self, address: int, length: int) -> bytes:
        """Read what a CPU in user mode does not see of the kernel."""
        return read_by_kernel(self._inferior, address, length)

    def _find_code(self, address: int) -> ModuleCode | None:
        """Return what the kernel knows of the code of a module whose file is not here."""
        from rsp.linux.module_code import LoadedModules

        if self._loaded is None:
            self._loaded = LoadedModules(self._inferior, self._table)
        return self._loaded.find(address)

    def _follow_modules(self, modules: tuple[Module, ...]) -> None:
        """Add the symbols of modules that have come, and take those out that have gone."""
        present = {}
        for module in modules:
            known = None if self._is_another(module) else self._known.get(module.name)
            # Once that is over, nothing of it moves, and there is no need to read more of it.
            if known != (module.place, True):
                place = (module.place, module.initialized)
                if known != place:
                    self._load(module)
                known = place
            present[module.name] = known
        for name in self._known.keys() - present.keys():
            self._unload(name)
        self._known = present
        for module in modules:
            added = self._added.get(module.name)
            module.file = added.file if added is not None else None

    def _is_another(self, module: Module) -> bool:
        """Whether a module was built and loaded anew since, to the same place.

        Where it lies does not tell that; who builds it anew replaces its file.
        """
        added = self._added.get(module.name)
        if added is None or _stamp(added.file) == added.stamp:
            return False
        return module.build_id != added.build_id

    def _load(self, module: Module) -> None:
        """Add a module's symbols, if its file is there."""
        self._unload(module.name)
        if self._directory is None:
            return
        try:
            path = find_module(self._directory, module.name, build_id=module.build_id)
            if path is None:
                logger.info("no file for module %s in %s", module.name, self._directory)
                return
            stamp = _stamp(path)
            name = self._table.add_module(path, module.sections, build_id=module.build_id)
        except (BadImage, StubError, SymbolError) as error:
            logger.warning("module %s has no symbols: %s", module.name, error)
            return
        self._added[module.name] = _Added(path, stamp, module.build_id, name)

    def _unload(self, name: str) -> None:
        """Take the symbols of a module out that is no longer where it was."""
        if name in self._added and (added := self._added.pop(name)).name in self._table.modules:
            self._table.remove_module(added.name)

    # --- the kernel as a whole ---

    @property
    def slide(self) -> int:
        """How far it lies from its link addresses.

        Raises:
            SymbolError: it has not begun to run yet, so that it is nowhere; or another kernel runs.
        """
        return self._find()

    def _find(self) -> int:
        """Return the slide, looking for the kernel where that has not been found yet."""
        _ = self._inferior.symbols  # calls `follow`, once for each stop
        if self._slide is None:
            raise SymbolError(
                f"nothing of the kernel of {self._table.path} is seen yet: let it start, and ask "
                "at a later stop"
            )
        return self._slide

    @property
    def banner(self) -> str:
        """What it says of itself at first: ``Linux version 6.1.0 …``."""
        return self._text("linux_banner").rstrip("\n")

    @property
    def cmdline(self) -> str:
        """The command line that it was booted with."""
        return self._text("saved_command_line")

    def _text(self, name: str) -> str:
        self._find()
        text = evaluate_at(self._inferior, name, names={}).string_()
        return text.decode("utf-8", "backslashreplace")

    # --- its parts ---

    def per_cpu(self, name: str, cpu: int) -> Value:
        """Return a CPU's own of a per-CPU variable.

        Raises:
            SymbolNotFound: there is no such variable.
            SymbolError: there is no such CPU.
        """
        number = arguments.integer(cpu, "cpu", "the number of a CPU")
        self._find()
        return evaluate_at(self._inferior, name, cpu=number, names={})

    def log(self) -> tuple[LogRecord, ...]:
        """Return what its ring buffer holds, the oldest first; see `read_log`."""
        from rsp.linux.log import read_log

        self._find()
        return read_log(self._inferior)

    def modules(self) -> tuple[Module, ...]:
        """Return its modules, the newest first; see `list_modules`."""
        self._find()
        self.prepare()
        if not has_modules(self._inferior):
            return ()
        found = list_modules(self._inferior)
        self._follow_modules(found)
        return found

    def tasks(self) -> tuple[Task, ...]:
        """Return all threads, those of the kernel too; see `list_tasks`."""
        from rsp.linux.tasks import list_tasks

        self._find()
        return list_tasks(self._inferior)

    def current(self, cpu: int) -> Task:
        """Return the task that a CPU runs.

        Raises:
            SymbolError: there is no such CPU.
        """
        from rsp.linux.tasks import Task

        # Across versions: current_task and pcpu_hot come and go.
        return Task(self._inferior, self.per_cpu("runqueues", cpu)["curr"].deref_())

    def break_on_module(self, name: str) -> Breakpoint:
        """Stop in the init function of a module that is loaded later, with its symbols in place.

        The stop is at the module's init function, by a temporary breakpoint of its own
        (``module_init(dummy_init_module)`` stops in that); at ``do_init_module`` where the module
        has none. Without the module's file there are no symbols, and the stop is the same.

        Args:
            name: the module's; ``-`` and ``_`` are the same in it.

        Returns:
            The breakpoint that waits for modules; it stays until it is removed.

        Raises:
            SymbolNotFound: the kernel has no modules.
            LocalProtocolError: it is that of a core, and loads nothing any more.
        """
        points = self._points
        if points is None:
            raise LocalProtocolError("a core does not run: no module is loaded later")
        wanted = arguments.text(name, "name", "the name of a module").replace("-", "_")
        self._find()
        self.prepare()

        def coming(_: object) -> bool:
            module = self._coming()
            if module.name != wanted:
                return False
            self._load(module)
            self._known[module.name] = (module.place, module.initialized)
            if module.init is None:
                return True
            init = locate(module.init, self._inferior)
            insert(self._inferior, points, init, temporary=True)
            return False

        # At its very first instruction, where the argument is in its register.
        where = locate("*do_init_module", self._inferior)
        point = insert(self._inferior, points, where, condition=coming)
        point.what = f"module {name}"
        return point

    def _coming(self) -> Module:
        """Return the module that do_init_module is called for."""
        registers = self._inferior.registers
        # The kernel is built with its first argument in a register on i386, too (regparm).
        name = "rdi" if "rdi" in registers else "eax"
        space = space_of(self._inferior, self._table)
        ctype = self._table.type("struct module")
        return Module(self._inferior, Value(space, ctype, address=registers[name] or 0))
