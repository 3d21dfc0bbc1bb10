"""The bars: ratios within a round, as the median over all rounds."""
import statistics


class Bars:
    def __init__(self, rounds):
        # {case: [figures of round 1, …]}; {"verification": [µs, …]} beside them.
        self.rounds = rounds
        self.found = []

    def add(self, name, values, most=None, least=None, unit=""):
        """One bar: the median of `values` against its bound."""
        value = statistics.median(values)
        holds = value <= most if least is None else value >= least
        bound = f"≤ {most:g}{unit}" if least is None else f"≥ {least:g}{unit}"
        spread = [min(values), max(values)] if len(values) > 1 else None
        self.found.append({"name": name, "value": round(value, 3), "bar": bound, "holds": holds, "_spread": spread})

    def ratios(self, figure, above, below):
        """The ratio of a figure of two cases in each round; empty if one was not measured."""
        pairs = zip(self.rounds.get(above, []), self.rounds.get(below, []))
        return [one[figure] / other[figure] for one, other in pairs]

    def ratio(self, name, figure, above, below, **bound):
        values = self.ratios(figure, above, below)
        if values:
            self.add(name, values, **bound)

    def from_rounds(self):
        """The bars that compare cases."""
        for way in ("h1", "h2c"):
            ours, floor = f"strict_{way}", f"floor_{way}"
            self.ratio(f"our CPU per check ÷ floor's, {way}", "auth_cpu_us", ours, floor, most=1.10)
            self.ratio(f"throughput ÷ floor's, {way}", "rps", ours, floor, least=0.97)
            self.ratio(f"p99 ÷ floor's, {way}", "p99_us", ours, floor, most=1.15)
        better = [self.ratios("rps", f"strict_{way}", "native") for way in ("h1", "h2c")]
        if all(better):
            self.add("strict (the better way) ÷ native without cache, throughput",
                     max(better, key=statistics.median), least=1.5)
        self.ratio("fast (no misses) ÷ no auth, throughput", "rps", "fast", "no_auth", least=0.90)
        self.ratio("fast (no misses) ÷ floor h1, throughput", "rps", "fast", "floor_h1", least=1.5)
        self.ratio("100,000 sessions ÷ 1, CPU per check", "auth_cpu_us", "strict_100k", "strict_h1", most=1.10)
        hit, cold, new, unit = (self.rounds.get(name, [])
                                for name in ("strict_h1", "strict_cold", "junk_new", "verification"))
        beyond = [one["auth_cpu_us"] - other["auth_cpu_us"] - check for one, other, check in zip(cold, hit, unit)]
        if beyond:
            self.add("cold: CPU per check beyond a hit and one verification", beyond, most=5, unit=" µs")
        self.ratio("junk repeated ÷ hit, CPU per check", "auth_cpu_us", "junk_repeated", "strict_h1", most=1.5)
        beyond = [(one["auth_cpu_us"] - check) / other["auth_cpu_us"] for one, other, check in zip(new, hit, unit)]
        if beyond:
            self.add("junk new, without one verification ÷ hit, CPU per check", beyond, most=1.5)
