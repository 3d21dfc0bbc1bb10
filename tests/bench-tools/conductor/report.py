"""The report: a table, JSON for comparisons, and a picture."""
import statistics
from html import escape

FIGURES = ("rps", "p50_us", "p99_us", "envoy_cpu_us", "auth_cpu_us", "auth_rss_mib", "errors")


def spread(values):
    digits = 3
    return {"min": round(min(values), digits), "median": round(statistics.median(values), digits),
            "max": round(max(values), digits)}


def document(machine, cases, rounds, bars):
    """The JSON's content."""
    measured = {}
    for case in cases:
        slices = rounds[case.name]
        names = [name for name in slices[0] if not name.startswith("_")]
        measured[case.name] = {name: spread([one[name] for one in slices]) for name in names}
    told = [{key: value for key, value in bar.items() if not key.startswith("_")} for bar in bars]
    return {"machine": machine, "cases": measured, "bars": told}


def check_form(told, names):
    """Errors in the JSON's form."""
    faults = []
    if list(told) != ["machine", "cases", "bars"]:
        faults.append(f"members {list(told)}")
    if set(told["cases"]) != set(names):
        faults.append(f"cases {sorted(set(told['cases']) ^ set(names))}")
    for name, case in told["cases"].items():
        for figure in FIGURES:
            values = case.get(figure, {})
            if list(values) != ["min", "median", "max"] or not values["min"] <= values["median"] <= values["max"]:
                faults.append(f"{name}.{figure}: {values}")
    for bar in told["bars"]:
        if list(bar) != ["name", "value", "bar", "holds"] or not isinstance(bar["holds"], bool):
            faults.append(f"bar {bar}")
    return faults


def table(told, cases):
    """The lines of the table of cases: medians, and requests per second with their range."""
    base = told["cases"].get("no_auth", {}).get("rps", {}).get("median")
    lines = [f"{'case':<14}{'req/s':>8}{'min':>8}{'max':>8}{'of no_auth':>11}{'p50 µs':>8}{'p99 µs':>8}"
             f"{'Envoy µs':>10}{'auth µs':>9}{'min':>7}{'max':>7}{'peak MiB':>10}{'errors':>8}"]
    for case in cases:
        one = told["cases"][case.name]
        rps, auth = one["rps"], one["auth_cpu_us"]
        share = f"{rps['median'] / base:.2f}" if base else ""
        lines.append(
            f"{case.name:<14}{rps['median']:>8.0f}{rps['min']:>8.0f}{rps['max']:>8.0f}{share:>11}"
            f"{one['p50_us']['median']:>8.0f}{one['p99_us']['median']:>8.0f}{one['envoy_cpu_us']['median']:>10.1f}"
            f"{auth['median']:>9.2f}{auth['min']:>7.2f}{auth['max']:>7.2f}{one['auth_rss_mib']['median']:>10.1f}"
            f"{one['errors']['max']:>8.0f}"
        )
    return lines


def bar_lines(bars):
    lines = []
    for bar in bars:
        low_high = "" if bar["_spread"] is None else f"  ({bar['_spread'][0]:.2f} to {bar['_spread'][1]:.2f})"
        lines.append(f"{'holds ' if bar['holds'] else 'FAILS '} {bar['name']:<66} {bar['value']:>9.2f}  "
                     f"{bar['bar']}{low_high}")
    return lines


# The colours, by the server that answers.
GROUPS = {
    "no_auth": "base", "fast": "fast", "fast_1pct": "fast", "fast_10pct": "fast", "native_cached": "native",
    "native": "native", "floor_h1": "base", "floor_h2c": "base",
}
LABELS = {"base": "nobody asked, or a server that does nothing", "fast": "wechat-authz, fast",
          "strict": "wechat-authz, strict", "native": "Envoy's own jwt_authn"}


def picture(told, cases):
    """Requests per second of each case as SVG, for light and dark backgrounds."""
    drawn = [case for case in cases if case.mode != "login"]
    row, left, width, top = 24, 120, 420, 78
    most = max(told["cases"][case.name]["rps"]["max"] for case in drawn)
    height = top + row * len(drawn) + 44
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 760 {height}" font-family="system-ui,sans-serif" '
        'font-size="13" role="img">',
        "<title>Requests a second through one Envoy worker</title>",
        "<style>text{fill:#24292f}.dim{fill:#57606a}.base{fill:#8c959f}.fast{fill:#1a7f37}.strict{fill:#0969da}"
        ".native{fill:#bc4c00}.range{stroke:#24292f;fill:none}@media(prefers-color-scheme:dark){text{fill:#e6edf3}"
        ".dim{fill:#9198a1}.range{stroke:#e6edf3}.fast{fill:#3fb950}.strict{fill:#4493f8}.native{fill:#db6d28}}"
        "</style>",
        '<text x="0" y="18" font-size="16" font-weight="600">Requests a second through one Envoy worker</text>',
        '<text x="0" y="38" class="dim">Envoy has one core, all else the other; right: CPU per request, Envoy + auth'
        "</text>",
    ]
    at = 0
    for group, label in LABELS.items():
        out.append(f'<rect x="{at}" y="50" width="10" height="10" rx="2" class="{group}"/>')
        out.append(f'<text x="{at + 15}" y="60" font-size="12">{escape(label)}</text>')
        at += 30 + 6.2 * len(label)
    for number, case in enumerate(drawn):
        one = told["cases"][case.name]
        y, rps = top + row * number, one["rps"]
        scale = width / most
        low, high = left + rps["min"] * scale, left + rps["max"] * scale
        costs = f"{one['envoy_cpu_us']['median']:.0f} + {one['auth_cpu_us']['median']:.0f} µs"
        out += [
            f'<text x="{left - 8}" y="{y + 14}" text-anchor="end">{escape(case.name)}</text>',
            f'<rect x="{left}" y="{y + 2}" width="{rps["median"] * scale:.1f}" height="16" rx="2" '
            f'class="{GROUPS.get(case.name, "strict")}"/>',
            f'<path d="M{low:.1f} {y + 10}H{high:.1f}M{low:.1f} {y + 6}v8M{high:.1f} {y + 6}v8" class="range"/>',
            f'<text x="{left + width + 12}" y="{y + 14}">{rps["median"]:,.0f}/s</text>',
            f'<text x="755" y="{y + 14}" text-anchor="end" class="dim">{costs}</text>',
        ]
    out.append(f'<text x="0" y="{height - 12}" class="dim" font-size="12">{escape(told["machine"])}</text></svg>\n')
    return "\n".join(out)
