"""Prints expected and actual results, one per line."""

import time


class Report:
    def __init__(self):
        self.rows, self.faults = 0, 0
        self.begun = time.monotonic()

    def part(self, title):
        print(f"\n{title} ({time.monotonic() - self.begun:.0f} s)", flush=True)

    def row(self, what, wanted, seen):
        """Compares and prints one result."""
        wanted, seen = words(wanted), words(seen)
        self.rows += 1
        if wanted == seen:
            print(f"  {what}: {seen}", flush=True)
        else:
            self.faults += 1
            print(f"  WRONG {what}: expected {wanted}; seen {seen}", flush=True)

    def so(self, what, wanted, is_so, otherwise="otherwise"):
        """Prints the result of a comparison."""
        self.row(what, wanted, wanted if is_so else otherwise)

    def pods(self, what, wanted, seen):
        """Compares the results of several ways, printed once if they are equal."""
        self.row(what, _short(wanted), _short(seen))


def words(value):
    """A value as text; equal values have equal texts."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return "; ".join(f"{key}: {words(one)}" for key, one in value.items()) or "nothing"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(words, value)) or "nothing"
    return str(value)


def _short(by_way):
    said = set(by_way.values())
    return f"{said.pop()} ({', '.join(by_way)})" if len(said) == 1 else words(by_way)
